"""Synthesis: yosys, then what it leaves undone."""

from collections.abc import Mapping, Sequence
import gzip
import json
import logging
from pathlib import Path
import re
import time

from boards.spec import BoardSpec
from gen.flow.step import run_step, StepResult
from gen.flow.toolchain import OnProgress, run_tool, Toolchain
from gen.pnr import ecp5, passes
from model.code import code_digest
from model.error import DoesNotFit


__all__ = ["CONGESTED", "SYNTHESISED", "collision_commands", "is_congested", "synthesize"]


log = logging.getLogger(__name__)


CONGESTED = 0.55
"""Part of a chip's LUTs above which placement and routing are known to take long, or to fail."""


SYNTHESISED = "synth.json.gz"
"""The netlist as yosys wrote it: what :mod:`gen.proof.passes` compares ``top.json`` with."""


def collision_commands(rtlil: str) -> list[str]:
    """Yosys commands that declare block RAM read-write collisions as don't-care.

    Amaranth's memories promise the old data to a read of an address that is written in the same
    cycle; on ECP5 that costs 83 flip-flops and 53 LUTs for each 512x36 block. This design never
    does it, so ``COLLISION_X_MASK``, one bit per write port, is set on every clocked read port
    that is not transparent. Asynchronous ports (LUT-RAM) must keep theirs: yosys asserts on them.
    """
    widths = sorted({int(width) for width in re.findall(r"\\COLLISION_X_MASK (\d+)'", rtlil)})
    # Two clocks have no "same cycle": yosys asserts that such ports keep the mask clear.
    crossing = "".join(f" {module}/* %d" for module in _modules_across_clocks(rtlil))
    commands = []
    for width in widths:
        if width:
            zeros = "0" * width
            # Amaranth writes CLK_ENABLE as an integer, yosys itself as one bit: take both.
            commands.append(
                f"setparam -set COLLISION_X_MASK {width}'{'1' * width} t:$memrd_v2 "
                f"r:CLK_ENABLE=1 r:CLK_ENABLE=1'1 %u %i "
                f"r:TRANSPARENCY_MASK={width}'{zeros} %i r:COLLISION_X_MASK={width}'{zeros} %i"
                f"{crossing}")
    return commands


def _modules_across_clocks(rtlil: str) -> list[str]:
    """Modules that write a memory with one clock and read it with another (asynchronous FIFOs)."""
    found = []
    for module in re.split(r"(?m)^module \\", rtlil)[1:]:
        clocks: dict = {}
        for kind, cell in re.findall(r"(?ms)^  cell \$mem(rd|wr)_v2 (.*?)^  end$", module):
            memory = re.findall(r"\\MEMID (\S+)", cell)[0]
            # An asynchronous read port has no clock of its own.
            if kind == "wr" or not re.search(r"\\CLK_ENABLE (1'0|0)$", cell, re.MULTILINE):
                clocks.setdefault(memory, set()).add(re.findall(r"\\CLK (.*)", cell)[0])
        if any(len(of_memory) > 1 for of_memory in clocks.values()):
            found.append(module.split(maxsplit=1)[0])
    return found


def synthesize(board: BoardSpec, folder: Path, toolchain: Toolchain, *,
               options: Sequence[str] = (), output_registers: bool = True,
               on_progress: OnProgress | None = None, force: bool = False) -> StepResult:
    """Run yosys on ``top.il`` and improve its netlist (:mod:`gen.pnr.passes`).

    ``data["cells"]`` counts the cells of each type, ``data["absorbed_ff"]``,
    ``data["constant_ff"]`` and ``data["absorbed_lut"]`` the flip-flops and LUTs that the
    improvement took away; ``data["congested"]`` says whether the chip is (:func:`is_congested`).
    Raises :class:`DoesNotFit` when the chip has fewer block RAMs, multipliers or LUTs than the
    netlist surely takes.

    Parameters
    ----------
    options : sequence of str
        More options of ``synth_ecp5``, e.g. ``-nowidelut``.
    output_registers : bool
        Use those of the block RAMs (:func:`gen.pnr.passes.absorb_output_registers`).
    """
    folder = Path(folder)
    synth = ["synth_ecp5", "-top", "top", *options]
    script = "\n".join([
        "read_rtlil top.il",
        *collision_commands((folder / "top.il").read_text()),
        # The purge in between drops alias names of nets: with them, ABC9's result of some designs
        # cannot be put back (yosys 0.70: "Assert count_id(wire->name) == 0", and no message).
        " ".join([*synth, "-run", "begin:map_luts"]),
        "opt_clean -purge",
        " ".join([*synth, "-run", "map_luts:"]),
        "tee -q -o synth.stat.json stat -json",
        "write_json top.json",
    ]) + "\n"

    def work(place: Path) -> dict:
        started = time.monotonic()
        (place / "top.ys").write_text(script)
        usage = run_tool([*toolchain.yosys.command, "top.ys"], folder=place, name="yosys",
                         log_path=place / "synth.log", on_progress=on_progress)
        stat = json.loads((place / "synth.stat.json").read_text())
        cells = stat["design"]["num_cells_by_type"]
        written = (place / "top.json").read_bytes()
        # Without the time: the same netlist is the same file.
        (place / SYNTHESISED).write_bytes(gzip.compress(written, compresslevel=6, mtime=0))
        mapped = json.loads(written)
        fewer = passes.improve(mapped, output_registers=output_registers)
        for kind, names in (("TRELLIS_FF", ("absorbed_ff", "constant_ff")),
                            ("LUT4", ("absorbed_lut",))):
            cells[kind] = cells.get(kind, 0) - sum(fewer[name] for name in names)
        (place / "top.json").write_text(json.dumps(mapped))
        # With what follows yosys.
        seconds = round(time.monotonic() - started, 3)
        return (usage.figures() | {"seconds": seconds, "cells": cells,
                                   "congested": is_congested(board, cells)} | fewer)

    result = run_step(
        "synth", folder, inputs={"top.il": folder / "top.il"},
        depends={"tool": toolchain.yosys.identity, "script": script, "board": board.name,
                 "output_registers": output_registers,
                 "code": code_digest(__name__)},
        outputs=["top.ys", "top.json", SYNTHESISED, "synth.stat.json", "synth.log"], work=work,
        force=force)
    _check_cells(board, result.data["cells"])
    return result


def is_congested(board: BoardSpec, cells: Mapping[str, int]) -> bool:
    """Whether a netlist takes more wire than nextpnr alone finds: it is then placed and routed as
    :mod:`gen.flow.congested` says, which costs clock where it is not needed.
    """
    return ecp5.comb_cells(cells) > board.comb * CONGESTED


def _check_cells(board: BoardSpec, cells: Mapping[str, int]) -> None:
    comb = ecp5.comb_cells(cells)
    needs = {"block RAMs (DP16KD)": (cells.get("DP16KD", 0), board.ebr),
             "multipliers (MULT18X18D)": (cells.get("MULT18X18D", 0), board.dsp),
             "flip-flops": (cells.get("TRELLIS_FF", 0), board.ff),
             "LUTs (at least, TRELLIS_COMB)": (comb, board.comb)}
    for kind, (needed, available) in needs.items():
        if needed > available:
            raise DoesNotFit(f"{kind} of {board.name}", needed=needed, available=available,
                             hint="take a larger board or a smaller configuration")
    if comb > board.comb * CONGESTED:
        log.warning("%d of %d LUTs: placement and routing often take long above %.0f %%", comb,
                    board.comb, 100 * CONGESTED)
