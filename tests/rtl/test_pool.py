# amaranth: UnusedElaboratable=no
import pytest

from hw.config import CoreConfig
from hw.memory.pool import Pool
from hw.port import POOL_LATENCY
from sim.rtl.runner import run_bench


CONFIG = CoreConfig(rows=16, load_rows=4, pool_banks=4, pool_bank_words=16, psum_words=16)


@pytest.mark.rtl
@pytest.mark.rtl
def test_rtl(tmp_path):
    run_bench(Pool(CONFIG, readers=4, writers=3), "memory", "sim.benches.pool_bench", tmp_path,
              environment={"LATENCY": str(POOL_LATENCY), "WORDS": str(CONFIG.pool_words),
                           # Else Icarus lets an input change before the clock edge that samples it.
                           "COCOTB_TRUST_INERTIAL_WRITES": "0"})
