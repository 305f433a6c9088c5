# amaranth: UnusedElaboratable=no
import pytest

from hw.descriptor import Array
from hw.sequencer import Fetch, Recorder, UnitQueue
from sim.rtl.runner import run_bench


@pytest.mark.rtl
@pytest.mark.parametrize("name, make", [
    ("fetch", Fetch), ("queue", lambda: UnitQueue(layout=Array, depth=3)), ("recorder", Recorder)])
def test_rtl(name, make, tmp_path):
    # The second: else Icarus lets an input change before the clock edge that samples it.
    run_bench(make(), f"{name}_dut", "sim.benches.sequencer_bench", tmp_path,
              environment={"COCOTB_TEST_FILTER": rf"\b{name}\b",
                           "COCOTB_TRUST_INERTIAL_WRITES": "0"})
