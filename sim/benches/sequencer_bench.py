"""cocotb benches for hw.sequencer, one for each component; run by tests/rtl."""

import random

from amaranth import Shape
import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge

from hw.descriptor import Array, Header, pack, UnitKind
from hw.sequencer import Record, UNITS
from sim.drive.cocotb_ports import serve_memory
from sim.drive.cocotb_streams import StreamSink, StreamSource
from sim.drive.queue_check import INPUTS, OUTPUTS, QueueCheck


# Of the descriptor and the queue in tests/rtl/test_sequencer.py.
FIELDS_WIDTH, DEPTH = Shape.cast(Array).width, 3


async def start(dut):
    dut.rst.value = 1
    Clock(dut.clk, 10, unit="ns").start()
    await RisingEdge(dut.clk)
    dut.rst.value = 0


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.4], full=[0.0, 0.95])
async def fetch(dut, stall, full):
    rng = random.Random(4)
    options = dict(rng=rng, stall=stall)
    dut.start.value = 0
    sinks = [StreamSink(dut, f"o__{k}", dut.clk, rng=rng, stall=full) for k in range(len(UNITS))]
    content = {}
    await start(dut)
    cocotb.start_soon(serve_memory(dut, "memory", content, latency=20, **options))
    await RisingEdge(dut.clk)
    for address, count in (((1 << 24) - 20, 60), (500, 0), (1000, 7), (2000, 30)):
        expected = [[] for _ in UNITS]
        words = []
        for index in range(count):
            unit = rng.choice(UNITS)
            waits = [rng.choice((0, 511, 512, 1023)) for _ in UNITS]
            fields = rng.getrandbits(128)
            descriptor = [pack(Header, kind=unit, waits=waits), fields % (1 << 64), fields >> 64]
            words += descriptor
            expected[unit.value] += [word | index << 64 for word in descriptor]
        words.append(pack(Header, kind=UnitKind.END, waits=[1023] * 6))
        # Beyond END lie descriptors that must not be dispatched.
        words += [pack(Header, kind=rng.choice(UNITS)) for _ in range(60)]
        content.clear()
        content.update({(address + k) % (1 << 24): word for k, word in enumerate(words)})
        tasks = [cocotb.start_soon(sink.receive(len(want)))
                 for sink, want in zip(sinks, expected, strict=True)]
        assert dut.ended.value == 1
        dut.program.value = address
        dut.start.value = 1
        await RisingEdge(dut.clk)
        dut.start.value = 0
        dut.program.value = 0
        while True:
            await RisingEdge(dut.clk)
            if dut.ended.value == 1:
                break
        for task, want in zip(tasks, expected, strict=True):
            assert await task == want
        # A descriptor too many would be counted, or wait to be taken.
        assert dut.dispatched.value == count
        assert not any(getattr(dut, f"o__{k}__valid").value == 1 for k in range(len(UNITS)))
        assert dut.memory__r_data__valid.value == 0


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.4])
async def queue(dut, stall):
    check = QueueCheck(rng=random.Random(5), width=FIELDS_WIDTH, depth=DEPTH, count=40,
                       stall=stall, pace=0.3)
    inputs = {name: getattr(dut, name) for name in INPUTS}
    outputs = {name: getattr(dut, name) for name in OUTPUTS}
    for port in inputs.values():
        port.value = 0
    await start(dut)
    while not check.finished:
        for name, value in check.drive.items():
            inputs[name].value = value
        await RisingEdge(dut.clk)
        check.step({name: value.value.to_unsigned() if len(value) > 1 else int(value.value)
                    for name, value in outputs.items()})


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.4], quiet=[0.0, 0.95])
async def recorder(dut, stall, quiet):
    rng = random.Random(6)
    log = (1 << 24) - 5000
    dut.log.value = log
    dut.run__valid.value = 0
    dut.run__payload.value = 0
    sources = [StreamSource(dut, f"i__{k}", dut.clk, rng=rng, stall=quiet)
               for k in range(len(UNITS))]
    content, expected = {}, {}
    await start(dut)
    cocotb.start_soon(serve_memory(dut, "memory", content, rng=rng, stall=stall))
    indices = [0, 65535, *rng.sample(range(1, 65535), 58)]
    rng.shuffle(indices)
    tasks = []
    for unit, source in enumerate(sources):
        packed = []
        for index in indices[unit::len(UNITS)]:
            record = {name: rng.getrandbits(32) for name in ("sig", "events", "start", "end")}
            packed.append(pack(Record, index=index, **record))
            address = (log + 2 * index) % (1 << 24)
            expected[address] = record["sig"] | record["events"] << 32
            expected[(address + 1) % (1 << 24)] = record["start"] | record["end"] << 32
        tasks.append(cocotb.start_soon(source.send(packed)))
    for task in tasks:
        await task
    await ClockCycles(dut.clk, 20)
    assert dut.idle.value == 1
    assert content == expected
