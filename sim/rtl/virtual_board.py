"""The virtual board: the shell's RTL in Verilator, its UART behind a TCP socket."""

from pathlib import Path
import subprocess

from sim.rtl.verilator import build_simulator
from sim.twin.storage import STORAGE_VERILOG


__all__ = ["VirtualBoardError", "VirtualBoard"]


HARNESS = Path(__file__).with_name("virtual_board.cpp")


class VirtualBoardError(Exception):
    """The simulator did not start."""


class VirtualBoard:
    """A board that is a process. Use as a context manager; the host side is
    ``gen.device.device.Device``.

    The executable is compiled on the first use of a configuration (a minute or more, announced
    in the log) and taken from ``cache`` afterwards. While the design is idle the process sleeps.
    Any number of connections may follow each other; memory and registers stay as they are.

    Parameters
    ----------
    shell : :class:`hw.shell.Shell`
        With a small ``divisor``: a byte takes ``10 * divisor`` simulated cycles. 4 is best.
    cache : path
        Folder of compiled simulators.

    Raises
    ------
    sim.rtl.verilator.SimulatorMissing
        When entered: a tool is missing (found out before compiling).
    sim.rtl.verilator.SimulatorFailed
        When entered: compiling failed.
    """

    link_timeout = 60.0
    """Seconds that the host should wait for an answer: simulated time passes slowly."""

    def __init__(self, shell, *, cache):
        self._shell = shell
        self._cache = Path(cache)
        self._process = None
        self.url = None
        """Port for ``gen.device.device.Device``, ``socket://127.0.0.1:n``, while running."""
        self.cycles = None
        """Simulated cycles, after the board was stopped."""

    def start(self):
        if self._process is not None:
            raise RuntimeError("Virtual board must not be started twice")
        binary = build_simulator(self._shell, HARNESS, self._cache,
                                 sources=[STORAGE_VERILOG])
        self._process = subprocess.Popen([binary, str(self._shell.divisor)], text=True,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        line = self._process.stdout.readline().split()
        if len(line) != 2 or line[0] != "PORT":
            self.stop()
            raise VirtualBoardError(f"The simulator {binary} did not start")
        self.url = f"socket://127.0.0.1:{line[1]}"

    def stop(self):
        """End the process; it sees its input closed."""
        process, self._process, self.url = self._process, None, None
        if process is None:
            return
        try:
            output, _ = process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
        for line in output.splitlines():
            if line.startswith("CYCLES "):
                self.cycles = int(line.split()[1])

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exception):
        self.stop()
