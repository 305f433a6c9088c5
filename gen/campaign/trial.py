"""One fault of a campaign: planted in a board of its own, and what came of it.

The host's side is what every run uses: device, session, checks and runner.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
import logging
from pathlib import Path
import tempfile
import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boards.spec import BoardSpec
from gen.campaign.board import memory_place
from gen.campaign.fault import Fault
from gen.campaign.line import FaultyLine
from gen.campaign.loader import PowerCutLoader
from gen.compile.package import ProgramImage
from gen.compile.results import classes_of
from gen.device.check import Checks
from gen.device.device import Device
from gen.device.flash import program
from gen.device.port import LinkError
from gen.device.runner import Runner
from gen.device.transport import Transport
from model.error import BuildError, ToolFailed, WeightsMismatch
from sim.rtl.back_door import BackDoorError, CopiedBoard


__all__ = ["CLASSES", "Reference", "Trial", "Trials"]


log = logging.getLogger(__name__)

CLASSES = {
    "masked": "the result is right",
    "detected": "an error, and the next run is right",
    "wrong": "a wrong result was returned as right, or a board that must not be used was",
    "wedged": "an error, and a command is needed before the next run is right",
    "hung": "no result and no error within the time limit",
    "lost": "not even a command helps",
}
"""What comes of a fault."""

ATTEMPTS = 3
"""Runs behind an error, of which one must be right: a restart may come late and end another."""

IDENTITY = 0x51D7_0001
"""Of the bitstreams here, which are as unlike as two builds."""


@dataclass(frozen=True)
class Reference:
    """What is right: images int8 (N, C, H, W), accumulators int64 (N, classes) of the integer
    model, and signatures and accumulators by the instruction-set simulator for the check host."""

    images: NDArray[np.int8]
    wanted: NDArray[np.int64]
    host: Callable[[NDArray[np.int8]], tuple[Sequence[int], NDArray[np.int64]]]

    def checks(self, mode: str) -> Checks | None:
        if mode == "none":
            return None
        if mode == "host":
            return Checks(signatures=lambda image: self.host(image)[0],
                          results=lambda image: self.host(image)[1])
        return Checks(crc=mode == "crc", twice=mode == "twice")


class HookedDevice(Device):
    """Calls a function behind the first :meth:`wait`."""

    behind_wait: Callable[[], None] | None = None
    waited = 0
    """Bytes that were written in :meth:`wait`: as many as the host is fast."""

    def wait(self, **options: Any) -> None:
        before = self._transport.written
        super().wait(**options)
        self.waited += self._transport.written - before
        if self.behind_wait is not None:
            call, self.behind_wait = self.behind_wait, None
            call()


class Trial:
    """The board of one fault, and the host's side.

    Parameters
    ----------
    shelf : gen.campaign.board.Shelf
    image : ProgramImage
        Bound to the identity of the board.
    reference : Reference
    timeout : float
        Seconds without an answer after which a frame is sent again.
    patience : float
        Seconds for a run.
    board : BoardSpec
        Whose bitstream ``qsdt flash`` loads.
    open_port : callable
        Makes a transport of a board's ``url``.
    """

    def __init__(self, shelf: Any, image: ProgramImage, reference: Reference, *, timeout: float,
                 patience: float, board: BoardSpec,
                 open_port: Callable[[Any], Any] = Transport):
        self._open_port = open_port
        self.shelf, self.reference, self._board_spec = shelf, reference, board
        self.image = replace(image, identity=IDENTITY, source="program.img")
        self._timeout, self._patience = timeout, patience
        self.board: Any = None
        self.line: Any = None
        self.device: Any = None
        self.runner: Any = None
        """What there is so far: the board is there first, the others when it was opened."""
        self.mute = self._stopped = False
        self.arm: Callable[[], None] | None = None
        """Called when the port has been opened, before anything goes over it."""
        self.take(shelf.loaded())

    def take(self, board: CopiedBoard, identity: int = IDENTITY) -> None:
        """Go on with another board on the same port.

        Raises
        ------
        BackDoorError
            After :meth:`stop`.
        """
        if self.board is not None:
            self.board.stop()
        self.board = board
        if self._stopped:
            board.stop()
            raise BackDoorError("The trial was stopped")
        board.door.identify(identity)

    def stop(self) -> None:
        """Take the power away for good. From any thread."""
        self._stopped = True
        self.board.stop()

    def connect(self) -> Device:
        """What a runner opens the device with."""
        self.line = FaultyLine(self._open_port(self.board.url))
        self.line.mute = self.mute
        if self.arm is not None:
            arm, self.arm = self.arm, None
            arm()
        self.device = HookedDevice(self.line, timeout=0.05 if self.mute else self._timeout)
        return self.device

    def open(self, image: ProgramImage | None = None) -> Runner:
        """The runner, for the trial's own program image or for another one."""
        self.runner = Runner(self.connect, self.image if image is None else image)
        return self.runner

    def run(self, number: int, mode: str) -> NDArray[np.int64]:
        """Accumulators int64 (classes,) of an image."""
        acc, *_ = self.runner.run(self.reference.images[[number]], timeout=self._patience,
                                  checks=self.reference.checks(mode))
        return acc[0]

    def is_right(self, number: int, acc: NDArray[np.int64]) -> bool:
        return np.array_equal(acc, self.reference.wanted[number])

    def flash(self, cut: float | None = None) -> None:
        """Load the bitstream by ``qsdt flash``; the power may fail at a share of it."""
        with tempfile.TemporaryDirectory(prefix="qsdt-loader-") as folder:
            loader = PowerCutLoader(Path(folder), self._board_spec, cut)
            self.mute = True                    # from the first byte on the chip is empty
            program(self._board_spec, loader.bitstream, loader=str(loader.path))
        self.mute = False
        self.take(self.shelf.blank())

    def close(self) -> None:
        if self.runner is not None:
            self.runner.close()
        if self.board is not None:
            self.board.stop()


class Trials:
    """Runs faults. From any thread.

    Parameters
    ----------
    make : callable
        Makes a :class:`Trial`.
    timeout : float
        As for :class:`Trial`.
    limit : float
        Seconds after which a trial counts as hung.
    """

    def __init__(self, make: Callable[[], Trial], *, timeout: float, limit: float):
        self._make, self._timeout, self._limit = make, timeout, limit
        self._active: set[Trial] = set()

    def stop(self) -> None:
        """Take the power from all boards: trials that run end soon, and what they say is void."""
        for trial in list(self._active):
            trial.stop()

    def run(self, fault: Fault) -> dict[str, Any]:
        """What came of it: ``class``, one of :data:`CLASSES`; ``error``, the host's; ``recovered``
        by ``itself`` or by ``command``; ``planted``, whether it came about before the end of the
        run; ``other_class``, whether a wrong result has another class, too; ``seconds``."""
        trial = self._make()
        started = time.monotonic()
        hung = threading.Event()
        timer = threading.Timer(self._limit, self._end, (trial, hung))
        timer.daemon = True
        timer.start()
        self._active.add(trial)
        try:
            found = self._outcome(trial, fault)
        except BackDoorError:
            if not hung.is_set():
                raise
            found = {}
        finally:
            self._active.discard(trial)
            timer.cancel()
            trial.close()
        if hung.is_set():
            found = {"class": "hung", "error": found.get("error", "")}
        return {**fault.to_dict(), **found, "seconds": round(time.monotonic() - started, 2)}

    def _end(self, trial, hung):
        hung.set()
        trial.stop()

    def _outcome(self, trial: Trial, fault: Fault) -> dict[str, Any]:
        try:
            acc = self._faulty(trial, fault)
        except (LinkError, BuildError) as error:
            return {"planted": self._planted(trial, fault),
                    "error": f"{type(error).__name__}: {error}", **self._recovered(trial, fault)}
        found: dict[str, Any] = {"planted": self._planted(trial, fault), "error": ""}
        if fault.kind == "bitstream":
            return {**found, "class": "wrong"}
        if trial.is_right(fault.image, acc):
            return {**found, "class": "masked"}
        wanted = trial.reference.wanted[fault.image]
        other = bool(np.diff(classes_of(trial.image, np.stack([acc, wanted]))).any())
        return {**found, "class": "wrong", "other_class": other}

    def _faulty(self, trial: Trial, fault: Fault) -> NDArray[np.int64]:
        """Accumulators of the run with the fault."""
        place = fault.place
        step = place.get("step")
        if fault.kind == "flash":
            try:
                trial.flash(cut=place["share"])
            except ToolFailed as error:
                log.debug("%s", error)
        if fault.kind == "bitstream" and place["variant"] != "exchanged":
            return self._other_bitstream(trial, fault)
        if step == "open":
            trial.arm = lambda: self._interrupt(trial, fault, byte=place["byte"])
        trial.open()
        if step == "load":
            self._interrupt(trial, fault, byte=place["byte"])
        if step in ("open", "load"):            # else it is loaded by the back door
            trial.runner.load()
            trial.runner.check()
        self._plant(trial, fault)
        acc = trial.run(fault.image, fault.check)
        if fault.kind == "bitstream":
            # The power failed behind the run: the next one meets another bitstream.
            trial.take(trial.shelf.loaded(), IDENTITY ^ 1 << place["bit"])
            acc = trial.run(fault.image, fault.check)
        return acc

    def _other_bitstream(self, trial, fault):
        image = trial.image
        if fault.place["variant"] == "identity":
            trial.board.door.identify(IDENTITY ^ 1 << fault.place["bit"])
        else:
            image = replace(image, config=replace(image.config,
                                                  queue_depth=image.config.queue_depth + 1))
        trial.open(image)
        return trial.run(fault.image, fault.check)

    def _plant(self, trial: Trial, fault: Fault) -> None:
        """All but what comes while a board is opened or loaded."""
        door, place = trial.board.door, fault.place
        if "address" in place:
            flip = door.flip(*memory_place(door, place["address"]), place["bit"])
            if fault.kind == "result":
                trial.device.behind_wait = lambda: door.plant(flip)
            elif "cycle" in place:
                door.plant(flip, run=1, cycle=place["cycle"])
            else:
                door.plant(flip)
        elif "array" in place:
            door.plant(door.flip(place["array"], place["entry"], place["bit"]), run=1,
                       cycle=place["cycle"])
        elif fault.kind == "hang":
            door.plant(door.poke(*memory_place(door, place["word"]), place["value"]), run=1)
        elif fault.kind == "cut":
            trial.line.cut_after(place["byte"])
        elif "rate" in place:
            trial.line.begin(fault.kind, place["rate"], place["seed"],
                             longest=1.5 * self._timeout)
        elif place.get("step") in ("exchange", "run"):
            self._interrupt(trial, fault, byte=place.get("byte"))

    def _interrupt(self, trial: Trial, fault: Fault, *, byte: int | None) -> None:
        """A restart, or the end of the power, from a byte of the line or a cycle of the run on."""
        when = {"run": 1, "cycle": fault.place["cycle"]} if byte is None else {"byte": byte}
        trial.board.door.plant(("restart", fault.place["cause"]) if fault.kind == "restart"
                               else ("die",), **when)

    def _planted(self, trial: Trial, fault: Fault) -> bool:
        if fault.kind in ("bitstream", "flash", "power"):
            return True
        if trial.line is not None and trial.line.faults:
            return True
        try:
            return bool(trial.board.door.planted)
        except BackDoorError:                   # it was ended, or ended itself
            return False

    def _recovered(self, trial: Trial, fault: Fault) -> dict[str, Any]:
        """Class, and what it took until a run was right again."""
        if trial.line is not None:
            trial.line.end()
        wants_command = fault.kind == "flash" or fault.kind == "bitstream"
        if fault.kind == "power":
            trial.mute = not fault.place["back"]
            trial.take(trial.shelf.decayed())
        if not wants_command:
            right = self._again(trial, fault)
            if right is not None:
                return ({"class": "detected", "recovered": "itself"} if right else
                        {"class": "wrong", "recovered": "wrong result after the error"})
        trial.flash()
        right = self._again(trial, fault)
        if right is None:
            return {"class": "lost"}
        name = "detected" if fault.kind == "bitstream" else "wedged"
        return ({"class": name, "recovered": "command"} if right else
                {"class": "wrong", "recovered": "wrong result after the command"})

    def _again(self, trial: Trial, fault: Fault) -> bool | None:
        """Whether another image is right; None where only errors come."""
        number = (fault.image + 1) % len(trial.reference.images)
        for _ in range(ATTEMPTS):
            try:
                if trial.runner is None:
                    trial.open().recover()
                return trial.is_right(number, trial.run(number, "none"))
            except WeightsMismatch:
                return None
            except LinkError as error:
                log.debug("%s", error)
        return None
