"""Where the energy of a run went: unconfigured, idle, running, above idle, for an image."""

from dataclasses import dataclass
from math import sqrt
from typing import Any

from gen.meter.energy import Energy, integrate, NORMAL
from gen.meter.trace import RUNNING, Trace
from model.error import InputError


__all__ = ["Account", "account", "IDLE", "joules_text", "RUNNING", "UNCONFIGURED"]


UNCONFIGURED = "unconfigured"
"""Powered, no bitstream loaded."""

IDLE = "idle"
"""Bitstream loaded, clocks running, no image."""


PREFIXES = (("J", 1.0), ("mJ", 1e-3), ("uJ", 1e-6), ("nJ", 1e-9))


def joules_text(joules: float, error: float) -> str:
    """An energy and half of its interval in the unit that suits them: ``4.5 +- 0.02 mJ``."""
    size = max(abs(joules), error)
    unit, factor = next((one for one in PREFIXES if size >= one[1]), PREFIXES[-1])
    return f"{joules / factor:.4g} +- {error / factor:.2g} {unit}"


@dataclass(frozen=True)
class Account:
    """Energies of a recording's phases.

    Parameters
    ----------
    phases : dict
        Energy of each phase that was recorded, by name; ``running`` is always there.
    images : int
        Classified during ``running``.
    tag : str
        ``board`` or ``simulated``.
    meter : str
        Instrument and settings.
    quality : str
        Rate, gaps, jitter and clock of the recording.
    window : str
        What begin and end of ``running`` are: the marker's edges or the host's times.
    """

    phases: dict[str, Energy]
    images: int
    tag: str
    meter: str
    quality: str
    window: str

    @property
    def running(self) -> Energy:
        """Energy while images were classified."""
        return self.phases[RUNNING]

    @property
    def image_j(self) -> tuple[float, float]:
        """Whole energy of the board for an image, and half of its 95 % interval, in J."""
        return self.running.joules / self.images, self.running.error_j / self.images

    @property
    def above_idle_j(self) -> tuple[float, float] | None:
        """Energy for an image above that of an idle board, and half of its 95 % interval, in J;
        None unless idle was measured. The meter's offset cancels, its gain error does not."""
        idle = self.phases.get(IDLE)
        if idle is None:
            return None
        run = self.running
        joules = run.joules - idle.watts * run.seconds
        share = run.seconds / idle.seconds
        error = sqrt(sum(run.errors[name] ** 2 + (share * idle.errors[name]) ** 2
                         for name in ("noise", "gaps", "edges"))
                     + (run.errors["gain"] / run.joules * joules) ** 2)
        return joules / self.images, NORMAL * error / self.images

    def lines(self) -> list[str]:
        """The account for people, each number with its provenance."""
        tag = self.tag
        lines = [f"meter: {self.meter} ({tag})", f"recording: {self.quality}"]
        for name, energy in self.phases.items():
            gaps = energy.gaps_text()
            lines.append(f"{name}: {energy.watts:.4g} +- {energy.error_w:.2g} W over "
                         f"{energy.seconds:.4g} s ({tag})" + (f"; {gaps}" if gaps else ""))
        lines.append(f"window of {RUNNING}: {self.window}")
        lines.append(f"energy per image, whole board: {joules_text(*self.image_j)} ({tag}, "
                     f"{self.images} images, 95 %)")
        above = self.above_idle_j
        lines.append("energy per image above idle: not known, since idle was not measured"
                     if above is None else
                     f"energy per image above idle: {joules_text(*above)} ({tag}, 95 %)")
        return lines

    def to_json(self) -> dict[str, Any]:
        """The account as plain data, units in the names."""
        joules, error = self.image_j
        above = self.above_idle_j
        return {
            "tag": self.tag, "meter": self.meter, "recording": self.quality,
            "window": self.window, "images": self.images,
            "phases": {name: {
                "watts": energy.watts, "error_watts": energy.error_w,
                "joules": energy.joules, "error_joules": energy.error_j,
                "seconds": energy.seconds, "bridged_gaps": energy.interpolated,
                "bridged_seconds": energy.interpolated_s, "longer_gaps": energy.missing,
                "missing_seconds": energy.missing_s, "bridged_up_to_seconds": energy.limit_s,
                "standard_errors_joules": energy.errors,
            } for name, energy in self.phases.items()},
            "joules_per_image": joules, "error_joules_per_image": error,
            "joules_per_image_above_idle": above and above[0],
            "error_joules_per_image_above_idle": above and above[1],
        }


def account(trace: Trace, images: int, *, limit_s: float | None = None) -> Account:
    """Integrate every phase of a recording.

    With a marker, ``running`` is from its first rising to its last falling edge in that phase;
    without one, it is what the host saw.

    Parameters
    ----------
    trace : Trace
        With a phase ``running``; ``idle`` and ``unconfigured`` if they were recorded.
    images : int
        Classified during ``running``, at least 1.
    limit_s : float, optional
        Gaps up to this length are bridged (:func:`gen.meter.energy.integrate`).

    Raises
    ------
    InputError
        Nothing ran, or a phase has too few samples.
    """
    if images < 1:
        raise InputError(f"energy per image needs at least one image, not {images}")
    if trace.phase(RUNNING) is None:
        raise InputError(f"the recording has no phase {RUNNING!r}: nothing ran while it lasted")
    window = "times of the host"
    phases = {}
    last = {phase.name: phase for phase in trace.phases}
    for name, phase in last.items():
        start, end = phase.start_s, phase.end_s
        edges = trace.window(phase) if name == RUNNING else None
        if edges is not None:
            start, end = edges
            window = "edges of the marker"
        try:
            phases[name] = integrate(trace, start, end, limit_s=limit_s)
        except InputError as error:
            raise InputError(f"phase {name}: {error}") from None
    return Account(phases, images, trace.tag, trace.meter, trace.quality(), window)
