"""Facts of the Lattice ECP5, as nextpnr-ecp5 and yosys name its cells, ports and places.

The one place for them in gen/. What a board has of each resource, and the IDCODE of its chip,
belong to the board (:mod:`boards.spec`).
"""

from collections.abc import Mapping


__all__ = ["BLOCK_RAM_SITES", "CLOCK_PORTS", "GRIDS", "RESOURCES", "comb_cells"]


RESOURCES = {"TRELLIS_COMB": "comb", "TRELLIS_FF": "ff", "DP16KD": "ebr", "MULT18X18D": "dsp"}
"""nextpnr's names of the cells that a board has a budget of, and ours: LUTs, flip-flops, block
RAMs and multipliers."""

CLOCK_PORTS = frozenset({"CLK", "CLKA", "CLKB", "CLK0", "CLK1", "WCK", "CLKI", "CLKO", "CLKOP",
                         "CLKFB"})
"""Ports of clocks, which have wires of their own."""

GRIDS = {"--12k": (73, 51), "--25k": (73, 51), "--45k": (91, 72), "--85k": (127, 96)}
"""Columns and rows of tiles, by nextpnr's device option (Project Trellis, devices.json)."""

_BLOCK_RAM_COLUMNS = (
    4, 6, 8, 10, 13, 15, 17, 19, 22, 24, 26, 28, 31, 33, 35, 37, 40, 42, 44, 46, 49, 51, 53, 55, 58,
    60, 62, 64, 69, 71, 73, 75, 78, 80, 82, 84, 87, 89, 91, 93, 96, 98, 100, 102, 105, 107, 109,
    111, 114, 116, 118, 120)

BLOCK_RAM_SITES = {"--85k": [(x, y, f"X{x}/Y{y}/EBR{k % 4}") for y in (22, 46, 70, 82)
                             for k, x in enumerate(_BLOCK_RAM_COLUMNS)]}
"""Sites of the DP16KD by nextpnr's device option: column, row (tiles) and name in its chip
database; of the only device so far on which a design was short of wire."""


def comb_cells(cells: Mapping[str, int]) -> int:
    """TRELLIS_COMB that a netlist of yosys takes at least, from its number of cells of each type.

    nextpnr adds some for the ends of carry chains and for constants.
    """
    return (cells.get("LUT4", 0) + 2 * cells.get("CCU2C", 0)
            + 4 * cells.get("TRELLIS_DPR16X4", 0))
