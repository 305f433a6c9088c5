"""Sampling in a thread of its own, beside what is measured."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import threading
import time

from gen.meter.base import Block, Meter, MeterError, Phase
from gen.meter.trace import build, Trace


__all__ = ["Recorder"]


POLL_S = 0.1
"""Longest wait for samples at a time, and so for the end."""

JOIN_S = 10.0
"""Longest time that a meter may take to give its last samples."""


class Recorder:
    """Reads an open meter until it is left; a context.

    ::

        with parse_meter("ina:shunt=0.02") as meter, Recorder(meter) as recorder:
            with recorder.phase("idle"):
                time.sleep(10)
            with recorder.phase("running"):
                classify(images)
        trace = recorder.trace()

    A meter that goes in between ends the recording, not the inference: :meth:`check` and
    :meth:`trace` tell it.

    Parameters
    ----------
    meter : Meter
        Open, not started.
    watch : callable, optional
        Called with each block, in the recorder's thread.
    clock : callable, optional
        The host's monotonic clock, in s.
    """

    def __init__(self, meter: Meter, *, watch: Callable[[Block], None] | None = None,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._meter, self._watch, self._clock = meter, watch, clock
        self._blocks: list[Block] = []
        self._phases: list[Phase] = []
        self._ending = threading.Event()
        self._first = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"meter {meter.name}", daemon=True)

    def __enter__(self) -> "Recorder":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(JOIN_S)
        if self._thread.is_alive() and self._error is None:
            self._error = MeterError(f"{self._meter.name} does not stop; unplug it")

    def _run(self) -> None:
        try:
            self._meter.start()
            try:
                while not self._ending.is_set():
                    self._take()
                self._take()    # what came since
            finally:
                self._meter.stop()
        except BaseException as error:
            self._error = error
        finally:
            self._first.set()

    def _take(self) -> None:
        block = self._meter.read(POLL_S)
        if block is not None:
            self._blocks.append(block)
            self._first.set()
            if self._watch is not None:
                self._watch(block)

    def wait(self, timeout_s: float) -> None:
        """Wait for the first sample; raises :class:`MeterError` where none comes in time."""
        came = self._first.wait(timeout_s)
        self.check()
        if not came:
            raise MeterError(f"{self._meter.name} gives no sample within {timeout_s:g} s; look at "
                             "its wiring")

    def check(self) -> None:
        """Raise what ended the recording, if something did."""
        if self._error is not None:
            raise self._error

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """What happens inside is the phase `name` of the trace."""
        start = self._clock()
        yield
        self._phases.append(Phase(name, start, self._clock()))

    def trace(self) -> Trace:
        """What was recorded, after the context was left.

        Raises
        ------
        MeterError
            The meter went away, stopped answering or gave too few samples.
        """
        self.check()
        return build(self._meter, self._blocks, self._phases)
