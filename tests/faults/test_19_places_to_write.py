"""FAULTS row 19: an output that cannot be written is one line, and nothing half-written stays."""

from pathlib import Path
import re
import resource

import numpy as np
import pytest

from gen import build, verify
from model import convert, evaluate, train
from model.data.dataset import Dataset, Split
from model.data.options import DATASETS
from model.families.spec import MODELS, QsdtSpec


NANO = ["--model", "qsdt_nano"]

TINY = QsdtSpec(
    name="tiny", in_channels=1, image_size=16, classes=2, dims=(4, 4, 4, 6, 6),
    strides=(2, 1, 2, 1, 1), depths=(1, 1, 1, 1, 1), conv_expansion=(1, 1, 1), mlp_ratio=1,
    heads=2, layer_scale_init=0.1, norm_mean=(0.3,), norm_std=(0.3,))


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.qsd").mkdir()
    np.savez("x.npz", image_q=np.zeros((2, 1, 28, 28), np.int8))
    part = Split(images=np.zeros((8, 16, 16), np.uint8), labels=np.arange(8) % 2)
    monkeypatch.setitem(MODELS, "tiny", TINY)
    monkeypatch.setitem(DATASETS, "zeros",
                        lambda folder, spec: Dataset(train=part, val=part, test=part))
    return tmp_path


@pytest.fixture
def full():
    """No file may grow beyond some bytes: the system refuses in the middle of writing, as on a
    full disk, but without the rights that mounting a small one needs."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


CONVERT = [*NANO, "--out"]

EVALUATE = [*NANO, "--images", "x.npz", "--out"]

TRAIN = ["--model", "tiny", "--data", "zeros", "--epochs", "1", "--batch", "8", "--out"]

BUILD = [*NANO, "--board", "ulx3s", "--until", "config", "--out"]

VERIFY = [*NANO, "--forms", "integer,iss", "--report"]


@pytest.mark.parametrize("command, words, text", [
    (convert, [*CONVERT, "folder.qsd"], "folder.qsd: is a folder; name a file"),
    (convert, [*CONVERT, "file/x.qsd"], "file/x.qsd: not a directory; a part of the path is a"),
    (convert, [*CONVERT, "/proc/x.qsd"], "/proc.*: no such file"),
    (convert, [*CONVERT, "/sys/x.qsd"], "/sys.*(permission|permitted|read-only).*choose another"),
    (evaluate, [*EVALUATE, "/dev/null"], "/dev/null: is not a regular file; name another"),
    (evaluate, [*EVALUATE, "folder.qsd"], "folder.qsd: is a folder"),
    (evaluate, [*EVALUATE, "/proc/x.npz"], "/proc.*: no such file"),
    (train, [*TRAIN, "file"], "file: is a file; name a folder"),
    (train, [*TRAIN, "/proc/run"], "/proc/run: no such file"),
    (train, [*TRAIN, "/sys/run"], "/sys/run: .*(permission|permitted|read-only)"),
    (build, [*BUILD, "file"], "file: is a file; name a folder"),
    (build, [*BUILD, "/proc/run"], "/proc.*: no such file"),
    (build, [*BUILD, "/sys/run"], "/sys.*(permission|permitted|read-only)"),
    (verify, [*VERIFY, "folder.qsd"], "folder.qsd: is a folder"),
    (verify, [*VERIFY, "/sys/x.json"], "/sys.*(permission|permitted|read-only)"),
])
def test_places(workplace, capsys, command, words, text):
    before = sorted(workplace.rglob("*"))
    assert command.cli(words) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1, message
    assert re.search(text, message), message
    assert sorted(workplace.rglob("*")) == before
    assert Path("/dev/null").is_char_device()


def test_full_disk_in_convert(workplace, full, capsys):
    (workplace / "x.qsd").write_bytes(b"old")
    full(10_000)
    assert convert.cli([*CONVERT, "x.qsd"]) == 1
    assert re.fullmatch("error: x.qsd: file too large; .*\n", capsys.readouterr().err)
    assert (workplace / "x.qsd").read_bytes() == b"old"
    assert not list(workplace.glob(".*"))


@pytest.mark.parametrize("size", [200, 20_000])
def test_full_disk_in_training(workplace, full, capsys, size):
    """The checkpoint, or a file behind it, does not fit; what was there before stays."""
    assert train.cli([*TRAIN, "run"]) == 0
    files = {path: path.read_bytes() for path in (workplace / "run").iterdir()}
    assert {path.name for path in files} == {".lock", "checkpoint.pth", "model.pth", "log.jsonl",
                                             "curve.png"}
    capsys.readouterr()
    full(size)
    assert train.cli([*TRAIN, "run"]) == 1
    message = capsys.readouterr().err
    assert re.fullmatch(r"error: run/checkpoint.pth: file too large; .*\n", message), message
    assert {path: path.read_bytes() for path in (workplace / "run").iterdir()} == files
