"""cocotb bench for hw.attention.unit; run by tests/rtl."""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
import numpy as np

from hw.descriptor import Attention, pack
from hw.port import POOL_LATENCY
from sim.drive.cocotb_ports import run_unit, serve_read, serve_write
from sim.reference.attention import attention
from sim.reference.state import Memories


ROWS, WORDS = 16, 4096


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.4])
async def matches_reference(dut, stall):
    rng, stalls = np.random.default_rng(0), random.Random(0)
    # Levels 0..7 with one bit in four set.
    pool = (rng.integers(0, 1 << ROWS, WORDS) & rng.integers(0, 1 << ROWS, WORDS)).astype("u8")
    memory = pool.tolist()
    # No partial sums: any width will do.
    memories = Memories(pool=pool, psum=None, rows=ROWS, acc_bits=24)
    program = [dict(query=3 + 8 * index, key=1024, value=2048, output=3072, position_stride=17,
                    tokens=14, words=words, slot_log2=slot_log2)
               for index, (words, slot_log2) in enumerate([(1, 4), (4, 4), (1, 1)])]

    dut.control__run__valid.value = 0
    dut.rst.value = 1
    Clock(dut.clk, 10, unit="ns").start()
    await RisingEdge(dut.clk)
    dut.rst.value = 0
    options = dict(rng=stalls, stall=stall)
    cocotb.start_soon(serve_read(dut, "pool", lambda a: memory[a % WORDS], latency=POOL_LATENCY,
                                 **options))
    cocotb.start_soon(serve_write(dut, "write",
                                  lambda a, d: memory.__setitem__(a % WORDS, d), **options))
    for fields in program:
        expected = attention(fields, memories)
        assert await run_unit(dut, pack(Attention, **fields)) == expected.completion
        assert memory == pool.tolist()
