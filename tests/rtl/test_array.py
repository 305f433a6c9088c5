# amaranth: UnusedElaboratable=no
import pytest

from hw.array.unit import ArrayUnit
from sim.benches.array_bench import CONFIG
from sim.rtl.runner import run_bench


@pytest.mark.rtl
def test_rtl(tmp_path):
    # Else Icarus lets an input change before the clock edge that samples it.
    run_bench(ArrayUnit(CONFIG), "array_unit", "sim.benches.array_bench", tmp_path,
              environment={"COCOTB_TRUST_INERTIAL_WRITES": "0"})
