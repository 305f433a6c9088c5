# amaranth: UnusedElaboratable=no
import pytest

from hw.config import CoreConfig
from hw.depthwise.unit import DepthwiseUnit
from sim.rtl.runner import run_bench


@pytest.mark.rtl
def test_rtl(tmp_path):
    config = CoreConfig(rows=16, load_rows=4, neuron_lanes=4)
    # Else Icarus lets an input change before the clock edge that samples it.
    run_bench(DepthwiseUnit(config=config), "depthwise", "sim.benches.depthwise_bench", tmp_path,
              environment={"COCOTB_TRUST_INERTIAL_WRITES": "0"})
