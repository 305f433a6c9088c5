"""What each form of a network computes for one image, descriptor by descriptor, and comparison."""

from dataclasses import dataclass, replace

import numpy as np

from gen.compile.layout import unpack_lanes
from gen.compile.package import image_words, logits_of
from gen.compile.results import place_of
from gen.machine.iss import Iss
from model.error import VerificationFailed
from sim.reference.write_hash import write_hash


__all__ = ["Difference", "Trace", "first_difference", "integer_trace", "iss_trace", "rtl_trace",
           "rtl_writes", "traced_words", "written_words"]


@dataclass
class Trace:
    """What one form computed for one image.

    ``words`` holds, for every descriptor with outputs, the pool words it wrote in order (None
    for others, and where they were not traced), ``addresses`` where; ``acc`` the raw results.
    ``sigs`` are the signatures of the descriptors (None where the form has none).
    """

    words: list
    acc: np.ndarray
    sigs: list
    addresses: list | None = None
    cycles: int | None = None

    def signatures(self):
        """The same without words and addresses."""
        return replace(self, words=[None] * len(self.words), addresses=None)


@dataclass(frozen=True)
class Difference:
    """First place where two traces differ: a sentence, and the number of the descriptor (None
    for the logits). ``traced`` tells whether words were compared there, not only signatures."""

    text: str
    index: int | None
    traced: bool = True


def written_words(descriptor):
    """Pool words that a descriptor's outputs have."""
    return sum(output.count * output.words for output in descriptor.outputs)


def traced_words(program):
    """Number of the first word of every descriptor with outputs, else None, among all that the
    neuron core writes; and how many these are."""
    count, places = 0, []
    for descriptor in program.descriptors:
        places.append(count if descriptor.outputs else None)
        count += written_words(descriptor)
    return places, count


def integer_trace(program, tensors, index):
    """Trace of the integer model from its tensors for image, or sample of images, ``index``.

    The results of tensors that are not there are 0.
    """
    packed = {}
    words = []
    for descriptor in program.descriptors:
        if not descriptor.outputs:
            words.append(None)
            continue
        parts = []
        for output in descriptor.outputs:
            tensor = program.maps[output.tensor].one_step
            values, first = tensors[output.tensor][index], output.first
            key = output.tensor
            if values.ndim == 4:    # of several images
                values, key = values[descriptor.step], (key, descriptor.step)
            if program.maps[output.tensor].steps > 1:
                first -= descriptor.step * tensor.height * tensor.width
            if key not in packed:
                packed[key] = tensor.pack(values).reshape(-1, tensor.groups, tensor.planes)
            parts.append(packed[key][first:first + output.count, output.group])
        words.append(np.concatenate(parts, axis=1).reshape(-1))
    sigs = [None if w is None else write_hash(w, rows=program.config.rows) for w in words]
    made = {output.tensor for descriptor in program.descriptors for output in descriptor.outputs}
    acc = np.concatenate([
        result.acc(tensors[result.tensor][index].astype(np.int64)).reshape(-1)
        if result.tensor in made & tensors.keys() else
        np.zeros(result.shape(program.maps), np.int64).reshape(-1) for result in program.results])
    return Trace(words, acc, sigs)


def iss_trace(program, image_q, presets=(), *, progress=None):
    """Trace of the ISS; ``presets`` are (address, memory words) beside the image."""
    iss = Iss(program)
    for address, words in presets:
        iss.memory[address:address + len(words)] = words
    acc, _, completions = iss.run(image_q, progress=progress)
    return Trace([c.words if d.outputs else None
                  for d, c in zip(program.descriptors, completions, strict=True)], acc,
                 [c.write_hash for c in completions],
                 [c.addresses if d.outputs else None
                  for d, c in zip(program.descriptors, completions, strict=True)])


def rtl_writes(program, image_q, presets=()):
    """(address, memory words) that a core's memory needs beside the payload."""
    return [(program.image, image_words(program, image_q)), *presets]


def rtl_trace(program, core, run):
    """(Trace, records) of a finished :class:`sim.rtl.core.RtlRun`: words where it was traced whole.

    Raises
    ------
    VerificationFailed
        If more or fewer words were written than the program asks for.
    """
    places, total = traced_words(program)
    if total != run.written:
        raise VerificationFailed(f"rtl: {run.written} pool words were written, the program asks "
                                 f"for {total}")
    words, addresses = [], []
    for descriptor, start in zip(program.descriptors, places, strict=True):
        if start is None or len(run.words) != total:
            words.append(None)
            addresses.append(None)
            continue
        part = slice(start, start + written_words(descriptor))
        addresses.append(run.addresses[part])
        words.append(run.words[part])
    records = core.read(program.log, program.log_words)
    acc, _ = logits_of(program, core.read(program.result, program.result_words))
    trace = Trace(words, acc, (records[::2] & np.uint64(0xFFFFFFFF)).tolist(), addresses,
                  run.cycles)
    return trace, records


def _place(program, descriptor, left, right):
    """A sentence naming the first element in which two lists of words differ."""
    if len(left) != len(right):
        return f"{len(left)} words against {len(right)}"
    rows = program.config.rows
    per = sum(output.words for output in descriptor.outputs)
    left, right, column = left.reshape(-1, per), right.reshape(-1, per), 0
    for output in descriptor.outputs:
        tensor = program.maps[output.tensor]
        part = slice(column, column + output.words)
        column += output.words
        x, y = (unpack_lanes(w[:, part], tensor.kind, rows) for w in (left, right))
        if np.array_equal(x, y):
            continue
        position, lane = np.argwhere(x != y)[0]
        channel, row, col = tensor.place(output.group, lane, output.first + int(position))
        image = f"image {descriptor.step} of the sample, " if program.steps > 1 else ""
        return (f"layer {descriptor.layer}, {image}{tensor.kind} {output.tensor}, tile "
                f"{output.group}, channel {channel} (lane {lane}), position ({row}, {col}): "
                f"{x[position, lane]} against {y[position, lane]}")
    raise AssertionError("words differ, their elements do not")


def first_difference(program, a, b):
    """None, or the :class:`Difference` between two traces that comes first in program order.

    Words are compared where both have them, then their addresses and signatures.
    """
    for index, descriptor in enumerate(program.descriptors):
        left, right = a.words[index], b.words[index]
        where = f"descriptor {index} ({descriptor.unit.name}, {descriptor.layer})"
        traced = left is not None and right is not None
        if traced and not np.array_equal(left, right):
            text = _place(program, descriptor, left, right)
            return Difference(text if text.startswith("layer") else f"{where}: {text}", index)
        if (traced and a.addresses and b.addresses
                and not np.array_equal(a.addresses[index], b.addresses[index])):
            return Difference(f"{where}: same words, other addresses", index)
        found = a.sigs[index], b.sigs[index]
        if None not in found and found[0] != found[1]:
            return Difference(f"signature of {where}: {found[0]:08x} against {found[1]:08x}",
                              index, traced or not descriptor.outputs)
    if not np.array_equal(a.acc, b.acc):
        at = int(np.argwhere(a.acc != b.acc)[0, 0])
        return Difference(f"{place_of(program, at)}: {a.acc[at]} against {b.acc[at]}", None)
    return None
