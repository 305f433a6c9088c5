# amaranth: UnusedElaboratable=no
from collections import Counter as Counts
import random

from amaranth import Value
import pytest

from hw.link.command import REGISTER_LATENCY
from hw.link.register_file import RegisterFile
from hw.register import (
    CONTROL_BITS,
    Counter,
    COUNTER_BASE,
    MAGIC,
    MemoryTest,
    Refusal,
    Register,
    REGISTER_BITS,
    Restart,
    VERSION,
)
from sim.drive.ports import simulate


DIGEST, WORDS = 0xDEAD_BEEF, 0xFFFF_FFFF


WRITABLE = {**CONTROL_BITS, Register.SESSION: 24, Register.WATCHDOG: 16, Register.RING: 32}


class Model:
    """What the register map says: values of all registers, from the writes so far."""

    def __init__(self):
        self.writable = dict.fromkeys(WRITABLE, 0)
        self.run = 0                    # the last value that started a run
        self.phase, self.test = 0, 0
        self.inputs = {"core_busy": 0, "state": 0, "identity": 0, "memory_status": 0,
                       "status": 0, "errors": 0, "address": 0, "pins": 0, "map": 0}
        self.counters = [0] * len(Counter)

    def write(self, address, value):
        """Returns what it does: start, start of a test, restart, refusal."""
        inputs = self.inputs
        testing = inputs["status"] & 1
        refusal = (Refusal.BUSY if inputs["core_busy"] else
                   Refusal.NOT_READY if testing or not inputs["memory_status"] & 1 else 0)
        if address in WRITABLE:
            self.writable[address] = value % (1 << WRITABLE[address])
        elif address == Register.MEMORY_MAP:
            self.phase = value % 128
        elif address == Register.RESTART and value in (Restart.HOST, Restart.ABORT):
            return 0, 0, value, 0
        elif address == Register.START and value % 256 != self.run:
            if not refusal:
                self.run = value % 256
            return not refusal, 0, 0, refusal
        elif address == Register.MEMORY_TEST and not (testing and value % 8 == self.test):
            if not refusal:
                self.test = value % 8
            return 0, not refusal, 0, refusal
        return 0, 0, 0, 0

    def read(self, address):
        if COUNTER_BASE <= address < COUNTER_BASE + len(Counter):
            return self.counters[address - COUNTER_BASE]
        inputs = self.inputs
        return {**self.writable, Register.MAGIC: MAGIC, Register.VERSION: VERSION,
                Register.CONFIG: DIGEST, Register.MEMORY_WORDS: WORDS, Register.START: self.run,
                Register.STATE: inputs["core_busy"] | inputs["state"] << 1,
                Register.IDENTITY: inputs["identity"], Register.RING: 0,
                Register.CAPABILITIES: 0b101,
                Register.MEMORY_STATUS: inputs["memory_status"],
                Register.MEMORY_TEST: inputs["status"],
                Register.MEMORY_TEST_ERRORS: inputs["errors"],
                Register.MEMORY_TEST_ADDRESS: inputs["address"],
                Register.MEMORY_TEST_PINS: inputs["pins"],
                Register.MEMORY_MAP: inputs["map"]}.get(address, 0)


def test_random_accesses():
    """Random writes to any address; a steady address gives what the register map said
    ``REGISTER_LATENCY`` cycles ago; values, pulses and refusals come in the next cycle."""
    rng = random.Random(0)
    dut = RegisterFile(config_digest=DIGEST, memory_words=WORDS,
                       capabilities=("meter", "rings"))
    model = Model()
    seen_effects = Counts()
    inputs = {name: Value.cast(getattr(dut if hasattr(dut, name) else dut.tests, name))
              for name in model.inputs}

    async def testbench(ctx):
        address, steady, seen = 0, 0, []
        for _ in range(7000):
            if rng.random() < 0.1:
                for name, signal in inputs.items():
                    value = rng.getrandbits(len(signal))
                    if name in ("core_busy", "status") and rng.random() < 0.5:
                        value = 0
                    model.inputs[name] = value
                    ctx.set(signal, value)
                counter = rng.randrange(len(Counter))
                model.counters[counter] = rng.choice([0xFFFF_FFFF, rng.getrandbits(32)])
                ctx.set(dut.counters[counter], model.counters[counter])
            if rng.random() < 0.5:
                address, steady = rng.choice([*Register, rng.randrange(1 << REGISTER_BITS)]), 0
            write = rng.random() < 0.4
            value = rng.choice([0xFFFF_FFFF, rng.getrandbits(32), rng.randrange(3),
                                rng.choice([*MemoryTest])])
            ctx.set(dut.bus.address, address)
            ctx.set(dut.bus.write, write)
            ctx.set(dut.bus.write_data, value)
            seen.append(model.read(address))
            steady += 1
            effects = model.write(address, value) if write else (0, 0, 0, 0)
            seen_effects[effects] += 1
            await ctx.tick()
            assert (ctx.get(dut.start), ctx.get(dut.tests.start), ctx.get(dut.restart),
                    ctx.get(dut.bus.refusal)) == effects
            assert ctx.get(dut.tests.test) == model.test
            assert ctx.get(dut.tests.phase) == model.phase
            assert ctx.get(dut.run) == model.run
            for register, held in model.writable.items():
                assert ctx.get(Value.cast(getattr(dut, register.name.lower()))) == held
            if steady >= REGISTER_LATENCY:
                assert ctx.get(dut.bus.read_data) == seen[-REGISTER_LATENCY]

    simulate(dut, testbench)
    # Everything a write can do was seen.
    assert len(seen_effects) == 1 + 1 + 1 + 2 + 2 and min(seen_effects.values()) > 5


def test_power_meter():
    """Writes go to the meter, and its values are read; without one its registers are 0."""
    for capabilities in ((), ("meter",)):
        dut = RegisterFile(config_digest=0, memory_words=0, capabilities=capabilities)

        async def testbench(ctx, dut=dut, has=bool(capabilities)):
            async def read(register):
                ctx.set(dut.bus.address, register)
                await ctx.tick().repeat(REGISTER_LATENCY)
                return ctx.get(dut.bus.read_data)

            ctx.set(dut.meter.data, 0x89ABCDEF)
            ctx.set(dut.meter.status, {"active": 1, "failed": 0})
            for place, register in enumerate((Register.METER_SAMPLES, Register.METER_ERRORS,
                                              Register.METER_SUM, Register.METER_SUM_HIGH)):
                ctx.set(dut.meter.value, 0x70000000 + place)
                assert await read(register) == has * (0x70000000 + place)
                assert not has or ctx.get(dut.meter.place) == place
            assert await read(Register.METER_COMMAND) == has * 0x89ABCDEF
            assert await read(Register.METER_CONTROL) == has * 1
            for register, value in ((Register.METER_CONTROL, 0x5ABCD),
                                    (Register.METER_COMMAND, 0x12345678)):
                ctx.set(dut.bus.address, register)
                ctx.set(dut.bus.write_data, value)
                ctx.set(dut.bus.write, 1)
                assert ctx.get(dut.meter.write) == (has and register == Register.METER_COMMAND)
                assert not has or ctx.get(dut.meter.command) == value
                await ctx.tick()
                ctx.set(dut.bus.write, 0)
                assert not ctx.get(dut.meter.write)
            control = ctx.get(Value.cast(dut.meter.control))
            assert control == has * 0x5ABCD

        simulate(dut, testbench)


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
