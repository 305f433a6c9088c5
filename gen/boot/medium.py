"""What is written to a flash or a card: a header, and the script behind it."""

from dataclasses import dataclass
import json
import os
from pathlib import Path
import re
import stat
import zlib

from gen.boot.script import BootScript, Script
from gen.compile.package import ProgramImage
from hw.boot_layout import (
    CARD_OFFSET,
    FLASH_OFFSET,
    HEADER_BYTES,
    MAGIC,
    Record,
    record_byte,
    SECTOR_BYTES,
    VERSION,
)
from hw.register import identity_text
from model.error import DoesNotFit, InputError
from model.files import write_atomic


__all__ = ["FlashParts", "boot_image", "card_image", "flash_parts", "read_header", "write_device",
           "write_file"]


ERASED = b"\xff"


def boot_image(image: ProgramImage, script: BootScript) -> bytes:
    """Header and script.

    The header is a record that the board skips: JSON with magic, version, model, identity, and
    length and CRC-32 of the script, filled with spaces to ``HEADER_BYTES``.
    """
    fields = {"magic": MAGIC, "version": VERSION, "model": image.model,
              "identity": identity_text(image.identity), "bytes": len(script.data),
              "crc32": f"{zlib.crc32(script.data):08x}", "pictures": len(script.classes)}
    record = Script()
    # One byte for the kind, one for the 0.
    record.text(json.dumps(fields).ljust(HEADER_BYTES - 2), Record.COMMENT)
    if len(record) != HEADER_BYTES:
        raise InputError(f"The name {image.model!r} is too long for the header")
    return bytes(record) + script.data


def read_header(data: bytes) -> dict:
    """Fields of the header at the start of ``data``, which may be cut off behind the script.

    Raises
    ------
    InputError
        There is no image, it has another version, or its script is cut off or damaged.
    """
    header, script = data[:HEADER_BYTES], data[HEADER_BYTES:]
    try:
        if header[:1] != bytes([record_byte(Record.COMMENT)]):
            raise ValueError
        fields = json.loads(header[1:].split(b"\0")[0])
        if fields["magic"] != MAGIC:
            raise ValueError
        version, size, crc = fields["version"], fields["bytes"], int(fields["crc32"], 16)
    except (ValueError, KeyError, TypeError):
        raise InputError("There is no boot image: write one") from None
    if version != VERSION:
        raise InputError(f"The boot image has version {version}, this program makes {VERSION}: "
                         "write it again")
    if zlib.crc32(script[:size]) != crc or len(script) < size:
        raise InputError("The boot image is cut off or damaged: write it again")
    return fields


@dataclass(frozen=True)
class FlashParts:
    """What a flash gets, in this order: each an address and bytes.

    First the sector of the header is erased, so that a board that loses power on the way finds no
    image; then bitstream and script are written, and the header last.
    """

    parts: tuple[tuple[str, int, bytes], ...]


def flash_parts(bitstream: bytes, image: bytes, *, size: int) -> FlashParts:
    """Parts for a flash of ``size`` bytes.

    Raises
    ------
    DoesNotFit
    """
    sector = FLASH_OFFSET + HEADER_BYTES - SECTOR_BYTES
    if len(bitstream) > sector:
        raise DoesNotFit("flash bytes for the bitstream", needed=len(bitstream), available=sector,
                         hint="pack it compressed")
    if FLASH_OFFSET + len(image) > size:
        raise DoesNotFit("flash bytes", needed=FLASH_OFFSET + len(image), available=size,
                         hint="take fewer pictures, or a card")
    header = ERASED * (SECTOR_BYTES - HEADER_BYTES) + image[:HEADER_BYTES]
    return FlashParts((
        ("old header", sector, ERASED * SECTOR_BYTES),
        ("bitstream", 0, bitstream),
        ("script", sector + SECTOR_BYTES, image[HEADER_BYTES:]),
        ("header", sector, header),
    ))


def card_image(image: bytes) -> bytes:
    """The content of a card from its first byte on, in whole blocks; before the header zeros, so
    that no old table of partitions is left."""
    content = bytes(CARD_OFFSET) + image
    return content + bytes(-len(content) % HEADER_BYTES)


def write_device(path: Path, content: bytes, *, mounts: Path = Path("/proc/mounts")) -> None:
    """Write a card in a reader, the block device ``path``: all but the header, and that last.

    Raises
    ------
    InputError
        It is no block device, is mounted or a partition, is too small, or cannot be written.
    """
    try:
        if not stat.S_ISBLK(path.stat().st_mode):
            raise InputError(f"{path} is not a block device: leave out --overwrite-device to write "
                             "a file")
        resolved = path.resolve()
        if (Path("/sys/class/block") / resolved.name / "partition").exists():
            raise InputError(f"{path} is a partition: name the whole card")
        used = [line.split()[:2] for line in mounts.read_text().splitlines()]
        for device, where in used:
            if re.fullmatch(rf"{re.escape(str(resolved))}p?\d*", device):
                raise InputError(f"{path} is mounted at {where}: unmount it first")
        _write_blocks(path, content)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error


def _write_blocks(path, content):
    with open(path, "r+b", buffering=0) as device:
        size = device.seek(0, os.SEEK_END)
        if size < len(content):
            raise DoesNotFit(f"bytes of {path}", needed=len(content), available=size)
        script = CARD_OFFSET + HEADER_BYTES
        for start, part in ((0, bytes(script)), (script, content[script:]),
                            (CARD_OFFSET, content[CARD_OFFSET:script])):
            device.seek(start)
            left = memoryview(part)
            while left:
                left = left[device.write(left):]
            os.fsync(device.fileno())


def write_file(path: Path, content: bytes) -> None:
    """Write a card's content to a file, whole or not at all."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is not a file: --overwrite-device writes to a card")
    write_atomic(path, content)
