"""cocotb bench for hw.depthwise.unit; run by tests/rtl."""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
import numpy as np

from hw.descriptor import Depthwise, pack
from hw.port import POOL_LATENCY, PSUM_LATENCY
from sim.drive.cocotb_ports import run_unit, serve_halves, serve_read
from sim.drive.cocotb_streams import StreamSource
from sim.reference.depthwise import depthwise, weight_words
from sim.reference.state import Memories


ROWS, LANES, ACC_BITS = 16, 8, 24                # those of tests/rtl/test_depthwise.py
WORDS, PSUM_WORDS = 4096, 256
LEVEL, PARTIAL = 0, 1


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.4])
async def matches_reference(dut, stall):
    rng, stalls = np.random.default_rng(0), random.Random(0)
    pool = rng.integers(0, 1 << ROWS, WORDS, dtype="u8")
    psum = rng.integers(-1 << 16, 1 << 16, (PSUM_WORDS, ROWS))

    def pack_groups(psum):
        return [[sum((int(acc) & (1 << ACC_BITS) - 1) << (lane * ACC_BITS)
                     for lane, acc in enumerate(lanes))
                 for lanes in row.reshape(-1, LANES)] for row in psum]

    memory = pack_groups(psum)
    memories = Memories(pool=pool, psum=psum, rows=ROWS, acc_bits=ACC_BITS)

    def add(address, half, accumulate, data):
        row = memory[address % PSUM_WORDS]
        before = row[half] if accumulate else 0
        row[half] = sum(((before >> place) + (data >> place) & (1 << ACC_BITS) - 1) << place
                        for place in range(0, LANES * ACC_BITS, ACC_BITS))

    shape = dict(row_stride=40, position_stride=5, height=8, width=6, half=0)
    program = [dict(mode=LEVEL, kernel=7, first_row=0, out_rows=8, psum=0, source=11, **shape),
               dict(mode=LEVEL, kernel=3, first_row=5, out_rows=3, psum=60, source=900, **shape),
               dict(mode=LEVEL, kernel=7, first_row=-2, out_rows=4, psum=60, source=900, ring=80,
                    **shape),
               dict(mode=PARTIAL, kernel=3, first_row=3, out_rows=2, psum=100, source=0,
                    source_row=1, **shape)]
    groups = []
    for fields in program:
        words = rng.integers(0, 1 << 63, weight_words(fields, rows=ROWS))
        # No weight outside the kernel, in both halves of a word.
        used = {3: 0xfff00, 7: 0xfffffff}[fields["kernel"]]
        groups.append((words & (used | used << 32)).tolist())

    dut.control__run__valid.value = 0
    dut.rst.value = 1
    source = StreamSource(dut, "weights", dut.clk, rng=stalls, stall=stall)
    Clock(dut.clk, 10, unit="ns").start()
    await RisingEdge(dut.clk)
    dut.rst.value = 0
    options = dict(rng=stalls, stall=stall)
    cocotb.start_soon(serve_read(dut, "pool", lambda a: int(pool[a % WORDS]),
                                 latency=POOL_LATENCY, **options))
    cocotb.start_soon(serve_read(dut, "psum_read", lambda a, g: memory[a % PSUM_WORDS][g],
                                 latency=PSUM_LATENCY, grouped=True, **options))
    cocotb.start_soon(serve_halves(dut, "psum", add, **options))
    cocotb.start_soon(source.send([word for group in groups for word in group]))
    for fields, group in zip(program, groups, strict=True):
        fields = {"source_row": 0, "ring": 0} | fields
        expected = depthwise(fields, group, memories)
        assert await run_unit(dut, pack(Depthwise, **fields)) == expected.completion
        assert memory == pack_groups(psum)
