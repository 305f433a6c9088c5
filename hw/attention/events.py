"""Split the words of k and q into events: one set bit, one K^T V row, per cycle."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

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
        "plane": range(config.level_planes), "row": exact_log2(config.head_words * config.rows),
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


def _group_layout(config):
    """One group of a word: its bits, those that were seen before, and the flags of their events."""
    return data.StructLayout({
        "bits": GROUP, "seen": GROUP, "group": exact_log2(config.rows // GROUP),
        "word": exact_log2(config.head_words), "query": 1, "double": 1, "last": 1, "bank": 1,
        "plane": range(config.level_planes),
    })


class _Place:
    """Where the next word belongs: signals that the parts of :class:`AttentionEvents` share."""

    def __init__(self, planes):
        self.is_value = Signal()
        self.is_query = Signal()
        self.plane = Signal(range(planes))
        self.w = Signal(4)
        self.last_word = Signal()          # w == words - 1
        self.tokens_left = Signal(16)
        self.last_token = Signal()         # tokens_left == 0
        self.token_ends = Signal()         # a cycle late, off the path of `pop`
        self.bank = Signal()
        self.token_any = Signal()          # the token had an event
        self.doubles = Signal()            # the word begins with a doubling
        self.unseen = Signal()             # no word of this `w` came before


class AttentionEvents(wiring.Component):
    """Take the words that :class:`hw.attention.fetch.AttentionFetch` asked for and make events.

    A priority encoder in two steps: non-zero groups of 8 bits of a word, one per cycle, into a
    queue; then their bits, one per cycle. In q, a doubling takes a group and an event of its own
    in front of all planes but the highest if the token had an event before, and a token's last word
    an empty one if it has no bit. v words are taken beside that.

    A bit per row remembers which rows of K^T V were written since the ``start`` that did not keep
    it, so that the memory needs no clearing: LUT-RAM, itself taken as zeros in the first pass over
    the words.

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
    values : ``Out(ArrayLayout(ArrayLayout(rows, level_planes), 2))``
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
            "values": Out(data.ArrayLayout(
                data.ArrayLayout(config.rows, config.level_planes), 2)),
            "event": Out(event_layout(config)),
            "advance": In(1),
            "waiting": In(event_layout(config)),
        })

    @property
    def config(self):
        return self._config

    def elaborate(self, platform):
        m = Module()

        layout = _group_layout(self._config)
        m.submodules.queue = queue = PipelineQueue(width=layout.size)
        head = data.View(layout, queue.r_data)
        m.submodules.seen = seen = Memory(shape=self._config.rows,
                                          depth=self._config.head_words, init=[],
                                          attrs={"ram_style": "distributed"})
        seen_write = seen.write_port()
        seen_read = seen.read_port(domain="comb")

        place = _Place(self._config.level_planes)
        pop, more_now = self._groups(m, place, queue, seen_read, seen_write)

        chunk = Signal(layout)
        chunk_valid = Signal()
        steps = [(queue.ready & ~head.query, head), (chunk_valid & ~chunk.query, chunk),
                 (self.event.key, self.event), (self.waiting.key & ~self.advance, self.waiting)]
        self._values(m, place, steps, queue.room & ~more_now)
        self._next_word(m, place, pop)
        self._bits(m, queue, head, chunk, chunk_valid)
        with m.If(self.start):
            m.d.sync += [
                place.is_value.eq(~self.job.keep),
                place.is_query.eq(self.job.keep),
                place.plane.eq(self._config.level_planes - 1),
                place.w.eq(0),
                place.last_word.eq(self.job.words == 1),
                place.token_any.eq(0),
                place.unseen.eq(~self.job.keep),
                place.tokens_left.eq(self.job.tokens - 1),
                place.last_token.eq(self.job.tokens == 1),
            ]

        return m

    def _groups(self, m, place, queue, seen_read, seen_write):
        """Groups of the words of k and q into the queue, one per cycle."""
        rows = self._config.rows
        groups = rows // GROUP
        # Groups of the word at the head: those still left, and in front of them a mark, that is
        # a step without a bit.
        word, note = self.words.payload, self.note
        begun = Signal()
        left = Signal(groups)
        more_left = Signal()
        final = Signal()                   # of the token's q
        mark = Signal()
        now = Signal(groups)
        more_now = Signal()                # groups after this one, if it is none or one
        active = Signal()
        pop = Signal()
        m.d.comb += [
            final.eq(place.is_query & place.last_word & (place.plane == 0)),
            mark.eq(~begun & (place.doubles | (final & ~note.more[0]))),
            now.eq(Mux(begun, left, note.groups)),
            more_now.eq(Mux(begun, more_left, Mux(place.doubles, note.more[0], note.more[1]))),
            active.eq(self.words.valid & ~place.is_value & queue.room),
            pop.eq(active & ~more_now),
        ]
        with m.If(active):
            m.d.sync += [
                begun.eq(more_now),
                left.eq(now & ~(_lowest(list(now)) & ~mark.replicate(groups))),
                more_left.eq(Mux(begun, _more_than(2, list(left)),
                                 Mux(place.doubles, note.more[1], note.more[2]))),
            ]

        # A cycle later; the words come along, so that nothing wide has an enable.
        chosen = Signal(_group_layout(self._config))
        chosen_valid = Signal()
        chosen_group = Signal(groups)
        chosen_word = Signal(rows, reset_less=True)
        chosen_seen = Signal(rows, reset_less=True)
        old = seen_read.data & ~place.unseen.replicate(rows)
        m.d.comb += [
            queue.reserve.eq(active & (begun | place.doubles | final | note.more[0])),
            seen_read.addr.eq(place.w),
            seen_write.addr.eq(place.w),
            seen_write.data.eq(old | word),
            seen_write.en.eq(pop & ~place.is_query),
        ]
        m.d.sync += [
            chosen_valid.eq(queue.reserve),
            chosen_group.eq(_lowest(list(now)) & ~mark.replicate(groups)),
            chosen_word.eq(word),
            chosen_seen.eq(old),
            chosen.word.eq(place.w),
            chosen.query.eq(place.is_query),
            chosen.double.eq(place.doubles & ~begun),
            chosen.last.eq(final & ~more_now),
            chosen.bank.eq(place.bank),
            chosen.plane.eq(place.plane),
        ]
        self._store(m, queue, chosen, chosen_valid, chosen_group, chosen_word, chosen_seen)
        return pop, more_now

    def _store(self, m, queue, chosen, valid, group, word, seen):
        """The chosen group of a word, and which of its bits were seen before, into the queue."""

        def pick(source):
            terms = [source.word_select(g, GROUP) & group[g].replicate(GROUP)
                     for g in range(len(group))]
            while len(terms) > 1:
                terms = [a | b for a, b in zip(terms[::2], terms[1::2], strict=True)]
            return terms[0]

        stored = Signal(chosen.shape())
        m.d.comb += [
            stored.eq(chosen),
            stored.bits.eq(pick(word)),
            stored.seen.eq(pick(seen)),
            stored.group.eq(_index(group)),
            queue.w_data.eq(stored),
            queue.w_en.eq(valid),
        ]

    def _values(self, m, place, steps, room):
        """Words of v into the bank of their token; ``steps``: what may still need a bank."""
        # Groups are taken in order, and those of the token before are all in the queue or
        # further when the next v comes: the bank is free when it is none of these steps'.
        bank_busy = Signal(2)
        values = Signal(self.values.shape(), reset_less=True)
        take_value = Signal()
        for b in range(2):
            m.d.sync += bank_busy[b].eq(Cat(uses & (step.bank == b) for uses, step in steps).any())
        bank_free = ~Mux(place.bank, bank_busy[1], bank_busy[0])
        m.d.comb += [
            self.values.eq(values),
            take_value.eq(self.words.valid & place.is_value & bank_free),
            self.words.ready.eq(Mux(place.is_value, bank_free, room)),
        ]
        with m.If(take_value):
            highest = self._config.level_planes - 1
            for b in range(2):
                for p in range(highest + 1):
                    # v comes by ascending plane: the counter runs down.
                    with m.If((place.bank == b) & (place.plane == highest - p)):
                        m.d.sync += values[b][p].eq(self.words.payload)
            m.d.sync += place.plane.eq(place.plane - 1)
            with m.If(place.plane == 0):
                m.d.sync += [place.plane.eq(self._config.level_planes - 1), place.is_value.eq(0)]

    def _next_word(self, m, place, pop):
        """Move on to the next word of k or q when one is done: word, plane, token, k to q."""
        any_next = place.token_any | self.note.more[0]
        m.d.sync += place.token_ends.eq(pop & place.last_word & (place.plane == 0))
        with m.If(place.token_ends):
            m.d.sync += [
                place.tokens_left.eq(place.tokens_left - 1),
                place.last_token.eq(place.tokens_left == 1),
            ]
        with m.If(pop):
            m.d.sync += [
                place.token_any.eq(any_next),
                place.doubles.eq(0),
                place.last_word.eq(self.job.words == Mux(place.last_word, 1, place.w + 2)),
            ]
            with m.If(~place.last_word):
                m.d.sync += place.w.eq(place.w + 1)
            with m.Elif(place.plane != 0):
                m.d.sync += [
                    place.w.eq(0),
                    place.plane.eq(place.plane - 1),
                    place.unseen.eq(0),
                    place.doubles.eq(place.is_query & any_next),
                ]
            with m.Else():
                m.d.sync += [
                    place.w.eq(0),
                    place.plane.eq(self._config.level_planes - 1),
                    place.is_value.eq(~place.is_query & ~place.last_token),
                    place.is_query.eq(place.is_query | place.last_token),
                    place.bank.eq(~place.bank),
                    place.token_any.eq(0),
                ]

    def _bits(self, m, queue, head, chunk, chunk_valid):
        """Hand out the bits of a group as events, one per cycle."""
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
