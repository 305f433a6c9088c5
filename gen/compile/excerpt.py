"""Some layers of a program as a program of its own, from given tensors at their inputs.

The descriptors are those of the whole program, with the same addresses; only their wait counts
begin anew. Loads in front of them bring the tensors that live in the pool. So a layer is verified
as it runs in the whole image, in seconds. Of a program for samples of several images it is the
layer's turn in the first of them, or the one turn of a layer that reads the results of all.
"""

from dataclasses import dataclass, replace

import numpy as np

from gen.compile.results import on_core
from gen.isa.program import Descriptor, Program
from hw.descriptor import DESCRIPTOR_WORDS, Destination, Header, pack, planes_of, UnitKind
from model.error import InputError
from model.integer.graph import Conv
from model.integer.network import IntegerNetwork
from sim.reference.lanes import memory_words


__all__ = ["PATTERNS", "Excerpt", "excerpt", "pattern"]


PATTERNS = ("high", "low", "zero", "alternating", "random")
"""Inputs that no image gives: everywhere the largest or smallest value, 0, both of them in turn
(as a checkerboard over channels, rows and columns), or noise over the whole range."""


def pattern(name, kind, shape, params, *, source="", seed=0):
    """A tensor of one of :data:`PATTERNS`.

    Parameters
    ----------
    name : str
    kind : str
        Of the tensor: "image" (int8), "level" (0..4), "z" or "u" (signed, widths of ``params``).
    shape : (int, int, int)
    params : IntegerParams
    source : str
        Name of the tensor; a z may have a width of its own.
    seed : int
        Of "random".

    Returns
    -------
    int64 (C, H, W)
    """
    bits = {"image": 8, "z": params.z_bits_for(source), "u": params.u_bits}.get(kind)
    low, high = (0, 4) if bits is None else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    if name == "random":
        return np.random.default_rng(seed).integers(low, high + 1, shape)
    if name == "alternating":
        return np.where(np.indices(shape).sum(axis=0) % 2, high, low)
    return np.full(shape, {"high": high, "low": low, "zero": 0}[name], np.int64)


@dataclass(frozen=True)
class Excerpt:
    """Operators of a network, the program that runs them, and what it needs.

    ``inputs`` are the tensors (the image too) that the operators take from outside;
    ``homes`` the memory address of each but the image. Of a network that takes samples of T images
    tensors are those of the first one, or of all T where the operators read them all.
    """

    name: str
    network: IntegerNetwork
    ops: tuple
    program: Program
    inputs: tuple
    homes: dict

    @property
    def _images(self):
        """How many images of a sample the inputs are of."""
        return max(self.program.maps[name].steps for name in self.inputs)

    def tensors(self, image_q):
        """Inputs from the integer model for an image int8 (C, H, W), or a sample (T, C, H, W):
        arrays (1, C, H, W), or (T, C, H, W) where the operators read the results of all images.
        """
        images = image_q.reshape(-1, *image_q.shape[-3:])[:self._images]
        found = {"image": images}
        wanted = [name for name in self.inputs if name != "image"]
        if wanted:
            ops = self.network.ops
            before = ops[:max(k for k, op in enumerate(ops) if {*op.outputs} & {*wanted}) + 1]
            network = IntegerNetwork(self.network.spec, self.network.params, before,
                                     images.shape[1:])
            found |= network.run(images, keep=wanted)
        return {name: found[name] for name in self.inputs}

    def pattern(self, name):
        """Inputs of one of :data:`PATTERNS`: arrays as of :meth:`tensors`."""
        found = {}
        for seed, source in enumerate(self.inputs):
            kind, *shape = self.network.tensors()[source]
            found[source] = pattern(name, kind, (self._images, *shape), self.network.params,
                                    source=source, seed=seed)
        if "image" in found:
            found["image"] = found["image"].astype(np.int8)
        return found

    def presets(self, tensors):
        """(address, memory words) of the inputs, without the image."""
        found = {}
        for name, address in self.homes.items():
            tensor = self.program.maps[name]
            values = tensors[name].swapaxes(0, 1).reshape(tensor.channels, tensor.height, -1)
            rows = tensor.pack(values).reshape(tensor.height, -1)
            words = np.concatenate([memory_words(row, tensor.rows) for row in rows])
            # Two that lie in the same positions leave the words of each other 0.
            found[address] = words | found.get(address, np.uint64(0))
        return list(found.items())

    def run(self, tensors, *, stats=None):
        """The integer model of the operators: every tensor, inputs included."""
        stats = {} if stats is None else stats
        found = dict(tensors)
        for op in self.ops:
            op.count(stats, self.network.params)
            found |= op.run(found, self.network.params, stats)
        return found


def _matching(network, name):
    """Operators that ``name`` stands for: itself, or those inside the module of this name."""
    names = [op.name for op in network.ops]
    found = [known for known in names if known == name or known.startswith(f"{name}.")]
    if not found:
        modules = dict.fromkeys(".".join(n.split(".")[:2]) for n in names)
        raise InputError(f"Unknown layer {name!r}: known are {', '.join(modules)} and what is "
                         f"inside them: {', '.join(names)}")
    return found


def _range(program, layers):
    """Smallest run of descriptors with all those of ``layers`` and no part of another layer.

    Layers that run fused, strip by strip, come together.
    """
    spans, step = {}, {}
    for index, descriptor in enumerate(program.descriptors):
        if step.setdefault(descriptor.layer, descriptor.step) != descriptor.step:
            continue    # a later image of a sample
        first, _ = spans.get(descriptor.layer, (index, None))
        spans[descriptor.layer] = first, index + 1
    first = min(spans[name][0] for name in layers)
    last = max(spans[name][1] for name in layers)
    while True:
        inside = {d.layer for d in program.descriptors[first:last]}
        wider = min(spans[name][0] for name in inside), max(spans[name][1] for name in inside)
        if wider == (first, last):
            return first, last, inside
        first, last = wider


def excerpt(network, program, name):
    """Cut the layer or module ``name`` out of a program.

    Parameters
    ----------
    network : IntegerNetwork
    program : gen.isa.program.Program
        Of the whole network.
    name : str
        Of an operator, or of a module of the published network ("block3.0"): all inside it.

    Returns
    -------
    Excerpt

    Raises
    ------
    InputError
        For a name that is not in the network, with those that are.
    """
    network = on_core(network)
    first, last, layers = _range(program, _matching(network, name))
    ops = tuple(op for op in network.ops if op.name in layers)
    made = {output for op in ops for output in op.outputs}
    inputs = tuple(dict.fromkeys(n for op in ops for n in op.inputs if n not in made))

    # Tensors that live in the pool come from memory behind everything else.
    at = program.memory_words
    homes, loads = {}, []
    for source in inputs:
        if source == "image":
            continue
        tensor = program.maps[source]
        kind, home = program.homes[source]
        if kind == "memory":
            homes[source] = home
            continue
        if kind != "pool":
            raise ValueError(f"{source} is not whole anywhere ({kind}), but {name} needs it")
        beside = next((n for n in homes if program.homes[n] == program.homes[source]), None)
        if beside is not None:    # in other words of the same positions
            homes[source] = homes[beside]
            continue
        homes[source] = at
        loads.append(Descriptor(UnitKind.LOAD, {
            "destination": Destination.POOL, "memory_address": at,
            "length": tensor.memory_row_words, "count": tensor.height,
            "memory_stride": tensor.memory_row_words, "pool_address": home,
            "pool_words": tensor.row_words, "pool_stride": tensor.row_words,
        }, (0,) * (len(UnitKind) - 1), "inputs"))
        at += tensor.memory_words

    before = [0] * (len(UnitKind) - 1)
    for descriptor in program.descriptors[:first]:
        before[descriptor.unit.value] += 1
    before[UnitKind.LOAD.value] -= len(loads)
    sources = {op.name: op.source for op in ops if isinstance(op, Conv)}

    def fields(descriptor):
        """Of what a load brought, no planes are known that might be left out."""
        if descriptor.unit is UnitKind.ARRAY and sources.get(descriptor.layer) in inputs:
            return descriptor.fields | {"planes": planes_of(descriptor.fields)[0]}
        return descriptor.fields

    descriptors = loads + [
        replace(d, fields=fields(d), waits=tuple(
            max(len(loads) * (unit == UnitKind.LOAD.value), wait - start)
            for unit, (wait, start) in enumerate(zip(d.waits, before, strict=True))))
        for d in program.descriptors[first:last]]
    end = [pack(Header, kind=UnitKind.END)] + [0] * (DESCRIPTOR_WORDS - 1)
    words = [word for descriptor in descriptors for word in descriptor.pack()] + end
    payload = np.zeros(at + len(words), np.uint64)
    payload[:len(program.payload)] = program.payload
    payload[at:] = words
    log = len(payload)
    part = replace(program, descriptors=descriptors, payload=payload, program=at, log=log,
                   memory_words=log + 2 * len(descriptors))
    return Excerpt(name, network, ops, part, inputs, homes)
