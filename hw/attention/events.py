"""Split the words of k and q into events: one set bit, one K^T V row, per cycle."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.config import LEVEL_PLANES
from hw.descriptor import Attention
from hw.lib.pipeline_queue import PipelineQueue


__all__ = ["AttentionEvents", "event_layout", "note_layout", "word_note"]


GROUP = 8
"""Bits of a word that are looked at together."""


def event_layout(config):
    """One step of the attention datapath.

    ``hit``: a set bit, of K^T V row ``row``; ``key``: one of k, from ``plane`` of it, the token's
    v in ``bank``; ``seen``: a token of k had that bit before; ``double``: a step of its own, that
    doubles the sum so far; ``last``: of the token's q. All 0: nothing to do.
    """
    return data.StructLayout({
        "hit": 1, "key": 1, "seen": 1, "double": 1, "last": 1, "bank": 1,
        "plane": 2, "row": exact_log2(config.head_words * config.rows),
    })


def _lowest(bits):
    """One-hot: the lowest of ``bits`` (a list) that is set."""
    return Cat(bit & ~Cat(bits[:i]).any() for i, bit in enumerate(bits))


def _more_than(count, bits):
    """Whether more than ``count`` of ``bits`` (a list) are set; no carry chain."""
    if count >= len(bits):
        return Const(0)
    # reached[k]: more than k of the bits so far.
    reached = [Const(0)] * (count + 1)
    for bit in bits:
        reached = [r | (bit & before)
                   for r, before in zip(reached, [Const(1), *reached], strict=False)]
    return reached[count]


def _index(onehot):
    """Number of the bit that is set in ``onehot``."""
    return Cat(Cat(onehot[i] for i in range(len(onehot)) if i >> k & 1).any()
               for k in range(exact_log2(len(onehot))))


def note_layout(config):
    """What is known of a word before it is taken.

    ``groups``: those of its 8-bit groups that have a set bit; ``more``: whether there are more
    than 0, 1, 2 of them.
    """
    return data.StructLayout({"groups": config.rows // GROUP, "more": 3})


def word_note(m, word):
    """:func:`note_layout` of ``word``, as a flat value one cycle later."""
    groups = Signal(len(word) // GROUP)
    m.d.sync += groups.eq(Cat(word.word_select(g, GROUP).any() for g in range(len(groups))))
    return Cat(groups, (_more_than(k, list(groups)) for k in range(3)))


class AttentionEvents(wiring.Component):
    """Take the words that :class:`hw.attention.fetch.AttentionFetch` asked for and make events.

    A priority encoder in two steps: non-zero groups of 8 bits of a word, one per cycle, into a
    queue; then their bits, one per cycle. In q, a doubling takes a group and an event of its own
    in front of planes 1 and 0 if the token had an event before, and a token's last word an empty
    one if it has no bit. v words are taken beside that.

    A bit per row remembers which rows of K^T V were written since ``start``, so that the memory
    needs no clearing: LUT-RAM, itself taken as zeros in the first pass over the words.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    job : ``In(Attention)``
        The descriptor, stable from ``start`` on.
    start : ``In(1)``
    words : ``In(stream.Signature(config.rows))``
    note : ``In(note_layout(config))``
        :func:`word_note` of ``words.payload``.
    values : ``Out(ArrayLayout(ArrayLayout(config.rows, 3), 2))``
        Planes of v of the current token and the one before, selected by ``bank``.
    event : ``Out(event_layout(config))``
        Register; changes in the cycle after ``advance``.
    advance : ``In(1)``
        The event, if it is one, is taken.
    waiting : ``In(event_layout(config))``
        The event taken last; its v is kept until the next ``advance``.
    """

    def __init__(self, *, config):
        self._config = config
        super().__init__({
            "job": In(Attention),
            "start": In(1),
            "words": In(stream.Signature(config.rows)),
            "note": In(note_layout(config)),
            "values": Out(data.ArrayLayout(data.ArrayLayout(config.rows, LEVEL_PLANES), 2)),
            "event": Out(event_layout(config)),
            "advance": In(1),
            "waiting": In(event_layout(config)),
        })

    @property
    def config(self):
        return self._config

    def elaborate(self, platform):
        m = Module()

        rows, head_words = self._config.rows, self._config.head_words
        groups = rows // GROUP
        # One group: its bits, those that were seen before, and the flags of their events.
        layout = data.StructLayout({
            "bits": GROUP, "seen": GROUP, "group": exact_log2(groups),
            "word": exact_log2(head_words), "query": 1, "double": 1, "last": 1, "bank": 1,
            "plane": range(LEVEL_PLANES),
        })
        m.submodules.queue = queue = PipelineQueue(width=layout.size)
        head = data.View(layout, queue.r_data)

        # Where the next word belongs.
        is_value = Signal()
        is_query = Signal()
        plane = Signal(range(LEVEL_PLANES))
        w = Signal(4)
        tokens_left = Signal(16)
        last_token = Signal()              # tokens_left == 0
        token_ends = Signal()              # a cycle late, off the path of `pop`
        bank = Signal()
        token_any = Signal()               # the token had an event
        unseen = Signal()                  # no word of this `w` came before

        m.submodules.seen = seen = Memory(shape=rows, depth=head_words, init=[],
                                          attrs={"ram_style": "distributed"})
        seen_write = seen.write_port()
        seen_read = seen.read_port(domain="comb")

        # Groups of the word at the head: those still left, and in front of them a mark, that is
        # a step without a bit.
        word, note = self.words.payload, self.note
        begun = Signal()
        left = Signal(groups)
        more_left = Signal()
        last_word = Signal()               # w == words - 1
        doubles = Signal()                 # the word begins with a doubling
        final = Signal()                   # of the token's q
        mark = Signal()
        now = Signal(groups)
        more_now = Signal()                # groups after this one, if it is none or one
        active = Signal()
        pop = Signal()
        m.d.comb += [
            final.eq(is_query & last_word & (plane == 0)),
            mark.eq(~begun & (doubles | (final & ~note.more[0]))),
            now.eq(Mux(begun, left, note.groups)),
            more_now.eq(Mux(begun, more_left, Mux(doubles, note.more[0], note.more[1]))),
            active.eq(self.words.valid & ~is_value & queue.room),
            pop.eq(active & ~more_now),
        ]
        with m.If(active):
            m.d.sync += [
                begun.eq(more_now),
                left.eq(now & ~(_lowest(list(now)) & ~mark.replicate(groups))),
                more_left.eq(Mux(begun, _more_than(2, list(left)),
                                 Mux(doubles, note.more[1], note.more[2]))),
            ]

        # A cycle later; the words come along, so that nothing wide has an enable.
        chosen = Signal(layout)
        chosen_valid = Signal()
        chosen_group = Signal(groups)
        chosen_word = Signal(rows, reset_less=True)
        chosen_seen = Signal(rows, reset_less=True)
        old = seen_read.data & ~unseen.replicate(rows)
        m.d.comb += [
            queue.reserve.eq(active & (begun | doubles | final | note.more[0])),
            seen_read.addr.eq(w),
            seen_write.addr.eq(w),
            seen_write.data.eq(old | word),
            seen_write.en.eq(pop & ~is_query),
        ]
        m.d.sync += [
            chosen_valid.eq(queue.reserve),
            chosen_group.eq(_lowest(list(now)) & ~mark.replicate(groups)),
            chosen_word.eq(word),
            chosen_seen.eq(old),
            chosen.word.eq(w),
            chosen.query.eq(is_query),
            chosen.double.eq(doubles & ~begun),
            chosen.last.eq(final & ~more_now),
            chosen.bank.eq(bank),
            chosen.plane.eq(plane),
        ]

        def pick(source):
            terms = [source.word_select(g, GROUP) & chosen_group[g].replicate(GROUP)
                     for g in range(groups)]
            while len(terms) > 1:
                terms = [a | b for a, b in zip(terms[::2], terms[1::2], strict=True)]
            return terms[0]

        stored = Signal(layout)
        m.d.comb += [
            stored.eq(chosen),
            stored.bits.eq(pick(chosen_word)),
            stored.seen.eq(pick(chosen_seen)),
            stored.group.eq(_index(chosen_group)),
            queue.w_data.eq(stored),
            queue.w_en.eq(chosen_valid),
        ]

        # v. Groups are taken in order, and those of the token before are all in the queue or
        # further when the next v comes: the bank is free when it is none of these steps'.
        chunk = Signal(layout)
        chunk_valid = Signal()
        bank_busy = Signal(2)
        values = Signal(self.values.shape(), reset_less=True)
        take_value = Signal()
        steps = [(queue.ready & ~head.query, head), (chunk_valid & ~chunk.query, chunk),
                 (self.event.key, self.event), (self.waiting.key & ~self.advance, self.waiting)]
        for b in range(2):
            m.d.sync += bank_busy[b].eq(Cat(uses & (step.bank == b) for uses, step in steps).any())
        bank_free = ~Mux(bank, bank_busy[1], bank_busy[0])
        m.d.comb += [
            self.values.eq(values),
            take_value.eq(self.words.valid & is_value & bank_free),
            self.words.ready.eq(Mux(is_value, bank_free, queue.room & ~more_now)),
        ]
        with m.If(take_value):
            for b in range(2):
                for p in range(LEVEL_PLANES):
                    # v comes by ascending plane: the counter runs down.
                    with m.If((bank == b) & (plane == LEVEL_PLANES - 1 - p)):
                        m.d.sync += values[b][p].eq(word)
            m.d.sync += plane.eq(plane - 1)
            with m.If(plane == 0):
                m.d.sync += [plane.eq(LEVEL_PLANES - 1), is_value.eq(0)]
        any_next = token_any | note.more[0]
        m.d.sync += token_ends.eq(pop & last_word & (plane == 0))
        with m.If(token_ends):
            m.d.sync += [tokens_left.eq(tokens_left - 1), last_token.eq(tokens_left == 1)]
        with m.If(pop):
            m.d.sync += [
                token_any.eq(any_next),
                doubles.eq(0),
                last_word.eq(self.job.words == Mux(last_word, 1, w + 2)),
            ]
            with m.If(~last_word):
                m.d.sync += w.eq(w + 1)
            with m.Elif(plane != 0):
                m.d.sync += [
                    w.eq(0),
                    plane.eq(plane - 1),
                    unseen.eq(0),
                    doubles.eq(is_query & any_next),
                ]
            with m.Else():
                m.d.sync += [
                    w.eq(0),
                    plane.eq(LEVEL_PLANES - 1),
                    is_value.eq(~is_query & ~last_token),
                    is_query.eq(is_query | last_token),
                    bank.eq(~bank),
                    token_any.eq(0),
                ]

        # Hand out bits.
        event = self.event
        hit = chunk_valid & chunk.bits.any()
        bit = _lowest(list(chunk.bits))
        more_bits = Signal()
        take = Signal()
        m.d.comb += [
            take.eq(~chunk_valid | (self.advance & ~more_bits)),
            queue.r_en.eq(take & queue.ready),
        ]
        with m.If(take):
            m.d.sync += [
                chunk.eq(head),
                chunk_valid.eq(queue.ready),
                more_bits.eq(_more_than(1, list(head.bits))),
            ]
        with m.Elif(self.advance):
            m.d.sync += [
                chunk.bits.eq(chunk.bits & ~bit),
                more_bits.eq(_more_than(2, list(chunk.bits))),
            ]
        with m.If(self.advance):
            m.d.sync += [
                event.hit.eq(hit),
                event.key.eq(hit & ~chunk.query),
                event.seen.eq((bit & chunk.seen).any()),
                event.double.eq(chunk_valid & chunk.double),
                event.last.eq(chunk_valid & chunk.last & ~more_bits),
                event.bank.eq(chunk.bank),
                event.plane.eq(chunk.plane),
                event.row.eq(Cat(_index(bit), chunk.group, chunk.word)),
            ]

        with m.If(self.start):
            m.d.sync += [
                is_value.eq(1),
                is_query.eq(0),
                plane.eq(LEVEL_PLANES - 1),
                w.eq(0),
                last_word.eq(self.job.words == 1),
                token_any.eq(0),
                unseen.eq(1),
                tokens_left.eq(self.job.tokens - 1),
                last_token.eq(self.job.tokens == 1),
            ]

        return m
