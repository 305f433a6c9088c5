# amaranth: UnusedElaboratable=no
"""The map of the settings, and what it decides. The rest is in ``test_memory``, on a chip."""
from hw.register import MAP_ROW_BIT, MemoryFault
from hw.sdram.calibration import SdramCalibration
from tests.hw.sdram.planted import Bench, CONFIG, Plain


def booted(passes, phases):
    """Status and map."""
    found = {}

    async def script(ctx, bench):
        status = bench.dut.status
        for name in ("ready", "fault", "delay", "phase", "window"):
            found[name] = ctx.get(getattr(status, name))
        found["map"] = []
        for phase in range(phases + 1):
            ctx.set(bench.dut.tests.phase, phase)
            await ctx.tick().repeat(16)
            found["map"].append(ctx.get(bench.dut.tests.map))

    Bench(Plain(), phases=phases, passes=passes).run(script)
    assert [row >> MAP_ROW_BIT for row in found["map"]] == [1] * phases + [0]
    found["map"] = [row & 0xFF for row in found["map"][:-1]]
    return found


def test_window_across_zero_and_its_map():
    """Two of six phases are a quarter, rounded up."""
    found = booted(lambda delay, phase: (delay, phase) in ((1, 5), (1, 0), (2, 3)), 6)
    assert found["map"] == [0b0010, 0, 0, 0b0100, 0, 0b0010]
    assert (found["ready"], found["delay"], found["window"]) == (1, 1, 2)
    assert found["phase"] == 5


def test_narrow_window_is_a_fault_with_its_map():
    found = booted(lambda delay, phase: phase == 4 or (delay, phase) == (3, 1), 6)
    assert (found["ready"], found["fault"]) == (0, MemoryFault.CALIBRATION)
    assert found["window"] == 1
    assert found["map"] == [0, 0b1000, 0, 0, 0b1111, 0]


def test_least_window():
    assert [SdramCalibration(CONFIG, phases=phases).least_window
            for phases in (1, 4, 6, 8, 40, 128)] == [1, 1, 2, 2, 10, 32]
