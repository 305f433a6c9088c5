"""WriteBuffer: registers between a unit and its write port of the pool."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.port import PoolWrite


__all__ = ["WriteBuffer"]


class WriteBuffer(wiring.Component):
    """Two registers in front of a write port: the pool's grant does not reach into the unit.

    One word per cycle. ``ready`` is a flag of the buffer alone.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    address, data, valid : ``In``
        A word to write, of ``config.rows`` bits.
    ready : ``Out(1)``
        It is taken in this cycle if ``valid``.
    busy : ``Out(1)``
        Words taken before have not reached the port yet.
    write : ``Out(PoolWrite(config))``
        ``valid``, ``address`` and ``data`` are registers.
    """

    def __init__(self, config):
        self._rows = config.rows
        super().__init__({
            "address": In(16),
            "data": In(config.rows),
            "valid": In(1),
            "ready": Out(1),
            "busy": Out(1),
            "write": Out(PoolWrite(config)),
        })

    def elaborate(self, platform):
        m = Module()

        held = Signal()
        held_address = Signal(16)
        held_data = Signal(self._rows)
        m.d.comb += [self.ready.eq(~held), self.busy.eq(self.write.valid | held)]
        with m.If(self.write.ready | ~self.write.valid):
            m.d.sync += [
                self.write.valid.eq(self.valid | held),
                self.write.address.eq(Mux(held, held_address, self.address)),
                self.write.data.eq(Mux(held, held_data, self.data)),
                held.eq(0),
            ]
        with m.Elif(self.valid & ~held):
            m.d.sync += held.eq(1)
        with m.If(~held):
            m.d.sync += [held_address.eq(self.address), held_data.eq(self.data)]

        return m
