"""Where the depthwise unit is: input rows and their addresses, positions of some rows."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


__all__ = ["InputRows", "Walk", "ADDRESS_BITS", "ROW_BITS"]


ADDRESS_BITS = 16
"""Of a pool word; addresses wrap."""

ROW_BITS = 11
"""Of an input row's number, which is negative above the map or before the start of its ring."""


class InputRows(wiring.Component):
    """Number and address of one input row after the other: the one place that knows them.

    Members
    -------
    place : ``In(1)``
        Make ``first`` the first row of a pass; ``ready`` goes low until its address is known,
        ``ADDRESS_BITS + 4`` cycles later.
    first : ``In(signed(ROW_BITS))``
    source_row : ``In(9)``
        The row at address ``source``.
    source, pitch, ring : ``In(ADDRESS_BITS)``
        ``pitch`` is the distance of two rows; rows before row 0 are ``ring`` words higher; stable.
    ready : ``Out(1)``
    rewind : ``In(1)``
        Go to the first row of the pass.
    advance : ``In(1)``
        The first row of a pass is the one behind; go there by ``rewind``.
    step : ``In(1)``
        Go to the next row.
    row : ``Out(signed(ROW_BITS))``
    address : ``Out(ADDRESS_BITS)``
    """
    place: In(1)
    first: In(signed(ROW_BITS))
    source_row: In(9)
    source: In(ADDRESS_BITS)
    pitch: In(ADDRESS_BITS)
    ring: In(ADDRESS_BITS)
    ready: Out(1)
    rewind: In(1)
    advance: In(1)
    step: In(1)
    row: Out(signed(ROW_BITS))
    address: Out(ADDRESS_BITS)

    def elaborate(self, platform):
        m = Module()

        first_row = Signal(signed(ROW_BITS))
        first_address = Signal(ADDRESS_BITS)
        factor = Signal(ADDRESS_BITS)      # modulo 2**16, so that a negative row needs no care
        bits_left = Signal(range(ADDRESS_BITS))
        # From row -1 to row 0, in a ring, the address goes back.
        wrap_pitch = Signal(ADDRESS_BITS)
        m.d.sync += wrap_pitch.eq(self.pitch - self.ring)

        def next_address(row, address):
            return address + Mux(row == -1, wrap_pitch, self.pitch)

        with m.FSM():
            with m.State("READY"):
                m.d.comb += self.ready.eq(1)
                with m.If(self.advance):
                    m.d.sync += [
                        first_row.eq(first_row + 1),
                        first_address.eq(next_address(first_row, first_address)),
                    ]
                with m.If(self.place):
                    m.d.sync += first_row.eq(self.first)
                    m.next = "PLACE"
            with m.State("PLACE"):
                m.d.sync += [
                    factor.eq(first_row - self.source_row),
                    first_address.eq(0),
                    bits_left.eq(ADDRESS_BITS - 1),
                ]
                m.next = "MULTIPLY"
            with m.State("MULTIPLY"):
                m.d.sync += [
                    first_address.eq((first_address << 1) + Mux(factor[-1], self.pitch, 0)),
                    factor.eq(factor << 1),
                    bits_left.eq(bits_left - 1),
                ]
                with m.If(bits_left == 0):
                    m.next = "ADD_SOURCE"
            with m.State("ADD_SOURCE"):
                m.d.sync += first_address.eq(first_address + self.source)
                m.next = "ADD_RING"
            with m.State("ADD_RING"):
                with m.If(first_row < 0):
                    m.d.sync += first_address.eq(first_address + self.ring)
                m.next = "READY"

        with m.If(self.rewind):
            m.d.sync += [self.row.eq(first_row), self.address.eq(first_address)]
        with m.Elif(self.step):
            m.d.sync += [self.row.eq(self.row + 1),
                         self.address.eq(next_address(self.row, self.address))]

        return m


class Walk(wiring.Component):
    """Counters of a position in ``rows`` rows of ``width_last + 1`` positions.

    Members
    -------
    rows, width_last : ``In(9)``
        Rows, at least 1 in the cycle of ``start``, and width less one, stable.
    start : ``In(1)``
    step : ``In(1)``
        Go to the next position; only while ``active``.
    active : ``Out(1)``
        From the cycle after ``start`` up to the step from the last position.
    x_left : ``Out(9)``
        Positions that follow in this row.
    row_end, end : ``Out(1)``
        The position is the last one of its row, of all.
    first_row : ``Out(1)``
    """
    rows: In(9)
    width_last: In(9)
    start: In(1)
    step: In(1)
    active: Out(1)
    x_left: Out(9)
    row_end: Out(1)
    end: Out(1)
    first_row: Out(1)

    def elaborate(self, platform):
        m = Module()

        rows_left = Signal(9)
        m.d.comb += [
            self.row_end.eq(self.x_left == 0),
            self.end.eq(self.row_end & (rows_left == 0)),
        ]
        with m.If(self.start):
            m.d.sync += [
                self.active.eq(1),
                self.x_left.eq(self.width_last),
                self.first_row.eq(1),
                rows_left.eq(self.rows - 1),
            ]
        with m.Elif(self.step):
            m.d.sync += self.x_left.eq(self.x_left - 1)
            with m.If(self.row_end):
                m.d.sync += [
                    self.x_left.eq(self.width_last),
                    self.first_row.eq(0),
                    rows_left.eq(rows_left - 1),
                ]
            with m.If(self.end):
                m.d.sync += self.active.eq(0)

        return m
