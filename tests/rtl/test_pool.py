# amaranth: UnusedElaboratable=no
import pytest

from hw.config import CoreConfig
from hw.partial_sum import PartialSums
from hw.pool import Pool
from hw.port import POOL_LATENCY, PSUM_LATENCY
from sim.runner import run_bench


CONFIG = CoreConfig(rows=16, load_columns=4, pool_banks=4, pool_bank_words=16, psum_words=16)


@pytest.mark.rtl
@pytest.mark.parametrize(("component", "latency", "words", "width", "port"), [
    (lambda: Pool(CONFIG, readers=4, writers=3), POOL_LATENCY, CONFIG.pool_words, CONFIG.rows,
     "{kind}__{index}"),
    (lambda: PartialSums(CONFIG, read_lanes=(16, 4, 2), write_lanes=(16, 4)), PSUM_LATENCY,
     CONFIG.psum_words, CONFIG.rows * CONFIG.acc_bits, "{kind}_{index}"),
], ids=["pool", "partial_sum"])
def test_rtl(tmp_path, component, latency, words, width, port):
    run_bench(component(), "memory", "sim.benches.pool_bench", tmp_path,
              environment={"LATENCY": str(latency), "WORDS": str(words),
                           "WIDTH": str(width), "PORT": port,
                           # Else Icarus lets an input change before the clock edge that samples it.
                           "COCOTB_TRUST_INERTIAL_WRITES": "0"})
