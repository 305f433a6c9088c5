"""Two clocks that drift apart: the map from a meter's seconds to the host's."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.error import InputError


__all__ = ["Clock", "DRIFT_LIMIT_PPM", "from_arrivals", "from_events"]


DRIFT_LIMIT_PPM = 1000.0
"""Crystals are within 100 ppm, RC oscillators of cheap meters within 1 %: more than this between
marker and run means that they do not belong together."""

RATE_PPM = 50.0
"""Events and arrivals tell the rate only where the host's lateness is less than this part of their
span: crystals are that good by themselves."""

PARTS = 32
"""Parts of a recording, each of which gives its least delayed arrival."""


@dataclass(frozen=True)
class Clock:
    """``host = offset_s + rate * meter``.

    Parameters
    ----------
    offset_s : float
    rate : float
        Seconds of the host to one of the meter, about 1.
    error_s : float
        Standard error of a mapped time, in s.
    method : str
        How it was found, for the report.
    """

    offset_s: float = 0.0
    rate: float = 1.0
    error_s: float = 0.0
    method: str = "times of the host"

    def host(self, meter_s):
        """Host times of meter times; numbers or arrays."""
        return self.offset_s + self.rate * meter_s

    @property
    def ppm(self) -> float:
        """How much the meter's clock is slow (+) against the host's, in parts per million."""
        return (self.rate - 1.0) * 1e6

    def after(self, first: "Clock") -> "Clock":
        """This map behind `first`: from the clock that `first` takes to the one this gives."""
        return Clock(self.offset_s + self.rate * first.offset_s, self.rate * first.rate,
                     self.error_s, self.method)


def from_arrivals(meter_s: Sequence[float], arrival_s: Sequence[float]) -> Clock:
    """Map from times at which samples were taken and at which the host got them.

    A delay is never negative and sometimes small, so the line lies below the arrivals and touches
    the earliest of each part of the recording. A short one tells the offset only
    (:data:`RATE_PPM`).

    Parameters
    ----------
    meter_s, arrival_s : sequence of float
        Of the last sample of each block, in s; both increasing, at least one.
    """
    meter, arrival = np.asarray(meter_s, float), np.asarray(arrival_s, float)
    delay = arrival - meter
    span = meter[-1] - meter[0]
    earliest = Clock(float(delay.min()), 1.0, float(np.ptp(delay) / np.sqrt(12)),
                     "earliest arrival")
    if len(meter) < 4 * PARTS or span <= 0:
        return earliest
    part = np.minimum((PARTS * (meter - meter[0]) / span).astype(int), PARTS - 1)
    best = np.array([np.flatnonzero(part == p)[delay[part == p].argmin()]
                     for p in np.unique(part)])
    slope, offset = np.polyfit(meter[best] - meter[0], delay[best], 1)
    rest = delay[best] - (offset + slope * (meter[best] - meter[0]))
    if rest.std() > RATE_PPM * 1e-6 * span:
        return earliest
    return Clock(float(offset - slope * meter[0]), float(1 + slope), float(rest.std()),
                 "least delayed arrivals")


def from_events(meter_s: Sequence[float], host_s: Sequence[float], *, slack_s: float = 0.02,
                what: str = "the marker") -> Clock:
    """Map from events that both clocks saw.

    Parameters
    ----------
    meter_s, host_s : sequence of float
        Times of the same events in s, increasing. They give the rate, too, where they lie far
        enough apart (:data:`RATE_PPM`); otherwise the offset only.
    slack_s : float
        How late the host may see an event, in s.

    Raises
    ------
    InputError
        The clocks would drift more than :data:`DRIFT_LIMIT_PPM` apart.
    """
    meter, host = np.asarray(meter_s, float), np.asarray(host_s, float)
    late = float(slack_s / np.sqrt(12))
    span, expected = float(np.ptp(meter)), float(np.ptp(host))
    if abs(span - expected) > DRIFT_LIMIT_PPM * 1e-6 * expected + slack_s:
        raise InputError(f"{what} spans {span:.4g} s, but the run took {expected:.4g} s: this "
                         "is another recording, or the pin is another one")
    if len(meter) == 1 or slack_s > RATE_PPM * 1e-6 * span:
        return Clock(float((host - meter).mean()), 1.0, late, what)
    rate, offset = np.polyfit(meter - meter[0], host - host[0], 1)
    rest = (host - host[0]) - (offset + rate * (meter - meter[0]))
    return Clock(float(host[0] + offset - rate * meter[0]), float(rate),
                 max(late, float(rest.std())), what)
