"""Split the words of k and q into events: one set bit, one K^T V row, per cycle."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.config import LEVEL_PLANES
from hw.descriptor import Attention


__all__ = ["AttentionEvents", "event_layout"]


GROUP = 8
"""Bits of a word that are looked at together."""


def event_layout(config):
    """One step of the attention datapath.

    ``hit``: a set bit, of K^T V row ``row`` (else only the other flags count); ``seen``: a token
    of k had that bit before; ``query``: from q; ``double``: the sum so far is doubled first;
    ``last``: of the token's q; ``plane`` of k; ``bank`` of the token's v.
    """
    return data.StructLayout({
        "valid": 1, "hit": 1, "seen": 1, "query": 1, "double": 1, "last": 1, "bank": 1,
        "plane": 2, "row": exact_log2(config.head_words * config.rows),
    })


def _lowest(bits):
    """One-hot: the lowest of ``bits`` (a list) that is set."""
    return Cat(bit & ~Cat(bits[:i]).any() for i, bit in enumerate(bits))


def _many(bits):
    """Whether more than one of ``bits`` (a list) is set; no carry chain."""
    return Cat(bit & Cat(bits[:i]).any() for i, bit in enumerate(bits) if i).any()


class AttentionEvents(wiring.Component):
    """Take the words that :class:`hw.attention_fetch.AttentionFetch` asked for and make events.

    A priority encoder in two steps: a non-zero group of 8 bits per cycle, then a bit per cycle.
    A word with e set bits takes max(1, e) cycles. In q, a doubling takes one more in front of
    planes 1 and 0 if the token had an event before. v words are taken beside that.

    A bit per row remembers which rows of K^T V were written since ``start``, so that the memory
    needs no clearing: ``head_words * rows`` flip-flops.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    job : ``In(Attention)``
        The descriptor, stable from ``start`` on.
    start : ``In(1)``
    words : ``In(stream.Signature(config.rows))``
    values : ``Out(ArrayLayout(ArrayLayout(config.rows, 3), 2))``
        Planes of v of the current token and the one before, selected by ``bank``.
    event : ``Out(event_layout(config))``
        Register; changes in the cycle after ``advance``.
    advance : ``In(1)``
        The event, valid or not, is taken.
    waiting : ``In(event_layout(config))``
        The event taken last; its v is kept while it is valid.
    """

    def __init__(self, *, config):
        self._config = config
        super().__init__({
            "job": In(Attention),
            "start": In(1),
            "words": In(stream.Signature(config.rows)),
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
        word_bits = exact_log2(head_words)

        # Where the next word belongs.
        is_value = Signal()
        is_query = Signal()
        plane = Signal(range(LEVEL_PLANES))
        w = Signal(4)
        tokens_left = Signal(16)
        bank = Signal()

        # Rows of K^T V that were written. Flip-flops, so that one cycle clears them.
        seen = Signal(data.ArrayLayout(rows, head_words), reset_less=True)

        # The word whose groups are handed out. A mark is a step without a bit.
        word = Signal(rows, reset_less=True)
        word_seen = Signal(rows, reset_less=True)
        left = Signal(groups)
        mark = Signal()
        double = Signal()
        last = Signal()
        query = Signal()
        word_index = Signal(word_bits)
        word_plane = Signal(range(LEVEL_PLANES))
        word_bank = Signal()

        # The group whose bits are handed out.
        chunk = Signal(event_layout(self._config))
        bits = Signal(GROUP)
        bits_seen = Signal(GROUP)
        chunk_group = Signal(range(max(groups, 2)))
        chunk_word = Signal(word_bits)

        event = self.event
        items = [mark, *left]
        more_items, more_bits = _many(items), _many(list(bits))
        take_group = Signal()
        m.d.comb += take_group.eq(~chunk.valid | (self.advance & ~more_bits))

        # Pop words.
        word_free = Signal()
        bank_free = Signal()
        take_word = Signal()
        take_value = Signal()

        def uses_bank(step):
            return step.valid & ~step.query & (step.bank == bank)

        m.d.comb += [
            word_free.eq(~Cat(items).any() | (take_group & ~more_items)),
            bank_free.eq(~(uses_bank(chunk) | uses_bank(event) | uses_bank(self.waiting))),
            self.words.ready.eq(Mux(is_value, bank_free, word_free)),
            take_value.eq(self.words.valid & is_value & bank_free),
            take_word.eq(self.words.valid & ~is_value & word_free),
        ]
        last_word = w == self.job.words - 1
        any_bits = Cat(self.words.payload.word_select(g, GROUP).any() for g in range(groups))
        token_any = Signal()
        first = (plane == LEVEL_PLANES - 1) & (w == 0)
        load_double = is_query & token_any & (w == 0) & (plane != LEVEL_PLANES - 1)
        load_last = is_query & last_word & (plane == 0)

        for i in range(head_words):
            with m.If(self.start):
                m.d.sync += seen[i].eq(0)
            with m.Elif(take_word & ~is_query & (w == i)):
                m.d.sync += seen[i].eq(seen[i] | self.words.payload)

        values = Signal(self.values.shape(), reset_less=True)
        m.d.comb += self.values.eq(values)
        with m.If(take_value):
            for b in range(2):
                for p in range(LEVEL_PLANES):
                    # v comes by ascending plane: the counter runs down.
                    with m.If((bank == b) & (plane == LEVEL_PLANES - 1 - p)):
                        m.d.sync += values[b][p].eq(self.words.payload)
            m.d.sync += plane.eq(plane - 1)
            with m.If(plane == 0):
                m.d.sync += [plane.eq(LEVEL_PLANES - 1), is_value.eq(0)]
        with m.If(take_word):
            m.d.sync += token_any.eq((token_any & ~first) | any_bits.any())
            with m.If(~last_word):
                m.d.sync += w.eq(w + 1)
            with m.Elif(plane != 0):
                m.d.sync += [w.eq(0), plane.eq(plane - 1)]
            with m.Else():
                m.d.sync += [
                    w.eq(0),
                    plane.eq(LEVEL_PLANES - 1),
                    is_value.eq(~is_query & (tokens_left != 0)),
                    is_query.eq(is_query | (tokens_left == 0)),
                    tokens_left.eq(tokens_left - 1),
                    bank.eq(~bank),
                ]

        with m.If(take_word):
            m.d.sync += [
                word.eq(self.words.payload),
                word_seen.eq(seen[w[:word_bits]] if word_bits else seen[0]),
                left.eq(any_bits),
                double.eq(load_double),
                mark.eq(load_double | (load_last & ~any_bits.any())),
                last.eq(load_last),
                query.eq(is_query),
                word_index.eq(w),
                word_plane.eq(plane),
                word_bank.eq(bank),
            ]
        with m.Elif(take_group):
            m.d.sync += mark.eq(0)
            with m.If(~mark):
                m.d.sync += left.eq(left & ~_lowest(list(left)))

        # Hand out groups: the mark first.
        with m.If(take_group):
            group = _lowest(items)[1:]

            def pick(source):
                chosen = [source.word_select(g, GROUP) & group[g].replicate(GROUP)
                          for g in range(groups)]
                while len(chosen) > 1:
                    chosen = [a | b for a, b in zip(chosen[::2], chosen[1::2], strict=True)]
                return chosen[0]

            m.d.sync += [
                bits.eq(pick(word)),
                bits_seen.eq(pick(word_seen)),
                chunk_group.eq(_index(group)),
                chunk_word.eq(word_index),
                chunk.valid.eq(Cat(items).any()),
                chunk.query.eq(query),
                chunk.double.eq(mark & double),
                chunk.last.eq(last & ~more_items),
                chunk.bank.eq(word_bank),
                chunk.plane.eq(word_plane),
            ]

        # Hand out bits.
        bit = _lowest(list(bits))
        with m.If(self.advance):
            m.d.sync += [
                event.eq(chunk),
                event.hit.eq(bits.any()),
                event.seen.eq((bit & bits_seen).any()),
                event.last.eq(chunk.last & ~more_bits),
                event.row.eq(Cat(_index(bit), chunk_group[:exact_log2(groups)], chunk_word)),
            ]
            with m.If(~take_group):
                m.d.sync += bits.eq(bits & ~bit)

        with m.If(self.start):
            m.d.sync += [
                is_value.eq(1),
                is_query.eq(0),
                plane.eq(LEVEL_PLANES - 1),
                w.eq(0),
                tokens_left.eq(self.job.tokens - 1),
            ]

        return m


def _index(onehot):
    """Number of the bit that is set in ``onehot``."""
    return Cat(Cat(onehot[i] for i in range(len(onehot)) if i >> k & 1).any()
               for k in range(exact_log2(len(onehot))))
