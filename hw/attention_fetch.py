"""Order in which the attention unit reads the pool."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import LEVEL_PLANES
from hw.descriptor import Attention


__all__ = ["AttentionFetch"]


class AttentionFetch(wiring.Component):
    """Addresses of one attention descriptor: per token the three planes of v and the words of k,
    then per token the words of q.

    The words of k and q come plane by plane, most significant first, and inside a plane by
    ascending ``w``; the planes of v come by ascending address. Addresses are incremental.
    Throughput is one address per cycle; the first comes in the cycle after ``start``.

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

    def elaborate(self, platform):
        m = Module()

        job, address = self.job, self.addresses.payload
        is_value = Signal()
        is_query = Signal()
        plane = Signal(range(LEVEL_PLANES))
        words_left = Signal(4)
        tokens_left = Signal(16)
        value = Signal(16)                 # v of the next token, once the current one is read
        base = Signal(16)                  # k or q of the next token
        plane_base = Signal(16)            # word 0 of the current plane

        last_token = tokens_left == 0
        begin = Signal()                   # k or q of the next token follows
        m.d.comb += begin.eq(0)

        with m.If(self.start):
            m.d.sync += [
                self.addresses.valid.eq(1),
                address.eq(job.value),
                value.eq(job.value),
                base.eq(job.key),
                is_value.eq(1),
                is_query.eq(0),
                plane.eq(LEVEL_PLANES - 1),
                tokens_left.eq(job.tokens - 1),
            ]
        with m.Elif(self.addresses.valid & self.addresses.ready):
            with m.If(is_value):
                m.d.sync += [address.eq(address + 1), plane.eq(plane - 1)]
                with m.If(plane == 0):
                    m.d.comb += begin.eq(1)
                    m.d.sync += [is_value.eq(0), value.eq(value + job.position_stride)]
            with m.Elif(words_left != 0):
                m.d.sync += [words_left.eq(words_left - 1), address.eq(address + LEVEL_PLANES)]
            with m.Elif(plane != 0):
                m.d.sync += [
                    plane.eq(plane - 1),
                    words_left.eq(job.words - 1),
                    address.eq(plane_base - 1),
                    plane_base.eq(plane_base - 1),
                ]
            with m.Else():
                m.d.sync += tokens_left.eq(Mux(last_token, job.tokens - 1, tokens_left - 1))
                with m.If(last_token):
                    m.d.sync += is_query.eq(1)
                with m.If(is_query & last_token):
                    m.d.sync += self.addresses.valid.eq(0)
                with m.Elif(is_query | last_token):
                    m.d.comb += begin.eq(1)
                with m.Else():
                    m.d.sync += [
                        is_value.eq(1),
                        plane.eq(LEVEL_PLANES - 1),
                        address.eq(value),
                    ]

        with m.If(begin):
            m.d.sync += [
                plane.eq(LEVEL_PLANES - 1),
                words_left.eq(job.words - 1),
                address.eq(base + LEVEL_PLANES - 1),
                plane_base.eq(base + LEVEL_PLANES - 1),
                # The last token of k is followed by the first of q.
                base.eq(Mux(is_value & last_token, job.query, base + job.position_stride)),
            ]

        return m
