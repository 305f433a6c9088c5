"""The interface of a power meter, and what it hands out: blocks of samples.

A meter is opened, started, read again and again, stopped and closed; one thread does all of that
(:mod:`gen.meter.recorder`). Times are seconds on the meter's clock: the host's monotonic clock
where the host asks for each sample, the meter's own where samples come as a stream.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from gen.meter.clock import Clock
from model.error import InputError


__all__ = ["Accuracy", "Block", "Meter", "MeterError", "Option", "Phase"]


class MeterError(InputError):
    """A meter cannot be opened, is not what it should be, or has stopped answering."""


@dataclass(frozen=True)
class Accuracy:
    """What is known of a meter's error.

    Parameters
    ----------
    gain : float
        Relative standard error of watts that stays the same over a recording, >= 0.
    offset_w : float
        Standard error of zero, in watts, >= 0.
    source : str
        Where both come from.
    """

    gain: float
    offset_w: float
    source: str


@dataclass(frozen=True)
class Option:
    """An option of a driver, as in ``--meter NAME:key=value``.

    Parameters
    ----------
    kind : type
        ``int`` (also in hexadecimal), ``float`` or ``str``.
    default : int, float, str or None
    text : str
        What it is, with its unit, for the help.
    low, high : float
        Smallest and largest value that makes sense.
    """

    kind: type
    default: float | str | None
    text: str
    low: float = float("-inf")
    high: float = float("inf")


@dataclass
class Block:
    """Samples that came together.

    Parameters
    ----------
    time_s : numpy.ndarray
        Float64 of shape (n,): middle of what each sample averages, on the meter's clock,
        increasing.
    volts, amps, watts : numpy.ndarray
        Float64 of shape (n,). Watts are the mean of the products, not the product of the means.
    arrival_s : float
        When the host had the last sample, on its monotonic clock.
    edges : list
        (time in s on the meter's clock, level) of each change of the marker, at full rate; the
        first level counts as a change if it is 1.
    lost : int
        Samples missing before or in this block, as far as the meter says so.
    clipped : int
        Samples of this block at the end of the meter's range: their value is a bound.
    """

    time_s: np.ndarray
    volts: np.ndarray
    amps: np.ndarray
    watts: np.ndarray
    arrival_s: float
    edges: list[tuple[float, int]] = field(default_factory=list)
    lost: int = 0
    clipped: int = 0


@dataclass(frozen=True)
class Phase:
    """A named span on the host's monotonic clock, in s."""

    name: str
    start_s: float
    end_s: float


class Meter(ABC):
    """A power meter.

    Parameters
    ----------
    options : dict
        Values of :attr:`OPTIONS`, all there and checked (:func:`gen.meter.choice.parse_meter`).

    Members
    -------
    name : str
        The word behind ``--meter``.
    rate_hz : float
        Nominal samples a second, valid once open.
    accuracy : Accuracy
        Valid once open.
    has_marker : bool
        Whether blocks may carry edges of a digital input.
    simulated : bool
        Whether no instrument is behind it; every output must say so.
    feeds : bool
        Whether the board has its supply from the meter, and so only while that is open.
    """

    name: ClassVar[str]
    OPTIONS: ClassVar[dict[str, Option]] = {}
    simulated: ClassVar[bool] = False
    own_clock: ClassVar[bool] = False
    """Whether times are on a clock of the meter's own, which arrivals are then fitted to."""

    rate_hz: float
    accuracy: Accuracy
    has_marker: bool = False
    feeds: bool = False

    def __init__(self, **options: float | str | None) -> None:
        self.options = {name: option.default for name, option in self.OPTIONS.items()} | options

    def __enter__(self) -> "Meter":
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def number(self, name: str) -> float:
        """Value of an option that is a number."""
        return float(self.options[name] or 0)

    @property
    def tag(self) -> str:
        """Provenance of its numbers: ``board``, or ``simulated``."""
        return "simulated" if self.simulated else "board"

    @abstractmethod
    def open(self) -> None:
        """Find the instrument and check what it is; raises :class:`MeterError`."""

    @abstractmethod
    def start(self) -> None:
        """Begin to sample."""

    @abstractmethod
    def read(self, timeout_s: float) -> Block | None:
        """The samples since the last call; None where none came within the time.

        Raises :class:`MeterError` where the meter has gone or the stream makes no sense.
        """

    @abstractmethod
    def stop(self) -> None:
        """End sampling; what has not been read is lost. Does not raise for a meter that is gone."""

    @abstractmethod
    def close(self) -> None:
        """Give the instrument back, as it was found; may be called again."""

    @abstractmethod
    def describe(self) -> str:
        """Instrument, settings and what it measures in a line, for the report."""

    def place(self, time_s: np.ndarray, edges: Sequence[tuple[float, int]],
              phases: Sequence[Phase]) -> Clock | None:
        """The map from this meter's clock to the host's where only the meter knows it.

        None leaves it to the arrivals (``own_clock``) or to the host's clock.
        """
        return None
