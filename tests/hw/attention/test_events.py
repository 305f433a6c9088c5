# amaranth: UnusedElaboratable=no
import random

from amaranth import Module, Signal
import pytest

from hw.attention.events import AttentionEvents, GROUP, note_layout, word_note
from hw.config import CoreConfig
from sim.drive.ports import simulate


def note_of(word, rows):
    """Groups of 8 bits with a set bit, and whether there are more than 0, 1, 2 of them."""
    groups = [word >> GROUP * k & 255 != 0 for k in range(rows // GROUP)]
    return {"groups": sum(bit << k for k, bit in enumerate(groups)),
            "more": sum((sum(groups) > k) << k for k in range(3))}


def random_word(rng, rows):
    kind = rng.randrange(10)
    if kind == 0:
        return 0
    if kind == 1:
        return (1 << rows) - 1
    if kind == 2:
        return 1 << rng.randrange(rows)
    return rng.getrandbits(rows) & rng.getrandbits(rows) & rng.getrandbits(rows)


def bits_of(word, rows):
    return [bit for bit in range(rows) if word >> bit & 1]


def job_of(rng, rows, tokens, words, written, keep, planes=3):
    """Words in the order in which they come, v of every token, and the events, each
    ``("key", row, seen, plane, token)``, ``("query", row, seen, last)``, ``("double",)`` or
    ``("last",)``. ``written`` are the rows of the job before, and become those of this one."""
    stream, values, events = [], [], []
    if not keep:
        written.clear()
    for token in range(0 if keep else tokens):
        values.append([rng.getrandbits(rows) for _ in range(planes)])
        stream += values[-1]
        for plane in reversed(range(planes)):
            for w in range(words):
                stream.append(random_word(rng, rows))
                for bit in bits_of(stream[-1], rows):
                    row = w * rows + bit
                    events.append(("key", row, row in written, plane, token))
                    written.add(row)
    for _ in range(tokens):
        any_bit = False
        for plane in reversed(range(planes)):
            if any_bit and plane < planes - 1:
                events.append(("double",))
            for w in range(words):
                stream.append(random_word(rng, rows) if rng.random() < 0.8 else 0)
                bits = bits_of(stream[-1], rows)
                any_bit = any_bit or bool(bits)
                events += [("query", w * rows + bit, w * rows + bit in written, False)
                           for bit in bits]
        # The last bit of the last word, or a step of its own.
        if bits:
            events[-1] = (*events[-1][:-1], True)
        else:
            events.append(("last",))
    return stream, values, events


@pytest.mark.parametrize(("rows", "head_words", "levels"), [(16, 4, 4), (64, 2, 4), (16, 4, 3)])
@pytest.mark.parametrize(("gaps", "take_rate"), [(0.0, 1.0), (0.6, 1.0), (0.0, 0.3), (0.4, 0.6)])
def test_events(gaps, take_rate, rows, head_words, levels):
    """Events of random jobs one after the other; v of a token stays as long as one of its events
    is on the way."""
    rng = random.Random(rows)
    config = CoreConfig(rows=rows, load_rows=rows // 4, head_words=head_words, levels=levels)
    dut = AttentionEvents(config=config)
    left = []

    async def feed(ctx):
        while True:
            while not left or rng.random() < gaps:
                ctx.set(dut.words.valid, 0)
                ctx.set(dut.words.payload, rng.getrandbits(rows))
                await ctx.tick()
            word = left.pop(0)
            ctx.set(dut.words.valid, 1)
            ctx.set(dut.words.payload, word)
            ctx.set(dut.note, note_of(word, rows))
            await ctx.tick().until(dut.words.ready)
            ctx.set(dut.words.valid, 0)

    async def testbench(ctx):
        written = set()
        for tokens, words, keep in ((1, 1, 0), (3, 1, 0), (2, 1, 1), (4, head_words, 0), (2, 2, 0),
                                    (1, 2, 1), (2, 2, 1), (1, head_words, 0)):
            ctx.set(dut.job.tokens, tokens)
            ctx.set(dut.job.words, words)
            ctx.set(dut.job.keep, keep)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            stream, values, expected = job_of(rng, rows, tokens, words, written, keep,
                                              config.level_planes)
            left.extend(stream)
            found, waiting, taken_keys = [], None, 0
            tokens_of_keys = [event[-1] for event in expected if event[0] == "key"]

            def values_in(bank):
                return [ctx.get(dut.values[bank][plane]) for plane in range(config.level_planes)]

            while len(found) < len(expected):
                event = ctx.get(dut.event)
                if event.key:
                    assert values_in(event.bank) == values[tokens_of_keys[taken_keys]]
                if waiting is not None:             # taken last, needed until the next advance
                    assert values_in(waiting) == values[tokens_of_keys[taken_keys - 1]]
                advance = rng.random() < take_rate
                ctx.set(dut.advance, advance)
                await ctx.tick()
                if not advance:
                    continue
                ctx.set(dut.waiting, event)
                waiting = event.bank if event.key else None
                if event.double:
                    assert not event.hit
                    found.append(("double",))
                if event.hit:
                    found.append(("key", event.row, event.seen, event.plane,
                                  tokens_of_keys[taken_keys])
                                 if event.key else ("query", event.row, event.seen, event.last))
                    taken_keys += event.key
                elif event.last:
                    found.append(("last",))
            assert found == expected
            ctx.set(dut.advance, 1)
            for _ in range(5):
                await ctx.tick()
                event = ctx.get(dut.event)
                assert not (event.hit or event.double or event.last)
            ctx.set(dut.advance, 0)
            ctx.set(dut.waiting, {"key": 0})

    simulate(dut, testbench, background=[feed], cycles=40_000)


@pytest.mark.parametrize("rows", [16, 64])
def test_note(rows):
    """What :func:`word_note` says of a word, a cycle later."""
    rng = random.Random(0)
    m = Module()
    word = Signal(rows)
    note = Signal(note_layout(CoreConfig(rows=rows, load_rows=4)))
    m.d.comb += note.eq(word_note(m, word))

    async def testbench(ctx):
        for _ in range(200):
            value = rng.choice([random_word(rng, rows), 0xFF << 8 * rng.randrange(rows // 8)])
            ctx.set(word, value)
            await ctx.tick()
            found = ctx.get(note)
            assert {"groups": found.groups, "more": found.more} == note_of(value, rows)

    simulate(m, testbench)
