import ast
from pathlib import Path
import re
import subprocess
import sys

import pytest


ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.synth
def test_foreign_netlist(tmp_path):
    """examples/pnr_foreign.py: less wire than nextpnr's placement, and it routes."""
    process = subprocess.run([sys.executable, ROOT / "examples" / "pnr_foreign.py", "--out",
                              tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    before, after = map(int, re.search(r"wire length (\d+) -> (\d+)", process.stdout).groups())
    assert after < 0.97 * before
    assert float(re.search(r"routed: \S+ ([0-9.]+) MHz", process.stdout)[1]) > 60


def test_stands_alone():
    """gen.pnr knows nothing of the rest of the generator, nor of spikes."""
    allowed = {"numpy", "scipy", "numba", "gen.pnr", "model.error", "model.files", "model.command"}
    for path in sorted((ROOT / "gen" / "pnr").glob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        names = [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
        names += [alias.name for node in nodes if isinstance(node, ast.Import)
                  for alias in node.names]
        for name in names:
            known = any(name == one or name.startswith(f"{one}.") for one in allowed)
            assert known or name.split(".")[0] in sys.stdlib_module_names, (path.name, name)
