"""gen.api: the same chain as the commands, and its errors."""

import os
from pathlib import Path
import subprocess
import sys

import numpy as np
import pytest

from gen import api
from model.data.dataset import Dataset, Split
from model.error import InputError
from model.files import locked
from model.training.recipe import Recipe
from tests.faults.test_19_places_to_write import TINY


ROOT = Path(__file__).resolve().parents[2]


def test_example(tmp_path):
    """examples/nano_end_to_end.py as a user starts it, outside the checkout."""
    ended = subprocess.run(
        [sys.executable, ROOT / "examples/nano_end_to_end.py", "--count", "1"], cwd=tmp_path,
        capture_output=True, text=True, timeout=600,
        env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path)})
    assert ended.returncode == 0, ended.stderr
    assert "integer = iss: equal on images: 1 " in ended.stdout
    assert "images/s predicted" in ended.stdout
    assert "image 0: class 9, label 9" in ended.stdout
    folder = tmp_path / "build" / "example"
    assert (folder / "nano.qsd").is_file() and (folder / "build" / "report.json").is_file()


def test_train(tmp_path):
    part = Split(images=np.zeros((8, 16, 16), np.uint8), labels=np.arange(8) % 2)
    data = Dataset(train=part, val=part, test=part)
    recipe = Recipe(epochs=1, batch=8)
    path = api.train(TINY, data, out=tmp_path / "run", recipe=recipe)
    assert path == tmp_path / "run" / "model.pth"
    network = api.load(weights=api.convert(path, tmp_path / "x.qsd"))
    assert network.input_shape == (1, 16, 16)
    with locked(tmp_path / "run", "training"):
        with pytest.raises(InputError, match="another training is running there"):
            api.train(TINY, data, out=tmp_path / "run", recipe=recipe)


def test_errors(tmp_path):
    with pytest.raises(InputError, match="model must be one of .*qsdt_nano"):
        api.load("none")
    with pytest.raises(InputError, match="none.qsd"):
        api.load(weights=tmp_path / "none.qsd")
    with pytest.raises(InputError, match="known are qsdt_nano, qsdt_s"):
        api.samples("none")
    with pytest.raises(InputError, match="known boards are"):
        api.configure(None, board="none")
    with pytest.raises(InputError, match="Core clock of ulx3s-85f must be one of"):
        api.configure(None, board="ulx3s", overrides={"clock_mhz": 85})


def test_verify_simulates_the_memory_of_the_design(monkeypatch):
    """A design in SDRAM is compared behind that SDRAM, as ``qsdt verify`` does."""
    seen = {}
    monkeypatch.setattr("gen.check.compare.verify", lambda *args, **options: seen.update(options))
    network = api.load("qsdt_nano")
    design = api.configure(network, overrides={"memory": "sdram"})
    api.verify(design, api.samples("qsdt_nano")[0][:1], forms=("integer", "rtl"))
    assert seen["memory"].func.__name__ == "SdramTwin"
    assert seen["memory"].keywords["sync_hz"] == design.config.clock_hz
