"""FAULTS row 20: a command without its extra is one line and exit status 3."""

import json
import os
from pathlib import Path
import re
import subprocess
import sys

import pytest

from gen.main import COMMANDS
from model.command import EXTRAS


ROOT = Path(__file__).resolve().parents[2]

BLOCKED = sorted(EXTRAS)

SCRIPT = """\
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

blocked = set(sys.argv[1].split(","))
for name in blocked:
    assert name not in sys.modules
sys.meta_path.insert(0, Block())

import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: (
    None if name.partition(".")[0] in blocked else found(name, *more))
from gen.main import cli
status = cli(sys.argv[2:])
print("loaded:", ",".join(sorted({name.partition(".")[0] for name in sys.modules})))
sys.exit(status)
"""


def run_without(modules, *words, folder):
    """Run ``qsdt WORDS`` as if the modules were not installed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache")}
    return subprocess.run([sys.executable, "-c", SCRIPT, ",".join(modules), *map(str, words)],
                          capture_output=True, text=True, cwd=folder, timeout=300,
                          env=environment)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_needs_no_extra(command, tmp_path):
    ended = run_without(BLOCKED, command, "--help", folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("usage: ") and ended.stderr == ""


@pytest.mark.parametrize("words, missing, extra", [
    (["train"], "torch", "train"),
    (["convert", "--checkpoint", "a.pth", "--out", "a.qsd"], "torch", "train"),
    (["evaluate", "--weights", "a.pth", "--images", "x.npz"], "torch", "train"),
    (["evaluate", "--model", "qsdt_nano", "--images", "x.npz", "--form", "float"], "torch",
     "train"),
    (["run", "--board", "virtual", "--model", "qsdt_nano"], "serial", "run"),
    (["build", "--board", "ulx3s", "--model", "qsdt_nano", "--skip-verify"], "scipy", "build"),
    (["verify", "--model", "qsdt_nano", "--images", "x.png", "--forms", "integer,iss"], "PIL",
     "run"),
    (["export", "--model", "qsdt_nano", "--onnx", "n.onnx"], "onnx", "onnx"),
])
def test_one_line(words, missing, extra, tmp_path):
    (tmp_path / "a.pth").write_bytes(b"x")
    (tmp_path / "x.png").write_bytes(b"x")
    ended = run_without(BLOCKED, *words, folder=tmp_path)
    assert ended.returncode == 3, ended.stderr
    assert re.fullmatch(rf"error: Python package {missing}\b.* is missing; install it with: "
                        rf"pip install 'qsdt-fpga\[{extra}\]'\n", ended.stderr), ended.stderr


@pytest.mark.parametrize("check, status", [("1", 3), ("0", 0)])
def test_export_without_a_runtime(check, status, tmp_path):
    """It is not needed to write the file, and neither is torch."""
    ended = run_without({"onnxruntime", "torch"}, "export", "--model", "qsdt_nano", "--onnx",
                        "n.onnx", "--check", check, folder=tmp_path)
    assert ended.returncode == status, ended.stderr
    assert (tmp_path / "n.onnx").exists() == (status == 0)
    assert status == 0 or ended.stderr == (
        "error: Python package onnxruntime (checks the file; --check 0 writes it unchecked) is "
        "missing; install it with: pip install 'qsdt-fpga[onnx]'\n")


@pytest.mark.parametrize("words", [
    ["build", "--board", "ulx3s", "--model", "qsdt_nano", "--until", "config", "-q"],
    ["verify", "--model", "qsdt_nano", "--forms", "integer,iss", "--count", "1"],
    ["evaluate", "--model", "qsdt_nano", "--images", ROOT / "model/weights/qsdt_nano.images.npz"],
    ["convert", "--model", "qsdt_nano", "--out", "n.qsd"],
    ["traffic", "--model", "qsdt_nano"],
    ["doctor", "--json"],
])
def test_base_commands_need_no_extra(words, tmp_path):
    ended = run_without(BLOCKED, *words, folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    if words[0] == "doctor":
        assert json.loads(ended.stdout.rpartition("loaded:")[0])["extras"]["train"]["missing"]


def test_the_virtual_board_needs_no_synthesis(tmp_path):
    """Its whole way up to a simulator that cannot be compiled: neither scipy nor numba nor torch.

    The Verilog itself is not written: yosys would take most of a minute.
    """
    script = SCRIPT.replace("from gen.main import cli", """
from sim.rtl import virtual_board
from sim.rtl.verilator import SimulatorFailed

def broken(*arguments, **options):
    raise SimulatorFailed("verilator ended with exit code 1", None)

virtual_board.build_simulator = broken
from gen.main import cli""")
    (tmp_path / "small.yaml").write_text("core: {rows: 16, load_rows: 8, neuron_lanes: 4}\n")
    ended = subprocess.run(
        [sys.executable, "-c", script, "scipy,numba,torch,matplotlib", "run", "--board", "virtual",
         "--model", "qsdt_nano", "--count", "1", "--config", "small.yaml"], text=True,
        capture_output=True, cwd=tmp_path, timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert ended.returncode == 2, ended.stderr
    assert "error: verilator ended with exit code 1" in ended.stderr
    loaded = ended.stdout.rpartition("loaded: ")[2].strip().split(",")
    assert not {"scipy", "numba", "torch"} & set(loaded) and "amaranth" in loaded
