"""Accelerators from Python: boards that stay open, take batches and give results.

    with Accelerator.open(board="ulx3s-85f", model="qsdt_nano", port="/dev/ttyUSB0") as found:
        classes = found.classify(images)

A board is opened once, loaded and checked; then it takes any number of batches, from any thread.
What comes back is right or an error, also where the board restarted, was unplugged, or another one
lies behind its port: before the next batch the host compares configuration, identity and, by
CRC-32, the memory (:class:`gen.device.runner.Runner`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import lru_cache
import itertools
import logging
from pathlib import Path
import threading
import time
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from boards import DEFAULT
from gen.api import configure, Design, ISS, load, RunResult, VIRTUAL
from gen.compile.results import outputs_of
from gen.device.check import CHECKS, Checks
from gen.device.port import LinkError
from gen.device.runner import Runner
from gen.machine.iss import Iss
from gen.opened import bound_image, reachable
from model.error import InputError, known
from model.progress import track
from sim.rtl.verilator import SIMULATORS


__all__ = ["Accelerator", "Pool"]


log = logging.getLogger(__name__)

PATIENCE_S = 10.0
"""For which a board that was unplugged is looked for."""

VIRTUAL_IMAGE_S, BOARD_IMAGE_S = 600.0, 10.0
"""Longest time of an image: a simulated one takes seconds, one on the board milliseconds."""


class _OnDevice:
    """A design on a board, or on the virtual board."""

    def __init__(self, design: Design, stack: ExitStack, *, device: str, cache: Path,
                 check: Sequence[str], folder: Path, patience: float):
        port = None if device == VIRTUAL else device
        self._timeout = VIRTUAL_IMAGE_S if port is None else BOARD_IMAGE_S
        image = design.image if port is None else bound_image(design, folder)
        self._descriptors = image.descriptors
        self._checks = _checks(design, check)
        connect = stack.enter_context(reachable(design.board, design.config, port, cache))
        self._runner = Runner(connect, image, patience=patience)
        stack.callback(self._runner.close)
        words = len(image.payload)
        with track("load", words, "words") as task:
            self._runner.load(task.reach)
        with track("check", words, "words") as task:
            self._runner.check(task.reach)
        self._loaded = (f"check after loading: {words} words of program, weights and constants "
                        f"have the right CRC; {task.seconds:.2f} s")
        self.batch = 1 if self._checks.each else self._runner.session.batch
        self._bitstream = self._runner.session.bitstream
        self.reconnect = self._runner.reconnect

    def run(self, images: NDArray[np.int8]) -> tuple[Any, Any, Mapping[str, int]]:
        acc, values, counters, _ = self._runner.run(images, timeout=self._timeout,
                                                    checks=self._checks)
        return acc, values, counters

    @property
    def checked(self) -> list[str]:
        return [self._bitstream, self._loaded, *self._checks.lines(self._descriptors)]


class _InSimulator:
    """A design in the instruction-set simulator, which has no counters."""

    batch = 1
    checked: Sequence[str] = ()

    def __init__(self, design: Design):
        self._program = design.program
        self._simulator = Iss(design.program)
        self._lock = threading.Lock()

    def reconnect(self) -> None:
        pass

    def run(self, images: NDArray[np.int8]) -> tuple[Any, Any, Mapping[str, int]]:
        total = len(images) * len(self._program.descriptors)
        with self._lock, track("run", total, "descriptors") as task:
            found = [self._simulator.run(image, progress=task.update)[:2] for image in images]
        accs, values = zip(*found, strict=True)
        return np.stack(accs), np.stack(values), {}


def _checks(design: Design, names: Sequence[str]) -> Checks:
    @lru_cache(maxsize=1)
    def simulated(words: bytes) -> tuple[list[int], NDArray[np.int64]]:
        image = np.frombuffer(words, np.int8).reshape(design.network.input_shape)
        acc, _, outcomes = Iss(design.program).run(image)
        return [outcome.write_hash for outcome in outcomes], acc.reshape(-1)

    checks = Checks(crc="crc" in names, twice="twice" in names)
    if "host" in names:
        checks.signatures = lambda image: simulated(image.tobytes())[0]
        checks.results = lambda image: simulated(image.tobytes())[1]
    return checks


class _Classifies:
    """What one accelerator and several have in common."""

    def __init__(self) -> None:
        self._worker: ThreadPoolExecutor | None = None
        self._starting = threading.Lock()

    def run(self, images: NDArray[np.int8]) -> RunResult:
        raise NotImplementedError

    def classify(self, images: NDArray[np.int8]) -> NDArray[np.int64]:
        """(N,) the class of each image; see :meth:`run`."""
        return self.run(images).classes

    def submit(self, images: NDArray[np.int8]) -> Future[RunResult]:
        """:meth:`run` in the background; batches are run in the order in which they came.

        The array must stay as it is until then. ``Future.result()`` raises what :meth:`run`
        does. What has not begun when the accelerator is closed is cancelled.
        """
        with self._starting:
            if self._worker is None:
                self._worker = ThreadPoolExecutor(1, thread_name_prefix="accelerator")
            return self._worker.submit(self.run, images)

    def stream(self, batches: Iterable[NDArray[np.int8]], *, ahead: int = 2
               ) -> Iterator[RunResult]:
        """Results of batches in their order, while the next ones are prepared.

        Takes at most ``ahead`` batches (at least 1) more than were asked for.
        """
        if ahead < 1:
            raise InputError(f"ahead must be at least 1, not {ahead}")
        source = iter(batches)
        waiting = [self.submit(batch) for batch in itertools.islice(source, ahead)]
        while waiting:
            result = waiting.pop(0).result()
            waiting += [self.submit(batch) for batch in itertools.islice(source, 1)]
            yield result

    def close(self) -> None:
        with self._starting:
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Accelerator(_Classifies):
    """A board with a design on it, open until :meth:`close`. Use as a context manager.

    All methods may be called from any thread; batches of several threads take turns.

    Parameters
    ----------
    design : gen.api.Design
    device, cache, check, folder
        As for :func:`gen.api.run`.
    retries : int
        Times that a batch is run again after an error of the board or of the line. Each is logged
        as a warning. 0: the error is raised, and the next call makes sure of the board first.
    patience : float
        Seconds for which a board that was unplugged is looked for.

    Raises
    ------
    model.error.InputError
        The board does not answer, or holds something else (WeightsMismatch).
    model.error.ToolMissing, model.error.ToolFailed
        The virtual board cannot be compiled.
    """

    def __init__(self, design: Design, *, device: str = VIRTUAL, cache: Path | str = SIMULATORS,
                 check: Sequence[str] = (), folder: Path | str | None = None, retries: int = 0,
                 patience: float = PATIENCE_S):
        super().__init__()
        for name in check:
            known("check", name, CHECKS)
        if retries < 0 or patience < 0:
            raise InputError(f"retries and patience must not be negative, not {retries} and "
                             f"{patience}")
        if device == ISS and check:
            raise InputError("The instruction-set simulator has no checks: they are for devices")
        self.design, self.name = design, device
        self._retries = retries
        self._stack = ExitStack()
        with ExitStack() as stack:
            try:
                self._backend = _InSimulator(design) if device == ISS else _OnDevice(
                    design, stack, device=device, cache=Path(cache), check=check,
                    folder=Path(folder) if folder else design.folder, patience=patience)
            except LinkError as error:
                raise InputError(str(error)) from None
            self._stack = stack.pop_all()
        self.batch = self._backend.batch
        """Images that the device takes at once; more are run in several parts."""

    @classmethod
    def open(cls, *, board: str = DEFAULT, model: str | None = None,
             weights: Path | str | None = None, port: str | None = None,
             overrides: Mapping[str, Any] | None = None, **options: Any) -> Self:
        """Load a network, configure it for a board, and open that.

        Parameters
        ----------
        board : str
            A name of `boards.BOARDS` or an alias, with ``port``; or ``virtual`` or ``iss``, the
            simulators (:data:`gen.api.VIRTUAL`, :data:`gen.api.ISS`).
        model, weights
            As for :func:`gen.api.load`.
        port : str
            Serial port, such as ``/dev/ttyUSB0``, of a board that has the bitstream.
        overrides : mapping
            As for :func:`gen.api.configure`: those that the board was built with.
        **options
            As for the class.
        """
        return cls(_design(board, model, weights, overrides), device=_device(board, port),
                   **options)

    @property
    def checked(self) -> list[str]:
        """What was checked so far, a line each."""
        return list(self._backend.checked)

    def run(self, images: NDArray[np.int8]) -> RunResult:
        """Run images int8 (N, C, H, W), or samples (N, T, C, H, W) of T images, in units of
        1/48, at least one.

        Raises
        ------
        InputError
            The images have another shape; the board does not answer, or reports an error, or fails
            a check, ``retries`` times and once more.
        """
        images = _batch(self.design, images)
        started = time.monotonic()
        size = max(1, self.batch) if self._retries else len(images)
        parts = [self._part(images[start:start + size]) for start in range(0, len(images), size)]
        return _joined(parts, time.monotonic() - started, self.checked)

    def _part(self, images):
        left = self._retries
        while True:
            try:
                acc, values, counters = self._backend.run(images)
                return RunResult(acc, outputs_of(self.design.program, acc, values), counters, 0.0)
            except LinkError as error:
                if not left:
                    raise InputError(str(error)) from None
                left -= 1
                log.warning("%s; trying again", error)

    def reconnect(self) -> None:
        """Open the port anew and make sure of the board, as the next :meth:`run` after an error
        does by itself."""
        try:
            self._backend.reconnect()
        except LinkError as error:
            raise InputError(str(error)) from None

    def close(self) -> None:
        """Wait for the batch that runs, and give the port free."""
        super().close()
        self._stack.close()


class Pool(_Classifies):
    """Several accelerators that share every batch. Use as a context manager.

    Each takes the next part when it is done with one, so that a slower board does less; results
    are in the order of the images. A board that fails is left out until the end of the batch, and
    its part goes to another one.

    Parameters
    ----------
    accelerators : sequence of Accelerator
        Of the same network, at least one; closed with the pool.
    part : int or None
        Images that a board takes at a time: by default what fits the smallest, at most an even
        share.
    """

    def __init__(self, accelerators: Sequence[Accelerator], *, part: int | None = None):
        super().__init__()
        self.accelerators = list(accelerators)
        if not self.accelerators:
            raise InputError("A pool needs at least one accelerator")
        if len({found.design.network.digest() for found in self.accelerators}) > 1:
            raise InputError("All accelerators of a pool must have the same network")
        if part is not None and part < 1:
            raise InputError(f"part must be at least 1, not {part}")
        self._part = part

    @classmethod
    def open(cls, *, ports: Sequence[str], board: str = DEFAULT, model: str | None = None,
             weights: Path | str | None = None, overrides: Mapping[str, Any] | None = None,
             part: int | None = None, **options: Any) -> Self:
        """Open boards of one kind at several ports (``virtual`` and ``iss`` are some, too); the
        others are closed if one cannot be opened. Parameters as for :meth:`Accelerator.open`."""
        design = _design(board, model, weights, overrides)
        if not ports:
            raise InputError("Name the ports of the boards")
        with ExitStack() as stack:
            found = [stack.enter_context(Accelerator(design, device=port, **options))
                     for port in ports]
            pool = cls(found, part=part)
            stack.pop_all()
        return pool

    def run(self, images: NDArray[np.int8]) -> RunResult:
        """As :meth:`Accelerator.run`; an error only where all boards fail."""
        images = _batch(self.accelerators[0].design, images)
        started = time.monotonic()
        shares = _Shares(images, self._size(len(images)))
        with ThreadPoolExecutor(len(self.accelerators)) as workers:
            for future in [workers.submit(shares.work, found) for found in self.accelerators]:
                future.result()
        parts = shares.results()
        checked = [f"{found.name}: {line}" for found in self.accelerators
                   for line in found.checked]
        return _joined(parts, time.monotonic() - started, checked)

    def _size(self, count: int) -> int:
        if self._part is not None:
            return self._part
        even = -(-count // len(self.accelerators))
        return max(1, min(even, *(found.batch for found in self.accelerators)))

    def close(self) -> None:
        super().close()
        with ExitStack() as stack:
            for found in self.accelerators:
                stack.callback(found.close)


class _Shares:
    """Parts of a batch: those that nobody has taken, those that are at work, and the results."""

    def __init__(self, images: NDArray[np.int8], size: int):
        self._parts = [images[start:start + size] for start in range(0, len(images), size)]
        self._left = list(range(len(self._parts)))
        self._found: dict[int, RunResult] = {}
        self._errors: list[Exception] = []
        self._change = threading.Condition()

    def work(self, accelerator: Accelerator) -> None:
        """Take parts until all are done, or until the accelerator fails."""
        while (number := self._take()) is not None:
            try:
                result = accelerator.run(self._parts[number])
            except Exception as error:  # noqa: BLE001 (raised by results(), if nobody else helps)
                self._give_back(number, error)
                log.warning("%s: %s", accelerator.name, error)
                return
            with self._change:
                self._found[number] = result
                self._change.notify_all()

    def _take(self) -> int | None:
        with self._change:
            # Another's part may come back.
            while not self._left and len(self._found) < len(self._parts):
                self._change.wait()
            return self._left.pop(0) if self._left else None

    def _give_back(self, number: int, error: Exception) -> None:
        with self._change:
            self._left.insert(0, number)
            self._errors.append(error)
            self._change.notify_all()

    def results(self) -> list[RunResult]:
        """Of all parts in order, or the last error."""
        if len(self._found) < len(self._parts):
            raise self._errors[-1]
        return [self._found[number] for number in range(len(self._parts))]


def _design(board, model, weights, overrides):
    network = load(model, weights)
    name = Path(model or weights).stem
    return configure(network, board=DEFAULT if board in (VIRTUAL, ISS) else board, name=name,
                     overrides=overrides)


def _device(board, port):
    if board in (VIRTUAL, ISS):
        if port is not None:
            raise InputError(f"A port is for real boards, not for {board}")
        return board
    if port is None:
        raise InputError("Name the board's serial port, such as /dev/ttyUSB0 (qsdt doctor lists "
                         "those that are there), or use the board virtual")
    return port


def _batch(design, images):
    images = np.asarray(images)
    shape = tuple(design.network.input_shape)
    if images.dtype != np.int8 or images.shape[1:] != shape or not len(images):
        raise InputError(f"Images must be int8 of shape (N, {', '.join(map(str, shape))}) with N "
                         f"at least 1, in units of 1/48 (model.data.dataset.to_image_q), not "
                         f"{images.dtype} of shape {images.shape}")
    return images


def _joined(parts, seconds, checked):
    totals: dict[str, int] = {}
    for part in parts:
        for name, value in part.counters.items():
            totals[name] = totals.get(name, 0) + value
    outputs = {name: np.concatenate([part.outputs[name] for part in parts])
               for name in parts[0].outputs}
    return RunResult(np.concatenate([part.acc for part in parts]), outputs, totals, seconds,
                     checked)
