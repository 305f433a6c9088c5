"""Arbiter: several memory clients share one memory port."""

from amaranth import *
from amaranth.lib import data, fifo, wiring
from amaranth.lib.wiring import In, Out

from hw.port import Memory, MemoryCommand


__all__ = ["MemoryArbiter"]


class MemoryArbiter(wiring.Component):
    """Share a memory port between clients, by fixed priority, lowest index first.

    Commands pass through a register (one cycle of latency, one command a cycle). Data of every
    burst goes to, or comes from, the client that asked; clients must take the read data that
    they asked for without waiting for another client's transfer, because data comes in order.

    Parameters
    ----------
    clients : int
        Number of clients, at least 1.
    depth : int
        Bursts in flight in each direction.

    Members
    -------
    client : ``In(Memory()).array(clients)``
    memory : ``Out(Memory())``
    """

    def __init__(self, *, clients, depth=16):
        if clients < 1:
            raise ValueError(f"Arbiter must have at least 1 client, not {clients!r}")
        self._clients = clients
        self._depth = depth
        super().__init__({
            "client": In(Memory()).array(clients),
            "memory": Out(Memory()),
        })

    def elaborate(self, platform):
        m = Module()
        owner = data.StructLayout({"client": range(max(2, self._clients)), "length": 8})
        m.submodules.reads = reads = fifo.SyncFIFOBuffered(
            width=owner.size, depth=self._depth)
        m.submodules.writes = writes = fifo.SyncFIFOBuffered(
            width=owner.size, depth=self._depth)

        command = Signal(MemoryCommand)
        valid = Signal()
        m.d.comb += [
            self.memory.commands.payload.eq(command),
            self.memory.commands.valid.eq(valid),
        ]
        # A burst's owner is queued when its command is taken from the client, so that the order
        # in the queues is the order in which the memory sees the commands.
        room = reads.w_rdy & writes.w_rdy
        with m.If((self.memory.commands.ready | ~valid) & room):
            m.d.sync += valid.eq(0)
            for index in reversed(range(self._clients)):
                client = self.client[index].commands
                with m.If(client.valid):
                    m.d.sync += [command.eq(client.payload), valid.eq(1)]
            taken = Const(1)
            for index in range(self._clients):
                client = self.client[index].commands
                first = Signal(name=f"first_{index}")
                m.d.comb += [first.eq(client.valid & taken), client.ready.eq(taken)]
                entry = Signal(owner, name=f"owner_{index}")
                m.d.comb += [entry.client.eq(index), entry.length.eq(client.payload.length)]
                with m.If(first):
                    m.d.comb += [
                        reads.w_data.eq(entry), reads.w_en.eq(~client.payload.write),
                        writes.w_data.eq(entry), writes.w_en.eq(client.payload.write),
                    ]
                taken = taken & ~client.valid
        with m.Elif(self.memory.commands.ready):
            m.d.sync += valid.eq(0)

        for queue, is_read in ((reads, True), (writes, False)):
            current = Signal(owner, name="reading" if is_read else "writing")
            active = Signal(name="read_active" if is_read else "write_active")
            transfer = Signal(name="read_transfer" if is_read else "write_transfer")
            with m.Switch(current.client):
                for index in range(self._clients):
                    client = self.client[index]
                    source, sink = ((self.memory.r_data, client.r_data) if is_read
                                    else (client.w_data, self.memory.w_data))
                    with m.Case(index):
                        m.d.comb += [
                            sink.valid.eq(source.valid & active),
                            source.ready.eq(sink.ready & active),
                            transfer.eq(source.valid & sink.ready & active),
                        ]
                        if not is_read:
                            m.d.comb += sink.payload.eq(source.payload)
            if is_read:
                for index in range(self._clients):
                    m.d.comb += self.client[index].r_data.payload.eq(self.memory.r_data.payload)
            last = Signal(name="read_last" if is_read else "write_last")
            m.d.comb += last.eq(transfer & (current.length == 1))
            with m.If(transfer):
                m.d.sync += current.length.eq(current.length - 1)
            with m.If(~active | last):
                m.d.comb += queue.r_en.eq(1)
                m.d.sync += [active.eq(queue.r_rdy), current.eq(queue.r_data)]
        return m
