"""TileStart: where each tile of an ARRAY descriptor starts reading."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.descriptor import Array, TileHeader


__all__ = ["Start", "TileStart"]


class Start(data.Struct):
    """First position of a tile: its address (most significant plane) and input coordinates."""
    address: 16
    iy: signed(13)
    ix: signed(13)


class TileStart(wiring.Component):
    """Addresses from tile headers, without a multiplier.

    ``iy = first_row*stride + dy``, ``ix = dx``, ``address = source + offset + iy*row_stride +
    ix*position_stride + planes - 1``, modulo 2**16. One adder forms all products, a bit of the
    factor per cycle: 14 cycles from ``begin`` to the first header, 18 from a header to its start.
    Headers are taken one ahead.

    Parameters
    ----------
    wide_weights : bool
        As of :class:`hw.config.CoreConfig`.

    Members
    -------
    descriptor : ``In(Array)``
        Constant from ``begin`` until the last start is taken.
    begin : ``In(1)``
        A new descriptor; the ones before it are finished.
    headers : ``In(stream.Signature(TileHeader))``
    o : ``Out(stream.Signature(Start))``
    high : ``Out(1)``
        That flag of the header, beside ``o``; with ``wide_weights`` only.
    row_step, position_step : ``Out(16)``
        Address distance of output positions below and beside each other.
    """

    def __init__(self, *, wide_weights=False):
        self._wide_weights = wide_weights
        super().__init__({
            "descriptor": In(Array),
            "begin": In(1),
            "headers": In(stream.Signature(TileHeader)),
            "o": Out(stream.Signature(Start)),
            "row_step": Out(16),
            "position_step": Out(16),
            **({"high": Out(1)} if wide_weights else {}),
        })

    def _times_stride(self, value):
        stride = self.descriptor.stride
        return Mux(stride[0], value, 0) + (Mux(stride[1], value, 0) << 1)

    def elaborate(self, platform):
        m = Module()

        array = self.descriptor
        header = Signal(TileHeader)
        header_valid = Signal()
        m.d.comb += self.headers.ready.eq(~header_valid)
        with m.If(self.headers.valid & self.headers.ready):
            m.d.sync += [header.eq(self.headers.payload), header_valid.eq(1)]

        base = Signal(16)
        first_iy = Signal(signed(12))
        total = Signal(16)
        addend = Signal(16)
        factor = Signal(10)
        left = Signal(4)
        negative = Signal()                         # the sign bit of a signed factor
        m.d.comb += self.o.p.address.eq(total)

        def multiply(state):
            operand = addend ^ negative.replicate(16)
            with m.If(factor[0]):
                # Carry in through an extra lowest bit.
                m.d.sync += total.eq((Cat(Const(1, 1), total) + Cat(negative, operand))[1:])
            m.d.sync += [
                addend.eq(addend << 1),
                factor.eq(factor >> 1),
                left.eq(left - 1),
            ]
            with m.If(left == 1):
                m.next = state

        with m.FSM(name="prepare"):
            with m.State("HEADER"):
                m.d.sync += [
                    total.eq(base + header.offset),
                    self.o.p.iy.eq(first_iy + header.dy.as_signed()),
                    self.o.p.ix.eq(header.dx.as_signed()),
                    addend.eq(array.row_stride),
                    factor.eq(header.dy),
                    left.eq(8),
                    *([self.high.eq(header.high)] if self._wide_weights else []),
                ]
                with m.If(self.begin):
                    m.next = "DESCRIPTOR"
                with m.Elif(header_valid):
                    m.next = "ADD_DY"
            with m.State("DESCRIPTOR"):
                m.d.sync += [
                    self.row_step.eq(self._times_stride(array.row_stride)),
                    self.position_step.eq(self._times_stride(array.position_stride)),
                    first_iy.eq(self._times_stride(array.first_row)),
                    total.eq(array.source + array.planes - 1),
                ]
                m.next = "FIRST_ROW"
            with m.State("FIRST_ROW"):
                m.d.sync += [
                    addend.eq(self.row_step),
                    factor.eq(array.first_row),
                    left.eq(10),
                    negative.eq(0),
                ]
                m.next = "ADD_FIRST_ROW"
            with m.State("ADD_FIRST_ROW"):
                m.d.sync += negative.eq(left == 2)
                multiply("BASE")
            with m.State("BASE"):
                m.d.sync += base.eq(total)
                m.next = "HEADER"
            with m.State("ADD_DY"):
                m.d.sync += negative.eq(left == 2)
                multiply("DX")
            with m.State("DX"):
                m.d.sync += [
                    addend.eq(array.position_stride),
                    factor.eq(header.dx),
                    left.eq(8),
                    header_valid.eq(0),
                ]
                m.next = "ADD_DX"
            with m.State("ADD_DX"):
                m.d.sync += negative.eq(left == 2)
                multiply("PRESENT")
            with m.State("PRESENT"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "HEADER"

        return m
