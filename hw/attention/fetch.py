"""Order in which the attention unit reads the pool."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.descriptor import Attention


__all__ = ["AttentionFetch"]


class AttentionFetch(wiring.Component):
    """Addresses of one attention descriptor: unless it keeps K^T V, per token the planes of
    v and the words of k; then per token the words of q.

    The words of k and q come plane by plane, most significant first, and inside a plane by
    ascending ``w``; the planes of v come by ascending address. Addresses are incremental.
    Throughput is one address per cycle; the first comes two cycles after ``start``.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    job : ``In(Attention)``
        The descriptor, stable from ``start`` until the last address is taken.
    start : ``In(1)``
    addresses : ``Out(stream.Signature(16))``
    """
    job: In(Attention)
    start: In(1)
    addresses: Out(stream.Signature(16))

    def __init__(self, *, config):
        self._config = config
        super().__init__()

    @property
    def config(self):
        return self._config

    def elaborate(self, platform):
        m = Module()
        planes = self._config.level_planes

        job, address = self.job, self.addresses.payload
        is_value = Signal()
        is_query = Signal()
        plane = Signal(range(planes))
        words_left = Signal(4)
        last_word = Signal()               # words_left == 0
        tokens_left = Signal(16)
        last_token = Signal()              # tokens_left == 0
        # Where the address may go, each a register.
        value = Signal(16)                 # v of the next token
        base = Signal(16)                  # highest plane, word 0 of k or q of the next token
        plane_base = Signal(16)            # word 0 of the next plane

        running = Signal()
        step = Signal()
        plane_ends = Signal()
        last_plane = Signal()              # plane == 0
        turn = Signal()                    # to a value or a base, or the end
        to_base = Signal()
        token_ends = Signal()
        m.d.comb += [
            step.eq(running & (self.addresses.ready | ~self.addresses.valid)),
            plane_ends.eq(~is_value & last_word),
            turn.eq(last_plane & (is_value | last_word)),
            to_base.eq(is_value | is_query | last_token),
            token_ends.eq(turn & ~is_value),
        ]
        with m.If(step):
            with m.If(turn):
                m.d.sync += [
                    address.eq(Mux(to_base, base, value)),
                    is_value.eq(~to_base),
                    plane.eq(planes - 1),
                    last_plane.eq(0),
                ]
                with m.If(to_base):
                    # The last token of k is followed by the first of q.
                    m.d.sync += base.eq(Mux(is_value & last_token, job.query + planes - 1,
                                            base + job.position_stride))
                with m.Else():
                    m.d.sync += value.eq(value + job.value_stride)
            with m.Else():
                m.d.sync += address.eq(Mux(plane_ends, plane_base,
                                           address + Mux(is_value, 1, planes)))
                with m.If(is_value | last_word):
                    m.d.sync += [plane.eq(plane - 1), last_plane.eq(plane == 1)]
            with m.If(turn | plane_ends):
                m.d.sync += [
                    plane_base.eq(Mux(turn, base, plane_base) - 1),
                    words_left.eq(job.words - 1),
                    last_word.eq(job.words == 1),
                ]
            with m.Else():
                m.d.sync += [words_left.eq(words_left - 1), last_word.eq(words_left == 1)]
            m.d.sync += self.addresses.valid.eq(1)
            with m.If(token_ends):
                m.d.sync += [
                    is_query.eq(is_query | last_token),
                    tokens_left.eq(Mux(last_token, job.queries, tokens_left) - 1),
                    last_token.eq(Mux(last_token, job.queries == 1, tokens_left == 1)),
                ]
                with m.If(is_query & last_token):
                    m.d.sync += [self.addresses.valid.eq(0), running.eq(0)]
        # As if a token had ended; nothing runs in this cycle.
        with m.If(self.start):
            m.d.sync += [
                running.eq(1),
                is_value.eq(0),
                is_query.eq(job.keep),
                last_word.eq(1),
                last_plane.eq(1),
                tokens_left.eq(Mux(job.keep, job.queries, job.tokens)),
                last_token.eq(0),
                value.eq(job.value),
                base.eq(Mux(job.keep, job.query, job.key) + planes - 1),
            ]

        return m
