"""cocotb bench for hw.neuron.unit; run by tests/rtl."""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
import numpy as np

from hw.descriptor import Neuron, NeuronFunction, NeuronSource, pack, unpack
from hw.port import POOL_LATENCY, PSUM_LATENCY
from sim.drive.cocotb_ports import serve_read, serve_write
from sim.drive.cocotb_streams import StreamSource
from sim.reference.neuron import neuron
from sim.reference.state import Memories


ROWS, LANES, ACC_BITS, MEMBRANE_FRAC = 16, 4, 24, 10   # those of tests/rtl/test_neuron.py
WORDS, COUNT = 4096, 8


def random_tile(rng, fire):
    """Constant words of one tile, over the whole range of every field."""
    words = []
    for _ in range(ROWS):
        bits = int(rng.integers(1 << 62)) << 66 ^ int(rng.integers(1 << 62)) << 33
        if not fire:
            shift = int(rng.integers(27))
            bias = int(rng.integers(-(1 << 43), 1 << 43)) >> int(rng.integers(40))
            bits = (int(rng.integers(-(1 << 15), 1 << 15)) & 0xff_ffff
                    | (bias & (1 << 48) - 1) << 24 | shift << 72)
        words += [bits & (1 << 64) - 1, bits >> 64 & (1 << 64) - 1]
    return words


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.4])
async def matches_golden(dut, stall):
    rng, stalls = np.random.default_rng(0), random.Random(0)
    size = 1 << (ACC_BITS - 1)
    psum = rng.integers(-size, size, size=(1024, ROWS)) >> rng.integers(ACC_BITS, size=(1024, 1))
    pool = rng.integers(0, 1 << ROWS, size=WORDS, dtype=np.uint64)
    memory, expected_pool = pool.tolist(), pool.copy()

    def psum_group(address, group):
        sums = psum[address, group * LANES:(group + 1) * LANES]
        return sum((int(acc) & (1 << ACC_BITS) - 1) << (lane * ACC_BITS)
                   for lane, acc in enumerate(sums))

    where = dict(psum=5, count=COUNT, membrane_in=512, membrane_out=512, membrane_stride=24,
                 plane_out=1024, plane_stride=17)
    scale = dict(function=NeuronFunction.SCALE, **where)
    program = [
        dict(function=NeuronFunction.FIRE, **where),
        dict(write_membrane=1, add=1, write_levels=1, **scale),
        dict(write_planes=1, planes=12, **scale),
        dict(function=NeuronFunction.FIRE, source=NeuronSource.MEMBRANE_SUM, **where),
    ]
    tiles = [random_tile(rng, fields["function"] is NeuronFunction.FIRE) for fields in program]
    program = [pack(Neuron, **fields) for fields in program]
    memories = Memories(pool=expected_pool, psum=psum, rows=ROWS, acc_bits=ACC_BITS)
    expected = [neuron(unpack(Neuron, packed), tile, memories, membrane_frac=MEMBRANE_FRAC)
                for packed, tile in zip(program, tiles, strict=True)]

    dut.control__run__valid.value = 0
    dut.rst.value = 1
    source = StreamSource(dut, "constants", dut.clk, rng=stalls, stall=stall)
    Clock(dut.clk, 10, unit="ns").start()
    await RisingEdge(dut.clk)
    dut.rst.value = 0
    options = dict(rng=stalls, stall=stall)
    cocotb.start_soon(serve_read(dut, "pool", lambda a: memory[a % WORDS], latency=POOL_LATENCY,
                                 **options))
    cocotb.start_soon(serve_read(dut, "psum", psum_group, latency=PSUM_LATENCY, grouped=True,
                                 **options))
    cocotb.start_soon(serve_write(dut, "write",
                                  lambda a, d: memory.__setitem__(a % WORDS, d), **options))
    # As signed numbers, the way the source takes them.
    cocotb.start_soon(source.send([(w ^ 1 << 63) - (1 << 63) for tile in tiles for w in tile]))

    for packed, want in zip(program, expected, strict=True):
        dut.control__run__payload.value = packed
        dut.control__run__valid.value = 1
        while True:
            await RisingEdge(dut.clk)
            if dut.control__run__ready.value == 1:
                break
        dut.control__run__valid.value = 0
        while True:
            await RisingEdge(dut.clk)
            if dut.control__done.value == 1:
                break
        assert dut.control__sig.value.to_unsigned() == want.write_hash
        assert dut.control__events.value.to_unsigned() == want.events
    np.testing.assert_array_equal(np.array(memory, dtype=np.uint64), expected_pool)
    for name in ("u", "z"):
        clipped = sum(outcome.saturated.get(name, 0) for outcome in expected)
        assert getattr(dut, f"{name}_saturated").value.to_unsigned() == clipped % 2**16
