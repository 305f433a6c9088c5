"""Register stage of a stream that ends both its valid and its ready."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out


__all__ = ["SkidBuffer"]


class SkidBuffer(wiring.Component):
    """Pass a stream on through two places: neither ``valid`` nor ``ready`` passes through.

    Latency 1 cycle, throughput one item per cycle. Cost: two payloads of flip-flops and a LUT for
    each bit.

    Parameters
    ----------
    shape : ShapeLike

    Members
    -------
    i : ``In(stream.Signature(shape))``
        ``ready`` is a register, inverted.
    o : ``Out(stream.Signature(shape))``
        ``valid`` and ``payload`` are registers.
    """

    def __init__(self, shape):
        self._shape = shape
        super().__init__({
            "i": In(stream.Signature(shape)),
            "o": Out(stream.Signature(shape)),
        })

    @property
    def shape(self):
        return self._shape

    def elaborate(self, platform):
        m = Module()

        # The first place is the output; the second one holds what comes while that is refused.
        second = Signal(self._shape, reset_less=True)
        second_valid = Signal()
        come = Signal()
        m.d.comb += [self.i.ready.eq(~second_valid), come.eq(self.i.valid & self.i.ready)]
        with m.If(self.o.ready | ~self.o.valid):
            m.d.sync += [
                self.o.valid.eq(second_valid | come),
                self.o.payload.eq(Mux(second_valid, second, self.i.payload)),
                second_valid.eq(0),
            ]
        with m.Else():
            m.d.sync += second_valid.eq(second_valid | come)
        with m.If(~second_valid):
            m.d.sync += second.eq(self.i.payload)

        return m
