# amaranth: UnusedElaboratable=no
import pytest

from hw.config import CoreConfig
from hw.memory.move import LoadUnit, StoreUnit
from sim.rtl.runner import run_bench


@pytest.mark.rtl
@pytest.mark.parametrize("name, unit", [("load", LoadUnit), ("store", StoreUnit)])
def test_rtl(name, unit, tmp_path):
    config = CoreConfig(rows=16, load_rows=4, weight_fifo_words=32, const_fifo_words=16,
                        depthwise_fifo_words=64)
    # The second: else Icarus lets an input change before the clock edge that samples it.
    run_bench(unit(config), f"{name}_unit", "sim.benches.move_bench", tmp_path,
              environment={"COCOTB_TEST_FILTER": rf"\b{name}\b",
                           "COCOTB_TRUST_INERTIAL_WRITES": "0"})
