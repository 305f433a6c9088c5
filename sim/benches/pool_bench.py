"""cocotb bench for hw.memory.pool; run by tests/rtl."""

import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge


LATENCY = int(os.environ.get("LATENCY", "0"))
WORDS = int(os.environ.get("WORDS", "0"))


class Port:
    """A read or write port; holds its request until it is accepted."""

    def __init__(self, dut, kind, index):
        name = f"{kind}__{index}"
        for part in ("address", "valid", "ready", "data"):
            setattr(self, part, getattr(dut, f"{name}__{part}"))
        if kind == "read":
            self.data_valid = getattr(dut, f"{name}__data_valid")
        self.valid.value = 0
        self.request = None
        self.expected = [None] * LATENCY

    def drive(self, request):
        self.request = request
        self.valid.value = request is not None
        if request is not None:
            self.address.value = request


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reads_see_writes(dut):
    """Random traffic on all ports; reads avoid only the words that they would collide with."""
    rng = random.Random(0)
    reads, writes = ([Port(dut, kind, index) for index in range(5)
                      if hasattr(dut, f"{kind}__{index}__valid")]
                     for kind in ("read", "write"))
    assert reads and writes
    dut.rst.value = 1
    Clock(dut.clk, 10, unit="ns").start()
    await RisingEdge(dut.clk)
    dut.rst.value = 0
    model, accepted = [0] * WORDS, 0
    for _ in range(2000):
        for port in writes:
            if port.request is None and rng.random() < 0.7:
                port.drive(rng.randrange(WORDS))
                port.word = rng.getrandbits(len(port.data))
                port.data.value = port.word
        collide = {port.request for port in writes}
        for port in reads:
            if port.request in collide or port.request is None:
                address = rng.randrange(WORDS)
                port.drive(None if address in collide or rng.random() < 0.3 else address)
        await RisingEdge(dut.clk)
        for port in reads:
            due = port.expected.pop(0)
            assert port.data_valid.value == (due is not None)
            if due is not None:
                assert port.data.value.to_unsigned() == due
            took = port.request is not None and port.ready.value == 1
            port.expected.append(model[port.request] if took else None)
            if took:
                port.drive(None)
                accepted += 1
        for port in writes:
            if port.request is not None and port.ready.value == 1:
                model[port.request] = port.word
                port.drive(None)
                accepted += 1
    assert dut.collision.value == 0
    assert accepted > 2000
