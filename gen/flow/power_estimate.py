"""Power of a routed design before there is a board: an estimate, with a range and its sources.

No tool of the open flow tells the power of an ECP5, and Lattice's Power Calculator does not publish
its figures. What is published elsewhere is scaled to 40 nm and 1.1 V.

static
    Core supply current in standby, typical, at a junction of 85 C: 77 mA (LFE5U-12F and 25F) and
    212 mA (85F), data sheet FPGA-DS-02012, as quoted in github.com/butterstick-fpga/
    butterstick-hardware issue 2; the 45F lies between by its LUTs. A junction near 40 C leaks
    less: no figure was found for it, nor for VCCAUX.
logic and wires
    L. Shang, A. Kaviani, K. Bathala, "Dynamic power consumption in Virtex-II FPGA family", FPGA
    2002, doi:10.1145/503048.503072: 5.9 uW a MHz for a CLB (eight LUTs and flip-flops, 150 nm,
    1.5 V) of a typical design; wires 60 %, logic 16 %, clocks 14 %. Scaled by V^2, and by the
    length of the process (likely) or its square root (high: wires shrink less).
block RAMs, multipliers
    Verilog-to-Routing, vtr_flow/arch/COFFE_22nm/stratix10_arch.xml, whose memories (20 kb) are
    those of a 40 nm chip: 9.0 pJ for an edge of the clock with one port, 17.9 pJ with two; 2.13 pJ
    for an input bit of a multiplier that toggles.
SDRAM
    Maxima of data sheets of 128 and 256 Mb parts at 133 to 166 MHz (Winbond W9812G6IH, W9825G2JB):
    standby 30 to 40 mA, bursts 100 to 150 mA, at 3.3 V. Typical parts take less.
pins, PLLs, the rest of the board
    No source was found. The ULX3S manual says that 0.5 A at 5 V are enough for a fully active
    board.
"""

from collections.abc import Mapping
from dataclasses import dataclass
import math
from typing import Any

from gen.flow.estimate import Estimate


__all__ = ["Activity", "PowerEstimate", "activity_of", "activity_of_record",
           "estimate_power"]


CORE_V, MEMORY_V = 1.1, 3.3

STANDBY_A = {12: 0.077, 25: 0.077, 85: 0.212}
"""Core supply current in standby by the part's size, in A."""

LUTS_OF = {25: 24288, 45: 43848, 85: 83640}

LEAKAGE = Estimate(0.25, 0.5, 1.0)
"""Of the standby current at 85 C, at the junction of a board on a desk."""

CLB_W_HZ, CLB_LUTS, CLB_V, CLB_NM, ECP5_NM = 5.9e-12, 8, 1.5, 150, 40

WIRES, LOGIC, CLOCKS = 0.60, 0.16, 0.14
"""Shares of a typical design."""

BLOCK_RAM_J = Estimate(9.0e-12, 2 * 9.0e-12, 2 * 17.9e-12)
"""A cycle of an enabled block RAM: an edge, both edges, both edges with two ports."""

MULTIPLIER_J = Estimate(0.25 * 36 * 2.13e-12, 0.5 * 36 * 2.13e-12, 36 * 2.13e-12)
"""A product of 18x18: a quarter, half or all of 36 input bits toggle."""

SDRAM_STANDBY_A = Estimate(0.015, 0.030, 0.040)

SDRAM_BURST_A = Estimate(0.060, 0.095, 0.150)

SDRAM_REFRESH_W = Estimate(0.005, 0.010, 0.020)

PIN_F = Estimate(5e-12, 10e-12, 20e-12)
"""Load of a pin of the memory."""

SDRAM_PINS = 16
"""Data pins; the others change seldom beside them."""

PLL_W = Estimate(0.005, 0.020, 0.050)

LOGIC_BUSY, RAM_BUSY, MULTIPLIER_BUSY = (0.5, 1.0), (0.25, 0.5), (0.5, 1.0)
"""How busy these are, low and likely, by the busy cycles of their unit; high is always busy. Half
of the block RAMs are those of units that wait meanwhile."""

AT_REST = Estimate(0.0, 0.02, 0.25)
"""Cycles of block RAMs and multipliers of an idle design: their enables are off where the netlist
has them."""

REGULATORS = Estimate(1 / 0.93, 1 / 0.85, 1 / 0.70, "no source")
"""Power at 5 V by that behind the switching regulators."""

BOARD_W = Estimate(0.10, 0.30, 0.80, "no source")
"""USB bridge, oscillator, LEDs, flash, what else is fed."""


@dataclass(frozen=True)
class Activity:
    """How busy the parts of a design are while it runs, as shares of the cycles.

    Parameters
    ----------
    array, neuron : float
        Of the SpikeArray, which has most of the LUTs, and of the neuron core, which has the
        multipliers; 0..1.
    tag : str
        How they were obtained: ``rtl-sim`` or ``cost-model``.
    events : float or None
        Spike events of an image, where they were counted.
    """

    array: float
    neuron: float
    tag: str
    events: float | None = None


@dataclass(frozen=True)
class PowerEstimate:
    """Estimated power of a board in its three states, and energy for an image.

    Parameters
    ----------
    parts : dict of str to (Estimate, Estimate)
        Of the parts in W, while idle and while running, before the regulators.
    unconfigured, idle, running : Estimate
        Of the whole board at 5 V, in W.
    image, above_idle : Estimate
        For an image, in J.
    activity : Activity
    """

    parts: dict[str, tuple[Estimate, Estimate]]
    unconfigured: Estimate
    idle: Estimate
    running: Estimate
    image: Estimate
    above_idle: Estimate
    activity: Activity

    @property
    def rest(self) -> Estimate:
        """What else the board draws, in W; in each of its states."""
        return BOARD_W

    @property
    def event(self) -> Estimate | None:
        """Energy above idle for a spike event, in J; None where they were not counted."""
        events = self.activity.events
        return self.above_idle.scaled(1 / events) if events else None

    def lines(self) -> list[str]:
        """The estimate for people; every line says that it is one."""
        whole = (("unconfigured", self.unconfigured), ("idle", self.idle),
                 ("running", self.running))
        return [*(f"{name}: {power.text('W')}, whole board (estimate)" for name, power in whole),
                f"energy per image: {self.image.text('mJ', 1e3)}, above idle "
                f"{self.above_idle.text('mJ', 1e3)} (estimate)",
                *([] if self.event is None else
                  [f"energy per spike event, above idle: {self.event.text('nJ', 1e9)} "
                   "(estimate)"]),
                f"activity: array {100 * self.activity.array:.0f} %, neuron core "
                f"{100 * self.activity.neuron:.0f} % of the cycles ({self.activity.tag})"]

    def to_json(self) -> dict[str, Any]:
        """As plain data, units in the names."""
        return {
            "tag": "estimate",
            "activity": {"array": self.activity.array, "neuron": self.activity.neuron,
                         "tag": self.activity.tag,
                         **({} if self.activity.events is None else
                            {"spike_events_per_image": self.activity.events})},
            "board_watts": self.rest.to_json(), "regulators": REGULATORS.to_json(),
            "parts_watts": {name: {"idle": idle.to_json(), "running": running.to_json()}
                            for name, (idle, running) in self.parts.items()},
            "watts": {name: getattr(self, name).to_json()
                      for name in ("unconfigured", "idle", "running")},
            "joules_per_image": self.image.to_json(),
            "joules_per_image_above_idle": self.above_idle.to_json(),
            **({} if self.event is None else
               {"joules_per_spike_event_above_idle": self.event.to_json()})}


def activity_of(report: Mapping[str, Any]) -> Activity | None:
    """Activity by the cost model: cycles that units work, of those of an image; None for a report
    without layers."""
    cycles = report["cycles"]["value"]
    if not report["layers"] or not cycles:
        return None
    shares = [min(1.0, sum(row[unit]["value"] for row in report["layers"] if unit in row) / cycles)
              for unit in ("array", "neuron core")]
    return Activity(shares[0], shares[1], "cost-model")


def activity_of_record(record: Mapping[str, Any]) -> Activity | None:
    """Activity by the counters of a verification in RTL (``gen.verify``): of its last image; None
    where it has none."""
    figures = record.get("figures")
    counters = figures.get("counters") if isinstance(figures, Mapping) else None
    if not isinstance(counters, Mapping) or not counters.get("CYCLES"):
        return None
    array, neuron = (counters.get(f"BUSY_{unit}", 0) / counters["CYCLES"]
                     for unit in ("ARRAY", "NEURON"))
    return Activity(array, neuron, "rtl-sim", counters.get("SPIKE_EVENTS"))


def estimate_power(report: Mapping[str, Any], activity: Activity | None = None
                   ) -> PowerEstimate | None:
    """Estimate the power of a build.

    Parameters
    ----------
    report : mapping
        Of a build that was routed (:mod:`gen.flow.report`).
    activity : Activity, optional
        That of the report's layers by default.

    Returns
    -------
    PowerEstimate or None
        None for a build that was not routed, or for a part that is no ECP5.
    """
    size = _size(report["part"])
    activity = activity or activity_of(report)
    if size is None or activity is None or "comb" not in report:
        return None
    hz = report["core_clock_hz"]
    parts = {"static": (static := _static(size), static),
             "PLLs": _plls(report),
             "logic and wires": _logic(report["comb"]["value"], hz, activity.array),
             "block RAMs": _cells(BLOCK_RAM_J.scaled(report["ebr"]["value"] * hz),
                                  _busy(activity.array, RAM_BUSY),
                                  "20 kb memories of a 40 nm chip, by VTR"),
             "multipliers": _cells(MULTIPLIER_J.scaled(report["dsp"]["value"] * hz),
                                   _busy(activity.neuron, MULTIPLIER_BUSY),
                                   "input bits of a multiplier, by VTR")}
    if report["config"].get("memory") == "sdram":
        parts |= _sdram(report)
    idle, running = (_sum(part[state] for part in parts.values()) for state in (0, 1))
    seconds = report["cycles"]["value"] / hz
    whole_idle, whole_running = (power.times(REGULATORS) + BOARD_W for power in (idle, running))
    rise = _sum(Estimate(max(0.0, on.low - off.low), max(0.0, on.likely - off.likely),
                         max(0.0, on.high - off.high)) for off, on in parts.values())
    return PowerEstimate(
        parts, static.times(REGULATORS) + BOARD_W, whole_idle, whole_running,
        whole_running.scaled(seconds), rise.times(REGULATORS).scaled(seconds), activity)


def _sum(estimates: Any) -> Estimate:
    total = Estimate(0.0, 0.0, 0.0)
    for estimate in estimates:
        total += estimate
    return total


def _size(part: str) -> int | None:
    """Thousands of LUTs in the name of an ECP5."""
    name = part.upper()
    if not name.startswith("LFE5U"):
        return None
    return next((size for size in (12, 25, 45, 85) if f"-{size}F" in name), None)


def _static(size: int) -> Estimate:
    small, large = STANDBY_A[25], STANDBY_A[85]
    share = (LUTS_OF[45] - LUTS_OF[25]) / (LUTS_OF[85] - LUTS_OF[25])
    amps = STANDBY_A.get(size, small + (large - small) * share)
    return LEAKAGE.scaled(CORE_V * amps,
                          "standby current of the data sheet at 85 C, less for a cooler chip")


def _plls(report: Mapping[str, Any]) -> tuple[Estimate, Estimate]:
    count = 2 if report["config"].get("memory") == "sdram" else 1
    power = PLL_W.scaled(count, "no source")
    return power, power


def _busy(busy: float, shares: tuple[float, float]) -> Estimate:
    return Estimate(shares[0] * busy, shares[1] * busy, 1.0)


def _logic(luts: float, hz: float, busy: float) -> tuple[Estimate, Estimate]:
    """Clocks always run; wires and logic as in a typical design while the array is busy."""
    lut = CLB_W_HZ / CLB_LUTS * (CORE_V / CLB_V) ** 2 * luts * hz
    shrunk = ECP5_NM / CLB_NM
    watts = Estimate(0.5 * lut * shrunk, lut * shrunk, lut * math.sqrt(shrunk))
    clocks = CLOCKS / (WIRES + LOGIC + CLOCKS)
    work = _busy(busy, LOGIC_BUSY).scaled(1 - clocks)
    share = Estimate(clocks + work.low, clocks + work.likely, clocks + work.high)
    source = "Virtex-II by Shang et al. 2002, scaled to 40 nm and 1.1 V"
    return watts.scaled(clocks, source), watts.by(share, source)


def _cells(cycle: Estimate, busy: Estimate, source: str) -> tuple[Estimate, Estimate]:
    """Idle and running power of cells with an energy for each cycle in which they are enabled."""
    return AT_REST.by(cycle, source), busy.by(cycle, source)


def _sdram(report: Mapping[str, Any]) -> dict[str, tuple[Estimate, Estimate]]:
    """The chip, and the pins between: by the share of the time that the bus carries data."""
    hz = report["config"]["sdram_clock_hz"]
    moved = report["memory_bytes"]["value"] / report["cycles"]["value"] * report["core_clock_hz"]
    use = min(1.0, moved / (2 * hz))
    chip = "maxima of data sheets of 128 and 256 Mb parts; typical ones take less"
    standby = SDRAM_STANDBY_A.scaled(MEMORY_V) + SDRAM_REFRESH_W
    more = Estimate(SDRAM_BURST_A.low - SDRAM_STANDBY_A.low,
                    SDRAM_BURST_A.likely - SDRAM_STANDBY_A.likely,
                    SDRAM_BURST_A.high - SDRAM_STANDBY_A.high).scaled(MEMORY_V * use)
    clock = hz * MEMORY_V ** 2    # two edges a cycle, C V^2 / 2 each
    data = hz * use * SDRAM_PINS / 2 * MEMORY_V ** 2 / 2    # half of the pins change
    pins = "loads of 5 to 20 pF, no source"
    return {"SDRAM": (standby.scaled(1, chip), (standby + more).scaled(1, chip)),
            "SDRAM pins": (PIN_F.scaled(clock, pins), PIN_F.scaled(clock + data, pins))}
