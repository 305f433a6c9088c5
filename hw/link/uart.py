"""UART, 8 data bits, no parity, one stop bit."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out


__all__ = ["UartReceiver", "UartTransmitter"]


def _check_divisor(divisor):
    if not isinstance(divisor, int) or divisor < 4:
        raise ValueError(f"Divisor must be an integer of at least 4, not {divisor!r}")


class UartReceiver(wiring.Component):
    """Receive bytes from an asynchronous line.

    The line passes two flip-flops and is sampled in the middle of every bit. A start bit that is
    gone by its middle is noise and ignored; a byte without stop bit is dropped, and the receiver
    then waits for an idle line.

    Latency is 9.5 bit times and 3 cycles from the falling edge; 36 COMB and 23 FF.

    Parameters
    ----------
    divisor : int
        Clock cycles in a bit, at least 4.

    Members
    -------
    rx : ``In(1)``
        The line, asynchronous, idle high.
    o : ``Out(stream.Signature(8, always_ready=True))``
        Received bytes.
    busy : ``Out(1)``
        A byte is being received.
    """

    def __init__(self, *, divisor):
        _check_divisor(divisor)
        self._divisor = divisor
        super().__init__({
            "rx": In(1, init=1),
            "o": Out(stream.Signature(8, always_ready=True)),
            "busy": Out(1),
        })

    @property
    def divisor(self):
        return self._divisor

    def elaborate(self, platform):
        m = Module()

        line = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.rx, line, init=1)

        timer = Signal(range(self._divisor))
        bits = Signal(range(9))
        byte = Signal(8)
        m.d.comb += self.o.payload.eq(byte)
        m.d.sync += self.o.valid.eq(0)
        m.d.sync += timer.eq(Mux(timer == 0, self._divisor - 1, timer - 1))

        with m.FSM(name="receive") as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("IDLE") | ~line | self.o.valid)
            with m.State("IDLE"):
                m.d.sync += timer.eq(self._divisor // 2 - 1)
                m.d.sync += bits.eq(0)
                with m.If(~line):
                    m.next = "START"
            with m.State("START"):
                with m.If(timer == 0):
                    with m.If(line):
                        m.next = "IDLE"
                    with m.Else():
                        m.next = "DATA"
            with m.State("DATA"):
                with m.If(timer == 0):
                    m.d.sync += byte.eq(Cat(byte[1:], line))
                    m.d.sync += bits.eq(bits + 1)
                    with m.If(bits == 7):
                        m.next = "STOP"
            with m.State("STOP"):
                with m.If(timer == 0):
                    m.d.sync += self.o.valid.eq(line)
                    with m.If(line):
                        m.next = "IDLE"
                    with m.Else():
                        m.next = "BREAK"
            with m.State("BREAK"):
                with m.If(line):
                    m.next = "IDLE"

        return m


class UartTransmitter(wiring.Component):
    """Send bytes on an asynchronous line.

    Throughput is one byte in ``10 * divisor`` cycles, latency 1 cycle to the start bit; 29
    COMB and 18 FF.

    Parameters
    ----------
    divisor : int
        Clock cycles in a bit, at least 4.

    Members
    -------
    i : ``In(stream.Signature(8))``
        Bytes to send.
    tx : ``Out(1)``
        The line, idle high.
    busy : ``Out(1)``
        A byte is being sent.
    """

    def __init__(self, *, divisor):
        _check_divisor(divisor)
        self._divisor = divisor
        super().__init__({
            "i": In(stream.Signature(8)),
            "tx": Out(1, init=1),
            "busy": Out(1),
        })

    @property
    def divisor(self):
        return self._divisor

    def elaborate(self, platform):
        m = Module()

        timer = Signal(range(self._divisor))
        bits = Signal(range(11))
        shift = Signal(9, init=0x1ff)           # bit 0 drives the line; ones follow the byte
        m.d.comb += [
            self.tx.eq(shift[0]),
            self.busy.eq(bits != 0),
            self.i.ready.eq(bits == 0),
        ]
        with m.If(bits == 0):
            m.d.sync += timer.eq(self._divisor - 1)
            with m.If(self.i.valid):
                m.d.sync += shift.eq(Cat(C(0, 1), self.i.payload))
                m.d.sync += bits.eq(10)
        with m.Elif(timer == 0):
            m.d.sync += timer.eq(self._divisor - 1)
            m.d.sync += shift.eq(Cat(shift[1:], C(1, 1)))
            m.d.sync += bits.eq(bits - 1)
        with m.Else():
            m.d.sync += timer.eq(timer - 1)

        return m
