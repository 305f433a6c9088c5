"""A board on the bench: how a step of the bring-up reaches it, and what comes of a step."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
import time
from typing import Any

from boards import BoardSpec, DEFAULT, find_board
from gen.device.device import Device, MemoryFailed
from gen.device.port import LinkError
from hw.register import Restart


__all__ = ["Bench", "LimitedTransport", "Step", "StepFailed", "run_step"]


class StepFailed(Exception):
    """What a step found wrong, and what to try, the likeliest first."""

    def __init__(self, what: str, *remedies: str) -> None:
        super().__init__(what)
        self.remedies = remedies


class LimitedTransport:
    """A transport that ends with a :exc:`LinkError` at a deadline: no step waits longer.

    Every loop that waits for a device talks to it.
    """

    def __init__(self, transport: Any, deadline: float, limit_s: float) -> None:
        self._transport, self._deadline, self._limit_s = transport, deadline, limit_s
        self.port = getattr(transport, "port", "The device")

    def _check(self) -> None:
        if time.monotonic() >= self._deadline:
            raise LinkError(f"The step's limit of {self._limit_s:g} s is over")

    def write(self, data: bytes) -> None:
        self._check()
        self._transport.write(data)

    def read(self, timeout: float) -> bytes:
        self._check()
        return self._transport.read(min(timeout, max(0.0, self._deadline - time.monotonic())))

    def close(self) -> None:
        self._transport.close()


@dataclass
class Bench:
    """What the steps work on.

    Parameters
    ----------
    connect : callable
        Gives a transport to the board (:class:`gen.device.transport.Transport`); called once a
        step at least. What it raises ends the step.
    say : callable
        Prints a line, and keeps it.
    timeout : float
        Seconds without an answer after which a frame is sent again.
    patience : float
        Factor of the time limits: a simulated board is slow.
    press : callable or None
        Presses the board's button; None where a person does.
    ask : callable or None
        Puts a question to the person in front of the board, and returns whether the answer is
        yes; None where nobody is there.
    echoes, rounds : int
        Frames of the echo, and rounds of the block RAMs' test.
    identity : int or None
        ``Register.IDENTITY`` of the small bitstream, where its build folder says it.
    folder : path
        Where the map of the SDRAM's settings is written.
    design : gen.api.Design or None
        For the steps with the core.
    image : gen.compile.package.ProgramImage or None
        Its program, bound to the bitstream of its build.
    images : array or None
        int8 (N, C, H, W), for the last steps.
    layer : str
        That runs by itself.
    board : BoardSpec
        What its button and its LEDs are called.
    """

    connect: Callable[[], Any]
    say: Callable[[str], None]
    timeout: float = 1.0
    patience: float = 1.0
    press: Callable[[], None] | None = None
    ask: Callable[[str], bool] | None = None
    echoes: int = 2000
    rounds: int = 64
    identity: int | None = None
    folder: Any = None
    design: Any = None
    image: Any = None
    images: Any = None
    layer: str = ""
    board: BoardSpec = field(default_factory=lambda: find_board(DEFAULT))
    deadline: float = 0.0
    """Of the step that runs, of time.monotonic()."""
    limit_s: float = 0.0

    @contextmanager
    def opened(self, *, need_memory: bool = False) -> Iterator[Device]:
        """The board, in a session of its own."""
        transport = LimitedTransport(self.connect(), self.deadline, self.limit_s)
        with Device(transport, timeout=self.timeout, need_memory=need_memory) as device:
            yield device


@dataclass(frozen=True)
class Step:
    """One step.

    Parameters
    ----------
    title, shows : str
        Its name, and what it shows when it passes.
    run : callable
        ``run(bench)`` returns lines with what was found, or raises :exc:`StepFailed`.
    limit_s : float
        It fails after this time, at the pace of a board.
    core : bool
        It needs the bitstream of the core, else the small one.
    """

    title: str
    shows: str
    run: Callable[[Bench], Sequence[str]]
    limit_s: float
    core: bool = False


REMEDIES = {
    Restart.CONFIGURATION: "look at the supply: another cable, a port of the computer itself",
    Restart.HOST: "end other programs that use this port",
    Restart.ABORT: "end other programs that use this port",
    Restart.BUTTON: "leave the board's button alone but in step 1",
    Restart.WATCHDOG: "build the program again, or the bitstream with a lower clock_mhz",
    Restart.LOCK: "look at the supply: another cable, a port of the computer itself",
}
"""What to try after a restart in the middle of a step, by its cause."""


def run_step(bench: Bench, step: Step) -> StepFailed | None:
    """Run a step, say what came of it, and return what is wrong, None if nothing is."""
    bench.limit_s = step.limit_s * bench.patience
    bench.deadline = time.monotonic() + bench.limit_s
    bench.say(f"  shows: {step.shows}")
    started = time.monotonic()
    try:
        lines = step.run(bench)
    except StepFailed as error:
        failure = error
    except LinkError as error:
        failure = of_link_error(error, bench.board)
    else:
        for line in lines[:-1]:
            bench.say(f"  {line}")
        bench.say(f"  PASS: {lines[-1]} ({time.monotonic() - started:.1f} s)")
        return None
    bench.say(f"  FAIL: {failure}")
    for remedy in failure.remedies:
        bench.say(f"  try: {remedy}")
    return failure


def of_link_error(error: LinkError, board: BoardSpec) -> StepFailed:
    """What a broken link means to a step."""
    if isinstance(error, MemoryFailed):
        return StepFailed(str(error), "back to --step 4 (lock and phase map), which shows why")
    cause = getattr(error, "cause", None)
    if cause in REMEDIES:
        return StepFailed(str(error), REMEDIES[cause], "then this step again")
    return StepFailed(
        str(error), "this step again",
        f"look at the LEDs (docs/bringup.md): {board.alive_led} tells whether the chip's clock "
        "runs",
        f"{f'press {board.button} for a second, or ' if board.button else ''}load the bitstream "
        "again; another cable or port of the computer")
