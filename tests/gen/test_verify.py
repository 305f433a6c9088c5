"""The comparison names what differs: layer, tile, channel, position and both values."""

import re

import numpy as np
import pytest

from gen.trace import first_difference, integer_trace, iss_trace
from tests.gen.random_cases import compile_case


@pytest.fixture(scope="module")
def traces():
    found, program = compile_case(6)
    image = found.images(1)
    tensors = found.network.run(image)
    return program, integer_trace(program, tensors, 0), iss_trace(program, image[0])


def test_equal(traces):
    program, integer, iss = traces
    assert first_difference(program, integer, iss) is None


@pytest.mark.parametrize("kind", ["level", "z", "u"])
def test_names_the_place(traces, kind):
    program, integer, iss = traces
    index, output, column = next(
        (i, o, sum(p.words for p in d.outputs[:k]))
        for i, d in enumerate(program.descriptors) for k, o in enumerate(d.outputs)
        if program.maps[o.tensor].kind == kind and o.count > 1)
    changed = [None if w is None else w.copy() for w in iss.words]
    per = sum(o.words for o in program.descriptors[index].outputs)
    changed[index][per + column] ^= np.uint64(1)       # lowest lane of the second position
    broken = type(iss)(changed, iss.acc, iss.crcs, iss.addresses)
    text = first_difference(program, integer, broken)
    row, col = divmod(output.first + 1, program.maps[output.tensor].width)
    channel = program.maps[output.tensor].lanes[output.group * program.config.rows]
    assert re.search(rf"^layer {re.escape(program.descriptors[index].layer)}, {kind} "
                     rf"{re.escape(output.tensor)}, tile {output.group}, channel {channel} "
                     rf"\(lane 0\), position \({row}, {col}\): -?\d+ against -?\d+$", text), text


def test_logits_and_signatures(traces):
    program, integer, iss = traces
    acc = integer.acc.copy()
    acc[0] += 1
    assert first_difference(program, type(iss)(integer.words, acc), iss).startswith(
        "logits, class 0:")
    crcs = list(iss.crcs)
    crcs[2] ^= 1
    other = type(iss)(iss.words, iss.acc, crcs, iss.addresses)
    assert first_difference(program, iss, other).startswith("signature of descriptor 2 (")


def test_missing_words(traces):
    program, integer, iss = traces
    words = list(iss.words)
    index = next(i for i, w in enumerate(words) if w is not None)
    words[index] = words[index][:-1]
    assert "words against" in first_difference(program, integer, type(iss)(words, iss.acc))
