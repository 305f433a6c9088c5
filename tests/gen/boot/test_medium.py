"""What a flash or a card gets, and in which order; a power cut at any moment is found."""

from dataclasses import dataclass

import numpy as np
import pytest

from gen.boot import medium
from gen.boot.medium import boot_image, card_image, flash_parts, read_header
from gen.boot.script import BootScript, Script
from hw.boot_layout import CARD_OFFSET, FLASH_OFFSET, HEADER_BYTES, Record, SECTOR_BYTES
from model.error import DoesNotFit, InputError
from sim.twin.spi_flash import SpiFlashTwin


SIZE = 1 << 24


@dataclass
class Image:
    model: str = "mine"
    identity: int = 0x1234


def script(text="hello", count=2):
    made = Script()
    for _ in range(3000):
        made.text(text)
    made.record(Record.END)
    return BootScript(bytes(made), first=5, classes=np.zeros(count, int), cycles=1000)


def test_header():
    image = boot_image(Image(), script())
    assert read_header(image + b"\xff" * 99) == {
        "magic": "qsdt-boot", "version": 1, "model": "mine", "identity": "00001234",
        "bytes": len(script().data), "crc32": f"{medium.zlib.crc32(script().data):08x}",
        "pictures": 2}
    assert image[HEADER_BYTES - 1] == 0 and image[:HEADER_BYTES].count(0) == 1


@pytest.mark.parametrize("change, message", [
    (lambda data: b"\xff" * 4096, "There is no boot image"),
    (lambda data: data.replace(b"qsdt-boot", b"qsdt-toob"), "There is no boot image"),
    (lambda data: data.replace(b'"version": 1', b'"version": 2'), "has version 2, this program"),
    (lambda data: data[:-1], "is cut off or damaged"),
    (lambda data: data[:900] + b"\xff" + data[901:], "is cut off or damaged")])
def test_bad_image(change, message):
    with pytest.raises(InputError, match=message):
        read_header(change(boot_image(Image(), script())))


def test_long_name():
    with pytest.raises(InputError, match="is too long for the header"):
        boot_image(Image(model="x" * 500), script())


def write(flash, parts, cut=None):
    """Write parts as a loader does, whole sectors erased before each; power fails behind so many
    bytes in all."""
    left = cut
    for _, address, data in parts:
        if left is not None and left <= 0:
            return
        flash.erase(address, -(-len(data) // SECTOR_BYTES) * SECTOR_BYTES)
        flash.program(address, data if left is None else data[:left])
        if left is not None:
            left -= len(data)


def content(flash, count):
    return bytes(flash.byte(FLASH_OFFSET + k) for k in range(count))


def test_power_cut():
    """From one image to another: at every moment there is the old one, none, or the new one, or the
    header says that it is damaged; never a mixture."""
    old, new = (boot_image(Image(), script(text)) for text in ("hello", "other"))
    parts = flash_parts(b"\1" * 70_000, new, size=SIZE).parts
    assert [name for name, _, _ in parts] == ["old header", "bitstream", "script", "header"]
    flash = SpiFlashTwin()
    write(flash, flash_parts(b"\2" * 70_000, old, size=SIZE).parts)
    assert content(flash, len(old)) == old
    total = sum(len(data) for _, _, data in parts)
    outcomes = set()
    for cut in [*range(0, total, 30_011), *range(total - 600, total, 100), total]:
        write(flash, flash_parts(b"\2" * 70_000, old, size=SIZE).parts)
        write(flash, parts, cut)
        found = content(flash, len(new))
        try:
            read_header(found)
            outcomes.add("old" if found == old else "new")
            assert found in (old, new)
        except InputError as error:
            outcomes.add(str(error)[:25])
    assert outcomes == {"old", "new", "There is no boot image: w"}


def test_room():
    image = boot_image(Image(), script())
    with pytest.raises(DoesNotFit, match="flash bytes for the bitstream"):
        flash_parts(bytes((1 << 21) + 1), image, size=SIZE)
    with pytest.raises(DoesNotFit, match="flash bytes: "):
        flash_parts(b"", image, size=FLASH_OFFSET + len(image) - 1)
    assert flash_parts(b"", image, size=FLASH_OFFSET + len(image))


def test_card():
    image = boot_image(Image(), script())
    card = card_image(image)
    assert card[CARD_OFFSET:][:len(image)] == image
    assert not any(card[:CARD_OFFSET]) and len(card) % 512 == 0


def test_card_file(tmp_path):
    path = tmp_path / "card.img"
    medium.write_file(path, b"abc")
    assert path.read_bytes() == b"abc"
    with pytest.raises(InputError, match="is not a file: --overwrite-device writes to a card"):
        medium.write_file(tmp_path, b"abc")


def test_device_must_be_one(tmp_path):
    path = tmp_path / "card.img"
    path.write_bytes(b"precious")
    with pytest.raises(InputError, match="is not a block device: leave out --overwrite-device"):
        medium.write_device(path, b"abc")
    with pytest.raises(InputError, match="cannot be written: No such file"):
        medium.write_device(tmp_path / "none", b"abc")
    assert path.read_bytes() == b"precious"


def test_device_in_use(tmp_path, monkeypatch):
    """A mounted one, or one whose partition is."""
    monkeypatch.setattr(medium.stat, "S_ISBLK", lambda mode: True)
    path, mounts = tmp_path / "sdx", tmp_path / "mounts"
    path.write_bytes(bytes(100_000))
    for used in (path, f"{path}1", f"{path}p2"):
        mounts.write_text(f"proc /proc proc rw 0 0\n{used} /media/card vfat rw 0 0\n")
        with pytest.raises(InputError, match="is mounted at /media/card: unmount it first"):
            medium.write_device(path, b"abc", mounts=mounts)
    mounts.write_text(f"{path}x /media/card vfat rw 0 0\n")
    image = card_image(boot_image(Image(), script()))
    medium.write_device(path, image, mounts=mounts)
    assert path.read_bytes()[:len(image)] == image
    path.write_bytes(bytes(100))
    with pytest.raises(DoesNotFit, match="bytes of .*sdx"):
        medium.write_device(path, image, mounts=mounts)
