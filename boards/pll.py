"""EHXPLLL, the PLL of the Lattice ECP5, as one clock source with a lock signal."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


__all__ = ["Ecp5Pll", "PllDividers", "phases"]


VCO_HZ = (400_000_000, 800_000_000)
"""Range of the oscillator (ECP5 data sheet, FPGA-DS-02012, sysCLOCK PLL timing)."""

VCO_BEST_HZ = 600_000_000

PHASE_DETECTOR_HZ = (10_000_000, 400_000_000)
"""Range of the phase detector (same table). At 2 MHz a board's lock signal stayed 0."""

OUTPUT_HZ = (3_125_000, 400_000_000)
"""Range of an output (same table), the feedback among them."""


@dataclass(frozen=True, kw_only=True)
class PllDividers:
    """Dividers of one EHXPLLL whose feedback is an output that nothing else uses.

    ``vco = input / reference * feedback`` and ``output = vco / divider``. Feedback through the
    used output would tie the detector to a common divider of input and output: 5 MHz for 80 MHz
    from 25 MHz.
    """

    input_hz: int
    reference: int
    feedback: int
    """Oscillator cycles in one of the phase detector: the divider of the feedback's output."""
    divider: int

    @property
    def detector_hz(self) -> float:
        """Frequency of the phase detector, and of the feedback."""
        return self.input_hz / self.reference

    @property
    def vco_hz(self) -> float:
        return self.detector_hz * self.feedback

    @property
    def output_hz(self) -> float:
        return self.vco_hz / self.divider

    @property
    def vco_margin(self) -> float:
        """Distance of the oscillator from the nearer end of its range, as a share of that end."""
        low, high = VCO_HZ
        return min(self.vco_hz / low - 1, 1 - self.vco_hz / high)

    @property
    def phases(self) -> int:
        """Steps of the dynamic phase in a period of the output: eighths of the oscillator's."""
        return 8 * self.divider

    @classmethod
    def every(cls, input_hz: int) -> Iterator["PllDividers"]:
        """Every setting within the ranges of the data sheet."""
        for reference in range(1, 129):
            detector = Fraction(input_hz, reference)  # The feedback's output, too.
            if not PHASE_DETECTOR_HZ[0] <= detector <= PHASE_DETECTOR_HZ[1]:
                continue
            for feedback in range(1, 129):
                if not VCO_HZ[0] <= detector * feedback <= VCO_HZ[1]:
                    continue
                for divider in range(1, 129):
                    if OUTPUT_HZ[0] <= detector * feedback / divider <= OUTPUT_HZ[1]:
                        yield cls(input_hz=input_hz, reference=reference, feedback=feedback,
                                  divider=divider)

    @classmethod
    def find(cls, input_hz: int, output_hz: int) -> "PllDividers":
        """Dividers that give exactly ``output_hz``.

        The fastest phase detector first, then the oscillator nearest to the middle of its range,
        then the faster oscillator.

        Raises
        ------
        ValueError
            No setting gives ``output_hz``; the nearest clocks that one gives are named.
        """
        settings = list(cls.every(input_hz))
        exact = [d for d in settings
                 if input_hz * d.feedback == output_hz * d.reference * d.divider]
        if exact:
            return min(exact, key=lambda d: (d.reference, abs(d.vco_hz - VCO_BEST_HZ), -d.vco_hz))
        whole = sorted({int(d.output_hz) for d in settings if d.output_hz.is_integer()})
        near = [hz for hz in (max((hz for hz in whole if hz < output_hz), default=None),
                              min((hz for hz in whole if hz > output_hz), default=None))
                if hz is not None]
        raise ValueError(f"PLL of an oscillator of {input_hz / 1e6:g} MHz cannot make "
                         f"{output_hz / 1e6:.9g} MHz; the nearest that it can: "
                         + ", ".join(f"{hz / 1e6:.9g} MHz" for hz in near))


def phases(input_hz: int, output_hz: int) -> int:
    """Steps of the dynamic phase in a period of ``output_hz``, made from ``input_hz``."""
    return PllDividers.find(input_hz, output_hz).phases


class Ecp5Pll(wiring.Component):
    """One output clock from one EHXPLLL, and perhaps the same clock with a phase that can be moved.

    Synthesis only: simulations clock their domains directly.

    Parameters
    ----------
    input_hz, output_hz : int
        Frequencies; ``output_hz`` must be exact.
    shifted : bool
        Make ``clk_shifted``, too.

    Members
    -------
    clk_in : ``In(1)``
    clk_out : ``Out(1)``
    clk_shifted : ``Out(1)``
        ``clk_out``, later by one of the ``phases`` steps of its period for each falling edge of
        ``phase_step`` (FPGA-TN-02200, dynamic phase adjustment).
    phase_step : ``In(1)``
        Asynchronous; high and low for at least 10 ns.
    locked : ``Out(1)``
        Asynchronous: high while the output is locked to the input.
    """

    def __init__(self, *, input_hz, output_hz, shifted=False):
        self._shifted = shifted
        self._input_hz = input_hz
        self._output_hz = output_hz
        self._dividers = PllDividers.find(input_hz, output_hz)

        super().__init__({
            "clk_in": In(1),
            "clk_out": Out(1),
            "clk_shifted": Out(1),
            "phase_step": In(1),
            "locked": Out(1),
        })

    @property
    def input_hz(self):
        return self._input_hz

    @property
    def output_hz(self):
        return self._output_hz

    @property
    def dividers(self):
        return self._dividers

    def elaborate(self, platform):
        m = Module()

        d = self._dividers
        feedback = Signal()
        phase = {"p_DPHASE_SOURCE": "DISABLED", "i_PHASEDIR": Const(1), "i_PHASESTEP": Const(1),
                 "i_PHASELOADREG": Const(1), "p_CLKOS_ENABLE": "DISABLED"}
        if self._shifted:
            phase = {
                "p_OUTDIVIDER_MUXB": "DIVB", "p_CLKOS_ENABLE": "ENABLED",
                "p_CLKOS_DIV": d.divider, "p_CLKOS_CPHASE": d.divider - 1, "p_CLKOS_FPHASE": 0,
                "o_CLKOS": self.clk_shifted,
                # Towards later; PHASESEL 0 is CLKOS.
                "p_DPHASE_SOURCE": "ENABLED", "i_PHASEDIR": Const(0),
                "i_PHASESTEP": self.phase_step, "i_PHASELOADREG": Const(0),
            }
        m.submodules.pll = Instance(
            "EHXPLLL",
            # Charge pump and loop filter: the values that ecppll writes for every frequency.
            a_FREQUENCY_PIN_CLKI=f"{self._input_hz / 1e6:g}",
            a_FREQUENCY_PIN_CLKOP=f"{d.detector_hz / 1e6:g}",
            a_FREQUENCY_PIN_CLKOS2=f"{self._output_hz / 1e6:g}",
            a_ICP_CURRENT="12",
            a_LPF_RESISTOR="8",
            a_MFG_ENABLE_FILTEROPAMP="1",
            a_MFG_GMCREF_SEL="2",
            p_PLLRST_ENA="DISABLED",
            p_INTFB_WAKE="DISABLED",
            p_STDBY_ENABLE="DISABLED",
            p_OUTDIVIDER_MUXA="DIVA",
            p_OUTDIVIDER_MUXC="DIVC",
            p_CLKI_DIV=d.reference,
            p_CLKFB_DIV=1,
            p_CLKOP_ENABLE="ENABLED",
            p_CLKOP_DIV=d.feedback,
            p_CLKOP_CPHASE=d.feedback - 1,
            p_CLKOP_FPHASE=0,
            p_CLKOS2_ENABLE="ENABLED",
            p_CLKOS2_DIV=d.divider,
            p_CLKOS2_CPHASE=d.divider - 1,
            p_CLKOS2_FPHASE=0,
            p_CLKOS3_ENABLE="DISABLED",
            p_FEEDBK_PATH="CLKOP",
            i_RST=Const(0),
            i_STDBY=Const(0),
            i_CLKI=self.clk_in,
            i_CLKFB=feedback,
            i_PHASESEL0=Const(0),
            i_PHASESEL1=Const(0),
            i_PLLWAKESYNC=Const(0),
            i_ENCLKOP=Const(0),
            i_ENCLKOS2=Const(0),
            o_CLKOP=feedback,
            o_CLKOS2=self.clk_out,
            o_LOCK=self.locked,
            **phase,
        )

        return m
