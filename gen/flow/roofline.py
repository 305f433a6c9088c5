"""Roofline: what each layer does a cycle, against the work that it has for each byte it moves.

The model is that of S. Williams, A. Waterman, D. Patterson, "Roofline: an insightful visual
performance model for multicore architectures", Communications of the ACM 52(4), 2009: no point
lies above memory's bandwidth (a slope) nor above the peak of the compute units (a flat roof).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
import math
from typing import Any

from hw.config import level_planes, LEVELS_MAX


__all__ = ["Point", "draw", "fused", "planes_of", "roof"]


WIDTH, HEIGHT, LEFT, FOOT, TOP, RIGHT = 640, 360, 56, 40, 12, 10


@dataclass(frozen=True)
class Point:
    """A layer, or all of a network.

    Parameters
    ----------
    name : str
    macs : int
        Multiply-accumulates for an image.
    moved : float
        Bytes from and to memory for an image.
    cycles : float
        For an image.
    wall : str
        The unit that would need most of the cycles alone.
    group : str
        Layers of one group are fused; empty for a layer by itself.
    """

    name: str
    macs: float
    moved: float
    cycles: float
    wall: str = ""
    group: str = ""

    @property
    def drawn(self) -> bool:
        """Whether it has a place: one without work or traffic has none on logarithmic axes."""
        return bool(self.macs and self.moved and self.cycles)

    @property
    def intensity(self) -> float:
        """MAC a byte."""
        return self.macs / self.moved

    @property
    def rate(self) -> float:
        """MAC a cycle."""
        return self.macs / self.cycles


def planes_of(config: Mapping[str, Any]) -> int:
    """Bit-planes of a spike level, by a report's ``config`` (of AcceleratorConfig, or empty)."""
    return level_planes(config.get("core", {}).get("levels", LEVELS_MAX))


def roof(intensity: float, *, lanes: int, bytes_per_cycle: float, planes: int) -> float:
    """The most MAC a cycle that memory and array allow for so many MAC a byte.

    A lane adds one bit-plane of a product a cycle, and a spike level has ``planes`` of them.
    """
    return min(intensity * bytes_per_cycle, lanes / planes)


def fused(points: Iterable[Point]) -> list[Point]:
    """Each group of several layers as one point.

    Fused layers take turns, strip by strip: how much each of them prolongs the run says little,
    and what one of them does a cycle may be more than any roof allows.
    """
    groups: dict[str, list[Point]] = {}
    for point in points:
        if point.group:
            groups.setdefault(point.group, []).append(point)
    return [Point(f"{layers[0].name} to {layers[-1].name} ({len(layers)} fused layers)",
                  sum(layer.macs for layer in layers), sum(layer.moved for layer in layers),
                  sum(layer.cycles for layer in layers),
                  max(layers, key=lambda layer: layer.cycles).wall, group)
            for group, layers in groups.items() if len(layers) > 1]


def draw(points: Iterable[Point], *, lanes: int, bytes_per_cycle: float, clock_hz: float,
         tag: str, planes: int) -> dict[str, Any] | None:
    """The picture: places of points, roofs and numbers at the axes; None without a point.

    Parameters
    ----------
    points : iterable of Point
    lanes : int
        Of the array.
    bytes_per_cycle : float
        Bandwidth of the memory.
    clock_hz : float
        Of the core.
    tag : str
        How the cycles were obtained.
    planes : int
        Bit-planes of a spike level.

    Returns
    -------
    dict
        For the template roofline.html. Its ``points``, and ``groups`` of fused ones, have ``x``
        (MAC a byte), ``y`` (MAC a cycle), ``roof`` (the most that is possible at this x) and
        ``share`` (y / roof); ``left`` are the names of the layers without work or traffic.
    """
    points = list(points)
    groups = [group for group in fused(points) if group.drawn]
    shown = [point for point in points if point.drawn] + groups
    if not shown:
        return None
    options = {"lanes": lanes, "bytes_per_cycle": bytes_per_cycle, "planes": planes}
    peak = roof(math.inf, **options)    # type: ignore[arg-type]
    low = min(math.floor(math.log10(point.intensity)) for point in shown)
    high = max(math.ceil(math.log10(point.intensity)) for point in shown) + 0.2
    bottom = min(math.floor(math.log10(point.rate)) for point in shown)
    top = math.ceil(math.log10(max(peak, *(point.rate for point in shown)))) + 0.1

    def place(x: float, y: float) -> tuple[float, float]:
        return (LEFT + (math.log10(x) - low) / (high - low) * (WIDTH - LEFT - RIGHT),
                HEIGHT - FOOT
                - (math.log10(y) - bottom) / (top - bottom) * (HEIGHT - FOOT - TOP))

    rows = []
    for point in shown:
        most = roof(point.intensity, **options)    # type: ignore[arg-type]
        px, py = place(point.intensity, point.rate)
        rows.append({"name": point.name, "x": point.intensity, "y": point.rate, "roof": most,
                     "share": point.rate / most, "wall": point.wall, "px": px, "py": py})
    corner = max(10.0 ** low, 10.0 ** bottom / bytes_per_cycle)
    ridge = max(peak / bytes_per_cycle, 10.0 ** low)
    return {
        "points": rows[:len(rows) - len(groups)], "groups": rows[len(rows) - len(groups):],
        "left": [point.name for point in points if not point.drawn],
        "walls": [place(corner, roof(corner, **options)),    # type: ignore[arg-type]
                  place(ridge, peak), place(10.0 ** high, peak)],
        "ticks": [(place(10.0 ** k, 10.0 ** bottom), f"{10.0 ** k:g}")
                  for k in range(int(low), math.ceil(high))],
        "marks": [(place(10.0 ** low, 10.0 ** k), f"{10.0 ** k:g}")
                  for k in range(int(bottom), math.ceil(top))],
        "peak": peak, "planes": planes, "rate": bytes_per_cycle, "lanes": lanes, "tag": tag,
        "clock_mhz": clock_hz / 1e6, "peak_gmacs": peak * clock_hz / 1e9,
        "mb_per_s": bytes_per_cycle * clock_hz / 1e6, "width": WIDTH, "height": HEIGHT,
        "right": WIDTH - RIGHT}
