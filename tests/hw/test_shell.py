# amaranth: UnusedElaboratable=no
"""The whole shell, with a core that copies, by its two pins."""
import random
import struct

import pytest

from gen.device.device import decode_memory_status
from gen.device.frame import decode_frame, encode_frame
from hw.config import CoreConfig
from hw.memory.onchip_memory import OnChipMemory
from hw.register import config_digest, MemoryFault, Opcode, Register, Restart
from hw.sdram_config import SdramConfig
from hw.shell import Shell
from sim.drive.ports import simulate
from sim.rtl.stub_core import StubCore
from sim.twin.memory import MemoryTwin
from sim.twin.sdram_system import SdramSystem


def request(opcode, sequence, address, length, data=b""):
    return encode_frame(struct.pack("<BBHI", opcode, length, sequence, address) + data)


SDRAM = SdramConfig(clock_hz=133_000_000, trcd_ns=21, trp_ns=21, tras_ns=45, trc_ns=66, trfc_ns=70,
                    twr_ns=15, trrd_ns=15, power_up_ns=300, row_bits=3, column_bits=6)


@pytest.mark.parametrize("memory, clocks", [
    (OnChipMemory(words=512), {}), (MemoryTwin(words=512, stall=0.3, seed=4), {}),
    (SdramSystem(SDRAM), {"sdram": 0.6})], ids=["onchip", "twin", "sdram"])
def test_run(memory, clocks):
    """Write two images, start, wait, read the results; the answers flow while requests do."""
    config = CoreConfig(rows=16)
    shell = Shell(config, memory=memory, divisor=4, core=StubCore())
    rng = random.Random(0)
    image = [rng.getrandbits(64) & rng.choice([0, 2**64 - 1]) for _ in range(12)]
    control = {Register.IMAGE: 8, Register.IMAGE_STRIDE: 6, Register.RESULT: 100,
               Register.RESULT_STRIDE: 10, Register.COUNT: 2, Register.START: 1}
    frames = [request(Opcode.READ_REGISTER, 1, 0, 4),
              request(Opcode.WRITE_REGISTER, 2, Register.SESSION, 1, struct.pack("<Q", 0x5e5510)),
              request(Opcode.WRITE_MEMORY, 2, 8, 12, struct.pack("<12Q", *image)),
              b"\x03noise\0",
              *(request(Opcode.WRITE_REGISTER, 3, register, 1, struct.pack("<Q", value))
                for register, value in control.items())]
    later = [request(Opcode.READ_MEMORY, 9, 100, 16), request(Opcode.READ_REGISTER, 10, 4, 2),
             request(Opcode.READ_REGISTER, 11, Register.IDENTITY, 1),
             request(Opcode.WRITE_REGISTER, 12, Register.RESTART, 1,
                     struct.pack("<Q", Restart.ABORT))]
    received = bytearray()
    answers = len(frames) - 1 + len(later)

    async def send(ctx):
        ctx.set(shell.state.as_value(), 0xabc)
        ctx.set(shell.identity, 0x1dea)
        while ctx.get(shell.busy):                      # the memory is not ready
            await ctx.tick()
        for byte in b"".join(frames):
            for bit in (0, *(byte >> k & 1 for k in range(8)), 1):
                ctx.set(shell.rx, bit)
                await ctx.tick().repeat(4)
        while ctx.get(shell.busy):
            await ctx.tick()
        for byte in b"".join(later):
            for bit in (0, *(byte >> k & 1 for k in range(8)), 1):
                ctx.set(shell.rx, bit)
                await ctx.tick().repeat(4)

    async def receive(ctx):
        while received.count(0) < answers:
            while ctx.get(shell.tx):
                await ctx.tick()
            await ctx.tick().repeat(2)
            byte = 0
            for k in range(8):
                await ctx.tick().repeat(4)
                byte |= ctx.get(shell.tx) << k
            await ctx.tick().repeat(4)
            assert ctx.get(shell.tx)
            received.append(byte)
        await ctx.tick().repeat(10)
        assert not ctx.get(shell.busy)
        assert ctx.get(shell.restart) == Restart.ABORT
        assert ctx.get(shell.leds) == 0b1010_0100       # ready, two images, a dropped frame

    simulate(shell, send, receive, cycles=60_000, clocks=clocks)
    payloads = [decode_frame(frame) for frame in bytes(received).split(b"\0")[:-1]]
    assert [payload[2] for payload in payloads] == [1, 2, 2, *[3] * len(control), 9, 10,
                                                        11, 12]
    assert struct.unpack("<4Q", payloads[0][8:])[2:] == (config_digest(config), 512)
    origins = [int.from_bytes(payload[4:8], "little") for payload in payloads]
    started = 3 + list(control).index(Register.START)
    assert origins == [0, *[0x5e5510] * (started - 1),
                       *[0x1_5e5510] * (len(payloads) - started)]
    results = struct.unpack("<16Q", payloads[-4][8:])
    expected = [(word + 1) % 2**64 for word in image]
    assert list(results[:6] + results[10:]) == expected
    assert struct.unpack("<2Q", payloads[-3][8:]) == (0xabc << 1, 1)
    assert struct.unpack("<Q", payloads[-2][8:]) == (0x1dea,)


def test_failed_memory():
    """A board whose SDRAM never answers: registers say so, the LED is lit, nothing is busy."""
    shell = Shell(CoreConfig(rows=16), memory=SdramSystem(SDRAM, command_at=0, unsure=1), divisor=4,
                  core=StubCore())
    received = bytearray()

    async def run(ctx):
        while ctx.get(shell.busy):
            await ctx.tick()
        await ctx.tick().repeat(3)
        assert ctx.get(shell.leds) & 0b1000
        for byte in request(Opcode.READ_REGISTER, 1, Register.MEMORY_STATUS, 1):
            for bit in (0, *(byte >> k & 1 for k in range(8)), 1):
                ctx.set(shell.rx, bit)
                await ctx.tick().repeat(4)

    async def receive(ctx):
        while 0 not in received:
            while ctx.get(shell.tx):
                await ctx.tick()
            await ctx.tick().repeat(2)
            byte = 0
            for k in range(8):
                await ctx.tick().repeat(4)
                byte |= ctx.get(shell.tx) << k
            await ctx.tick().repeat(4)
            received.append(byte)

    simulate(shell, run, receive, cycles=60_000, clocks={"sdram": 0.6})
    value, = struct.unpack("<Q", decode_frame(bytes(received[:-1]))[8:])
    status = decode_memory_status(value)
    assert (status["ready"], status["fault"]) == (0, MemoryFault.CALIBRATION)
