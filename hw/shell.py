"""Board shell: UART link, registers, core and memory."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import MEMORY_BITS
from hw.lib.skid_buffer import SkidBuffer
from hw.link.command import CommandProcessor
from hw.link.frame import FrameReceiver, FrameTransmitter, FrameWord
from hw.link.register_file import RegisterFile
from hw.link.uart import UartReceiver, UartTransmitter
from hw.link.watchdog import Watchdog
from hw.meter.power_meter import PowerMeter
from hw.port import BoardState, I2cPins, Memory, SpiPins
from hw.register import config_digest, CONTROL_BITS, Counter, MemoryFault, Restart


__all__ = ["Link", "Shell"]


def _line(divisor):
    """Members of the line to the host."""
    if divisor is None:
        return {"received": In(stream.Signature(8, always_ready=True)),
                "sent": Out(stream.Signature(8))}
    return {"rx": In(1, init=1), "tx": Out(1, init=1)}


class Link(wiring.Component):
    """Everything between the UART pins and the core: line, frames, commands, registers.

    2,813 COMB, of which 1,315 are the registers, 1,780 FF and two block RAMs (yosys, ECP5, by
    itself; in a shell, ports that stay constant cost nothing).

    Parameters
    ----------
    divisor : int or None
        Clock cycles in a bit of the UART, at least 4. None leaves the UART out: the line is
        streams of bytes, for a simulation that has no time for bits.
    config_digest, memory_words, capabilities
        See :class:`hw.link.register_file.RegisterFile`.
    boot : :class:`hw.boot.master.BootMaster`, optional
        Loads and runs what a flash or a card holds, through the same frames.

    Members
    -------
    rx, tx : ``In(1)``, ``Out(1)``
        UART pins.
    received, sent : ``In(stream.Signature(8, always_ready=True))``, ``Out(stream.Signature(8))``
        In place of them without a UART.
    busy : ``Out(1)``
        Low while nothing happens unless ``rx`` falls.
    memory : ``Out(Memory())``
        The host's accesses.
    registers
        All members of :class:`hw.link.register_file.RegisterFile` but ``bus``, ``link_error``,
        ``session`` and ``run``.
    """

    def __init__(self, *, divisor, config_digest, memory_words, capabilities=(), boot=None):
        self._divisor = divisor
        self._boot = boot
        self._registers = RegisterFile(config_digest=config_digest, memory_words=memory_words,
                                       capabilities=capabilities)
        members = dict(self._registers.signature.members)
        for name in ("bus", "link_error", "session", "run"):
            del members[name]
        super().__init__({
            **_line(divisor),
            "busy": Out(1),
            "memory": Out(Memory()),
            **members,
        })
        self._forwarded = members

    def elaborate(self, platform):
        m = Module()

        if self._divisor is None:
            received, sent, line_busy = (wiring.flipped(self.received), wiring.flipped(self.sent),
                                         self.received.valid)
        else:
            m.submodules.uart_receiver = receiver = UartReceiver(divisor=self._divisor)
            m.submodules.uart_transmitter = transmitter = UartTransmitter(divisor=self._divisor)
            received, sent = receiver.o, transmitter.i
            line_busy = receiver.busy | transmitter.busy
            m.d.comb += [receiver.rx.eq(self.rx), self.tx.eq(transmitter.tx)]
        m.submodules.frame_receiver = frames_in = FrameReceiver()
        m.submodules.frame_transmitter = frames_out = FrameTransmitter()
        m.submodules.commands = commands = CommandProcessor()
        m.submodules.registers = registers = self._registers
        if self._boot is None:
            wiring.connect(m, received, frames_in.i)
        # Registers on all sides of the commands: these blocks are far apart on the chip, the frames
        # at the pins, the commands at the core.
        memory = commands.memory
        for name, shape, count, source, sink in (
                ("requests", FrameWord, 2, frames_in.o, commands.i),
                ("answers", FrameWord, 2, commands.o, frames_out.i),
                ("written", MEMORY_BITS, 1, memory.w_data, wiring.flipped(self.memory.w_data))):
            for place in range(count):
                m.submodules[f"{name}_{place}"] = stage = SkidBuffer(shape)
                wiring.connect(m, source, stage.i)
                source = stage.o
            wiring.connect(m, source, sink)
        wiring.connect(m, memory.commands, wiring.flipped(self.memory.commands))
        wiring.connect(m, wiring.flipped(self.memory.r_data), memory.r_data)
        if self._boot is None:
            wiring.connect(m, frames_out.o, sent)
        else:
            self._connect_boot(m, received, frames_in.i, frames_out.o, sent)
        wiring.connect(m, commands.registers, registers.bus)
        m.d.comb += [
            commands.session.eq(registers.session),
            commands.run.eq(registers.run),
            commands.memory_ready.eq(self.memory_status.ready),
            registers.link_error.eq(frames_in.error),
            self.busy.eq(frames_in.busy | commands.busy | frames_out.busy | line_busy),
        ]
        if self._boot is not None:
            with m.If(self._boot.active):
                m.d.comb += self.busy.eq(1)
        for name, member in self._forwarded.items():
            if member.is_signature:
                wiring.connect(m, getattr(registers, name),
                               wiring.flipped(getattr(self, name)))
                continue
            inner, outer = Value.cast(getattr(registers, name)), Value.cast(getattr(self, name))
            m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)

        return m

    def _connect_boot(self, m, received, frames, answers, sent):
        """The boot master between the line and the frames, in the host's place."""
        m.submodules.boot = boot = self._boot
        m.d.comb += [
            boot.heard.eq(received.valid), boot.cause.eq(self.state.cause),
            boot.memory_ready.eq(self.memory_status.ready), boot.core_busy.eq(self.core_busy),
            frames.payload.eq(Mux(boot.deaf, boot.frame, received.payload)),
            frames.valid.eq(Mux(boot.deaf, boot.frame_valid, received.valid)),
            boot.answer.eq(answers.payload), boot.answer_valid.eq(answers.valid & boot.active),
            boot.text.ready.eq(sent.ready),
            sent.payload.eq(Mux(boot.active, boot.text.payload, answers.payload)),
            sent.valid.eq(Mux(boot.active, boot.text.valid, answers.valid)),
            answers.ready.eq(sent.ready | boot.active),
        ]


class Shell(wiring.Component):
    """Top level on a board: a core with its memory behind a UART.

    Parameters
    ----------
    config : :class:`hw.config.CoreConfig`
        Of the core.
    memory : component
        The memory backend: an attribute ``words`` and a port ``memory: In(Memory())``; perhaps
        ``status: Out(MemoryStatus)`` (else it is always ready), ``tests: In(MemoryTests())``,
        ``warm: In(1)`` (the last restart keeps what the memory holds), and
        ``pins``, which become a port of the shell.
    divisor : int or None
        As for :class:`Link`, whose members of the line are the shell's, too.
    core : component, optional
        Instead of ``hw.core.Core(config)``; same ports.
    meter : int or None
        Cycles in a quarter of a bit of the bus of a power monitor, at least 8; None leaves it out.
    boot : :class:`hw.boot.master.BootMaster`, optional
        As for :class:`Link`.

    Members
    -------
    rx, tx : ``In(1)``, ``Out(1)``
        UART pins, idle high.
    leds : ``Out(8)``
        0 core runs, 1 link active, 2 a frame was dropped, 3 the core or the memory reports an
        error (sticky),
        4..6 low bits of the count of images, 7 always lit; while ``boot.shows``, ``boot.leds``.
    busy : ``Out(1)``
        Low while nothing happens unless ``rx`` falls; lets a simulation sleep.
    running, phase : ``Out(1)``
        ``busy`` and ``phase`` of the core, a cycle late, for pins.
    restart : ``Out(Restart)``
        What the host or the watchdog wants the board to be restarted for; stays until that
        happens.
    state : ``In(BoardState)``
        See :data:`hw.register.STATE_BITS`.
    identity : ``In(32)``
        ``Register.IDENTITY``.
    i2c : ``Out(I2cPins())``
        With ``meter``: the bus of the power monitor (:class:`hw.meter.power_meter.PowerMeter`).
    spi : ``Out(SpiPins())``
        With ``boot``: the flash or the card.
    """

    def __init__(self, config, *, memory, divisor, core=None, meter=None, boot=None):
        if core is None:
            from hw.core import Core

            core = Core(config)
        self._config = config
        self._memory = memory
        self._core = core
        self._divisor = divisor
        self._link = Link(divisor=divisor, config_digest=config_digest(config),
                          memory_words=memory.words,
                          capabilities=(*getattr(core, "capabilities", ()),
                                        *(["meter"] if meter else [])), boot=boot)
        self._boot = boot
        self._meter = meter and PowerMeter(quarter=meter)
        super().__init__({
            **_line(divisor),
            "leds": Out(8),
            "busy": Out(1),
            "running": Out(1),
            "phase": Out(1),
            "restart": Out(Restart),
            "state": In(BoardState),
            "identity": In(32),
            **({"i2c": Out(I2cPins())} if meter else {}),
            **({"spi": Out(SpiPins())} if boot is not None else {}),
            **{name: member for name, member in memory.signature.members.items()
               if name == "pins"},
        })

    @property
    def config(self):
        return self._config

    @property
    def divisor(self):
        return self._divisor

    @property
    def boots_from(self):
        """One of :data:`hw.boot_layout.SOURCES`, or None."""
        return None if self._boot is None else self._boot.boots_from

    def elaborate(self, platform):
        m = Module()

        m.submodules.link = link = self._link
        m.submodules.core = core = self._core
        m.submodules.memory = memory = self._memory
        wiring.connect(m, link.memory, core.host)
        wiring.connect(m, core.memory, memory.memory)
        memory_busy, memory_fault = Signal(), Signal()
        m.d.comb += link.memory_status.ready.eq(1)
        if "status" in memory.signature.members:
            m.d.comb += [
                link.memory_status.eq(memory.status),
                memory_fault.eq(memory.status.fault != MemoryFault.NONE),
                memory_busy.eq(~memory.status.ready & ~memory_fault),
            ]
        if "tests" in memory.signature.members:
            wiring.connect(m, link.tests, memory.tests)
            with m.If(memory.tests.status.running):
                m.d.comb += memory_busy.eq(1)
        if "warm" in memory.signature.members:
            m.d.comb += memory.warm.eq((self.state.cause == Restart.ABORT)
                                       | (self.state.cause == Restart.WATCHDOG))
        m.submodules.watchdog = watchdog = Watchdog()
        m.d.comb += [
            watchdog.limit.eq(link.watchdog),
            watchdog.core_busy.eq(core.busy),
            watchdog.image.eq(core.counters[Counter.IMAGES]),
            link.state.eq(self.state),
            link.identity.eq(self.identity),
        ]
        with m.If(self.restart == Restart.CONFIGURATION):
            m.d.sync += self.restart.eq(link.restart)
            with m.If(watchdog.expired):
                m.d.sync += self.restart.eq(Restart.WATCHDOG)
        m.d.comb += [
            core.start.eq(link.start),
            core.ring.eq(link.ring),
            link.core_busy.eq(core.busy),
            link.counters.eq(core.counters),
            self.busy.eq(link.busy | link.start | core.busy | memory_busy),
        ]
        if self._divisor is None:
            wiring.connect(m, wiring.flipped(self.received), link.received)
            wiring.connect(m, link.sent, wiring.flipped(self.sent))
        else:
            m.d.comb += [link.rx.eq(self.rx), self.tx.eq(link.tx)]
        if "pins" in self.signature.members:
            wiring.connect(m, memory.pins, wiring.flipped(self.pins))
        for register in CONTROL_BITS:
            name = register.name.lower()
            m.d.comb += getattr(core, name).eq(getattr(link, name))

        if self._meter:
            m.submodules.meter = meter = self._meter
            wiring.connect(m, link.meter, meter.bus)
            wiring.connect(m, meter.pins, wiring.flipped(self.i2c))
            m.d.comb += meter.running.eq(self.running)
        m.d.sync += [self.running.eq(core.busy), self.phase.eq(core.phase)]
        errors, link_busy, link_errors = Signal(), Signal(), Signal()
        m.d.sync += [errors.eq((core.counters[Counter.ERRORS] != 0) | memory_fault),
                     link_busy.eq(link.busy), link_errors.eq(link.link_errors != 0)]
        m.d.comb += self.leds.eq(Cat(core.busy, link_busy, link_errors, errors,
                                     core.counters[Counter.IMAGES][:3], C(1, 1)))
        if self._boot is not None:
            wiring.connect(m, self._boot.pins, wiring.flipped(self.spi))
            with m.If(self._boot.shows):
                m.d.comb += self.leds.eq(self._boot.leds)

        return m
