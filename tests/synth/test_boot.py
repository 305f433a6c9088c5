# amaranth: UnusedElaboratable=no
"""Area of the boot master with each source, by itself, in yosys."""

import json

import pytest

from boards import find_board
from gen.config.shell import make_boot
from gen.flow.toolchain import find_toolchain, run_tool
from gen.pnr.ecp5 import comb_cells
from sim.rtl.verilog import to_rtlil


BUDGET = {"flash": 363, "sd": 520}
"""COMB. That of the flash is what issue 15 leaves; a card takes more."""

SCRIPT = """read_rtlil top.il
synth_ecp5 -top top -run begin:map_luts
opt_clean -purge
synth_ecp5 -top top -run map_luts:
tee -q -o stat.json stat -json
"""


class Config:
    clock_hz = find_board("ulx3s").target_hz

    def __init__(self, boot):
        self.boot = boot


@pytest.mark.synth
@pytest.mark.parametrize("boot", BUDGET)
def test_budget(boot, tmp_path):
    (tmp_path / "top.il").write_text(to_rtlil(make_boot(Config(boot)), "top"))
    (tmp_path / "top.ys").write_text(SCRIPT)
    run_tool([*find_toolchain("auto").yosys.command, "top.ys"], folder=tmp_path, name="yosys",
             log_path=tmp_path / "synth.log")
    found = json.loads((tmp_path / "stat.json").read_text())["design"]["num_cells_by_type"]
    print(f"boot: {boot}: {comb_cells(found)} COMB, {found['TRELLIS_FF']} FF")
    assert "DP16KD" not in found and "MULT18X18D" not in found
    assert comb_cells(found) <= BUDGET[boot]
