# amaranth: UnusedElaboratable=no
import pytest

from hw.array_unit import ArrayUnit
from hw.config import CoreConfig
from sim.runner import run_bench


@pytest.mark.rtl
def test_rtl(tmp_path):
    config = CoreConfig(rows=16, load_columns=4)
    # Else Icarus lets an input change before the clock edge that samples it.
    run_bench(ArrayUnit(config), "array_unit", "sim.benches.array_bench", tmp_path,
              environment={"COCOTB_TRUST_INERTIAL_WRITES": "0"})
