# amaranth: UnusedElaboratable=no
"""Queues between blocks, proven without bound: nothing lost, doubled, changed, or out of order."""

from itertools import pairwise

from amaranth import Array, Cat, DomainRenamer, EnableInserter, Module, Mux, Signal
from amaranth.hdl import Assert, Assume
import pytest

from hw.lib.crossing_queue import CrossingQueue
from hw.lib.pipeline_queue import PipelineQueue
from hw.lib.skid_buffer import SkidBuffer
from hw.lib.stream_buffer import StreamBuffer
from tests.formal.proof import Opened, prove
from tests.formal.queue import Watch


pytestmark = pytest.mark.formal


def test_skid_buffer(tmp_path):
    m = Module()
    dut = SkidBuffer(2)
    opened = Opened(dut)
    m.submodules.dut = opened.fragment
    second = opened.second
    take = dut.o.valid & dut.o.ready
    watch = Watch(m, give=dut.i.valid & dut.i.ready, given=dut.i.payload, take=take,
                  taken=dut.o.payload, capacity=2, waiting=dut.o.valid, patience=0)
    m.d.comb += [
        Assert(watch.inside == dut.o.valid + opened.second_valid),
        Assert(dut.o.valid | ~opened.second_valid),
        Assert(~watch.watching | (watch.value == Mux(watch.ahead == 0, dut.o.payload, second))),
    ]
    _stays(m, dut.o)
    prove(m, [dut.i.payload, dut.i.valid, dut.o.ready, *watch.inputs], tmp_path, depth=2)


def _stays(m, stream):
    """A word that is offered and refused is offered again."""
    refused, payload = Signal(), Signal.like(stream.payload)
    m.d.sync += [refused.eq(stream.valid & ~stream.ready), payload.eq(stream.payload)]
    m.d.comb += Assert(~refused | (stream.valid & (stream.payload == payload)))


def _comb_ports(count):
    """Adds read ports to a component's memory: all of its words."""
    def add(module):
        memory = module.submodules.memory
        ports = [memory.read_port(domain="comb") for _ in range(count)]
        for address, port in enumerate(ports):
            module.d.comb += port.addr.eq(address)
        return Array(port.data for port in ports)
    return add


def test_stream_buffer(tmp_path):
    """Behind a source that watches its room; 4 words in the memory, two behind it."""
    depth = 4
    m = Module()
    dut = StreamBuffer(width=2, depth=depth)
    opened = Opened(dut, _comb_ports(depth))
    m.submodules.dut = opened.fragment
    words = opened.extra
    take = dut.o.valid & dut.o.ready
    watch = Watch(m, give=dut.w_en, given=dut.w_data, take=take, taken=dut.o.payload,
                  capacity=depth + 2, waiting=dut.o.valid, patience=2)
    _stays(m, dut.o)
    count, fetched = opened.count, opened.fetched
    known = Signal.like(count)
    before = dut.o.valid + fetched
    at = Signal(2)
    m.d.sync += known.eq(count)
    m.d.comb += [
        # The source gives where the count that it sees, and what it gave since, leave room.
        Assume(~dut.w_en | (count < depth)),
        at.eq(opened.read__addr + watch.ahead - before),
        Assert(watch.inside == count + fetched + dut.o.valid),
        Assert(count <= depth),
        Assert(opened.waiting == (count != 0)),
        Assert((opened.write__addr - opened.read__addr)[:2] == count[:2]),
        Assert(dut.level == known),
    ]
    with m.If(watch.watching):
        with m.If(dut.o.valid & (watch.ahead == 0)):
            m.d.comb += Assert(dut.o.payload == watch.value)
        with m.Elif(fetched & (watch.ahead == dut.o.valid)):
            m.d.comb += Assert(opened.read__data == watch.value)
        with m.Else():
            m.d.comb += Assert(words[at] == watch.value)
    prove(m, [dut.w_en, dut.w_data, dut.o.ready, *watch.inputs], tmp_path, depth=4)


@pytest.mark.parametrize("spare", [0, 4])
def test_pipeline_queue(tmp_path, spare):
    """Places are reserved while there is room, and filled later, in any rhythm."""
    depth = 8
    m = Module()
    dut = PipelineQueue(width=2, depth=depth, spare=spare)
    opened = Opened(dut, _comb_ports(depth))
    m.submodules.dut = opened.fragment
    words = opened.extra
    watch = Watch(m, give=dut.w_en, given=dut.w_data, take=dut.r_en, taken=dut.r_data,
                  capacity=depth, waiting=dut.ready, patience=0)
    on_the_way, room_seen = Signal(range(depth + 2)), Signal(init=1)
    m.d.sync += [on_the_way.eq(on_the_way + dut.reserve - dut.w_en), room_seen.eq(dut.room)]
    m.d.comb += [
        # A user of the spare places looks at the room through a register.
        Assume(~dut.reserve | (room_seen if spare else dut.room)),
        Assume(~dut.w_en | (on_the_way != 0)),
        Assume(~dut.r_en | dut.ready),
        Assert(on_the_way + watch.inside <= depth),
        Assert(watch.inside == opened.level),
        Assert(dut.ready == (opened.level != 0)),
        Assert((opened.write_port__addr - opened.read_port__addr)[:3] == opened.level[:3]),
        Assert(~watch.watching
               | (words[(opened.read_port__addr + watch.ahead)[:3]] == watch.value)),
    ]
    if spare:
        m.d.comb += Assert(opened.used + opened.reserved - opened.removed
                           == on_the_way + watch.inside)
    else:
        m.d.comb += [Assert(opened.used == on_the_way + watch.inside),
                     Assert(dut.room == (opened.used < depth))]
    # Room comes back: with nothing reserved and nothing inside for some cycles, there is some.
    empty = Signal(range(8))
    m.d.sync += empty.eq(Mux((on_the_way == 0) & (watch.inside == 0) & ~dut.reserve,
                             Mux(empty == 7, 7, empty + 1), 0))
    m.d.comb += Assert((empty < 4) | dut.room)
    prove(m, [dut.reserve, dut.w_en, dut.w_data, dut.r_en, *watch.inputs], tmp_path, depth=8)


def test_crossing_queue(tmp_path):
    """Two clocks whose edges come in any order; the writer minds the level that it sees."""
    depth = 4
    m = Module()
    dut = CrossingQueue(width=2, depth=depth, w_domain="writer", r_domain="reader")
    opened = Opened(dut, _comb_ports(depth))
    w_tick, r_tick = Signal(), Signal()
    m.submodules.dut = DomainRenamer({"writer": "sync", "reader": "sync"})(
        EnableInserter({"writer": w_tick, "reader": r_tick})(opened.fragment))
    words = opened.extra
    watch = Watch(m, give=w_tick & dut.w_en, given=dut.w_data,
                  take=r_tick & dut.o.valid & dut.o.ready, taken=dut.o.payload, capacity=depth)

    def binary(gray):
        return Cat(gray[k:].xor() for k in range(len(gray)))

    bits = len(opened.written)
    # Where the writer is, as the reader learns of it, and where the reader is, as the writer does:
    # each of these follows the one before, at most `depth` behind it all in all.
    to_reader, to_writer = (opened.inside[name] for name in ("written", "taken"))
    chain = [opened.written, binary(to_reader["stage0"]), binary(opened.arrived), opened.read_at,
             binary(to_writer["stage0"]), binary(opened.taken), opened.level_from]
    steps = [Signal(bits, name=f"step_{k}") for k in range(len(chain) - 1)]
    m.d.comb += [step.eq(newer - older) for step, (newer, older) in
                 zip(steps, pairwise(chain), strict=True)]
    m.d.comb += [
        Assume(~dut.w_en | (dut.w_level < depth)),
        Assert(sum(steps) <= depth),
        Assert(dut.w_level == sum(steps)),
        Assert(dut.w_rdy == (dut.w_level < depth)),
        Assert(dut.w_level >= watch.inside),
        Assert(watch.inside == steps[0] + steps[1] + steps[2]),
        Assert(opened.written_gray == (opened.written ^ (opened.written >> 1))),
        Assert(opened.read_gray == (opened.read_at ^ (opened.read_at >> 1))),
        Assert(~dut.o.valid | (steps[2] != 0)),
        Assert(~dut.o.valid | (dut.o.payload == words[opened.read_at[:-1]])),
        Assert(~watch.watching
               | (words[(opened.read_at + watch.ahead)[:bits - 1]] == watch.value)),
    ]
    # The reader sees a word within four of its edges.
    unseen = Signal(range(6))
    with m.If((watch.inside == 0) | dut.o.valid):
        m.d.sync += unseen.eq(0)
    with m.Elif(r_tick):
        m.d.sync += unseen.eq(unseen + 1)
    m.d.comb += [
        Assert(unseen <= 3),
        Assert((unseen < 1) | (steps[1] + steps[2] != 0)),
        Assert((unseen < 2) | (steps[2] != 0)),
        Assert((unseen < 3) | dut.o.valid),
    ]
    prove(m, [w_tick, r_tick, dut.w_en, dut.w_data, dut.o.ready, *watch.inputs], tmp_path, depth=4)
