"""What a network's outputs are in memory, and how the host makes them of it."""

from dataclasses import dataclass, field

import numpy as np

from gen.compile.layout import default_lanes
from model.error import InputError
from model.integer import golden
from model.integer.epilogue import LOGITS, Raw
from model.integer.network import IntegerNetwork


__all__ = ["Result", "classes_of", "named", "on_core", "outputs_of", "place_of", "raw_in",
           "raw_of", "results_of"]


@dataclass(frozen=True, eq=False)
class Result:
    """One output of a network.

    Attributes
    ----------
    name, tensor : str
        Of the output, and of what is read out.
    start : int
        Memory words of the tensor from the start of an image's result.
    scale, offset : float64 (O,) or None
        Of an output of raw accumulators: ``scale * acc + offset``; a level map or a membrane that
        is read out stands for itself.
    weight : int8 (O, I) or None
        With it the tensor is a level map, of which the host makes the accumulators.
    """

    name: str
    tensor: str
    start: int
    scale: np.ndarray | None = field(default=None, repr=False)
    offset: np.ndarray | None = field(default=None, repr=False)
    weight: np.ndarray | None = field(default=None, repr=False)

    def acc(self, values):
        """The tensor's values int64 (C, H, W) -> accumulators (O, H, W), or themselves; those of
        the class scores are (O,)."""
        if self.weight is not None:
            values = golden.convolve(values[None], self.weight[:, :, None, None])[0]
        return values[:, 0, 0] if self.name == LOGITS else values

    def values(self, acc):
        """What accumulators stand for, in the type of the integer model."""
        if self.scale is None:
            return acc
        return self.scale.reshape(-1, *[1] * (acc.ndim - 1)) * acc + self.offset.reshape(
            -1, *[1] * (acc.ndim - 1))

    def shape(self, maps):
        """Shape of the accumulators, (O, H, W) or (O,)."""
        tensor = maps[self.tensor]
        channels = tensor.channels if self.weight is None else len(self.weight)
        if self.name == LOGITS:
            return (channels,)
        return channels, tensor.height, tensor.width * tensor.fold


def on_core(network):
    """The network without what the host computes; the level maps that it takes are read out."""
    host = [op for op in network.ops if _on_host(op)]
    if not host:
        return network
    read_out = dict.fromkeys((*network.read_out, *(op.source for op in host)))
    ops = [op for op in network.ops if op not in host]
    return IntegerNetwork(network.spec, network.params, ops, network.input_shape, network.origin,
                          network.info, read_out)


def _on_host(op):
    raw = getattr(op, "epilogue", None)
    return isinstance(raw, Raw) and raw.on_host


def results_of(network, maps):
    """The :class:`Result` of every output, in order, with the layouts ``maps`` of their tensors.

    Raises
    ------
    InputError
        For a map whose channels lie as the attention unit wants them.
    """
    raws = {op.epilogue.name: op for op in network.ops
            if isinstance(getattr(op, "epilogue", None), Raw)}
    starts, found, end = {}, [], 0
    for name, tensor in network.outputs.items():
        op, fields = raws.get(name), {}
        if op is not None:
            fields = {"scale": op.epilogue.scale, "offset": op.epilogue.offset}
            if op.epilogue.on_host:
                tensor, fields["weight"] = op.source, op.weight[:, :, 0, 0]
        layout = maps[tensor]
        if layout.fold * layout.copies == 1 and not np.array_equal(
                layout.lanes, default_lanes(layout.channels, layout.rows)):
            raise InputError(f"{tensor} cannot be read out: its channels lie as the attention unit "
                             "wants them; read out a map in front of it or behind it")
        if tensor not in starts:
            starts[tensor], end = end, end + layout.memory_words
        found.append(Result(name, tensor, starts[tensor], **fields))
    return found


def named(program, flat):
    """Accumulators or values of all outputs, (..., total) as
    :func:`gen.compile.package.logits_of` has them, -> {output: (..., O, H, W)}, of the class
    scores (..., O)."""
    found, at, flat = {}, 0, np.asarray(flat)
    for result in program.results:
        shape = result.shape(program.maps)
        size = int(np.prod(shape))
        found[result.name] = flat[..., at:at + size].reshape(*flat.shape[:-1], *shape)
        at += size
    return found


def outputs_of(program, acc, values):
    """Every output of flat accumulators and values of N images as :meth:`gen.machine.iss.Iss.run`
    has them: {name: float64 (N, O, H, W)}, of the class scores (N, O); level maps and membranes
    that are read out are int64."""
    integers, reals = named(program, acc), named(program, values)
    return {result.name: (integers if result.scale is None else reals)[result.name]
            for result in program.results}


def classes_of(program, values):
    """(N,) the class of each image, of its flat values float64 (N, total); -1 where class scores
    are no output."""
    scores = named(program, values).get(LOGITS)
    return np.full(len(values), -1) if scores is None else scores.argmax(axis=1)


def place_of(program, index):
    """A place in flat accumulators in words, such as "cls8, channel 2, position (0, 3)"."""
    for result in program.results:
        shape = result.shape(program.maps)
        size = int(np.prod(shape))
        if index < size:
            at = np.unravel_index(index, shape)
            return f"{result.name}, " + (
                f"class {at[0]}" if len(at) == 1 else
                f"channel {at[0]}, position ({at[1]}, {at[2]})")
        index -= size
    raise IndexError("more accumulators than the outputs have")


def raw_of(network, image_q):
    """Accumulators int64 (N, total) of the integer model for N images, all outputs one behind the
    other, as a device returns them."""
    return raw_in(network, network.run_batched(image_q, keep={*network.outputs.values()}))


def raw_in(network, made):
    """The same of tensors that the network has made of N images, each (N, ...)."""
    tensors = [made[name] for name in network.outputs.values()]
    return np.concatenate([x.astype(np.int64).reshape(len(x), -1) for x in tensors], axis=1)
