# amaranth: UnusedElaboratable=no
import pytest

from hw.attention.unit import AttentionUnit
from hw.config import CoreConfig
from sim.rtl.runner import run_bench


@pytest.mark.rtl
def test_rtl(tmp_path):
    config = CoreConfig(rows=16)
    # Else Icarus lets an input change before the clock edge that samples it.
    run_bench(AttentionUnit(config=config), "attention", "sim.benches.attention_bench", tmp_path,
              environment={"COCOTB_TRUST_INERTIAL_WRITES": "0"})
