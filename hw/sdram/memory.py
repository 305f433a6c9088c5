"""SDRAM as the memory of an accelerator: calibration, clock crossing, scheduler."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from hw.config import MEMORY_BITS
from hw.lib.crossing_queue import CrossingQueue
from hw.lib.skid_buffer import SkidBuffer
from hw.port import Memory, MemoryCommand, MemoryStatus, MemoryTests, SdramPins
from hw.sdram.calibration import SdramCalibration
from hw.sdram.scheduler import SdramScheduler


__all__ = ["SdramMemory"]


COMMANDS = 8
"""Bursts that wait for the scheduler."""

W_WORDS, R_WORDS = 8, 16
"""Places of the data queues: more than the words on their way in a round trip. That of a read
word leads through the chip."""


class SdramMemory(wiring.Component):
    """Memory backend in a 16-bit SDRAM chip.

    The memory port belongs to ``sync``, the pins to ``sdram``; between them lie queues
    (:class:`hw.lib.crossing_queue.CrossingQueue`). After reset the chip is initialised, calibrated
    and measured (:class:`hw.sdram.calibration.SdramCalibration`); the port takes commands once
    ``status.ready``. Up to 8 bursts wait, and a linear stream of them uses 98 % of the chip's bus
    (refreshes included) while ``sync`` runs at a quarter of ``sdram`` or faster.

    Both domains are reset together, for 4 cycles of the slower one at least: with less, a queue
    takes over a count from before.

    Costs about 1,750 COMB and 1,350 FF, no block RAM; 390 COMB of them are the whole map and the
    tests of the memory.

    Parameters
    ----------
    config : :class:`hw.sdram_config.SdramConfig`
    phases : int
        Steps of the chip's clock phase in a period, 1 if it cannot be moved.

    Members
    -------
    memory : ``In(Memory())``
        See :class:`hw.port.Memory`.
    status : ``Out(MemoryStatus)``
        See :data:`hw.register.MEMORY_STATUS_BITS`.
    tests : ``In(MemoryTests())``
        See :class:`hw.port.MemoryTests`. During a test the memory port takes and gives nothing.
    warm : ``In(1)``
        See :class:`hw.sdram.calibration.SdramCalibration`.
    pins : ``Out(SdramPins())``
    """

    def __init__(self, config, *, phases=1):
        self._config = config
        self._calibration = SdramCalibration(config, phases=phases)
        super().__init__({
            "memory": In(Memory()),
            "status": Out(MemoryStatus),
            "tests": In(MemoryTests()),
            "warm": In(1),
            "pins": Out(SdramPins()),
        })

    @property
    def config(self):
        return self._config

    @property
    def phases(self):
        return self._calibration.phases

    @property
    def words(self):
        """Words that every part has: what a program may count on."""
        return self._config.words

    def elaborate(self, platform):
        m = Module()

        m.submodules.calibration = calibration = self._calibration
        m.submodules.scheduler = scheduler = DomainRenamer("sdram")(
            SdramScheduler(self._config, r_depth=R_WORDS))
        wiring.connect(m, wiring.flipped(self.memory), calibration.engine)
        wiring.connect(m, wiring.flipped(self.tests), calibration.tests)

        outward = {"w_domain": "sync", "r_domain": "sdram"}
        m.submodules.commands = commands = CrossingQueue(
            width=MemoryCommand.as_shape().size, depth=COMMANDS, **outward)
        m.submodules.w_data = w_data = CrossingQueue(
            width=MEMORY_BITS, depth=W_WORDS, **outward)
        m.submodules.r_data = r_data = CrossingQueue(
            width=MEMORY_BITS, depth=R_WORDS, w_domain="sdram", r_domain="sync")
        memory = calibration.memory
        m.d.comb += [
            commands.w_data.eq(memory.commands.payload),
            commands.w_en.eq(memory.commands.valid & commands.w_rdy),
            memory.commands.ready.eq(commands.w_rdy),
            w_data.w_data.eq(memory.w_data.payload),
            w_data.w_en.eq(memory.w_data.valid & w_data.w_rdy),
            memory.w_data.ready.eq(w_data.w_rdy),
            r_data.w_data.eq(scheduler.r_data),
            r_data.w_en.eq(scheduler.r_valid),
            scheduler.r_level.eq(r_data.w_level),
        ]
        # The scheduler lies at the pads, the queues beside the engine.
        m.submodules.command = command = DomainRenamer("sdram")(SkidBuffer(MemoryCommand))
        m.d.comb += [
            command.i.payload.eq(commands.o.payload),
            command.i.valid.eq(commands.o.valid),
            commands.o.ready.eq(command.i.ready),
        ]
        wiring.connect(m, command.o, scheduler.commands)
        m.submodules.word = word = DomainRenamer("sdram")(SkidBuffer(MEMORY_BITS))
        wiring.connect(m, w_data.o, word.i)
        wiring.connect(m, word.o, scheduler.w_data)
        wiring.connect(m, r_data.o, memory.r_data)

        m.submodules.restart = FFSynchronizer(calibration.restart, scheduler.restart,
                                              o_domain="sdram")
        m.submodules.delay = FFSynchronizer(calibration.delay, scheduler.delay,
                                            o_domain="sdram")
        m.d.comb += [
            calibration.initialised.eq(scheduler.initialised),
            calibration.warm.eq(self.warm),
            self.status.eq(calibration.status),
            self.pins.phase_step.eq(calibration.phase_step),
        ]
        for name in SdramPins().members:
            if name == "dq_i":
                m.d.comb += scheduler.pins.dq_i.eq(self.pins.dq_i)
            elif name != "phase_step":
                m.d.comb += getattr(self.pins, name).eq(getattr(scheduler.pins, name))

        return m
