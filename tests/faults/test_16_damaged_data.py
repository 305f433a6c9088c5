"""FAULTS row 16: files of the data set that are cut off, changed or endless."""

import gzip
import shutil

import numpy as np
import pytest

from model import evaluate
from model.data import mnist


INPUTS = "data"


def test_truncated(data_folder, capsys):
    assert evaluate.cli(["--model", "qsdt_nano", "--data", "fashion_mnist",
                         "--data-dir", str(data_folder / "truncated")]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {data_folder}/truncated/train-images-idx3-ubyte.gz: cut off")


@pytest.mark.parametrize("name", ["t10k-labels-idx1-ubyte"])
def test_flipped_byte(data_folder, tmp_path, name):
    shutil.copy(data_folder / f"flipped-{name}.gz", tmp_path / f"{name}.gz")
    with pytest.raises(ValueError, match=f"{name}.gz: (cut off or damaged|SHA-256)"):
        mnist._read(tmp_path, name, mnist._FASHION)


def test_every_flipped_byte_is_one_line(data_folder, tmp_path):
    """Sixty places of a small file: refused, and never another exception."""
    name = "t10k-labels-idx1-ubyte"
    content = (data_folder / f"flipped-{name}.gz").read_bytes()
    for place in np.linspace(0, len(content) - 1, 60).astype(int):
        changed = bytearray(content)
        changed[place] ^= 0x55
        (tmp_path / f"{name}.gz").write_bytes(changed)
        with pytest.raises((ValueError, OSError), match=name) as caught:
            mnist._read(tmp_path, name, mnist._FASHION)
        assert "\n" not in str(caught.value)


def test_bomb_is_not_unpacked(tmp_path, monkeypatch):
    """A gigabyte of zeros, a megabyte packed: one byte beyond the published size is read."""
    name = "t10k-labels-idx1-ubyte"
    part = gzip.compress(bytes(1 << 24))
    (tmp_path / f"{name}.gz").write_bytes(part * 64)
    asked = []
    read = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read",
                        lambda self, size=-1: asked.append(size) or read(self, size))
    with pytest.raises(ValueError, match=f"{name}.gz: more than the 10,008 bytes"):
        mnist._read(tmp_path, name, mnist._FASHION)
    assert asked == [10_009]
