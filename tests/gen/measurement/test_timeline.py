"""Turns of layers in an image: without gaps, in order, interleaved layers together."""

from types import SimpleNamespace

import numpy as np
import pytest

from gen.measurement.timeline import timeline


def turns_of(*ends):
    """Turns of (layer, end) in the order of a program."""
    program = SimpleNamespace(
        steps=1, descriptors=[SimpleNamespace(layer=layer) for layer, _ in ends])
    records = np.array([word for _, end in ends for word in (0, end << 32)], np.uint64)
    return [(turn.name, turn.start, turn.end) for turn in timeline(program, records)]


@pytest.mark.parametrize("ends, expected", [
    ([("a", 10), ("a", 20), ("b", 30)], [("a", 0, 20), ("b", 20, 30)]),
    # a and b take turns; c begins when both have ended.
    ([("a", 10), ("b", 20), ("a", 30), ("b", 40), ("c", 50)],
     [("a to b (2 layers)", 0, 40), ("c", 40, 50)]),
    # c is fused with b, and b with a.
    ([("a", 10), ("b", 20), ("a", 30), ("c", 40), ("b", 50), ("d", 60)],
     [("a to c (3 layers)", 0, 50), ("d", 50, 60)]),
    # b ends while a still runs: it prolongs nothing.
    ([("a", 10), ("b", 7), ("c", 20)], [("a to b (2 layers)", 0, 10), ("c", 10, 20)]),
])
def test_turns(ends, expected):
    assert turns_of(*ends) == expected


def test_turns_of_a_program(case):
    program, results = case[1], case[3]
    records = list(results.values())[-1][1]
    turns = timeline(program, records)
    assert turns[0].start == 0 and turns[-1].end == int(records[-1]) >> 32
    assert all(one.end == two.start for one, two in zip(turns, turns[1:], strict=False))
    layers = [layer for turn in turns for layer in turn.layers]
    assert layers == list(dict.fromkeys(d.layer for d in program.descriptors))
    assert turns[0].to_json() == {"layers": list(turns[0].layers), "start": 0,
                                  "end": turns[0].end}
