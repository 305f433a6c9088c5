# amaranth: UnusedElaboratable=no
import random

import pytest

from hw.link.command import REGISTER_LATENCY
from hw.link.register_file import RegisterFile
from hw.register import (
    CONTROL_BITS,
    Counter,
    COUNTER_BASE,
    MAGIC,
    Register,
    REGISTER_BITS,
    VERSION,
)
from sim.drive.ports import simulate


DIGEST, WORDS = 0xDEAD_BEEF, 0xFFFF_FFFF


class Model:
    """What the register map says: values of all registers, from the writes so far."""

    def __init__(self):
        self.control = dict.fromkeys(CONTROL_BITS, 0)
        self.run = 0                    # the last value that started a run
        self.busy, self.status, self.counters = 0, 0, [0] * len(Counter)

    def write(self, address, value):
        """Returns whether it starts the core."""
        if address in CONTROL_BITS:
            self.control[address] = value % (1 << CONTROL_BITS[address])
        if address == Register.START and not self.busy and value % 256 != self.run:
            self.run = value % 256
            return True
        return False

    def read(self, address):
        if COUNTER_BASE <= address < COUNTER_BASE + len(Counter):
            return self.counters[address - COUNTER_BASE]
        return {**self.control, Register.MAGIC: MAGIC, Register.VERSION: VERSION,
                Register.CONFIG: DIGEST, Register.MEMORY_WORDS: WORDS, Register.START: self.run,
                Register.STATE: self.busy,
                Register.MEMORY_STATUS: self.status}.get(address, 0)


def test_random_accesses():
    """Random writes to any address; a steady address gives what the register map said
    ``REGISTER_LATENCY`` cycles ago; values and ``start`` reach the core in the next cycle."""
    rng = random.Random(0)
    dut = RegisterFile(config_digest=DIGEST, memory_words=WORDS)
    model = Model()
    starts = 0

    async def testbench(ctx):
        nonlocal starts
        address, steady, seen = 0, 0, []
        for _ in range(3000):
            if rng.random() < 0.1:
                model.busy = rng.randrange(2)
                model.status = rng.getrandbits(30)
                counter = rng.randrange(len(Counter))
                model.counters[counter] = rng.choice([0xFFFF_FFFF, rng.getrandbits(32)])
                ctx.set(dut.core_busy, model.busy)
                ctx.set(dut.memory_status.as_value(), model.status)
                ctx.set(dut.counters[counter], model.counters[counter])
            if rng.random() < 0.5:
                address, steady = rng.choice([*Register, rng.randrange(1 << REGISTER_BITS)]), 0
            write = rng.random() < 0.4
            value = rng.choice([0xFFFF_FFFF, rng.getrandbits(32), rng.randrange(3)])
            ctx.set(dut.bus.address, address)
            ctx.set(dut.bus.write, write)
            ctx.set(dut.bus.write_data, value)
            seen.append(model.read(address))
            steady += 1
            start = write and model.write(address, value)
            starts += start
            await ctx.tick()
            assert ctx.get(dut.start) == start
            for register, held in model.control.items():
                assert ctx.get(getattr(dut, register.name.lower())) == held
            if steady >= REGISTER_LATENCY:
                assert ctx.get(dut.bus.read_data) == seen[-REGISTER_LATENCY]

    simulate(dut, testbench)
    assert starts > 20


def test_link_errors():
    """Every cycle with ``link_error`` counts one frame, modulo 2**16; the count can be read."""
    dut = RegisterFile(config_digest=0, memory_words=0)
    rng = random.Random(1)

    async def testbench(ctx):
        count = 0
        ctx.set(dut.bus.address, Register.LINK_ERRORS)
        for _ in range(5):
            for _ in range(100):
                error = rng.randrange(2)
                ctx.set(dut.link_error, error)
                count += error
                await ctx.tick()
            ctx.set(dut.link_error, 0)
            await ctx.tick().repeat(5)
            assert ctx.get(dut.link_errors) == ctx.get(dut.bus.read_data) == count

    simulate(dut, testbench)
    assert len(dut.link_errors) == 16


@pytest.mark.parametrize(("values", "message"), [
    ({"config_digest": 1 << 32, "memory_words": 0},
     "^Digest must fit in 32 bits, not 4294967296$"),
    ({"config_digest": 0, "memory_words": -1}, "^Memory words must fit in 32 bits, not -1$")])
def test_parameters_wrong(values, message):
    with pytest.raises(ValueError, match=message):
        RegisterFile(**values)
