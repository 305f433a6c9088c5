"""Numbers that nobody measured: a likely value with a range and a source, apart from all others.

An estimate has ``low``, ``likely`` and ``high``, and never a ``value``: tables of measured figures,
whose cells are {"value", "tag"}, refuse it.
"""

from dataclasses import dataclass
import math
from typing import Any


__all__ = ["Estimate"]


@dataclass(frozen=True)
class Estimate:
    """A number that nobody measured.

    Parameters
    ----------
    low, likely, high : float
        low <= likely <= high; a measurement outside of low to high would be a surprise.
    source : str
        Where it comes from.
    """

    low: float
    likely: float
    high: float
    source: str = ""

    def __post_init__(self) -> None:
        if not self.low <= self.likely <= self.high:
            raise ValueError(f"An estimate needs low <= likely <= high, not {self.low:g}, "
                             f"{self.likely:g}, {self.high:g}")

    def __add__(self, other: "Estimate") -> "Estimate":
        """The sum of independent estimates: ranges add as the squares of their lengths."""
        likely = self.likely + other.likely
        return Estimate(
            likely - math.hypot(self.likely - self.low, other.likely - other.low), likely,
            likely + math.hypot(self.high - self.likely, other.high - other.likely))

    def times(self, other: "Estimate") -> "Estimate":
        """The product of independent estimates, both positive."""
        likely = self.likely * other.likely
        if not likely:
            return Estimate(self.low * other.low, likely, self.high * other.high)
        down = math.hypot(1 - self.low / self.likely, 1 - other.low / other.likely)
        up = math.hypot(self.high / self.likely - 1, other.high / other.likely - 1)
        return Estimate(max(0.0, likely * (1 - down)), likely, likely * (1 + up))

    def by(self, other: "Estimate", source: str = "") -> "Estimate":
        """The product with the widest range: both are low together, and high together."""
        return Estimate(self.low * other.low, self.likely * other.likely, self.high * other.high,
                        source)

    def scaled(self, factor: float, source: str = "") -> "Estimate":
        """Times a known factor."""
        return self.by(Estimate(factor, factor, factor), source or self.source)

    def to_json(self) -> dict[str, Any]:
        """As plain data; there is no key ``value``."""
        return {"low": self.low, "likely": self.likely, "high": self.high, "tag": "estimate",
                **({"source": self.source} if self.source else {})}

    def text(self, unit: str, factor: float = 1.0) -> str:
        """The likely value and its range, two digits each."""
        low, likely, high = (f"{float(f'{factor * value:.2g}'):g}" for value in
                             (self.low, self.likely, self.high))
        return f"{likely} {unit} ({low} to {high})"
