"""Compiled simulators: once for a design, and Verilator's own library once for all."""

from concurrent.futures import ThreadPoolExecutor
import logging
import subprocess

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
import pytest

from sim.rtl.verilator import build_simulator
from sim.rtl.verilog import to_verilog


pytestmark = pytest.mark.rtl

HARNESS = """
#include "Vtop.h"
#include <cstdio>
int main() {
    Vtop top;
    for (int half = 0; half < 20; half++) { top.clk = half & 1; top.rst = 0; top.eval(); }
    std::printf("%d\\n", top.o);
}
"""


class Counter(wiring.Component):
    """Counts in steps."""

    def __init__(self, step):
        self._step = step
        super().__init__({"o": Out(8)})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.o.eq(self.o + self._step)
        return m


def test_library_is_compiled_once(tmp_path):
    harness = tmp_path / "harness.cpp"
    harness.write_text(HARNESS)
    cache = tmp_path / "cache"
    first = build_simulator(Counter(1), harness, cache)
    second = build_simulator(Counter(3), harness, cache)
    assert first.parent != second.parent
    for binary, value in ((first, "10"), (second, "30")):
        assert subprocess.run([binary], capture_output=True, text=True).stdout.strip() == value
    one, other = ((binary.parent / "build.log").read_text() for binary in (first, second))
    assert "-o verilated.o" in one and "-o verilated.o" not in other
    library, = cache.glob("verilated-*")
    assert (library / "verilated.o").exists()
    assert build_simulator(Counter(1), harness, cache) == first


def test_two_at_once_compile_one(tmp_path, caplog):
    """Who wants the same simulator at the same time waits for it."""
    harness = tmp_path / "harness.cpp"
    harness.write_text(HARNESS)
    text = to_verilog(Counter(5), "top")
    with caplog.at_level(logging.INFO), ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: build_simulator(text, harness, tmp_path / "cache"), (0, 1))
    assert one == other and one.exists()
    assert len([x for x in caplog.messages if x.startswith("simulator compiled in ")]) == 1
