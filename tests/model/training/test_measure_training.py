"""tests/measure_training.py works for both rules of firing: a step of each family."""

import json
import os
from pathlib import Path
import subprocess
import sys

import pytest


SCRIPT = Path(__file__).resolve().parents[2] / "measure_training.py"


@pytest.mark.parametrize("model, recipe", [("qsdt_nano", "nano"), ("sdt_v3_nano", "sdt_v3_nano")])
def test_a_step_is_measured(tmp_path, model, recipe):
    out = tmp_path / "speed.json"
    ended = subprocess.run(
        [sys.executable, SCRIPT, "--model", model, "--recipe", recipe, "--steps", "1", "--turns",
         "1", "--out", out], cwd=SCRIPT.parents[1], capture_output=True, text=True, timeout=600,
        env=os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])})
    assert ended.returncode == 0, ended.stderr
    record = json.loads(out.read_text())
    assert set(record["images_per_cpu_second"]) == {"fp32", "bf16, torch's operators", "bf16"}
    assert any(row["name"].startswith("own ") for row in record["operators"])
    assert f"{model}, recipe {recipe}" in out.with_suffix(".md").read_text()
