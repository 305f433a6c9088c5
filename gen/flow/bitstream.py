"""Make a bitstream, and read what it says about itself."""

from collections.abc import Mapping
import hashlib
from pathlib import Path
import shutil
import tempfile
from typing import TYPE_CHECKING

from boards.spec import BoardSpec
from gen.flow.step import run_step, StepResult
from gen.flow.toolchain import find_unpacker, OnProgress, run_tool, Toolchain
from model.code import code_digest
from model.error import InputError, ToolFailed
from model.files import digest_file


if TYPE_CHECKING:
    from gen.flow.route import RouteResult


__all__ = ["bitstream_comments", "bitstream_digests", "bitstream_idcode", "pack", "unpack"]


PREAMBLE = bytes.fromhex("ffffbdb3")

VERIFY_ID = bytes.fromhex("e2000000")
"""Command that makes the chip compare its IDCODE (Lattice FPGA-TN-02039)."""


def bitstream_idcode(path: Path) -> int:
    """IDCODE of the chip that a bitstream file is for."""
    data = _read(path)
    start = data.find(PREAMBLE)
    # The check is one of the first commands; further on the same bytes could be configuration.
    command = data.find(VERIFY_ID, start, start + 256) if start >= 0 else -1
    if command < 0 or command + 8 > len(data):
        raise InputError(f"{path} is not an ECP5 bitstream (no preamble with an IDCODE check)")
    return int.from_bytes(data[command + 4:command + 8], "big")


def _read(path: Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"Cannot read bitstream {path}: {error.strerror}") from error


def bitstream_comments(path: Path) -> dict[str, str]:
    """The comments of a bitstream file, ``{"Part": …, "Identity": …, "Commit": …}``."""
    comments = _read(path).partition(PREAMBLE)[0].removeprefix(b"\xff\0")
    lines = [line.decode("ascii", "replace") for line in comments.split(b"\0")]
    return {name: text for name, mark, text in (line.partition(": ") for line in lines) if mark}


def bitstream_digests(path: Path) -> dict[str, str]:
    """SHA-256 of a bitstream file, and of what the chip reads of it: without comments."""
    _, preamble, rest = _read(path).partition(PREAMBLE)
    return {"bitstream": digest_file(path),
            "bitstream without comments": hashlib.sha256(preamble + rest).hexdigest()}


def pack(board: BoardSpec, folder: Path, toolchain: Toolchain, routed: "RouteResult", *,
         comments: Mapping[str, str] | None = None, on_progress: OnProgress | None = None,
         force: bool = False) -> StepResult:
    """Make the compressed bitstream ``top.bit`` and check that it is for the board's chip.

    ``comments`` are in the file only, not in the chip (:func:`bitstream_comments`).
    """
    lines = "".join(f".comment {name}: {text}\n" for name, text in (comments or {}).items())
    arguments = ["--compress", "--idcode", f"{board.idcode:#010x}", "--input", "top.config",
                 "--bit", "top.bit"]

    def work(place: Path) -> dict:
        config = place / "top.config"
        config.write_text(lines + config.read_text())
        usage = run_tool([*toolchain.ecppack.command, *arguments], folder=place, name="ecppack",
                         log_path=place / "pack.log", on_progress=on_progress)
        idcode = bitstream_idcode(place / "top.bit")
        if idcode != board.idcode:
            raise ToolFailed(f"ecppack wrote a bitstream for IDCODE {idcode:#010x}, not "
                             f"{board.idcode:#010x}", log=place / "pack.log")
        return usage.figures()

    return run_step("pack", Path(folder), inputs={"top.config": routed.config},
                    depends={"tool": toolchain.ecppack.identity, "arguments": arguments,
                             "comments": lines,
                             "code": code_digest(__name__)},
                    outputs=["top.bit", "pack.log"], work=work, force=force)


def unpack(path: Path) -> str:
    """What ecpunpack reads in a bitstream: the text of a configuration."""
    tool = find_unpacker()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        shutil.copyfile(path, place / "top.bit")
        run_tool([*tool.command, "--input", "top.bit", "--textcfg", "read.config"], folder=place,
                 name="ecpunpack", log_path=place / "unpack.log")
        return (place / "read.config").read_text()
