# amaranth: UnusedElaboratable=no
"""The whole SDRAM memory on the chip model: two clocks, calibration, size, streams."""
from dataclasses import replace
import random

import pytest

from boards import find_board
from hw.register import MEMORY_STATUS_BITS, MemoryFault
from hw.sdram.calibration import SdramCalibration
from hw.sdram.memory import SdramMemory
from hw.sdram_config import SdramConfig
from sim.drive.ports import feed_stream, simulate
from sim.twin.sdram_chip import broken_rules
from sim.twin.sdram_system import SdramSystem


PART = find_board("ulx3s").sdram

CONFIG = SdramConfig(clock_hz=130_000_000, **PART.times, row_bits=3, column_bits=6,
                     power_up_ns=300)

SYNC_HZ = 80_000_000


def run(dut, *testbenches, background=(), cycles=60_000, sync_hz=SYNC_HZ):
    simulate(dut, *testbenches, background=background, cycles=cycles,
             clocks={"sdram": sync_hz / dut.config.clock_hz})


def boot(dut, **options):
    """Status after the calibration ended."""
    found = {}

    async def wait(ctx):
        while not (ctx.get(dut.status.ready) or ctx.get(dut.status.fault)):
            await ctx.tick()
        await ctx.tick().repeat(3)
        found.update({name: ctx.get(getattr(dut.status, name)) for name in
                      MEMORY_STATUS_BITS})

    run(dut, wait, **options)
    return found


# Commands change at the chip in phases 2 and 3, data arrive in phases 5 and 6: the phases 4, and
# 7 and on to 1, remain.
PINS = {"phases": 8, "command_at": 2, "data_at": 5, "unsure": 2}


@pytest.mark.parametrize("pins, delay, phase, window", [
    (PINS, 1, 0, 3),
    pytest.param({**PINS, "command_at": 6, "data_at": 3}, 1, 1, 3, marks=pytest.mark.slow),
    ({**PINS, "data_at": 7, "unsure": 1}, 0, 4, 4),
])
def test_calibration_takes_the_middle_of_the_longest_window(pins, delay, phase, window):
    found = boot(SdramSystem(CONFIG, **pins))
    assert found == {"ready": 1, "fault": MemoryFault.NONE, "delay": delay, "phase": phase,
                     "window": window, "address_bit": 0, "size_bits": CONFIG.words_bits}


def test_calibration_fails_without_a_window():
    found = boot(SdramSystem(CONFIG, phases=4, command_at=0, data_at=0, unsure=4))
    assert found["ready"] == 0
    assert found["fault"] == MemoryFault.CALIBRATION


@pytest.mark.parametrize("larger", [False, True])
def test_size_is_found(larger):
    found = boot(SdramSystem(replace(CONFIG, optional_column=True),
                             chip=replace(CONFIG, optional_column=larger)))
    assert (found["ready"], found["size_bits"]) == (1, CONFIG.words_bits + larger)


@pytest.mark.parametrize("chip, pins, bit", [
    ({"row_bits": 2}, {}, 9),
    ({"column_bits": 6}, {}, 4),
    ({}, {"stuck_address": 1 << 6}, 4),
], ids=["rows", "columns", "stuck pin"])
def test_other_chip_is_a_fault(chip, pins, bit):
    """Bit of the word address that the smaller chip, or a pin stuck at 0, does not have."""
    config = replace(CONFIG, column_bits=7)
    found = boot(SdramSystem(config, chip=replace(config, **chip), **pins))
    assert found["ready"] == 0
    assert found["fault"] == MemoryFault.GEOMETRY
    assert found["address_bit"] == bit


def traffic(dut, bursts, *, rng, stall):
    """Testbenches for ``(write, address, length)`` bursts, and where the outcome goes."""
    model, commands, written, expected = {}, [], [], []
    for write, address, length in bursts:
        commands.append({"address": address, "length": length, "write": write})
        for place in range(address, address + length):
            if write:
                model[place] = rng.getrandbits(64)
                written.append(model[place])
            else:
                expected.append(model.get(place, 0))
    outcome = {"arrived": [], "now": 0}
    port = dut.memory

    async def clock(ctx):
        while True:
            await ctx.tick()
            outcome["now"] += 1

    async def read(ctx):
        received = []
        for _ in expected:
            while stall and rng.random() < stall:
                await ctx.tick()
            ctx.set(port.r_data.ready, 1)
            word, = await ctx.tick().sample(port.r_data.payload).until(port.r_data.valid)
            ctx.set(port.r_data.ready, 0)
            received.append(word)
            outcome["arrived"].append(outcome["now"])
        await ctx.tick().repeat(10)
        outcome["same"] = received == expected
        outcome["broken"] = broken_rules(ctx.get(dut.violations))

    benches = [feed_stream(port.commands, commands, rng=rng, stall=stall),
               feed_stream(port.w_data, written, rng=rng, stall=stall), read]
    return benches, clock, outcome


@pytest.mark.parametrize("sync_hz, stall", [
    (80_000_000, 0.5), (140_000_000, 0.2),
    pytest.param(50_000_000, 0.0, marks=pytest.mark.slow)])
def test_bursts(sync_hz, stall):
    """The engine slower and faster than the chip; it asks at once, before the chip is ready."""
    dut = SdramSystem(replace(CONFIG, refresh_ns=1200))
    rng = random.Random(sync_hz)
    bursts = [(1, 0, 255), (1, 255, 255), (1, 510, 2)]
    for _ in range(30):
        length = rng.choice([1, 2, 16, 30])
        bursts.append((rng.randrange(2), rng.randrange(512 - length), length))
    benches, clock, outcome = traffic(dut, bursts + [(0, 0, 100)], rng=rng, stall=stall)
    run(dut, *benches, background=[clock], sync_hz=sync_hz)
    assert outcome["same"]
    assert outcome["broken"] == []


@pytest.mark.parametrize("length", [16, 128])
def test_streaming_uses_the_bus(length):
    """Linear reads by bursts as the load unit asks for them: refreshes and rows included."""
    dut = SdramSystem(replace(CONFIG, column_bits=9))
    rng = random.Random(0)
    words = 1024
    bursts = [(write, start, length) for write in (1, 0) for start in range(0, words, length)]
    benches, clock, outcome = traffic(dut, bursts, rng=rng, stall=0.0)
    run(dut, *benches, background=[clock])
    cycles = (outcome["arrived"][-1] - outcome["arrived"][0]) * dut.config.clock_hz / SYNC_HZ
    used = 4 * (words - 1) / cycles
    print(f"bursts of {length} words: {100 * used:.1f} % of the bus")
    assert outcome["same"] and outcome["broken"] == []
    assert used > 0.97


@pytest.mark.parametrize("make, message", [
    (lambda: SdramCalibration(CONFIG, phases=0), "Phases must be an integer in 1..128, not 0"),
    (lambda: replace(CONFIG, clock_hz=1), "SDRAM clock must be 10..200 MHz, not 1"),
    (lambda: replace(CONFIG, trp_ns=0), "SDRAM time trp_ns must be positive, not 0"),
    (lambda: replace(CONFIG, column_bits=10, optional_column=True),
     "SDRAM column bits must be 4..10 with the optional one, not 10"),
    (lambda: replace(CONFIG, row_bits=14), "SDRAM row bits must be 1..13, not 14"),
    (lambda: replace(CONFIG, bank_bits=3), "SDRAM bank bits must be 1 or 2, not 3"),
])
def test_wrong_parameters(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message


def test_cycles():
    config = SdramConfig(clock_hz=133_000_000, **PART.times)
    assert (config.trcd, config.trp, config.tras, config.trc, config.trfc) == (3, 3, 6, 9, 10)
    assert (config.twr, config.trrd, config.tmrd, config.refresh) == (2, 2, 2, 1039)
    assert (config.cas_latency, config.power_up, config.words) == (3, 26_600, 1 << 22)
    assert SdramMemory(config, phases=40).words == 1 << 22
