# amaranth: UnusedElaboratable=no
import pytest

from hw.memory.arbiter import MemoryArbiter
from sim.rtl.runner import run_bench


@pytest.mark.rtl
def test_rtl(tmp_path):
    # Else Icarus lets an input change before the clock edge that samples it.
    run_bench(MemoryArbiter(clients=3), "arbiter", "sim.benches.arbiter_bench", tmp_path,
              environment={"COCOTB_TRUST_INERTIAL_WRITES": "0"})
