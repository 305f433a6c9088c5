"""gen.flash: what it writes to flash, card and file, in which order, and what it refuses."""

import pytest

from gen import build, flash
from gen.boot.medium import read_header
from hw.boot_layout import CARD_OFFSET, FLASH_OFFSET, HEADER_BYTES, SECTOR_BYTES
from sim.twin.spi_flash import SpiFlashTwin
from tests.gen.fake_tool import fake_tool, only_path
from tests.gen.test_prove import finish


PICTURES = 2

SECTOR = FLASH_OFFSET + HEADER_BYTES - SECTOR_BYTES


@pytest.fixture(scope="module")
def templates(tmp_path_factory, cache_home):
    """Finished builds of qsdt_nano for the 85F: {boot: {file: content}}."""
    home, found = tmp_path_factory.mktemp("flash"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("XDG_CACHE_HOME", str(cache_home))
        for boot in ("none", "flash", "sd"):
            (home / "boot.yaml").write_text(f"boot: {boot}\nmemory_words: 32768\n")
            assert build.cli(["--board", "ulx3s", "--model", "qsdt_nano", "--until", "config",
                              "--config", "boot.yaml", "--out", boot, "-q"]) == 0
            finish(home / boot)
            found[boot] = {path.name: path.read_bytes() for path in (home / boot).iterdir()}
    return found


@pytest.fixture
def folder(templates, tmp_path, monkeypatch, cache_home):
    """``folder(boot)``: such a build."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))

    def make(boot):
        place = tmp_path / boot
        place.mkdir()
        for name, content in templates[boot].items():
            (place / name).write_bytes(content)
        return place

    return make


@pytest.fixture
def loader(tmp_path, monkeypatch):
    """A fake openFPGALoader that keeps what it writes; it fails at the part ``fails``, from 0."""
    written = tmp_path / "written"
    written.mkdir()
    only_path(monkeypatch, tmp_path / "bin")

    def make(idcode="41113043", fails=-1):
        fake_tool(tmp_path / "bin", "openFPGALoader", f"""
case "$*" in
  -V) echo openFPGALoader v1.1.1;;
  *--detect*) printf 'index 0:\\n\\tidcode 0x{idcode}\\n';;
  *) for file in "$@"; do last=$file; done
     set -- {written}/*.bin; number=$#; [ -e "$1" ] || number=0
     [ $number = {fails} ] && {{ echo verify failed; exit 1; }}
     /bin/cp "$last" {written}/$number.bin
     echo "$last" > {written}/name;;
esac""")
        return written

    return make


def command(folder, *options):
    return flash.cli(["--build", str(folder), "--count", str(PICTURES), *map(str, options)])


def test_flash(folder, loader, capsys):
    """Four parts; a flash that gets them holds bitstream and image."""
    build_folder, written = folder("flash"), loader()
    assert command(build_folder, "--board", "ulx3s") == 0
    parts = [path.read_bytes() for path in sorted(written.glob("*.bin"))]
    chip = SpiFlashTwin()
    for address, data in zip((SECTOR, 0, SECTOR + SECTOR_BYTES, SECTOR), parts, strict=True):
        chip.erase(address, -(-len(data) // SECTOR_BYTES) * SECTOR_BYTES)
        chip.program(address, data)
    bit = (build_folder / "top.bit").read_bytes()
    assert bytes(chip.byte(k) for k in range(len(bit))) == bit
    image = parts[3][-HEADER_BYTES:] + parts[2]
    assert bytes(chip.byte(FLASH_OFFSET + k) for k in range(len(image))) == image
    fields = read_header(image)
    out = capsys.readouterr().out
    assert (f"wrote the flash of ulx3s-85f: qsdt_nano for bitstream {fields['identity']}, "
            f"{PICTURES} pictures, {len(image)} bytes of image") in out
    assert "first result 0.0" in out or "first result 0.1" in out
    assert out.count("the board will show: picture ") == PICTURES


def test_card_and_file(folder, tmp_path, capsys):
    """Neither needs a loader; what is on the card from its header on would be in the flash."""
    card, image = tmp_path / "card.img", tmp_path / "image.bin"
    assert command(folder("sd"), "--card", card, "-q") == 0
    assert command(folder("flash"), "--image", image, "-q") == 0
    assert capsys.readouterr().out == ""
    content = card.read_bytes()
    assert len(content) % 512 == 0 and not any(content[:CARD_OFFSET])
    on_card, in_flash = read_header(content[CARD_OFFSET:]), read_header(image.read_bytes())
    assert on_card["identity"] != in_flash["identity"] and on_card["pictures"] == PICTURES


def test_loader_fails(folder, loader, capsys):
    """At the script: the header was erased, so the board finds no image."""
    written = loader(fails=2)
    assert command(folder("flash")) == 2
    assert ("while it wrote the script: verify failed; the board has no image now: run this "
            "again") in capsys.readouterr().err
    assert set(written.joinpath("0.bin").read_bytes()) == {0xFF}
    assert len(list(written.glob("*.bin"))) == 2


def test_other_chip(folder, loader, capsys):
    written = loader(idcode="21111043")
    assert command(folder("flash")) == 1
    assert "IDCODE 0x21111043 (ulx3s-12f), but this is for ulx3s-85f" in capsys.readouterr().err
    assert not list(written.iterdir())


@pytest.mark.parametrize("boot, options, message", [
    ("none", [], "does not boot by itself: build it with a --config that has boot: flash"),
    ("sd", [], "boots from a card: name the file or device with --card"),
    ("sd", ["--card", "c", "--image", "i"], "boots from a card: name the file"),
    ("flash", ["--card", "c"], "boots from flash: leave out --card"),
    ("flash", ["--overwrite-device"], "--overwrite-device goes with --card"),
    ("flash", ["--board", "icepi-zero"], "is for ulx3s-85f, not icepi-zero: name it with --board"),
    ("flash", ["--board", "ulx4"], "Unknown board 'ulx4'"),
    ("flash", ["--count", "0"], "Count of images must be at least 1, not 0"),
    ("flash", ["--model", "qsdt_s"], "was built for other weights than these"),
    ("flash", ["--count", "9"], "memory words for program and pictures"),
    ("sd", ["--card", "c.img", "--overwrite-device"], "cannot be written: No such file"),
])
def test_refused(boot, options, message, folder, tmp_path, monkeypatch, capsys):
    """In a line, and nothing is written."""
    place = folder(boot)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert command(place, *options) in (1, 2)
    error = capsys.readouterr().err.strip()
    assert message in error and "Traceback" not in error
    assert sorted(tmp_path.rglob("*")) == before


def test_damaged_build(folder, tmp_path, capsys):
    place = folder("flash")
    (place / "program.img").write_bytes(b"x")
    assert command(place) == 1
    assert "program.img is not a complete program image" in capsys.readouterr().err
    assert command(tmp_path / "none") == 1
    assert "this is no folder of qsdt build" in capsys.readouterr().err


def test_only_loads(loader, tmp_path, capsys):
    """As before: a bitstream, or the IDCODE."""
    written, bit = loader(), tmp_path / "top.bit"
    bit.write_bytes(bytes.fromhex("ff00 ffffbdb3 3b000000 e2000000 41113043"))
    assert flash.cli(["--bitstream", str(bit)]) == 0
    assert written.joinpath("0.bin").read_bytes() == bit.read_bytes()
    assert flash.cli(["--detect"]) == 0
    assert "0x41113043 (ulx3s-85f)" in capsys.readouterr().out
    assert flash.cli(["--detect", "--card", "c"]) == 1
    assert "--card, --image and --overwrite-device go with --build" in capsys.readouterr().err
