"""cocotb bench for hw.array.unit; run by tests/rtl."""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
import numpy as np

from hw.config import CoreConfig
from hw.descriptor import Array, pack, TileHeader, unpack
from hw.port import POOL_LATENCY
from sim.drive.cocotb_ports import run_unit, serve_read, serve_rows
from sim.drive.cocotb_streams import StreamSource
from sim.reference.array import run_array
from sim.reference.state import Memories


CONFIG = CoreConfig(rows=16, load_rows=4)
ROWS, ACC_BITS, WORDS, PSUM_WORDS = CONFIG.rows, CONFIG.acc_bits, 4096, CONFIG.psum_words


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.4])
async def matches_reference(dut, stall):
    rng, stalls = np.random.default_rng(0), random.Random(0)
    pool = rng.integers(0, 1 << ROWS, WORDS, dtype="u8")
    psum = rng.integers(-1 << 20, 1 << 20, (PSUM_WORDS, ROWS))

    def pack_row(row):
        return sum((int(acc) & (1 << ACC_BITS) - 1) << (lane * ACC_BITS)
                   for lane, acc in enumerate(row))

    memory = [pack_row(row) for row in psum]
    memories = Memories(pool=pool, psum=psum, rows=ROWS, acc_bits=ACC_BITS)

    def add(address, accumulate, data):
        rows = memory[address % PSUM_WORDS] if accumulate else 0
        memory[address % PSUM_WORDS] = sum(
            ((rows >> place) + (data >> place) & (1 << ACC_BITS) - 1) << place
            for place in range(0, ROWS * ACC_BITS, ACC_BITS))

    shape = dict(row_stride=50, position_stride=9, height=7, width=5)
    program = [
        (dict(source=65_500, planes=3, stride=1, out_rows=3, out_width=5, **shape),
         [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]),
        (dict(source=3, planes=9, signed=1, stride=2, first_row=1, out_rows=2, out_width=3,
              accumulate=1, psum=1020, **shape), [(0, 0), (5, 9), (-3, 2)]),
        (dict(source=7, planes=2, stride=1, out_rows=1, out_width=1, **shape), [(0, 0)] * 4),
        (dict(source=900, planes=3, stride=1, first_row=-2, out_rows=4, out_width=5, ring=75,
              **shape), [(dy, 0) for dy in (-1, 0, 1)]),
    ]
    words = []
    for fields, shifts in program:
        fields["tiles"] = len(shifts)
        words.append([])
        for dy, dx in shifts:
            words[-1].append(pack(TileHeader, offset=int(rng.integers(1 << 16)), dy=dy, dx=dx))
            words[-1] += rng.integers(0, 1 << 64, ROWS * ROWS // 16, dtype="u8").tolist()

    dut.control__run__valid.value = 0
    dut.rst.value = 1
    options = dict(rng=stalls, stall=stall)
    weights = StreamSource(dut, "weights", dut.clk, **options)
    Clock(dut.clk, 10, unit="ns").start()
    await RisingEdge(dut.clk)
    dut.rst.value = 0
    cocotb.start_soon(weights.send([word for tiles in words for word in tiles]))
    cocotb.start_soon(serve_read(dut, "pool", lambda a: int(pool[a % WORDS]),
                                 latency=POOL_LATENCY, **options))
    cocotb.start_soon(serve_rows(dut, "psum", add))
    for (fields, _), tiles in zip(program, words, strict=True):
        packed = pack(Array, **fields)
        expected = run_array(unpack(Array, packed), tiles, memories, config=CONFIG)
        assert await run_unit(dut, packed) == expected.completion
        await ClockCycles(dut.clk, 2)
        assert memory == [pack_row(row) for row in psum]
