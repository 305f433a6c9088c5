from amaranth.back import rtlil

from gen.check.compare import NO_STALLS
from gen.config.spec import TwinSpec
from sim.rtl.core import twin_memory


def test_one_simulator_for_memories_without_stalls():
    """What a verification has by default and what a configuration says by default is the same
    hardware, so that the simulator is compiled once."""
    one, other = (rtlil.convert(twin_memory(1 << 14, **behaviour)(), emit_src=False)
                  for behaviour in (NO_STALLS, vars(TwinSpec())))
    assert one == other
