# amaranth: UnusedElaboratable=no
import random

import pytest

from hw.link.cobs import CobsDecoder, CobsEncoder
from sim.drive.ports import feed_stream, simulate, take_stream


def stuff(frame):
    """The paper's rule: each zero ends a block of the bytes before it, a code byte tells the
    block's length and itself; 254 bytes without a zero are a block of code 255, without one."""
    stuffed, block = bytearray(), bytearray()
    for byte in (*frame, 0):
        if byte:
            block.append(byte)
        if not byte or len(block) == 254:
            stuffed += bytes([len(block) + 1]) + block
            block = bytearray()
    return bytes(stuffed)


EXAMPLES = [
    ("00", "01 01"), ("00 00", "01 01 01"), ("00 11 00", "01 02 11 01"),
    ("11 22 00 33", "03 11 22 02 33"), ("11 22 33 44", "05 11 22 33 44"),
    ("11 00 00 00", "02 11 01 01 01"), ("", "01")]
"""Frames and what they are stuffed to, from the paper's rules by hand."""


def frames_of(rng):
    """Awkward frames: around blocks of 254 bytes, all zeros, none, random."""
    lengths = [1, 253, 254, 255, 508, 509, 8, 30]
    return [b"", bytes(300), b"\0", b"\1" * 254 + b"\0", *(
        bytes(rng.choice([0, 1, 255, rng.randrange(256)]) if sparse else rng.randrange(1, 256)
              for _ in range(length))
        for length in lengths for sparse in (False, True))]


def test_examples():
    """The rule that the other tests go by."""
    for frame, stuffed in EXAMPLES:
        assert stuff(bytes.fromhex(frame)) == bytes.fromhex(stuffed)


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_encoder(stall):
    """Stuffed frames, each with a zero behind it; ``error`` of a token is ignored."""
    rng = random.Random(1)
    frames = [*(bytes.fromhex(frame) for frame, _ in EXAMPLES), *frames_of(rng)]
    dut = CobsEncoder()
    tokens = [{**token, "error": rng.randrange(2)} for frame in frames
              for token in (*({"byte": byte} for byte in frame), {"end": 1})]
    line = b"".join(stuff(frame) + b"\0" for frame in frames)
    take, sent = take_stream(dut.o, len(line), rng=rng, stall=stall)

    async def check(ctx):
        await take(ctx)
        await ctx.tick().repeat(3)
        assert not ctx.get(dut.busy)

    simulate(dut, feed_stream(dut.i, tokens, rng=rng, stall=stall), check, cycles=60_000)
    assert bytes(sent) == line


def test_encoder_keeps_two_blocks():
    """While nothing is sent, two blocks are taken and no byte more; ``busy`` says that they wait.
    Then a byte leaves in every third cycle at least."""
    dut = CobsEncoder()
    taken = 0

    async def testbench(ctx):
        nonlocal taken
        assert not ctx.get(dut.busy)
        ctx.set(dut.i.valid, 1)
        ctx.set(dut.i.payload, {"byte": 7})
        for _ in range(600):
            _, _, ready = await ctx.tick().sample(dut.i.ready)
            taken += ready
        assert taken == 2 * 254 and ctx.get(dut.busy)
        ctx.set(dut.i.valid, 0)
        ctx.set(dut.o.ready, 1)
        sent, cycles = [], 0
        while len(sent) < 2 * 255:
            _, _, valid, byte = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            cycles += 1
            if valid:
                sent.append(byte)
        assert sent == 2 * [255, *254 * [7]]
        assert cycles <= 3 * 2 * 255 + 4
        await ctx.tick().repeat(3)
        assert not ctx.get(dut.busy)

    simulate(dut, testbench, cycles=5000)


@pytest.mark.parametrize("gaps", [0.0, 0.5])
def test_decoder(gaps):
    """Bytes in the cycle in which they are known, ends with 0, and errors of frames cut off."""
    rng = random.Random(2)
    frames = frames_of(rng)
    dut = CobsDecoder()
    # Behind the frames: two that break off inside a block, an empty one, a whole one.
    line = b"".join(stuff(frame) + b"\0" for frame in frames) + bytes.fromhex(
        "0511 00  ff010203 00  00  0233 00")
    received, current = [], bytearray()

    async def drive(ctx):
        for byte in line:
            while rng.random() < gaps:
                ctx.set(dut.i.valid, 0)
                ctx.set(dut.i.payload, rng.choice([0, rng.randrange(256)]))
                assert not ctx.get(dut.o.valid)
                await ctx.tick()
            ctx.set(dut.i.payload, byte)
            ctx.set(dut.i.valid, 1)
            if ctx.get(dut.o.valid):
                token = ctx.get(dut.o.payload)
                if token.end:
                    assert token.byte == 0
                    received.append((bytes(current), token.error))
                    current.clear()
                else:
                    current.append(token.byte)
            await ctx.tick()

    simulate(dut, drive)
    assert received == [*((frame, 0) for frame in frames), (b"\x11", 1), (b"\1\2\3", 1), (b"", 0),
                        (b"\x33", 0)]
