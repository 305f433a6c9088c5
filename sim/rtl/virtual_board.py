"""The virtual board: the shell's RTL in Verilator, its line behind a TCP socket."""

from functools import partial
from pathlib import Path
import socket
import struct
import subprocess
import threading

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.port import BoardState
from hw.register import Restart
from hw.shell import Shell
from sim.rtl.back_door import BACK_DOOR, BackDoor, Control, public_arrays
from sim.rtl.verilator import build_simulator
from sim.rtl.verilog import cached_verilog, to_verilog
from sim.twin.storage import STORAGE_VERILOG


__all__ = ["VirtualBoardError", "VirtualBoard", "VirtualTop"]


HARNESS = Path(__file__).with_name("virtual_board.cpp")

MONITOR_WORLD = Path(__file__).with_name("monitor_world.cpp")


BYTE_CYCLES = 4
"""Cycles from one byte to the next on a line without a UART: the frames' receiver hands on eight
bytes in ten cycles, and commands take some more."""


class VirtualBoardError(Exception):
    """The simulator did not start."""


class VirtualTop(wiring.Component):
    """The shell with its line in registers, for a C++ harness.

    As in :class:`sim.rtl.top.RtlTop` nothing combinational hangs on an input. The domain has a
    reset, as only simulations have: on a chip global set/reset does the same.

    Parameters
    ----------
    config, divisor, core
        As for :class:`hw.shell.Shell`.
    memory : functools.partial
        Makes the memory.
    meter : int or None
        As for :class:`hw.shell.Shell`.
    boot : functools.partial, optional
        Makes a :class:`hw.boot.master.BootMaster`.

    Members
    -------
    rx, tx : ``In(1)``, ``Out(1)``
        The line of a shell with a UART; of one without, ``received`` and ``sent`` are its bytes,
        each with a ``…_valid``.
    busy, restart, state, leds, identity
        Of the shell.
    spi_clk, spi_select, spi_copi, spi_cipo
        With ``boot``, its pins.
    rst : ``In(1)``
        Restarts everything.
    scl_low, sda_low : ``Out(1)``, scl, sda : ``In(1)``, running : ``Out(1)``
        With ``meter``: ``i2c`` and ``running`` of the shell. ``busy`` is then always 1.
    """

    def __init__(self, config, *, memory, divisor=None, core=None, meter=None, boot=None):
        self._shell = Shell(config, memory=memory(), divisor=divisor, core=core, meter=meter,
                            boot=boot and boot())
        self._meter = meter is not None
        line = {"rx": In(1, init=1), "tx": Out(1, init=1)}
        if divisor is None:
            line = {"received": In(8), "received_valid": In(1), "sent": Out(8),
                    "sent_valid": Out(1)}
        if boot is not None:
            line |= {"spi_clk": Out(1), "spi_select": Out(1), "spi_copi": Out(1),
                     "spi_cipo": In(1, init=1)}
        super().__init__({"clk": In(1), "rst": In(1), **line, "busy": Out(1),
                          "restart": Out(len(Value.cast(self._shell.restart))),
                          "state": In(BoardState.size), "leds": Out(8), "identity": In(32),
                          **({"scl_low": Out(1), "sda_low": Out(1), "running": Out(1),
                              "scl": In(1, init=1), "sda": In(1, init=1)} if self._meter else {})})

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = domain = ClockDomain()
        m.submodules.shell = shell = self._shell
        m.d.comb += [
            domain.clk.eq(self.clk),
            domain.rst.eq(self.rst),
            self.busy.eq(1 if self._meter else shell.busy),
            self.restart.eq(shell.restart),
            shell.state.eq(self.state),
            shell.identity.eq(self.identity),
            self.leds.eq(shell.leds),
        ]
        if self._meter:
            m.d.sync += [shell.i2c.scl.eq(self.scl), shell.i2c.sda.eq(self.sda)]
            m.d.comb += [self.scl_low.eq(shell.i2c.scl_low), self.sda_low.eq(shell.i2c.sda_low),
                         self.running.eq(shell.running)]
        if "spi" in shell.signature.members:
            spi = shell.spi
            m.d.comb += [self.spi_clk.eq(spi.clk), self.spi_select.eq(spi.select),
                         self.spi_copi.eq(spi.copi)]
            m.d.sync += spi.cipo.eq(self.spi_cipo)
        if shell.divisor is None:
            m.d.sync += [
                shell.received.payload.eq(self.received),
                shell.received.valid.eq(self.received_valid),
            ]
            m.d.comb += [
                self.sent.eq(shell.sent.payload),
                self.sent_valid.eq(shell.sent.valid),
                shell.sent.ready.eq(1),
            ]
        else:
            m.d.sync += shell.rx.eq(self.rx)
            m.d.comb += self.tx.eq(shell.tx)
        return m


class VirtualBoard:
    """A board that is a process. Use as a context manager; the host side is
    ``gen.device.device.Device``.

    The executable is compiled on the first use of a configuration (a minute or more, announced
    in the log) and taken from ``cache`` afterwards. While the design is idle the process sleeps.
    Any number of connections may follow each other; memory and registers stay as they are. A
    restart that the host asks for comes 1,000 times ``divisor`` cycles later, and keeps what
    the memory holds.

    Parameters
    ----------
    config, memory, divisor, core
        As for :class:`VirtualTop`. Without a UART (``divisor`` None) a byte takes
        :data:`BYTE_CYCLES` simulated cycles, else ``10 * divisor``.
    cache : path
        Folder of compiled simulators.
    monitor : sim.twin.power_monitor.PowerMonitor or None
        On the bus of the power monitor; then ``meter`` must be given. Such a board never sleeps.
    meter : int or None
        As for :class:`VirtualTop`.

    Raises
    ------
    sim.rtl.verilator.SimulatorMissing
        When entered: a tool is missing (found out before compiling).
    sim.rtl.verilator.SimulatorFailed
        When entered: compiling failed.
    """

    SOURCES = OPTIONS = ()
    """More sources of the simulator, and options of Verilator."""

    link_timeout = 60.0
    """Seconds that the host should wait for an answer: simulated time passes slowly."""

    def __init__(self, config, *, memory, cache, divisor=None, core=None, meter=None,
                 monitor=None):
        if (meter is None) != (monitor is None):
            raise ValueError("A power monitor and its port go together")
        options = {} if meter is None else {"meter": meter}
        self._top = partial(VirtualTop, config, memory=memory, divisor=divisor, **options)
        self._monitor = monitor
        if core is not None:    # one of the caller's, which the cache cannot know
            self._top = self._top(core=core)
        self._prepare(divisor, cache)

    _monitor = None

    def _prepare(self, divisor, cache):
        self._divisor = divisor
        self._cache = Path(cache)
        self._process = self._folder = None
        self.door = None
        """The :class:`sim.rtl.back_door.BackDoor`, while running."""
        self.url = None
        """Port for ``gen.device.device.Device``, ``socket://127.0.0.1:n``, while running."""
        self.cycles = None
        """Simulated cycles, after the board was stopped."""
        self.said = {}
        """All numbers that the simulator then said, by their names."""

    def start(self):
        if self._process is not None:
            raise RuntimeError("Virtual board must not be started twice")
        binary = self._build().resolve()
        here, there = socket.socketpair()
        descriptors, environment = self._surroundings()
        with there:
            self._process = subprocess.Popen(
                [binary, str(self._divisor or BYTE_CYCLES)], text=True, cwd=self._folder,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
                pass_fds=[there.fileno(), *descriptors])
            if self._monitor is None:
                here.close()
            else:
                self._process.stdin.write(f"monitor {there.fileno()}\n")
                self._process.stdin.flush()
                threading.Thread(target=_serve, args=(here, self._monitor), daemon=True,
                                 name="power monitor").start()
        line = self._process.stdout.readline().split()
        if len(line) != 2 or line[0] != "PORT":
            self.stop()
            raise VirtualBoardError(f"The simulator {binary} did not start")
        self.url = f"socket://127.0.0.1:{line[1]}"
        self.door = BackDoor(Control(self._process.stdin, self._process.stdout))

    def _surroundings(self):
        """File descriptors that the process gets, too, and its environment, None for this one."""
        return (), None

    def _build(self):
        text = (cached_verilog(self._top, "top", self._cache)
                if isinstance(self._top, partial) else to_verilog(self._top, "top"))
        return build_simulator(
            public_arrays(text), HARNESS, self._cache,
            sources=[STORAGE_VERILOG, BACK_DOOR, *self.SOURCES,
                     *([MONITOR_WORLD] if self._monitor is not None else [])], options=[
                "-CFLAGS", "-DBACK_DOOR", *self.OPTIONS,
                *(["-CFLAGS", "-DBYTES"] if self._divisor is None else []),
                *(["-CFLAGS", "-DWORLD"] if self._monitor is not None else [])])

    def restart(self, cause=Restart.BUTTON, *, after=0):
        """Restart the board from outside, ``after`` cycles from about now on."""
        self._process.stdin.write(f"restart {after} {int(Restart(cause))}\n")
        self._process.stdin.flush()

    def stop(self):
        """End the process; it sees its input closed."""
        process, self._process, self.url, self.door = self._process, None, None, None
        if process is None:
            return
        try:
            output, _ = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
        for line in output.splitlines():
            name, _, value = line.partition(" ")
            if value.isdecimal():
                self.said[name] = int(value)
        self.cycles = self.said.get("CYCLES")

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exception):
        self.stop()


MESSAGE = struct.Struct("<BBQ")
"""Of the simulator: which lines the master pulls low (bit 0 SCL, bit 1 SDA), whether the core runs,
and the cycle."""


def _serve(connection, monitor):
    """Answer each message with a byte: which lines the device pulls low."""
    scl_low = sda_low = False
    with connection, connection.makefile("rb") as messages:
        while len(message := messages.read(MESSAGE.size)) == MESSAGE.size:
            pulled, monitor.running, monitor.cycle = MESSAGE.unpack(message)
            scl_low, sda_low = monitor.step(int(not (pulled & 1 or scl_low)),
                                            int(not (pulled & 2 or sda_low)))
            connection.sendall(bytes([scl_low | sda_low << 1]))
