"""Facts of the Lattice ECP5, as nextpnr-ecp5 and yosys name its cells, ports and places.

The one place for them in gen/. What a board has of each resource, and the IDCODE of its chip,
belong to the board (:mod:`boards.spec`).

Delays are those of speed grade 6 in the timing database of Project Trellis, in ns.
"""

from collections.abc import Mapping
import re


__all__ = ["BLOCK_RAM_SITES", "CARRY_NS", "CLOCK_PORTS", "CLOCK_TO_Q_NS", "CROSSING_NS",
           "FLIP_FLOP", "GRIDS", "INSIDE_PORTS", "LCS", "LUT", "LUT_INPUTS", "LUT_NS",
           "OUTPUT_REGISTER_NS", "RAM_WRITE", "RESOURCES", "ROWS", "SETUP_NS", "SLOTS",
           "STATIC_CLOCK", "STATIC_NS", "UNTIMED", "comb_cells", "comb_delay", "crossing_limit",
           "launch_delay", "parse_bel", "slot_bel"]


# Cells and ports.

RESOURCES = {"TRELLIS_COMB": "comb", "TRELLIS_FF": "ff", "DP16KD": "ebr", "MULT18X18D": "dsp"}
"""nextpnr's names of the cells that a board has a budget of, and ours: LUTs, flip-flops, block
RAMs and multipliers."""

CLOCK_PORTS = frozenset({"CLK", "CLKA", "CLKB", "CLK0", "CLK1", "WCK", "CLKI", "CLKO", "CLKOP",
                         "CLKFB"})
"""Ports of clocks, which have wires of their own."""

INSIDE_PORTS = frozenset({"FCI", "F1", "FXA", "FXB", "WAD0", "WAD1", "WAD2", "WAD3", "WD", "DI"})
"""Inputs of LUTs and flip-flops with a wire of their own from their neighbour."""

LUT_INPUTS = {"LUT4": {port: ("INIT", bit) for bit, port in enumerate("ABCD")},
              "CCU2C": {f"{port}{half}": (f"INIT{half}", bit)
                        for half in range(2) for bit, port in enumerate("ABCD")}}
"""Cells of yosys that are LUTs: for each input the parameter with the contents, and the bit of
the address."""

UNTIMED = frozenset({"TRELLIS_IO", "EHXPLLL", "DCCA", "SGSR", "GSR"})
"""Cells that no path between flip-flops goes through."""


def comb_cells(cells: Mapping[str, int]) -> int:
    """TRELLIS_COMB that a netlist of yosys takes at least, from its number of cells of each type.

    nextpnr adds some for the ends of carry chains and for constants.
    """
    return (cells.get("LUT4", 0) + 2 * cells.get("CCU2C", 0)
            + 4 * cells.get("TRELLIS_DPR16X4", 0))


# Delays.

CLOCK_TO_Q_NS = {"TRELLIS_FF": 0.52, "DP16KD": 5.7, "TRELLIS_DPR16X4": 0.6, "IOLOGIC": 0.5,
                 "SIOLOGIC": 0.5, "MULT18X18D": 4.0}
"""From the clock to an output."""

OUTPUT_REGISTER_NS = 0.95
"""From the clock to a block RAM's output that is registered inside (:mod:`gen.pnr.passes`)."""

LUT_NS = {"LUT4": 0.24, "PFUMX": 0.2, "L6MUX21": 0.2, "CCU2C": 0.45, "MULT18X18D": 3.93,
          "TRELLIS_DPR16X4": 0.24}
"""Through cells of a netlist of yosys."""

CARRY_NS = 0.07
"""From carry to carry."""

SETUP_NS = {"CE": 0.2, "LSR": 0.4}
"""Of inputs of flip-flops and the like; 0.1 of others."""


CROSSING_NS = 6.0
"""Longest path from a flip-flop of one clock to one of another, ns.

Such paths end in synchronisers. The bits of a Gray-coded pointer must not arrive further apart
than a period of the clock that sends them, or two of them seem to change at once; the fastest
clock that a board offers has 7.4 ns (135 MHz). A path of 6 ns at most keeps the skew between any
two of them below that.
"""

STATIC_CLOCK, STATIC_NS = "board_clk", 40.0
"""Clock whose flip-flops stand still while the others run, and the longest path from them to those
of other clocks, ns.

It is that of :mod:`boards.ecp5_restart` alone, whose state changes only as the other clocks stop,
many cycles before what reads it is reset. Nothing samples a change, so that skew does no harm."""


def crossing_limit(launch: str) -> float:
    """Longest path, ns, from a flip-flop of the clock ``launch`` to one of another clock."""
    return STATIC_NS if launch == STATIC_CLOCK else CROSSING_NS


def launch_delay(kind: str, parameters: Mapping[str, str], port: str) -> float:
    """From the clock to output ``port`` of a cell of this kind; 0.5 where it is not known."""
    if parameters.get(f"REGMODE_{port[2:3]}") == "OUTREG":
        return OUTPUT_REGISTER_NS
    return CLOCK_TO_Q_NS.get(kind, 0.5)


def comb_delay(port: str, output: str) -> float:
    """From an input to an output of a TRELLIS_COMB."""
    if port == "FCI" and output == "FCO":
        return CARRY_NS
    if port == "FCI" or output == "FCO":
        return 0.44
    return 0.2 if port in ("FXA", "FXB", "F1", "M") else 0.24


# Places.

GRIDS = {"--12k": (73, 51), "--25k": (73, 51), "--45k": (91, 72), "--85k": (127, 96)}
"""Columns and rows of tiles, by nextpnr's device option (Project Trellis, devices.json)."""

_BLOCK_RAMS = {
    "--25k": ((4, 13, 22, 33, 42, 51, 60), (25, 37)),
    "--45k": ((4, 13, 22, 31, 42, 51, 60, 69, 78), (10, 34, 58)),
    "--85k": ((4, 13, 22, 31, 40, 49, 58, 69, 78, 87, 96, 105, 114), (22, 46, 70, 82))}
_BLOCK_RAMS["--12k"] = _BLOCK_RAMS["--25k"]
# First column of each group of four, which lie two tiles apart, and rows (Project Trellis,
# tilegrid.json).

BLOCK_RAM_SITES = {device: [(x + 2 * k, y, f"X{x + 2 * k}/Y{y}/EBR{k}")
                            for y in rows for x in columns for k in range(4)]
                   for device, (columns, rows) in _BLOCK_RAMS.items()}
"""Sites of the DP16KD by nextpnr's device option: column, row (tiles) and name in its chip
database."""

ROWS, LCS, SLOTS = 128, 8, 3
"""Numbers of places: tile = column * ROWS + row, logic cell = tile * LCS + 0..7, slot = SLOTS *
logic cell + LUT, FLIP_FLOP or RAM_WRITE."""

LUT, FLIP_FLOP, RAM_WRITE = range(3)

_BEL = re.compile(r"X(\d+)/Y(\d+)/(?:SLICE([A-D])\.(K[01]|FF[01]|RAMW)$)?")


def parse_bel(bel: str) -> tuple[int, int, int] | None:
    """Column, row and slot of a BEL of nextpnr's chip database.

    The slot is -1 where the BEL is none of a slice; None where the name has no place.
    """
    found = _BEL.match(bel)
    if not found:
        return None
    x, y = int(found[1]), int(found[2])
    if not found[3]:
        return x, y, -1
    lc = 2 * "ABCD".index(found[3]) + (found[4][-1] == "1")
    kind = {"K": LUT, "F": FLIP_FLOP, "R": RAM_WRITE}[found[4][0]]
    return x, y, ((x * ROWS + y) * LCS + lc) * SLOTS + kind


def slot_bel(slot: int) -> str:
    """Name of a slot's BEL."""
    cell, kind = divmod(slot, SLOTS)
    tile, lc = divmod(cell, LCS)
    column, row = divmod(tile, ROWS)
    name = "RAMW" if kind == RAM_WRITE else f"{'K' if kind == LUT else 'FF'}{lc % 2}"
    return f"X{column}/Y{row}/SLICE{'ABCD'[lc // 2]}.{name}"
