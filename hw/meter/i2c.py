"""I2C master for one device: reads of 16 or 24 bits, writes of 16, one register at a time."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.port import I2cPins


__all__ = ["I2cMaster"]


READS_FROM, LAST_WRITTEN = 3, 3
"""Number of the first byte that is read, and of the last one of a write."""


class I2cMaster(wiring.Component):
    """One access to a register of a device after the other.

    On the line are ``command``'s bytes, the highest first: for a write the address, the pointer
    and two bytes; for a read the address and the pointer, and behind a repeated start its third
    byte, the address again, after which the device sends two or three. Bit 24 says which it is,
    1 for a read; in its place, the R/W bit of the first byte, a 0 is sent.
    (UM10204, I2C-bus specification, section 3.1; www.ti.com/lit/gpn/ina226, on its bus.)

    A device may hold SCL low for as long as it likes (clock stretching): every bit waits for it.
    A byte that is not acknowledged ends the access with a stop. ``abort`` ends it in the bit
    where it is, without waiting; and an access that finds SDA held low sends nine clocks and a
    stop, after which a device that stood in the middle of a byte is free, and fails.

    A bit takes ``4 * quarter`` cycles, an access of two bytes read 49 bits and of two written 38.
    105 COMB and 55 FF (yosys, ECP5).

    Parameters
    ----------
    quarter : int
        Cycles in a quarter of a bit, at least 8.

    Members
    -------
    pins : ``Out(I2cPins())``
        The lines, which are synchronised outside.
    tick : ``Out(1)``
        High for one cycle in ``quarter``.
    start : ``In(1)``
        Pulse; ignored while ``active``.
    command : ``In(32)``, wide : ``In(1)``
        See above; ``wide`` reads three bytes. They stay while ``active``.
    abort : ``In(1)``
        Pulse.
    active : ``Out(1)``
    done, failed : ``Out(1)``
        High for the last cycle of an access; and whether it was not carried out.
    data : ``Out(32)``
        What went over the line last; behind a read, the bytes read are the lowest.
    """

    def __init__(self, *, quarter):
        if not isinstance(quarter, int) or quarter < 8:
            raise ValueError(f"Quarter of a bit must be at least 8 cycles, not {quarter!r}")
        self._quarter = quarter
        super().__init__({
            "pins": Out(I2cPins()), "tick": Out(1), "start": In(1), "command": In(32),
            "wide": In(1), "abort": In(1), "active": Out(1), "done": Out(1), "failed": Out(1),
            "data": Out(32),
        })

    @property
    def quarter(self):
        return self._quarter

    def elaborate(self, platform):
        m = Module()
        pins, data = self.pins, self.data
        timer = Signal(range(self._quarter))
        phase = Signal(2)
        starting, stopping = Signal(), Signal()     # what the bit is; neither: one of a byte
        place, byte = Signal(4), Signal(3)          # bit of a byte, 8 is the acknowledgement
        wrong, stuck = Signal(), Signal()
        bit = Signal()                              # as it was seen
        is_read = self.command[24]
        m.d.comb += self.tick.eq(timer == 0)
        m.d.sync += timer.eq(Mux(self.tick, self._quarter - 1, timer - 1))

        # The lines. SCL is low in the first and the last quarter of a bit, SDA changes with it.
        reading = Signal()
        last = Signal()
        acknowledge = place[3]
        m.d.comb += [
            reading.eq(is_read & (byte >= READS_FROM)),
            last.eq(byte == Mux(is_read, 4 + self.wide, LAST_WRITTEN)),
        ]
        out = Signal()
        with m.If(acknowledge):
            m.d.comb += out.eq(~reading | last)
        with m.Else():
            m.d.comb += out.eq(reading | (data[31] & ~((place == 7) & (byte == 0))))
        level = Mux(starting, ~phase[1], Mux(stopping, phase[1], out | stuck))
        m.d.sync += [
            pins.scl_low.eq(self.active & ((phase == 0) | ((phase == 3) & ~stopping))),
            pins.sda_low.eq(self.active & ~level),
        ]

        ends = Signal()
        m.d.comb += [
            ends.eq(self.active & self.tick & (phase == 3)),
            self.done.eq(stopping & (ends | (self.abort & self.active))),
            self.failed.eq(wrong | self.abort),
        ]
        with m.If(self.active & self.tick & ((phase != 1) | pins.scl)):
            m.d.sync += phase.eq(phase + 1)
            with m.If(phase == 2):
                m.d.sync += bit.eq(pins.sda)
        with m.If(ends):
            m.d.sync += [starting.eq(0), stopping.eq(0)]
            with m.If(stopping):
                m.d.sync += self.active.eq(0)
            with m.Elif(~starting):
                m.d.sync += place.eq(place + 1)
                with m.If(~acknowledge):
                    m.d.sync += data.eq(Cat(bit, data[:31]))
                with m.Else():
                    m.d.sync += [place.eq(0), byte.eq(byte + 1)]
                    with m.If(is_read & (byte == READS_FROM - 2)):
                        m.d.sync += starting.eq(1)
                    with m.If(last | stuck | (~reading & bit)):
                        m.d.sync += [starting.eq(0), stopping.eq(1),
                                     wrong.eq(stuck | (~reading & bit))]
        with m.If(self.abort & self.active):
            # The bit becomes a stop: SCL and SDA go low, and are let go.
            m.d.sync += [stopping.eq(1), starting.eq(0), wrong.eq(1), phase.eq(0)]
            with m.If(stopping):            # not even that: the device holds SCL
                m.d.sync += self.active.eq(0)
        with m.If(self.start & ~self.active):
            m.d.sync += [
                self.active.eq(1), starting.eq(pins.sda), stuck.eq(~pins.sda), stopping.eq(0),
                wrong.eq(0), phase.eq(0), place.eq(0), byte.eq(0), data.eq(self.command),
            ]
        return m
