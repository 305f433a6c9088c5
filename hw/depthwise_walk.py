"""Walk over the positions of some rows, in order."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


__all__ = ["Walk"]


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
