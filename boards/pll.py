"""EHXPLLL, the PLL of the Lattice ECP5, as one clock source with a lock signal."""

from dataclasses import dataclass

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


__all__ = ["Ecp5Pll", "PllDividers"]


VCO_HZ = (400_000_000, 800_000_000)
"""Range of the oscillator (ECP5 data sheet, FPGA-DS-02012, sysCLOCK PLL timing)."""

VCO_BEST_HZ = 600_000_000

PHASE_DETECTOR_HZ = (3_125_000, 400_000_000)


@dataclass(frozen=True, kw_only=True)
class PllDividers:
    """Dividers of one EHXPLLL whose feedback is its own output.

    ``output = input / reference * feedback`` and ``vco = output * divider``.
    """

    reference: int
    feedback: int
    divider: int

    @property
    def phases(self) -> int:
        """Steps of the dynamic phase in a period of the output: eighths of the oscillator's."""
        return 8 * self.divider

    @classmethod
    def find(cls, input_hz: int, output_hz: int) -> "PllDividers":
        """Dividers that give exactly ``output_hz``, the phase detector as fast as possible."""
        for reference in range(1, 129):
            detector = input_hz / reference
            if not PHASE_DETECTOR_HZ[0] <= detector <= PHASE_DETECTOR_HZ[1]:
                continue
            feedback, rest = divmod(output_hz * reference, input_hz)
            if rest or not 1 <= feedback <= 80:
                continue
            dividers = [d for d in range(1, 129) if VCO_HZ[0] <= output_hz * d <= VCO_HZ[1]]
            if dividers:
                best = min(dividers, key=lambda d: abs(output_hz * d - VCO_BEST_HZ))
                return cls(reference=reference, feedback=feedback, divider=best)
        raise ValueError(f"PLL output must be reachable from {input_hz} Hz by whole dividers, "
                         f"not {output_hz} Hz")


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
        phase = {"p_DPHASE_SOURCE": "DISABLED", "i_PHASEDIR": Const(1), "i_PHASESTEP": Const(1),
                 "i_PHASELOADREG": Const(1)}
        if self._shifted:
            phase = {
                "p_OUTDIVIDER_MUXB": "DIVB", "p_CLKOS_ENABLE": "ENABLED",
                "p_CLKOS_DIV": d.divider, "p_CLKOS_CPHASE": d.divider // 2, "p_CLKOS_FPHASE": 0,
                "o_CLKOS": self.clk_shifted,
                # Towards later; PHASESEL 0 is CLKOS.
                "p_DPHASE_SOURCE": "ENABLED", "i_PHASEDIR": Const(0),
                "i_PHASESTEP": self.phase_step, "i_PHASELOADREG": Const(0),
            }
        m.submodules.pll = Instance(
            "EHXPLLL",
            # Charge pump and loop filter: the values that ecppll writes for every frequency.
            a_FREQUENCY_PIN_CLKI=f"{self._input_hz / 1e6:g}",
            a_FREQUENCY_PIN_CLKOP=f"{self._output_hz / 1e6:g}",
            a_ICP_CURRENT="12",
            a_LPF_RESISTOR="8",
            a_MFG_ENABLE_FILTEROPAMP="1",
            a_MFG_GMCREF_SEL="2",
            p_PLLRST_ENA="DISABLED",
            p_INTFB_WAKE="DISABLED",
            p_STDBY_ENABLE="DISABLED",
            p_OUTDIVIDER_MUXA="DIVA",
            p_CLKOP_ENABLE="ENABLED",
            p_CLKI_DIV=d.reference,
            p_CLKFB_DIV=d.feedback,
            p_CLKOP_DIV=d.divider,
            p_CLKOP_CPHASE=d.divider // 2,
            p_CLKOP_FPHASE=0,
            p_FEEDBK_PATH="CLKOP",
            i_RST=Const(0),
            i_STDBY=Const(0),
            i_CLKI=self.clk_in,
            i_CLKFB=self.clk_out,
            i_PHASESEL0=Const(0),
            i_PHASESEL1=Const(0),
            i_PLLWAKESYNC=Const(0),
            i_ENCLKOP=Const(0),
            o_CLKOP=self.clk_out,
            o_LOCK=self.locked,
            **phase,
        )

        return m
