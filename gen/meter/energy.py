"""Energy of a span of a recording: the integral, its gaps and its uncertainty."""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from gen.meter.trace import GAP_FACTOR, Trace
from model.error import InputError


__all__ = ["Energy", "INTERPOLATED_PERIODS", "MISSING_LIMIT", "integrate"]


INTERPOLATED_PERIODS = 10
"""Gaps up to so many periods are bridged by a straight line unless the caller says otherwise."""

MISSING_LIMIT = 0.05
"""Largest part of a span that may lie in longer gaps; more is no measurement."""

BATCHES = 16
"""Parts whose means tell how much the mean of the whole varies (method of batch means)."""

NORMAL = 1.96
"""Standard errors of a 95 % interval."""


@dataclass(frozen=True)
class Energy:
    """Energy of a span.

    Parameters
    ----------
    joules : float
        Whole energy of the span, the filled part included.
    seconds : float
        Length of the span.
    interpolated_s, interpolated : float, int
        Length and number of the gaps that a straight line bridges.
    missing_s, missing : float, int
        Length and number of the longer ones, which the mean power of the rest fills.
    limit_s : float
        Length up to which a gap is bridged, in s.
    errors : dict
        Standard errors in J by their cause: ``gain``, ``offset`` (the meter's), ``noise``,
        ``gaps``, ``edges`` (time of begin and end).
    """

    joules: float
    seconds: float
    interpolated_s: float
    interpolated: int
    missing_s: float
    missing: int
    limit_s: float
    errors: dict[str, float]

    @property
    def watts(self) -> float:
        """Mean power."""
        return self.joules / self.seconds

    @property
    def error_j(self) -> float:
        """Half of a 95 % interval, in J; all causes together."""
        return NORMAL * sqrt(sum(error ** 2 for error in self.errors.values()))

    @property
    def error_w(self) -> float:
        """Half of a 95 % interval of the mean power."""
        return self.error_j / self.seconds

    def gaps_text(self) -> str:
        """What was done about gaps, in words; empty without one."""
        words = []
        if self.interpolated:
            words.append(f"{self.interpolated} gaps, {self.interpolated_s:.3g} s together, "
                         f"bridged by straight lines (each up to {self.limit_s:.3g} s)")
        if self.missing:
            words.append(f"{self.missing} longer gaps, {self.missing_s:.3g} s together, filled "
                         "with the mean power of the rest")
        return "; ".join(words)


def integrate(trace: Trace, start_s: float, end_s: float, *,
              limit_s: float | None = None) -> Energy:
    """Energy between two times by the trapezoid rule over samples at any times.

    Parameters
    ----------
    trace : Trace
    start_s, end_s : float
        On the host's clock.
    limit_s : float, optional
        Gaps up to this length are bridged; :data:`INTERPOLATED_PERIODS` periods by default.

    Raises
    ------
    InputError
        The span is empty, or more than :data:`MISSING_LIMIT` of it has no samples.
    """
    seconds = end_s - start_s
    if seconds <= 0:
        raise InputError(f"a span of {seconds:.3g} s has no energy: its end must lie behind its "
                         "begin")
    period = trace.period_s
    limit_s = INTERPOLATED_PERIODS * period if limit_s is None else limit_s
    begin, end, power, length = _pieces(trace, start_s, end_s)
    inside = end > begin
    wide = inside & (length > GAP_FACTOR * period)
    missing = wide & (length > limit_s)
    bridged = wide & ~missing
    duration = np.where(inside, end - begin, 0.0)
    kept = inside & ~missing
    covered = float(duration[kept].sum())
    missing_s = max(0.0, seconds - covered)    # also before the first and behind the last sample
    outside = int(start_s < trace.time_s[0]) + int(end_s > trace.time_s[-1])
    if missing_s > MISSING_LIMIT * seconds:
        raise InputError(f"{missing_s:.3g} of {seconds:.3g} s have no samples (gaps longer than "
                         f"{limit_s:.3g} s): at most {MISSING_LIMIT:.0%} may be missing; record "
                         "at a lower rate, or with less beside it on the host")
    joules = float((power * duration)[kept].sum())
    mean = joules / covered
    inner = trace.watts[slice(*np.searchsorted(trace.time_s, [start_s, end_s]))]
    spread = float(np.ptp(np.quantile(inner, [0.01, 0.99]))) if len(inner) else 0.0
    interpolated_s = float(duration[bridged].sum())
    edge_s = sqrt(period ** 2 / 12 + trace.clock.error_s ** 2)
    return Energy(
        joules + mean * missing_s, seconds, interpolated_s, int(bridged.sum()), missing_s,
        int(missing.sum()) + outside, limit_s, {
            "gain": trace.accuracy.gain * abs(joules + mean * missing_s),
            "offset": trace.accuracy.offset_w * seconds,
            "noise": _noise(power, duration, kept) * seconds,
            "gaps": spread / sqrt(12) * (missing_s + interpolated_s),
            "edges": sqrt(2) * edge_s * spread,
        })


def _pieces(trace: Trace, start_s: float, end_s: float
            ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(begin, end, mean power, whole length) of each interval between samples that has to do with
    the span, cut to it; an interval outside ends before it begins."""
    near = slice(max(0, int(np.searchsorted(trace.time_s, start_s)) - 1),
                 int(np.searchsorted(trace.time_s, end_s, side="right")) + 1)
    time_s, watts = trace.time_s[near], trace.watts[near]
    first, last = time_s[:-1], time_s[1:]
    low, high = watts[:-1], watts[1:]
    begin, end = np.maximum(first, start_s), np.minimum(last, end_s)
    slope = (high - low) / (last - first)
    return begin, end, low + slope * ((begin + end) / 2 - first), last - first


def _noise(power: np.ndarray, duration: np.ndarray, kept: np.ndarray) -> float:
    """Standard error of the mean power, from the means of parts of equal length; 0 where there
    are too few samples to tell."""
    power, duration = power[kept], duration[kept]
    if len(power) < 2 * BATCHES:
        return 0.0
    at = np.cumsum(duration)
    part = np.minimum((BATCHES * (at - duration / 2) / at[-1]).astype(int), BATCHES - 1)
    weight = np.bincount(part, duration, BATCHES)
    means = np.bincount(part, power * duration, BATCHES)[weight > 0] / weight[weight > 0]
    return float(means.std(ddof=1) / sqrt(len(means)))
