"""The small bitstream of the first steps: link, SDRAM and the test of the block RAMs."""

from collections.abc import Mapping
import json
from pathlib import Path
import time
from typing import Any

from boards.spec import BoardSpec
from gen.config.memory import sdram_config
from gen.flow.bitstream import pack
from gen.flow.route import route
from gen.flow.rtl import write_rtl
from gen.flow.step import discard_partial
from gen.flow.synth import synthesize
from gen.flow.toolchain import find_toolchain
from hw.bringup_shell import BringupConfig, BringupShell
from hw.register import config_digest, identity_text
from hw.sdram.memory import SdramMemory
from model.code import commit
from model.error import InputError
from model.files import digest_file, locked, write_atomic
from model.progress import Progress


__all__ = ["RECORD", "build_small", "default_folder", "read_record", "write_record"]


RECORD = "bringup.json"
"""What :func:`build_small` keeps beside the bitstream."""


def default_folder(board: BoardSpec) -> Path:
    """Where the small bitstream of a board goes unless told otherwise."""
    return Path("build") / f"{board.name}-bringup"


def small_shell(board: BoardSpec, clock_hz: int, sdram_hz: int) -> BringupShell:
    """The top that is synthesised."""
    memory = SdramMemory(sdram_config(board, sdram_hz), phases=board.sdram_phases(sdram_hz))
    return BringupShell(memory=memory, divisor=board.link(clock_hz)[1])


def build_small(board: BoardSpec, folder: Path, *, clock_hz: int | None = None,
                sdram_hz: int | None = None, toolchain: str = "auto", seed: int = 1
                ) -> dict[str, Any]:
    """Make the bitstream in ``folder``, or take over what still holds; returns its record.

    Clocks are those that are built for the board by default unless given. Raises what the steps of
    :mod:`gen.flow` do.
    """
    if board.sdram is None:
        raise InputError(f"{board.name} has no SDRAM, which steps of the bring-up test")
    clock_hz = clock_hz or board.target_hz
    sdram_hz = sdram_hz or board.sdram.target_hz
    shell = small_shell(board, clock_hz, sdram_hz)
    tools = find_toolchain(toolchain)
    started = time.monotonic()
    progress = Progress(4)
    with locked(folder):
        discard_partial(folder)
        with progress.step("RTL"):
            rtl = write_rtl(board, shell, folder, core_clock_hz=clock_hz, sdram_clock_hz=sdram_hz,
                            config=BringupConfig().to_dict())
        with progress.step("synthesis"):
            synthesize(board, folder, tools, on_progress=progress.update)
        with progress.step("place and route"):
            routed = route(board, folder, tools, seeds=(seed,), on_progress=progress.update)
        with progress.step("bitstream"):
            packed = pack(board, folder, tools, routed, comments={
                "Identity": identity_text(rtl.data["identity"]), "Commit": commit()})
        record = {
            "board": board.name, "clock_hz": clock_hz, "sdram_clock_hz": sdram_hz,
            "config": config_digest(BringupConfig()), "identity": rtl.data["identity"],
            "bitstream": digest_file(packed.outputs["top.bit"]),
            "seed": seed, "used": routed.used,
            "clocks": routed.clocks, "crossings": routed.crossings,
            "seconds": round(time.monotonic() - started, 1), "tools": tools.describe(),
        }
        write_record(folder, record)
    return record


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Keep what is known of the bitstream beside it."""
    write_atomic(folder / RECORD, json.dumps(record, indent=1) + "\n")


def read_record(board: BoardSpec, folder: Path) -> Mapping[str, Any] | None:
    """The record of a folder, None where there is no small bitstream.

    Raises :exc:`InputError` for one that is damaged, changed, or of another board.
    """
    path, bit = folder / RECORD, folder / "top.bit"
    if not path.is_file() or not bit.is_file():
        return None
    try:
        record = json.loads(path.read_text())
        name, digest = record["board"], record["bitstream"]
        board.link(record["clock_hz"])
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is damaged; build the small bitstream again") from None
    if name != board.name:
        raise InputError(f"{folder} holds the small bitstream of {name}, not of {board.name}; "
                         "name another folder (--folder) or the right board")
    if digest_file(bit) != digest:
        raise InputError(f"{bit} is not what was built there; build the small bitstream again")
    return record
