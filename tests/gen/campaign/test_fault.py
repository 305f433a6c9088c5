"""gen.campaign.fault: what is drawn depends on seed and number alone, and covers everything."""

from collections import Counter

import pytest

from gen.campaign.fault import draw, KINDS, LINE, MODES, NEVER_WRONG, Space, TURNS
from hw.register import Restart


SPACE = Space(images=3, cycles=1000, bytes=500, opening=200, loading=3000,
              regions={"weights": [(0, 50), (70, 5)], "constants": [(50, 20)],
                       "program": [(75, 30)], "image": [(200, 10)], "result": [(210, 2)]},
              arrays={"pool": [("a", 16, 8), ("b", 16, 8)], "psum": [("c", 4, 96)],
                      "buffers": [("d", 2, 64)]},
              hung=[(75, 1), (78, 2)])

COUNT = 20 * len(TURNS) * len(MODES)

FAULTS = [draw(SPACE, 1, number) for number in range(COUNT)]


def of(*kinds):
    return [fault for fault in FAULTS if fault.kind in kinds]


def test_seed_and_number_decide():
    assert [draw(SPACE, 1, number) for number in range(100)] == FAULTS[:100]
    assert [draw(SPACE, 2, number).place for number in range(100)] != [
        fault.place for fault in FAULTS[:100]]


def test_kinds_and_modes_take_turns():
    found = Counter((fault.kind, fault.check) for fault in FAULTS)
    turns = Counter(TURNS)
    assert found == {(kind, mode): 20 * turns[kind] for kind in KINDS for mode in MODES}
    assert {fault.image for fault in FAULTS} == {0, 1, 2}
    assert set(NEVER_WRONG) == set(KINDS)


def test_chosen_kinds():
    some = [draw(SPACE, 1, number, kinds=("pool", "cut"), modes=("crc",)) for number in range(4)]
    assert [(fault.kind, fault.check) for fault in some] == [("pool", "crc"), ("cut", "crc")] * 2


def test_words_of_memory():
    for kind, ranges in SPACE.regions.items():
        words = {word for first, count in ranges for word in range(first, first + count)}
        found = {fault.place["address"] for fault in of(kind)}
        assert found <= words and len(found) > min(len(words), 60) // 2
        assert {fault.place["bit"] for fault in of(kind)} <= set(range(64))
    for kind in ("weights", "constants", "program"):
        when = Counter("cycle" in fault.place for fault in of(kind))
        assert min(when.values()) > 20
    assert not any("cycle" in fault.place for fault in of("result"))


def test_bits_of_arrays():
    for kind, arrays in SPACE.arrays.items():
        sizes = {name: (entries, bits) for name, entries, bits in arrays}
        assert {fault.place["array"] for fault in of(kind)} == set(sizes)
        for place in (fault.place for fault in of(kind)):
            entries, bits = sizes[place["array"]]
            assert 0 <= place["entry"] < entries and 0 <= place["bit"] < bits
            assert 0 <= place["cycle"] < SPACE.cycles


def test_restarts_at_every_step_for_every_cause():
    found = Counter((fault.place["step"], fault.place["cause"]) for fault in of("restart"))
    assert {step for step, _ in found} == {"open", "load", "exchange", "run"}
    assert {cause for _, cause in found} == set(Restart) - {Restart.CONFIGURATION}
    most = {"open": SPACE.opening, "load": SPACE.loading, "exchange": SPACE.bytes}
    for fault in of("restart", "power"):
        step = fault.place["step"]
        if step == "run":
            assert 0 <= fault.place["cycle"] < SPACE.cycles
        else:
            assert 1 <= fault.place["byte"] < most[step]


def test_lines():
    for fault in of(*LINE):
        if fault.kind == "cut":
            assert 1 <= fault.place["byte"] < SPACE.bytes
        else:
            assert 0.01 <= fault.place["rate"] <= 10 ** -0.3


@pytest.mark.parametrize("kind, key, values", [
    ("bitstream", "variant", {"identity", "configuration", "exchanged"}),
    ("power", "back", {True, False}), ("hang", "word", {75, 78})])
def test_variants(kind, key, values):
    assert {fault.place[key] for fault in of(kind)} == values
