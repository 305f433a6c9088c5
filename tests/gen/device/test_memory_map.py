"""The map of an SDRAM's settings and the tests of it, as the host reads and shows them."""
import re

import pytest

from gen.device.memory_map import (
    MemoryMap,
    MemoryTestResult,
    read_memory_map,
    run_memory_test,
)
from gen.device.port import LinkError
from hw.register import MAP_ROW_BIT, MemoryFault, MemoryTest, Register


ROWS = (0b0010, 0, 0, 0b0100, 0, 0b0010)

STATUS = {"fault": 0, "delay": 1, "phase": 5, "window": 2, "address_bit": 9}


class Registers:
    """A device of registers alone: a map of ``rows``, and tests whose status is ``polls``."""

    def __init__(self, rows=(), polls=()):
        self.rows, self.polls, self.phase, self.asked = rows, list(polls), 0, None

    def write_register(self, register, value):
        if register == Register.MEMORY_MAP:
            self.phase = value
        else:
            assert register == Register.MEMORY_TEST
            self.asked = value

    def read_registers(self, first, count=1):
        if first == Register.MEMORY_MAP:
            if self.phase >= len(self.rows):
                return [0]
            return [self.rows[self.phase] | 1 << MAP_ROW_BIT]
        assert (first, count) == (Register.MEMORY_TEST, 4)
        return [self.polls.pop(0) if len(self.polls) > 1 else self.polls[0], 7, 0x123, 0x0201]


def test_map_is_read_and_shown():
    found = read_memory_map(Registers(ROWS), STATUS)
    assert found == MemoryMap(ROWS, STATUS)
    assert found.text().splitlines()[:4] == [
        "delay 0  ......", "delay 1  =....O", "delay 2  ...+..", "delay 3  ......"]
    page = found.html()
    assert page.count("<rect") == 24 and page.count("delay 1, phase 5: chosen") == 1
    assert "http" not in page


NOTHING = {"fault": MemoryFault.CALIBRATION, "window": 0}


@pytest.mark.parametrize("status, rows, pins, verdict", [
    ({}, ROWS, 0, "works at read delay 1, clock phase 5, in a window of 2 of 6 phases"),
    ({"fault": MemoryFault.GEOMETRY}, ROWS, 0, "works at read delay 1.*address bit 9 of its words"),
    ({"fault": MemoryFault.CALIBRATION, "window": 1}, ROWS, 0,
     "passes in a window of 1 of 6 phases, and 2 are needed: build with a lower sdram_mhz"),
    (NOTHING, (0, 0), 0xFFFF, "no data pin is ever right.*its clock"),
    ({"fault": MemoryFault.CALIBRATION}, ROWS, 0, "clock phase 5.*but not every time"),
    (NOTHING, (0, 0), 0x0802, "right at data pins 1, 11:"),
    (NOTHING, (0, 0), 0, "at times: look at the pins of address"),
])
def test_verdict(status, rows, pins, verdict):
    found = MemoryMap(rows, {**STATUS, **status}, pins)
    assert re.search(verdict, found.verdict()) and found.verdict() in found.text()
    chosen = any("chosen" in kinds for kinds in found.cells())
    assert chosen == (status.get("fault") != MemoryFault.CALIBRATION)


def test_memory_without_a_map():
    with pytest.raises(LinkError, match="has no map"):
        read_memory_map(Registers(), STATUS)


def test_result_of_a_test():
    running, ended = 1 | MemoryTest.RANDOM << 1, MemoryTest.RANDOM << 1 | 1 << 4
    device = Registers(polls=[running, running, ended])
    result = run_memory_test(device, MemoryTest.RANDOM, interval=0)
    assert device.asked == MemoryTest.RANDOM
    assert result == MemoryTestResult(MemoryTest.RANDOM, 7, 0x123, 0x0201)
    assert result.text() == ("RANDOM: 7 words differ, first at word 0x123, data pins 0, 9")
    assert not result.passed and "look at the pins of address" in result.advice()
    passed = MemoryTestResult(MemoryTest.MARCH, 0, 0, 0)
    assert (passed.passed, passed.text(), passed.advice()) == (True, "MARCH: no error", "")
    assert "65535 or more words" in MemoryTestResult(MemoryTest.MARCH, 65535, 0, 1).text()


def test_advice_names_the_next_step():
    advice = {(test, pins): MemoryTestResult(test, 9, 0, pins).advice()
              for test in list(MemoryTest)[1:] for pins in (1 << 5, 0xFFFF)}
    assert all("data pin 5" in advice[test, 1 << 5] for test in list(MemoryTest)[1:])
    assert "supply" in advice[MemoryTest.SWITCHING, 0xFFFF]
    assert "address" in advice[MemoryTest.RANDOM, 0xFFFF]


@pytest.mark.parametrize("polls, message", [
    ([0], "has no test of its memory"),
    ([1 | MemoryTest.MARCH << 1], "did not end in 0 s")])
def test_test_that_does_not_end(polls, message):
    with pytest.raises(LinkError, match=message):
        run_memory_test(Registers(polls=polls), MemoryTest.MARCH, timeout=0, interval=0)
