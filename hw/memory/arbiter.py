"""Arbiter: several memory clients share one memory port."""

from amaranth import *
from amaranth.lib import data, fifo, wiring
from amaranth.lib.wiring import In, Out

from hw.config import MEMORY_BITS
from hw.lib.skid_buffer import SkidBuffer
from hw.port import Memory, MemoryCommand


__all__ = ["MemoryArbiter"]


class MemoryArbiter(wiring.Component):
    """Share a memory port between clients, by fixed priority, lowest index first.

    A command takes two cycles, one every other cycle; data one cycle. Data of every burst
    goes to, or comes from, the client that asked; clients must take the read data that
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
        owner = data.StructLayout({"client": self._clients, "length": 8})   # client: one bit each
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
        with m.If(self.memory.commands.ready):
            m.d.sync += valid.eq(0)
        # Choose in one cycle, take in the next: a client's ready depends on registers only. A
        # burst's owner is queued when its command is taken, so that the order in the queues is
        # the order in which the memory sees the commands.
        chosen = Signal(range(max(2, self._clients)))
        taking = Signal()
        free = (self.memory.commands.ready | ~valid) & reads.w_rdy & writes.w_rdy
        m.d.sync += taking.eq(0)
        with m.If(taking):
            with m.Switch(chosen):
                for index in range(self._clients):
                    client = self.client[index].commands
                    with m.Case(index):
                        entry = Signal(owner, name=f"owner_{index}")
                        m.d.comb += [
                            client.ready.eq(1), entry.client.eq(1 << index),
                            entry.length.eq(client.payload.length),
                            reads.w_data.eq(entry), reads.w_en.eq(~client.payload.write),
                            writes.w_data.eq(entry), writes.w_en.eq(client.payload.write),
                        ]
                        m.d.sync += [command.eq(client.payload), valid.eq(1)]
        with m.Elif(free):
            for index in reversed(range(self._clients)):
                with m.If(self.client[index].commands.valid):
                    m.d.sync += [chosen.eq(index), taking.eq(1)]

        # Data through queues of two, so that neither valid nor ready passes through.
        # What is read goes to clients all over the chip: it starts at registers.
        m.submodules.r_queue = r_queue = fifo.SyncFIFOBuffered(width=64, depth=3)
        wiring.connect(m, wiring.flipped(self.memory.r_data), r_queue.w_stream)

        m.submodules.w_queue = w_queue = SkidBuffer(MEMORY_BITS)
        wiring.connect(m, w_queue.o, wiring.flipped(self.memory.w_data))

        for queue, is_read in ((reads, True), (writes, False)):
            current = Signal(owner, name="reading" if is_read else "writing")
            active = Signal(name="read_active" if is_read else "write_active")
            transfer = Signal(name="read_transfer" if is_read else "write_transfer")
            select = [active & current.client[index] for index in range(self._clients)]
            if is_read:
                source = r_queue.r_stream
                for chosen_by, client in zip(select, self.client, strict=True):
                    m.d.comb += [client.r_data.payload.eq(source.payload),
                                 client.r_data.valid.eq(source.valid & chosen_by)]
                m.d.comb += [
                    source.ready.eq(Cat(chosen_by & client.r_data.ready for chosen_by, client
                                        in zip(select, self.client, strict=True)).any()),
                    transfer.eq(source.valid & source.ready),
                ]
            else:
                sink = w_queue.i
                words = C(0, MEMORY_BITS)
                for index, client in enumerate(self.client):
                    m.d.comb += client.w_data.ready.eq(sink.ready & select[index])
                    words = words | Mux(current.client[index], client.w_data.payload, 0)
                m.d.comb += [
                    sink.payload.eq(words),
                    sink.valid.eq(Cat(chosen_by & client.w_data.valid for chosen_by, client
                                      in zip(select, self.client, strict=True)).any()),
                    transfer.eq(sink.valid & sink.ready),
                ]
            # The burst after this one waits in a register, so that the queue is out of the path
            # of the data.
            upcoming = Signal(owner, name="read_next" if is_read else "write_next")
            waiting = Signal(name="read_waiting" if is_read else "write_waiting")
            last = Signal(name="read_last" if is_read else "write_last")   # current.length == 1
            m.d.comb += queue.r_en.eq(~waiting)
            with m.If(~waiting):
                m.d.sync += [upcoming.eq(queue.r_data), waiting.eq(queue.r_rdy)]
            with m.If(transfer):
                m.d.sync += [current.length.eq(current.length - 1), last.eq(current.length == 2)]
            with m.If(~active | (transfer & last)):
                m.d.sync += [current.eq(upcoming), last.eq(upcoming.length == 1),
                             active.eq(waiting)]
                with m.If(waiting):
                    m.d.sync += waiting.eq(0)
        return m
