"""cocotb bench for hw.attention.unit; run by tests/rtl."""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
import numpy as np

from hw.descriptor import Attention, pack
from hw.port import POOL_LATENCY
from sim.drive.cocotb_ports import run_unit, serve_halves, serve_read
from sim.reference.attention import attention
from sim.reference.state import Memories


ROWS, WORDS, PSUM_WORDS, SUM_BITS = 16, 4096, 64, 9


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.4])
async def matches_reference(dut, stall):
    rng, stalls = np.random.default_rng(0), random.Random(0)
    # Levels 0..7 with one bit in four set.
    pool = (rng.integers(0, 1 << ROWS, WORDS) & rng.integers(0, 1 << ROWS, WORDS)).astype("u8")
    psum = rng.integers(-1 << 16, 1 << 16, (PSUM_WORDS, ROWS))
    found = psum.copy()
    memories = Memories(pool=pool, psum=psum, rows=ROWS, acc_bits=24)
    program = [dict(query=3 + 8 * index, key=1024, value=2048, psum=3 + 16 * index,
                    position_stride=17, value_stride=9, tokens=14, queries=queries, words=words,
                    slot_log2=slot_log2, keep=keep)
               for index, (words, slot_log2, queries, keep) in enumerate(
                   [(1, 4, 14, 0), (4, 4, 11, 0), (4, 4, 14, 1), (1, 1, 14, 0)])]

    def write(address, half, data):
        for lane in range(ROWS // 2):
            found[address % PSUM_WORDS, half * ROWS // 2 + lane] = (
                data >> lane * SUM_BITS & (1 << SUM_BITS) - 1)

    dut.control__run__valid.value = 0
    dut.rst.value = 1
    Clock(dut.clk, 10, unit="ns").start()
    await RisingEdge(dut.clk)
    dut.rst.value = 0
    options = dict(rng=stalls, stall=stall)
    cocotb.start_soon(serve_read(dut, "pool", lambda a: int(pool[a % WORDS]),
                                 latency=POOL_LATENCY, **options))
    cocotb.start_soon(serve_halves(dut, "psum", write, **options))
    for fields in program:
        expected = attention(fields, memories)
        assert await run_unit(dut, pack(Attention, **fields)) == expected.completion
        np.testing.assert_array_equal(found, psum)
