"""The wheel, without the checkout: every command works or says in one line what it lacks."""

from importlib.metadata import distributions
from pathlib import Path
import re
import subprocess
import sys

import pytest

from gen.main import COMMANDS


pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]

NANO = ["--model", "qsdt_nano"]

WORKS = {
    "doctor": [],
    "evaluate": [*NANO, "--images", str(ROOT / "model/weights/qsdt_nano.images.npz")],
    "convert": [*NANO, "--out", "n.qsd"],
    "traffic": NANO,
    "verify": [*NANO, "--forms", "integer,iss", "--count", "1"],
    "build": [*NANO, "--board", "ulx3s", "--config", "sdram", "--until", "rtl"],
    "meter": ["--meter", "simulated", "--seconds", "0.5"],
}
"""What needs no extra, and the words behind the command."""

NEEDS = [
    (["build", *NANO, "--board", "ulx3s"], {"build"}, 1, "No passing verification"),
    (["run", *NANO, "--board", "ulx3s", "--port", "/dev/ttyNONE"], {"run"}, 1, "no such port"),
    (["run", *NANO, "--board", "virtual", "--port", "x"], {"run"}, 1, "are for real boards"),
    (["measure", *NANO, "--board", "virtual", "--port", "x"], {"run"}, 1, "are for real boards"),
    (["verify", *NANO, "--images", "none.npz"], {"sim"}, 1, "none.npz: no such file"),
    (["train", "--data-dir", "none", "--epochs", "1"], {"train"}, 1, "none"),
    (["report", "none"], {"", "build", "run", "sim", "train"}, 1, "none"),
    (["prove", "none"], {"", "build", "run", "sim", "train"}, 1, "no folder of qsdt build"),
    (["convert", "--checkpoint", "none.pth", "--out", "n.qsd"], {"train"}, 1, "none.pth"),
]
"""(words, extras, exit status and text with them); without them it is 3 and the pip command. With
them each ends at the next thing that is wrong, since the work itself takes minutes."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "pip", "wheel", ROOT, "--no-deps", "-q", "-w", folder],
                   check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module", params=["", "build", "run", "sim", "train"])
def installed(request, wheel, tmp_path_factory):
    """(extra, folder of the programs) of a fresh virtual environment, with the versions that
    this one has: another request for torch may bring several gigabytes."""
    place = tmp_path_factory.mktemp(request.param or "bare")
    constraints = place / "constraints.txt"
    constraints.write_text("".join(
        f"{package.name}=={package.version.partition('+')[0]}\n" for package in distributions()
        if package.name != "qsdt-fpga"))
    subprocess.run([sys.executable, "-m", "venv", place / "venv"], check=True)
    what = f"{wheel}[{request.param}]" if request.param else str(wheel)
    subprocess.run([place / "venv/bin/python", "-m", "pip", "install", "-q", "-c", constraints,
                    what], check=True)
    return request.param, place / "venv/bin"


def qsdt(programs, folder, *words):
    """Outside the checkout, in a folder with names that would shadow ours and Python's."""
    for name in ("model.py", "gen.py", "random.py"):
        (folder / name).write_text("raise SystemExit(7)")
    return subprocess.run([programs / "qsdt", *words], cwd=folder, capture_output=True, text=True,
                          timeout=1200, env={"PATH": f"{programs}:/usr/bin:/bin",
                                             "HOME": str(folder)})


@pytest.mark.parametrize("command", COMMANDS)
def test_help(installed, tmp_path, command):
    ended = qsdt(installed[1], tmp_path, command, "--help")
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    assert ended.stdout.startswith(f"usage: qsdt {command} ")


@pytest.mark.parametrize("command", WORKS)
def test_works(installed, tmp_path, command):
    ended = qsdt(installed[1], tmp_path, command, *WORKS[command])
    assert ended.returncode == 0, ended.stderr
    assert "next: qsdt " in ended.stderr


@pytest.mark.parametrize("words, extras, status, text", NEEDS)
def test_works_or_says_what_is_missing(installed, tmp_path, words, extras, status, text):
    extra, programs = installed
    ended = qsdt(programs, tmp_path, *words)
    assert ended.stderr.count("\n") == 1 or ended.returncode == status, ended.stderr
    if extra in extras:
        assert ended.returncode == status and text in ended.stderr, ended.stderr
    else:
        assert ended.returncode == 3, ended.stderr
        extras = "|".join(extras)
        assert re.search(rf"install it with: (pip install 'qsdt-fpga\[({extras})\]'|apt-get "
                         r"install )", ended.stderr), ended.stderr
