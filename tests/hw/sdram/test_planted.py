# amaranth: UnusedElaboratable=no
"""Faults of a board, planted between controller and chip model: what calibration and tests say."""
from dataclasses import replace

import pytest

from hw.register import MemoryFault, MemoryTest
from sim.twin.sdram_system import SdramSystem
from tests.hw.sdram.test_memory import CONFIG, run


SMALL = replace(CONFIG, row_bits=1, column_bits=4)
"""Two rows of four words in each bank."""


def examine(tests=(), **pins):
    """Status, map and pins after the calibration; errors, first address and pins of tests."""
    dut = SdramSystem(SMALL, **pins)
    found = {}

    async def bench(ctx):
        while not (ctx.get(dut.status.ready) or ctx.get(dut.status.fault)):
            await ctx.tick()
        await ctx.tick().repeat(3)
        found.update({name: ctx.get(getattr(dut.status, name)) for name in
                      ("ready", "fault", "window", "phase", "address_bit")})
        found["pins"] = ctx.get(dut.tests.pins)
        found["map"] = []
        for phase in range(pins.get("phases", 1)):
            ctx.set(dut.tests.phase, phase)
            await ctx.tick().repeat(3)
            found["map"].append(ctx.get(dut.tests.map) & 0xF)
        for test in tests:
            ctx.set(dut.tests.test, test)
            ctx.set(dut.tests.start, 1)
            await ctx.tick()
            ctx.set(dut.tests.start, 0)
            await ctx.tick().repeat(2)
            await ctx.tick().until(dut.tests.status.ended)
            found[test] = tuple(ctx.get(getattr(dut.tests, name))
                                for name in ("errors", "address", "pins"))

    run(dut, bench)
    return found


def test_stuck_data_pin_is_named():
    """Nothing passes, but the other pins were right at some setting."""
    found = examine(stuck_data=1 << 11)
    assert (found["fault"], found["map"]) == (MemoryFault.CALIBRATION, [0])
    assert found["pins"] == 1 << 11


def test_shorted_banks_spare_the_data_pins():
    """Rows of two banks take each other's place: some words are right, so no data pin is blamed."""
    found = examine(banks="shorted")
    assert (found["fault"], found["map"]) == (MemoryFault.CALIBRATION, [0])
    assert found["pins"] == 0


@pytest.mark.slow
def test_swapped_banks_do_no_harm():
    """Other banks, but for reads and writes alike: there is nothing to find."""
    found = examine((MemoryTest.MARCH, MemoryTest.RANDOM, MemoryTest.SWITCHING), banks="swapped")
    assert (found["ready"], found["pins"]) == (1, 0)
    for test in (MemoryTest.MARCH, MemoryTest.RANDOM, MemoryTest.SWITCHING):
        assert found[test] == (0, 0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("late", [0, 2, 6])
def test_skew_of_a_pin_narrows_the_window(late):
    """Data arrive in phase 1, but those of pin 9 later: what lies between is lost at any delay.
    Less than a quarter of a period is a fault; its map can be read, and no pin is always wrong."""
    found = examine(phases=8, command_at=0, data_at=1, late={9: late})
    assert [row != 0 for row in found["map"]] == [True] + [False] * late + [True] * (7 - late)
    assert (found["window"], found["pins"]) == (7 - late, 0)
    if late == 6:
        assert found["fault"] == MemoryFault.CALIBRATION
    else:
        assert (found["ready"], found["phase"]) == (1, 7 - (7 - late) // 2)
