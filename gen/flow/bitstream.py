"""Read what an ECP5 bitstream says about itself."""

from pathlib import Path

from model.error import InputError


__all__ = ["bitstream_idcode"]


PREAMBLE = bytes.fromhex("ffffbdb3")

VERIFY_ID = bytes.fromhex("e2000000")
"""Command that makes the chip compare its IDCODE (Lattice FPGA-TN-02039)."""


def bitstream_idcode(path: Path) -> int:
    """IDCODE of the chip that a bitstream file is for."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"Cannot read bitstream {path}: {error.strerror}") from error
    start = data.find(PREAMBLE)
    # The check is one of the first commands; further on the same bytes could be configuration.
    command = data.find(VERIFY_ID, start, start + 256) if start >= 0 else -1
    if command < 0 or command + 8 > len(data):
        raise InputError(f"{path} is not an ECP5 bitstream (no preamble with an IDCODE check)")
    return int.from_bytes(data[command + 4:command + 8], "big")
