"""A routed design with SDRAM as a virtual board: clocks, pads with skew, and the memory chip."""

from pathlib import Path
import random
import time

from sim.gate.board import connected, GateBoard
from sim.gate.netlist import CELLS
from sim.rtl.verilator import build_simulator
from sim.rtl.verilog import to_verilog
from sim.rtl.virtual_board import HARNESS
from sim.twin.sdram_chip import SdramChip
from sim.twin.storage import STORAGE_VERILOG


__all__ = ["PadTimes", "SdramGateBoard"]


WORLD = Path(__file__).with_name("sdram_world.cpp")

FS = 1_000_000
"""Femtoseconds of a nanosecond."""

PADS = ["clk_en__io", "ras__io", "cas__io", "we__io", *(f"ba__io{k}" for k in range(2)),
        *(f"a__io{k}" for k in range(13)), *(f"dqm__io{k}" for k in range(2))]
"""Outputs to the chip as the design names them, without ``sdram_0__``; behind them the data pins
and their tristates."""

TOP = """
module top(input clk, input rst, input rx, output tx, output busy, output [2:0] restart,
           input [11:0] state,
           input board_clk, input sdram_clk, input shifted_clk, output phase_step,
           output chip_clock, output [52:0] pads, input [15:0] data_pads,
           input chip_clk, input [52:0] chip_pads, output [15:0] chip_data,
           input clear, output [19:0] violations, output [31:0] reads, output [31:0] writes);
{wires}
gate gate({pins});
assign busy = 1'b1;
assign restart = 0;
chip chip(.clk(chip_clk), .rst(1'b0), .clear(clear), .violations(violations), .reads(reads),
  .writes(writes), .pins__phase_step(1'b0), .pins__cke(chip_pads[0]), .pins__ras(~chip_pads[1]),
  .pins__cas(~chip_pads[2]), .pins__we(~chip_pads[3]), .pins__bank(chip_pads[5:4]),
  .pins__address(chip_pads[18:6]), .pins__dqm(chip_pads[20:19]), .pins__dq_o(chip_pads[36:21]),
  .pins__dq_oe(~|chip_pads[52:37]), .pins__dq_i(chip_data));
endmodule
"""


class PadTimes:
    """Delays of a board's wires, with a skew of its own for every bit; drawn from a seed.

    In ns. An output arrives ``out`` after the edge that changes it, the chip's clock ``clock``
    after its own; the chip needs ``setup`` and ``hold``, holds a datum for ``output_hold`` and has
    the next after ``access`` (IS42S16160G-7: 1.5, 0.8, 2.5 and 5.4); read data take ``back``, and
    the pads ``pad_setup`` and ``pad_hold``. What changes within these times is read at random.
    """

    def __init__(self, seed, *, skew=0.4, clock=3.0, out=4.2, back=1.0):
        rng = random.Random(seed)
        self.values = {"seed": seed + 1, "sync_offset": 1_234_567, "chip_clock": clock * FS,
                       "chip_setup": 1.5 * FS, "chip_hold": 0.8 * FS, "chip_access": 5.4 * FS,
                       "chip_output_hold": 2.5 * FS, "pad_setup": 0.5 * FS, "pad_hold": 0.3 * FS}
        for kind, count, mean in (("out", 37, out), ("in", 16, back)):
            self.values |= {f"{kind}{bit}": (mean + rng.uniform(-skew, skew)) * FS
                            for bit in range(count)}


class SdramGateBoard(GateBoard):
    """:class:`sim.gate.board.GateBoard` of a design with SDRAM.

    Board, core and memory have clocks of their own, and the PLL of the memory moves the phase of
    the chip's clock when the design asks for it.

    Parameters
    ----------
    module, folder, divisor, cache, seed
        As for :class:`sim.gate.board.GateBoard`; a seed makes also what is in block RAMs random.
    chip : hw.sdram_config.SdramConfig
        Of the chip.
    clocks : dict
        Hz of ``board``, ``sync`` and ``sdram``.
    phases : int
        Steps of the phase in a period of the memory's clock.
    times : PadTimes
    """

    def __init__(self, module, *, folder, divisor, cache, chip, clocks, phases, times, seed=None):
        super().__init__(module, folder=folder, divisor=divisor, cache=cache, seed=seed)
        self._chip = chip
        periods = {name: 1e15 / hz for name, hz in clocks.items()}
        values = times.values | periods | {"phase": periods["sdram"] / phases}
        (self._folder / "world").write_text("".join(
            f"{name} {round(value)}\n" for name, value in values.items()))

    def _build(self):
        chip = to_verilog(SdramChip(self._chip, verilog=True), "chip")
        return build_simulator(
            self.netlist.text + chip + _top(self.netlist), HARNESS, self._cache,
            sources=[CELLS, STORAGE_VERILOG, WORLD],
            options=["--output-split-cfuncs", "2000", "-CFLAGS", "-DWORLD"])

    def clear(self):
        """Forget which rules of the chip were broken: while the phase is wrong, many are."""
        self._order("clear")

    def load(self, words):
        """Put ``{address: word}`` into the chip, as if they had been written over the link."""
        (self._folder / "words").write_text("".join(
            f"{address:x} {word:x}\n" for address, word in words.items()))
        self._order("load")

    def read(self, first, count):
        """``count`` words of the chip from address ``first``, as it is now."""
        self._order("save", first, count)
        return [int(line, 16) for line in (self._folder / "saved").read_text().split()]

    def _order(self, name, *values):
        done = self._folder / f"{name}.done"
        done.unlink(missing_ok=True)
        self._process.stdin.write(" ".join(map(str, (name, *values))) + "\n")
        self._process.stdin.flush()
        while not done.exists():
            if self._process.poll() is not None:
                raise RuntimeError("The simulator has ended")
            time.sleep(0.01)

    @property
    def violations(self):
        """Rules broken since :meth:`clear`, one bit each, after the board was stopped."""
        return self.said["VIOLATIONS"]


def _top(netlist):
    return TOP.format(**connected(netlist, _pad, clock=_clock))


def _pad(port):
    """The net of a pin of the chip, or of the PLL that moves its clock; None for another port."""
    if (pad := port.removeprefix("sdram_0__")) in PADS:
        return f"pads[{PADS.index(pad)}]"
    if port.startswith("sdram_0__dq__io"):
        bit, kind = port.removeprefix("sdram_0__dq__io").split("_")
        return {"i": f"data_pads[{bit}]", "o": f"pads[{21 + int(bit)}]",
                "t": f"pads[{37 + int(bit)}]"}[kind]
    if port == "sdram_0__clk__io":
        return "chip_clock"
    return "phase_step" if port.endswith("_PHASESTEP") else None


def _clock(port):
    if port.endswith("_CLKOS"):
        return "shifted_clk"
    if port.endswith("_CLKOS2"):
        return "sdram_clk" if port.startswith("sdram_") else "clk"
    return "board_clk"    # the oscillator, and the feedback of a PLL, which nothing uses
