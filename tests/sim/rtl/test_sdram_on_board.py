"""The host, the shell and the SDRAM controller with its chip: map, tests, restarts."""
from functools import partial

import numpy as np
import pytest

from boards import find_board
from gen.device.device import Device, MemoryFailed
from gen.device.memory_map import read_memory_map, run_memory_test
from hw.config import CoreConfig
from hw.register import MemoryTest, Restart
from hw.sdram_config import SdramConfig
from sim.rtl.stub_core import StubCore
from sim.rtl.virtual_board import VirtualBoard
from sim.twin.virtual_sdram import virtual_sdram


pytestmark = [pytest.mark.rtl, pytest.mark.slow]

SDRAM = SdramConfig(clock_hz=100_000_000, **find_board("ulx3s").sdram.times, row_bits=4,
                    column_bits=8, power_up_ns=300)
"""4096 words."""

# Data arrive in phase 3 of 4, commands in phase 0: the phases 1 and 2 are good.
PINS = {"phases": 4, "command_at": 0, "data_at": 3, "unsure": 1}


def board(cache, **pins):
    return VirtualBoard(CoreConfig(rows=16), cache=cache, core=StubCore(),
                        memory=partial(virtual_sdram, SDRAM, **PINS, **pins))


def test_map_tests_and_restarts(tmp_path):
    words = np.random.default_rng(1).integers(0, 2**64, 100, dtype=np.uint64)
    with board(tmp_path) as running, Device(running.url, timeout=running.link_timeout) as device:
        status = device.info().memory
        assert (status["ready"], status["phase"], status["window"]) == (1, 1, 2)
        assert device.info().memory_words == 4096
        found = read_memory_map(device, status)
        chosen = 1 << status["delay"]
        assert [row & chosen for row in found.rows] == [0, chosen, chosen, 0]
        assert found.verdict().endswith("clock phase 1, in a window of 2 of 4 phases")

        results = [run_memory_test(device, test, timeout=120) for test in list(MemoryTest)[1:]]
        assert [(result.test.name, result.passed, result.pins) for result in results] == [
            ("MARCH", True, 0), ("RANDOM", True, 0), ("SWITCHING", True, 0)]

        device.write(1000, words)
        device.restart(Restart.ABORT)
        assert device.info().memory == status
        np.testing.assert_array_equal(device.read(1000, 100), words)
        device.restart(Restart.HOST)
        assert device.info().memory == status
        assert read_memory_map(device, status) == found


def test_stuck_pin_is_named_with_the_map(tmp_path):
    with board(tmp_path, stuck_data=1 << 4) as running, pytest.raises(MemoryFailed) as caught:
        Device(running.url, timeout=running.link_timeout)
    assert str(caught.value) == (
        "The device's SDRAM passes at no setting, because words are never right at data pins 4: "
        "look at these solder joints")
    assert caught.value.map.rows == (0, 0, 0, 0)
