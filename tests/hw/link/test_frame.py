# amaranth: UnusedElaboratable=no
import random

import pytest

from gen.device.frame import decode_frame, encode_frame
from hw.link.frame import FrameReceiver, FrameTransmitter
from sim.drive.ports import feed_stream, simulate


def collect(port, values, rng, stall, end=None):
    """Testbench that takes ``values.append`` of payloads until ``end(values)``."""
    async def process(ctx):
        while not end(values):
            while rng.random() < stall:
                await ctx.tick()
            ctx.set(port.ready, 1)
            payload, = await ctx.tick().sample(port.payload).until(port.valid)
            ctx.set(port.ready, 0)
            values.append(payload)
    return process


def words_of(payload):
    return [int.from_bytes(payload[k:k + 8], "little") for k in range(0, len(payload), 8)]


def receive_frames(line, count, *, rng, gap=0, stall=0.0):
    """Frames (lists of words) that the receiver passes on, and the number of errors."""
    dut = FrameReceiver()
    frames, errors = [[]], []

    async def drive(ctx):
        for byte in line:
            ctx.set(dut.i.payload, byte)
            ctx.set(dut.i.valid, 1)
            await ctx.tick()
            ctx.set(dut.i.valid, 0)
            for _ in range(gap):
                await ctx.tick()

    async def take(ctx):
        while len(frames) <= count:
            while rng.random() < stall:
                await ctx.tick()
            ctx.set(dut.o.ready, 1)
            word, = await ctx.tick().sample(dut.o.payload).until(dut.o.valid)
            ctx.set(dut.o.ready, 0)
            frames[-1].append(word.data)
            if word.last:
                frames.append([])

    async def count_errors(ctx):
        while True:
            *_, error = await ctx.tick().sample(dut.error)
            if error:
                errors.append(error)

    simulate(dut, drive, take, background=[count_errors], cycles=60_000)
    return frames[:-1], len(errors)


@pytest.mark.parametrize("stall", [0.0, 0.7])
def test_receiver(stall):
    rng = random.Random(3)
    payloads = [rng.randbytes(8 * words) for words in (1, 65, 20, 12, 9)] + [bytes(88)]
    line = b"\0\0" + b"".join(map(encode_frame, payloads))
    frames, errors = receive_frames(line, len(payloads), rng=rng, gap=30, stall=stall)
    assert frames == [words_of(payload) for payload in payloads]
    assert errors == 0


def test_receiver_drops_damaged():
    rng = random.Random(4)
    good = [rng.randbytes(24) for _ in range(31)]
    line, damaged = b"", 0
    for number, payload in enumerate(good[:-1]):
        frame = bytearray(encode_frame(payload))
        kind, place = number % 5, rng.randrange(len(frame) - 1)
        if kind == 1:
            frame[place] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del frame[place]
        elif kind == 3:
            frame.insert(place, rng.randrange(256))
        elif kind == 4:
            frame = bytearray(encode_frame(payload[:-1]))       # no whole number of words
        line += bytes(frame)
        damaged += kind != 0
    too_long = encode_frame(rng.randbytes(1040))
    line += too_long + encode_frame(good[-1])
    expected = [words_of(payload) for payload in (*good[:-1:5], good[-1])]

    frames, errors = receive_frames(line, len(expected), rng=rng, gap=9)

    assert frames == expected
    assert errors >= damaged + 1


def test_receiver_drops_a_block_cut_short():
    """The last COBS block promises one byte more than there are: the CRC of the bytes matches."""
    rng = random.Random(6)
    payloads = [rng.randbytes(24) for _ in range(8)]
    line = b""
    for number, payload in enumerate(payloads):
        frame = bytearray(encode_frame(payload))
        if number % 2 == 0:
            code = 0
            while code + frame[code] < len(frame) - 1:
                code += frame[code]
            assert code + frame[code] == len(frame) - 1
            frame[code] += 1
            assert decode_frame(bytes(frame[:-1])) is None
        line += bytes(frame)
    frames, errors = receive_frames(line, 4, rng=rng, gap=9)
    assert frames == [words_of(payload) for payload in payloads[1::2]]
    assert errors == 4


def test_receiver_overrun():
    """Frames that find both halves full are dropped, those stored survive."""
    dut = FrameReceiver()
    rng = random.Random(5)
    payloads = [rng.randbytes(16) for _ in range(4)]
    received = []

    async def drive(ctx):
        errors = 0
        for byte in b"".join(map(encode_frame, payloads[:3])):
            ctx.set(dut.i.payload, byte)
            ctx.set(dut.i.valid, 1)
            *_, error = await ctx.tick().sample(dut.error)
            errors += error
        ctx.set(dut.i.valid, 0)
        *_, error = await ctx.tick().sample(dut.error)      # a frame is judged a cycle late
        errors += error
        assert errors == 1 and ctx.get(dut.busy)
        ctx.set(dut.o.ready, 1)
        while len(received) < 4:
            word, = await ctx.tick().sample(dut.o.payload).until(dut.o.valid)
            received.append(word.data)
        assert not ctx.get(dut.busy)

    simulate(dut, drive, cycles=2000)
    assert received == words_of(payloads[0]) + words_of(payloads[1])


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_transmitter(stall):
    rng = random.Random(6)
    payloads = [rng.randbytes(8 * words) for words in (1, 65, 2, 1)] + [bytes(8), bytes(520)]
    dut = FrameTransmitter()
    tokens = [{"data": word, "last": index == len(payload) // 8 - 1}
              for payload in payloads for index, word in enumerate(words_of(payload))]
    sent = []
    simulate(dut, feed_stream(dut.i, tokens, rng=rng, stall=stall),
             collect(dut.o, sent, rng, stall, lambda sent: sent.count(0) == len(payloads)),
             cycles=60_000)
    assert [decode_frame(stuffed) for stuffed in bytes(sent).split(b"\0")[:-1]] == payloads
