# amaranth: UnusedElaboratable=no
"""Boot and calibration of a routed design with SDRAM at gate level, against the model of the chip.

The shell with a core that copies, on the 12F: every bit of the wires has a delay of its own.
"""

import numpy as np
import pytest

from boards import find_board
from gen.config.memory import sdram_config
from gen.device.device import Device, MemoryFailed
from gen.flow.route import route
from gen.flow.rtl import write_rtl
from gen.flow.synth import synthesize
from gen.flow.toolchain import find_toolchain
from hw.config import CoreConfig
from hw.sdram.memory import SdramMemory
from hw.shell import Shell
from sim.gate.netlist import read_routed
from sim.gate.sdram_board import PadTimes, SdramGateBoard
from sim.rtl.stub_core import StubCore


pytestmark = [pytest.mark.synth, pytest.mark.slow]

CLOCKS = {"board": 25_000_000, "sync": 50_000_000, "sdram": 50_000_000}
DIVISOR = 8


@pytest.fixture(scope="module")
def make(tmp_path_factory, request):
    """Makes the board: ``make(times, **changes of its chip's configuration)``."""
    board, folder = find_board("ulx3s-12f"), tmp_path_factory.mktemp("build")
    config = sdram_config(board, CLOCKS["sdram"])
    phases = board.sdram_phases(CLOCKS["sdram"])
    shell = Shell(CoreConfig(rows=16), memory=SdramMemory(config, phases=phases), divisor=DIVISOR,
                  core=StubCore())
    write_rtl(board, shell, folder, core_clock_hz=CLOCKS["sync"], sdram_clock_hz=CLOCKS["sdram"])
    tools = find_toolchain("auto")
    synthesize(board, folder, tools)
    route(board, folder, tools)
    module = read_routed(folder / "route-1.routed.json.gz")
    cache = request.config.cache.mkdir("rtl")

    def make(times, seed=None):
        return SdramGateBoard(module, folder=tmp_path_factory.mktemp("world"), divisor=DIVISOR,
                              cache=cache, chip=config, clocks=CLOCKS, phases=phases, times=times,
                              seed=seed)
    return make


@pytest.mark.parametrize("seed", [1, 2])
def test_boot_calibration_and_memory(make, seed):
    """It finds a window, and the size; what is written at both ends is read; no rule is broken."""
    rng = np.random.default_rng(seed)
    with (board := make(PadTimes(seed), seed=seed)), Device(
            board.url, timeout=board.link_timeout) as device:
        status = device.info().memory
        assert status["ready"] and status["size_bits"] == 23 and status["window"] >= 24
        board.clear()
        for address in (0, 1000, (1 << 22) - 40, (1 << 23) - 40):
            words = rng.integers(0, 1 << 64, 40, dtype=np.uint64)
            device.write(address, words)
            np.testing.assert_array_equal(device.read(address, 40), words)
            assert board.read(address, 40) == words.tolist()
        board.load({5000 + place: int(word) for place, word in enumerate(words)})
        device.start(image=5000, image_stride=20, result=100, result_stride=20, count=2)
        device.wait(timeout=60)
        np.testing.assert_array_equal(device.read(100, 40), words + np.uint64(1))
    assert board.violations == 0 and board.said["STEPS"] >= 96


def test_wires_that_do_not_fit(make):
    """Bits that arrive half a period apart leave no window: a fault, with the map."""
    with make(PadTimes(1, skew=9.0, out=14.0, back=10.0)) as board, pytest.raises(MemoryFailed):
        Device(board.url, timeout=board.link_timeout)
