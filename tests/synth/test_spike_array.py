# amaranth: UnusedElaboratable=no
"""Area and speed of the SpikeArray alone on an ECP5-85F (speed grade 6).

Measured without the harness, 8 load rows, 24-bit sums, seed 1, with native yosys 0.66 and
nextpnr-ecp5 0.11.1:

| rows | COMB | per lane | FF | routed |
|---|---|---|---|---|
| 16 | 1,380 | 5.39 | 1,239 | 227 MHz |
| 32 | 4,932 | 4.82 | 4,176 | 179 MHz |

Before the adders of a column were packed into one carry chain (:mod:`hw.lib.packed_add`), 16 rows
took 1,738 COMB (6.79 per lane); before signs and gates moved into the adders' tables and
accumulators to their adders 1,516 (5.92) at 169 MHz.
"""

import json
from pathlib import Path
import shutil
import subprocess
import sys

from amaranth import *
from amaranth.back import rtlil
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
import pytest

from gen.pnr.passes import improve
from hw.array.spike_array import SpikeArray


class Harness(wiring.Component):
    """Array between a shift register and registered XORs of three, so that pins do not matter."""

    i: In(1)
    o: Out(1)

    def __init__(self, **parameters):
        super().__init__()
        self.array = SpikeArray(**parameters)

    @property
    def folds(self):
        """COMB cells of the harness itself; as many of its flip-flops are not in the chain."""
        return -(-self.array.rows * self.array.acc_bits // 3)

    @property
    def inputs(self):
        array = self.array
        return Cat(array.word, array.plane, array.last, array.negate, array.entries,
                   array.entry_address, array.entry_write)

    def elaborate(self, platform):
        m = Module()

        m.submodules.array = array = self.array
        chain = Signal(len(self.inputs), reset_less=True)
        m.d.sync += chain.eq(Cat(self.i, chain))
        m.d.comb += self.inputs.eq(chain)
        bits = Cat(array.sums)
        folded = Const(0, 1)
        for k in range(0, len(bits), 3):
            step = Signal(name=f"fold_{k}", reset_less=True)
            m.d.sync += step.eq(folded ^ bits[k:k + 3].xor())
            folded = step
        m.d.comb += self.o.eq(folded)

        return m


def _tool(name):
    path = (shutil.which(name)
            or shutil.which(f"yowasp-{name}", path=str(Path(sys.executable).parent)))
    if path is None:
        pytest.skip(f"neither {name} nor yowasp-{name} is installed")
    return path


def route(component, folder, *, freq=100, options=()):
    """Synthesize, improve, place and route; nextpnr's report (``utilization``, ``fmax``)."""
    folder = Path(folder)
    (folder / "top.il").write_text(rtlil.convert(component, name="top", emit_src=False))
    subprocess.run([_tool("yosys"), "-q", "-p",
                    # Without the purge, ABC9's names can collide with those of aliases of array
                    # elements: "Assert `count_id(wire->name) == 0' failed" (yosys 0.70).
                    "read_rtlil top.il; synth_ecp5 -top top -run begin:map_luts; opt_clean -purge; "
                    "synth_ecp5 -top top -json top.json -run map_luts:"],
                   cwd=folder, check=True)
    netlist = json.loads((folder / "top.json").read_text())
    improve(netlist)
    (folder / "top.json").write_text(json.dumps(netlist))
    log = subprocess.run([_tool("nextpnr-ecp5"), "--85k", "--package", "CABGA381", "--speed", "6",
                          "--json", "top.json", "--freq", str(freq), "--seed", "1",
                          "--report", "report.json", "--lpf-allow-unconstrained",
                          "--timing-allow-fail", *options],
                         cwd=folder, capture_output=True, text=True)
    (folder / "nextpnr.log").write_text(log.stdout + log.stderr)
    assert log.returncode == 0, log.stderr[-2000:]
    return json.loads((folder / "report.json").read_text())


def measure(folder, **parameters):
    """Cells of a SpikeArray without its harness, and its clock in MHz."""
    harness = Harness(**parameters)
    report = route(harness, folder)
    used = {name: cell["used"] for name, cell in report["utilization"].items()}
    used["TRELLIS_COMB"] -= harness.folds
    used["TRELLIS_FF"] -= harness.folds + len(harness.inputs)
    fmax = min(clock["achieved"] for clock in report["fmax"].values())
    print(f"SpikeArray {parameters}: {used['TRELLIS_COMB']} COMB "
          f"({used['TRELLIS_COMB'] / parameters['rows'] ** 2:.2f} per lane), "
          f"{used['TRELLIS_RAMW']} RAMW, {used['TRELLIS_FF']} FF, {fmax:.1f} MHz")
    return used, fmax


@pytest.mark.synth
def test_budget(tmp_path):
    used, fmax = measure(tmp_path, rows=16, load_rows=8, acc_bits=24)
    assert used["MULT18X18D"] == 0
    assert used["DP16KD"] == 0
    assert used["TRELLIS_COMB"] <= 6.5 * 16**2
    assert fmax > 120
