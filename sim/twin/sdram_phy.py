"""Simulation twin of a board's SDRAM pins: registers, and a clock phase that can be wrong."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from hw.port import SdramPins


__all__ = ["SdramPhyTwin"]


class SdramPhyTwin(wiring.Component):
    """Registers between controller and chip, one each way, and the effects of the clock phase.

    The chip's clock lags behind the controller's by ``phase / phases`` of a period. What the
    controller sends changes at the chip around phase ``command_at``: the chip of a later phase
    samples it in the same period, that of an earlier one in the next. The chip's data arrive
    around phase ``data_at``: up to there they are captured a cycle earlier. In the ``unsure``
    phases from ``command_at`` or ``data_at`` on, every bit sampled is, at random, the earlier or
    the later one. One clock domain, that of the controller; the chip model runs in it, too.

    Parameters
    ----------
    phases : int
    command_at, data_at : int
        Phases in ``0..phases - 1``; ``data_at = phases`` captures all data early.
    unsure : int
        0 for pins that are never wrong.
    stuck_address, stuck_data : int
        Pins that are always 0, one bit each; of the data, as they are read.
    late : dict
        Phases by which a data pin's data arrive later than the others', by its number.
    banks : {"straight", "swapped", "shorted"}
        Whether the two lines of the bank are swapped, or both have the value of the first.
        These are to test what calibration and tests find.

    Members
    -------
    controller : ``In(SdramPins())``
    chip : ``Out(SdramPins())``
    phase : ``Out(8)``
    """

    def __init__(self, *, phases=1, command_at=0, data_at=1, unsure=0, stuck_address=0,
                 stuck_data=0, late=None, banks="straight"):
        self._phases = phases
        self._command_at, self._data_at, self._unsure = command_at, data_at, unsure
        self._stuck_address, self._stuck_data = stuck_address, stuck_data
        self._late, self._banks = late or {}, banks
        super().__init__({
            "controller": In(SdramPins()),
            "chip": Out(SdramPins()),
            "phase": Out(8),
        })

    def elaborate(self, platform):
        m = Module()
        controller, chip = self.controller, self.chip
        names = [name for name in SdramPins().members if name not in ("dq_i", "phase_step")]

        step, step_before = Signal(), Signal()
        m.submodules.step = FFSynchronizer(controller.phase_step, step)
        m.d.sync += step_before.eq(step)
        phase = Signal(8, reset_less=True)      # that of a PLL, which a reset does not reach
        m.d.comb += self.phase.eq(phase)
        with m.If(step_before & ~step):
            m.d.sync += phase.eq(Mux(phase == self._phases - 1, 0, phase + 1))

        noise = Signal(64, init=0x9e3779b97f4a7c15)
        steps = [Signal(64, name=f"noise_{k}") for k in range(2)]
        m.d.comb += [steps[0].eq(noise ^ (noise << 13)), steps[1].eq(steps[0] ^ (steps[0] >> 7))]
        m.d.sync += noise.eq(steps[1] ^ (steps[1] << 17))

        def choose(at, early, late, noise):
            """What is sampled: ``late`` up to phase ``at``, either for ``unsure``, ``early``."""
            return Mux(phase < at, late, Mux(
                phase < at + self._unsure, (early & noise) | (late & ~noise), early))

        out = Signal(data.StructLayout({name: len(getattr(controller, name)) for name in names}),
                     init={"dqm": 3})
        before = Signal.like(out)
        sampled = Signal.like(out)
        m.d.sync += before.eq(out)
        for name in names:
            m.d.sync += getattr(out, name).eq(getattr(controller, name))
            value = getattr(sampled, name)
            if name == "address":
                value = value & ~C(self._stuck_address, 13)
            elif name == "bank":
                value = {"straight": value, "swapped": Cat(value[1], value[0]),
                         "shorted": value[0].replicate(2)}[self._banks]
            m.d.comb += getattr(chip, name).eq(value)
        early, late = out.as_value(), before.as_value()
        m.d.comb += sampled.as_value().eq(
            choose(self._command_at, early, late, noise[:len(early)]))

        arrived = Signal(16)
        m.d.sync += arrived.eq(chip.dq_i)
        for pin in range(16):
            if not self._stuck_data >> pin & 1:
                m.d.comb += controller.dq_i[pin].eq(choose(
                    self._data_at + self._late.get(pin, 0), arrived[pin], chip.dq_i[pin],
                    noise[pin]))

        return m
