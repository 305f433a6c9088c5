"""FAULTS.md row 9: a route was reused although the delays that it depends on had changed."""

import ast
import sys

import pytest

from model import code
from model.code import code_digest, ROOT


STEPS = {"gen.flow.synth": {"gen.pnr.passes", "gen.pnr.ecp5"},
         "gen.flow.route": {"gen.flow.congested", "gen.flow.floorplan", "gen.pnr.slack",
                            "gen.pnr.block_rams", "gen.pnr.ecp5", "numpy", "scipy", "numba"},
         "gen.flow.bitstream": set()}
"""What each step must know about, besides itself."""


@pytest.mark.parametrize("step", STEPS)
def test_step_knows_its_code(step):
    assert STEPS[step] | {step} <= set(code_digest(step))


def test_changed_delays_change_the_digest(tmp_path):
    """A copy of the tree in which one delay differs."""
    before = code_digest("gen.flow.route")
    for name in before:
        path = ROOT.joinpath(*name.split(".")).with_suffix(".py")
        if path.is_file():
            copy = tmp_path / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(path.read_text())
    assert code_digest("gen.flow.route", root=tmp_path).items() <= before.items()
    delays, = (path for path in (tmp_path / "gen" / "pnr").glob("*.py")
               if "\nCARRY_NS = 0.07" in path.read_text())
    delays.write_text(delays.read_text().replace("\nCARRY_NS = 0.07", "\nCARRY_NS = 0.08"))
    after = code_digest("gen.flow.route", root=tmp_path)
    assert [name for name, digest in after.items() if digest != before[name]] == [
        f"gen.pnr.{delays.stem}"]


def test_steps_pass_it_on():
    """Every call of run_step in the flow has the digest of its own module's code."""
    calls = 0
    for path in sorted((code.ROOT / "gen" / "flow").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "run_step":
                depends, = (word.value for word in node.keywords if word.arg == "depends")
                assert "'code': code_digest(__name__)" in ast.unparse(depends), path.name
                calls += 1
    assert calls == 3 and "model.code" in sys.modules
