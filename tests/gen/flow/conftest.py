import json

import pytest

from gen.flow.toolchain import Tool, Toolchain
from tests.gen.fake_tool import fake_tool
from tests.gen.flow.fake_flow import CELLS, EMPTY, nextpnr_script, PACK


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """``fake(seeds, cells=, yosys=)``: a toolchain of scripts; runs are listed in runs.txt."""
    monkeypatch.setenv("RUNS", str(tmp_path / "runs.txt"))

    def make(seeds=None, *, crossings=None, cells=CELLS, yosys="", pack=PACK, version="1"):
        stat = json.dumps({"design": {"num_cells_by_type": cells}})
        bodies = {
            "yosys": f"echo yosys >> $RUNS\n{yosys}\necho '{stat}' > synth.stat.json\n"
                     f"echo '{json.dumps(EMPTY)}' > top.json",
            "nextpnr-ecp5": nextpnr_script(seeds or {1: (90, 0)}, crossings),
            "ecppack": f"echo ecppack >> $RUNS\n{pack}",
        }
        tools = [Tool(name=name, origin="native", version=version,
                      command=(str(fake_tool(tmp_path / "bin", name, body)),))
                 for name, body in bodies.items()]
        return Toolchain(yosys=tools[0], nextpnr=tools[1], ecppack=tools[2])

    return make


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "build"
    path.mkdir()
    (path / "top.il").write_text("module \\top\nend\n")
    (path / "top.lpf").write_text("")
    (path / "top.json").write_text(json.dumps(EMPTY))
    return path
