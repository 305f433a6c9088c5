# amaranth: UnusedElaboratable=no
"""The memory arbiter, proven without bound: every word goes to, or comes from, who asked for it."""

from types import SimpleNamespace

from amaranth import Array, Cat, Elaboratable, Module, Mux, Signal
from amaranth.hdl import Assert, Assume, Cover
from amaranth.lib import fifo
import pytest

from hw.memory import arbiter
from tests.formal.proof import Opened, prove


pytestmark = pytest.mark.formal


class AnyQueue(fifo.FIFOInterface, Elaboratable):
    """A queue in registers, for the library's: an entry shows after any number of cycles."""

    def __init__(self, *, width, depth):
        super().__init__(width=width, depth=depth)
        self.level = Signal(range(depth + 1), name="queue_level")
        self.entries = [Signal(width, name=f"entry_{k}") for k in range(depth)]
        self.show = Signal(name="show")

    def elaborate(self, platform):
        m = Module()
        shown = Signal()
        take, give = self.r_rdy & self.r_en, self.w_rdy & self.w_en
        m.d.comb += [self.w_rdy.eq(self.level != self.depth), self.r_data.eq(self.entries[0]),
                     self.r_rdy.eq((self.level != 0) & (shown | self.show))]
        m.d.sync += [self.level.eq(self.level + give - take), shown.eq(self.r_rdy & ~self.r_en)]
        with m.If(take):
            m.d.sync += [one.eq(other) for one, other in
                         zip(self.entries, self.entries[1:], strict=False)]
        with m.If(give):
            m.d.sync += Array(self.entries)[self.level - take].eq(self.w_data)
        return m


CLIENTS = 2


class Direction:
    """The bursts of one direction inside the arbiter, in order; and one that is followed."""

    def __init__(self, m, opened, queue, name, *, accepted, command, moves):
        self.pick = pick = Signal(name=f"pick_{name}")
        active, waiting = opened.signals[f"{name}_active"], opened.signals[f"{name}_waiting"]
        current = opened.signals["reading" if name == "read" else "writing"]
        slots = [(active, current), (waiting, opened.signals[f"{name}_next"])]
        slots += [(queue.level > k, entry) for k, entry in enumerate(queue.entries)]
        owned = [(valid, entry[:CLIENTS], entry[CLIENTS:]) for valid, entry in slots]
        ahead, total = [], 0
        for valid, _, length in owned:
            ahead.append(total)
            total = total + Mux(valid, length, 0)
        self.owed = total
        m.d.comb += [Assert(~valid | ((length != 0) & (client.any())
                                      & ((client & (client - 1)) == 0)))
                     for valid, client, length in owned]
        m.d.comb += Assert(~active | (opened.signals[f"{name}_last"] == (current[CLIENTS:] == 1)))
        # At most one word moves, and only one that somebody asked for.
        moved = Cat(moves).any()
        m.d.comb += [Assert(~moved | (total != 0)), Assert(sum(moves) <= 1)]

        watching, owner = Signal(name=f"watching_{name}"), Signal(CLIENTS, name=f"owner_{name}")
        before, left = Signal(14, name=f"before_{name}"), Signal(8, name=f"left_{name}")
        with m.If(watching & moved):
            with m.If(before != 0):
                m.d.sync += before.eq(before - 1)
            with m.Else():
                m.d.comb += [Assert((Cat(moves) & owner).any()), Cover(left == 3)]
                m.d.sync += [left.eq(left - 1), watching.eq(left != 1)]
        with m.If(pick & Cat(accepted).any() & ~watching):
            m.d.sync += [watching.eq(1), owner.eq(Cat(accepted)), left.eq(command.length),
                         before.eq(total - moved)]
        m.d.comb += Assert(~watching | Cat(
            valid & (place == before) & (client == owner) & (length == left)
            for (valid, client, length), place in zip(owned, ahead, strict=True)).any())


def test_arbiter(tmp_path, monkeypatch):
    queues = []

    def made(**options):
        queues.append(AnyQueue(**options))
        return queues[-1]

    monkeypatch.setattr(arbiter, "fifo", SimpleNamespace(SyncFIFOBuffered=made))
    m = Module()
    dut = arbiter.MemoryArbiter(clients=CLIENTS, depth=2)
    opened = Opened(dut)
    m.submodules.dut = opened.fragment
    reads, writes, r_queue = queues
    memory, clients = dut.memory, list(dut.client)
    inputs = [memory.commands.ready, memory.r_data.valid, memory.w_data.ready,
              *(queue.show for queue in queues)]
    taken = []
    for client in clients:
        command = client.commands
        inputs += [command.payload.as_value(), command.valid, client.w_data.payload,
                   client.w_data.valid, client.r_data.ready]
        taken.append(command.valid & command.ready)
        # A command that is offered stays.
        offered, was = Signal(), Signal.like(command.payload.as_value())
        m.d.sync += [offered.eq(command.valid & ~command.ready),
                     was.eq(command.payload.as_value())]
        m.d.comb += [Assume(~offered | (command.valid & (command.payload.as_value() == was))),
                     Assume(command.payload.length != 0)]
    m.d.comb += Assert(sum(taken) <= 1)
    command = Mux(taken[0], clients[0].commands.payload.as_value(),
                  clients[1].commands.payload.as_value())
    command = arbiter.MemoryCommand(command)
    both = [Direction(m, opened, queue, name, command=command, moves=moves, accepted=[
                one & (client.commands.payload.write == (name == "write"))
                for one, client in zip(taken, clients, strict=True)])
            for queue, name, moves in (
                (reads, "read", [c.r_data.valid & c.r_data.ready for c in clients]),
                (writes, "write", [c.w_data.valid & c.w_data.ready for c in clients]))]

    # The memory gives what it was asked for: nothing is lost on either side of it.
    asked = Signal(14)
    pending = opened.valid & ~memory.commands.payload.write
    m.d.sync += asked.eq(
        asked + Mux(pending & memory.commands.ready, memory.commands.payload.length, 0)
        - (memory.r_data.valid & memory.r_data.ready))
    m.d.comb += [
        Assume(~memory.r_data.valid | (asked != 0)),
        Assert(asked + Mux(pending, memory.commands.payload.length, 0) + r_queue.level
               == both[0].owed),
    ]
    m.d.comb += [Assert(queue.level <= queue.depth) for queue in queues]
    # Nobody waits while there is room.
    idle = Signal(range(4))
    free = (memory.commands.ready | ~opened.valid) & reads.w_rdy & writes.w_rdy
    m.d.sync += idle.eq(Mux(Cat(c.commands.valid for c in clients).any() & free
                            & ~Cat(taken).any(), idle + 1, 0))
    m.d.comb += [Assert(idle <= 1), Assert((idle == 0) | opened.taking)]
    with m.If(opened.taking):
        m.d.comb += [Assert(reads.w_rdy & writes.w_rdy & ~opened.valid),
                     Assert(Array(c.commands.valid for c in clients)[opened.chosen])]
    prove(m, [*inputs, *(one.pick for one in both)], tmp_path, depth=3)
