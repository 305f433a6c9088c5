"""Samples of a power monitor while the core runs, summed up."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.memory import Memory, MemoryData
from amaranth.lib.wiring import In, Out

from hw.meter.i2c import I2cMaster
from hw.port import I2cPins, MeterBus
from hw.register import METER_CONTROL_BITS, METER_VALUES, MeterMode


__all__ = ["PowerMeter"]


SAMPLES, ERRORS, SUM, SUM_HIGH = (METER_VALUES.index(name) for name in (
    "samples", "errors", "sum", "sum_high"))


class PowerMeter(wiring.Component):
    """Read a register of an INA226 or INA228 again and again, and sum up what it says.

    The register is one of ``command``, which the host writes (:class:`hw.meter.i2c.I2cMaster`);
    what it writes is also carried out at once. Every ``period`` ticks, quarters of a bit of the
    line, the next access begins: while the core runs, or always, as ``mode`` says. One that has
    not ended by then, because the device stretches the clock or is not there, is given up. A
    sample counts if the access succeeds, and if the core still runs at its end. Accesses that fail
    are counted, and nothing is added for them.

    The sums lie in LUT-RAM and are never cleared: the host takes differences. They change for
    three cycles behind a sample, in which reading them gives something else; see ``active``. 137
    LUT4, 28 CCU2C, 111 FF and 8 LUT-RAMs, the master among them (yosys, ECP5).

    Parameters
    ----------
    quarter : int
        As for :class:`hw.meter.i2c.I2cMaster`.

    Members
    -------
    bus : ``In(MeterBus())``
    running : ``In(1)``
        The core runs.
    pins : ``Out(I2cPins())``
    """

    def __init__(self, *, quarter):
        self._master = I2cMaster(quarter=quarter)
        self.sums = MemoryData(shape=32, depth=len(METER_VALUES), init=[])
        """:data:`hw.register.METER_VALUES`, for simulations."""
        super().__init__({"bus": In(MeterBus()), "running": In(1), "pins": Out(I2cPins())})

    @property
    def quarter(self):
        return self._master.quarter

    def elaborate(self, platform):
        m = Module()
        m.submodules.master = master = self._master
        wiring.connect(m, master.pins, wiring.flipped(self.pins))
        bus, control = self.bus, self.bus.control

        command = Signal(32)
        wanted = Signal()                   # by the host
        sampling = Signal()                 # the access is for a sample
        gate = Signal()
        elapsed = Signal(METER_CONTROL_BITS["period"])
        due = Signal()
        m.d.sync += gate.eq((control.mode == MeterMode.ALWAYS)
                            | ((control.mode == MeterMode.RUNNING) & self.running))
        m.d.comb += [
            master.command.eq(command), master.wide.eq(control.wide),
            due.eq(master.tick & (elapsed == control.period)),
            master.abort.eq(due & master.active),
            master.start.eq(wanted | (due & gate)),
        ]
        with m.If(master.tick):
            m.d.sync += elapsed.eq(elapsed + 1)
        with m.If(due | (wanted & ~master.active)):
            m.d.sync += elapsed.eq(0)
        with m.If(~master.active):
            m.d.sync += [sampling.eq(~wanted), wanted.eq(0)]
        with m.If(bus.write):
            m.d.sync += [command.eq(bus.command), wanted.eq(1)]

        # Sums: a word each cycle, through one adder.
        m.submodules.sums = sums = Memory(self.sums)
        read, write = sums.read_port(domain="comb"), sums.write_port()
        step = Signal(range(len(METER_VALUES)))
        adding = Signal()
        carry = Signal()
        value = Signal(24)
        total = Signal(33)
        m.d.comb += [
            read.addr.eq(Mux(adding, step, bus.place)),
            bus.value.eq(read.data),
            write.addr.eq(step), write.en.eq(adding), write.data.eq(total),
            total.eq((Cat(C(1, 1), read.data) + Cat(carry, value))[1:]),
            bus.data.eq(master.data), bus.status.active.eq(master.active | wanted | adding),
        ]
        with m.If(step == SUM):
            m.d.comb += value.eq(Cat(master.data[:16],
                                     master.data[16:24] & control.wide.replicate(8)))
        with m.If(adding):
            # The sum, its carry, and one more sample; or one more error alone.
            m.d.sync += [carry.eq(Mux(step == SUM, total[32], 1)),
                         step.eq(Mux(step == SUM, SUM_HIGH, SAMPLES)),
                         adding.eq(step[1])]
        with m.If(master.done):
            m.d.sync += bus.status.failed.eq(master.failed)
            with m.If(master.failed):
                m.d.sync += [adding.eq(1), step.eq(ERRORS), carry.eq(1)]
            with m.Elif(sampling & gate):
                m.d.sync += [adding.eq(1), step.eq(SUM), carry.eq(0)]
        return m
