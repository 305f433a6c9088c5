"""Figures of a measurement: every number with its provenance, and how each is defined."""

from collections.abc import Mapping, Sequence
import statistics
from typing import Any

import numpy as np

from gen.flow.layers import layer_rows
from gen.machine.cost import layer_cycles, spans
from gen.measurement.runs import counted, Run, Runs
from hw.register import UNITS


__all__ = ["TAGS", "layer_figures", "logged_cycles", "roofs", "run_figures", "stall_rows",
           "tagged"]


TAGS = ("board", "rtl-sim", "gate-sim", "routed", "cost-model", "simulated", "paper")
"""How a number was obtained. ``simulated`` is a meter that is none. An ``estimate`` is no number of
a measurement: it has a range (:class:`gen.flow.estimate.Estimate`) and tables of its own."""

VIRTUAL_STEPS = 4
"""Virtual time steps of a spike level 0..4 (D of the published network): a dense
multiply-accumulate of a level counts as so many synaptic operations."""


SATURATIONS = "at least: modulo 2^16 from one look of the host to the next"


def tagged(value: float, tag: str, text: str = "") -> dict[str, Any]:
    """A number, how it was obtained, and what it is."""
    if tag not in TAGS:
        raise ValueError(f"Tag must be one of {', '.join(TAGS)}, not {tag!r}")
    return {"value": value, "tag": tag, **({"text": text} if text else {})}


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def run_figures(config: Any, layers: Sequence[Mapping], runs: Runs, tag: str,
                host: str = "by the host's clock") -> dict[str, Any]:
    """Speed, work and memory of the runs.

    Parameters
    ----------
    config : gen.config.spec.AcceleratorConfig
    layers : sequence of mapping
        Rows of :func:`layer_figures`.
    runs : Runs
    tag : str
        ``board`` or ``rtl-sim``.
    host : str
        Whose time it is that the host saw; not a board's where the tag is ``rtl-sim``.

    Returns
    -------
    dict
        Tagged values by name; times in seconds unless the name says otherwise.
    """
    cycles = _spread([run.cycles for run in runs.runs])
    clock = config.clock_hz
    total: dict[str, int] = {}
    for run in runs.runs:
        for name, value in run.counters.items():
            total[name] = (total.get(name, 0) | value if name == "ERRORS" else
                           total.get(name, 0) + value)
    images = runs.images
    by_clock = clock / cycles["median"]
    by_host = statistics.median(run.images / run.busy_s for run in runs.runs)
    with_link = images / sum(run.seconds for run in runs.runs)
    macs = sum(row["MAC"]["value"] for row in layers)
    events = total["SPIKE_EVENTS"] / images
    read, write = (8 * total[name] / images for name in ("READ_WORDS", "WRITE_WORDS"))
    unsure = ("; IT MAY HAVE WRAPPED UNSEEN: the host looked too seldom"
              if "SPIKE_EVENTS" in runs.doubtful else "")
    return {
        "images": tagged(images, tag, f"in {counted(len(runs.runs), 'run')}: {runs.way}; "
                                      f"{runs.warm_up} before as warm-up"),
        "images_compared": tagged(runs.compared, tag, "results equal to the integer model's"
                                  + ("" if runs.compared == images else "; those of the other "
                                     "images were overwritten by later ones")),
        "cycles_per_image": tagged(cycles["median"], tag, "median of the runs"),
        "cycles_per_image_low": tagged(cycles["low"], tag, "of the fastest run"),
        "cycles_per_image_high": tagged(cycles["high"], tag, "of the slowest run"),
        **_latencies(runs, clock, tag),
        "images_per_s": tagged(by_clock, tag, f"the cycle counter's, at {clock / 1e6:g} MHz"),
        "images_per_s_host": tagged(by_host, tag, f"from start to end of the core, {host}"),
        **({} if tag == "rtl-sim" else {"host_difference_percent": tagged(
            100 * (by_host / by_clock - 1), tag, "of the host's clock against the counter's")}),
        "images_per_s_link": tagged(with_link, tag, f"with images and results over the link, "
                                                    f"{host}"),
        "busy_percent": tagged(100 * sum(run.busy_s for run in runs.runs)
                               / sum(run.seconds for run in runs.runs), tag,
                               "of the time of the runs"),
        "peak_gsops": tagged(1e-9 * config.core.lanes * clock, "cost-model",
                             f"{config.core.lanes} lanes x {clock / 1e6:g} MHz: what the array "
                             "could do"),
        "dense_gsops": tagged(1e-9 * macs * VIRTUAL_STEPS * by_clock, tag,
                              f"MACs of the network x {VIRTUAL_STEPS} virtual time steps x images "
                              "a second, zeros included"),
        "executed_gsops": tagged(1e-9 * events * config.core.rows * by_clock, tag,
                                 f"spike events of the array x {config.core.rows} outputs x "
                                 f"images a second: what it did{unsure}"),
        "spike_events_per_image": tagged(events, tag, f"of the array{unsure}"),
        "memory_read_bytes_per_image": tagged(read, tag),
        "memory_written_bytes_per_image": tagged(write, tag),
        "memory_mb_per_s": tagged(1e-6 * (read + write) * by_clock, tag),
        "saturated_membranes": tagged(total["U_SATURATED"], tag, SATURATIONS),
        "saturated_values": tagged(total["Z_SATURATED"], tag, SATURATIONS),
        "core_errors": tagged(total["ERRORS"], tag, "bits of the core's error counter"),
        "link_errors": tagged(runs.link_errors, tag, "frames that the device dropped"),
    }


def _latencies(runs: Runs, clock: int, tag: str) -> dict[str, Any]:
    """Time from the end of an image to that of the next, in ms."""
    found = 1e3 * runs.image_cycles / clock
    if not len(found):
        mean = 1e3 * sum(run.counters["CYCLES"] for run in runs.runs) / runs.images / clock
        return {"latency_ms": tagged(mean, tag, "mean: a start of the core has several images, "
                                                "and no record of each")}
    text = f"of {len(found)} images by the board's cycle counter at {clock / 1e6:g} MHz"
    return {"latency_ms": tagged(float(np.median(found)), tag, f"median {text}"),
            **{f"latency_ms_{name}": tagged(float(value), tag, what) for name, value, what in (
                ("low", found.min(), "shortest"), ("high", found.max(), "longest"),
                ("deviation", found.std(), "standard deviation"))}}


def stall_rows(runs: Sequence[Run], tag: str) -> list[dict[str, Any]]:
    """Cycles for an image that each unit was busy, and that it waited, by cause."""
    images = sum(run.images for run in runs)

    def mean(name: str) -> dict[str, Any]:
        return tagged(sum(run.counters[name] for run in runs) / images, tag)

    return [{"name": unit.lower(), "busy": mean(f"BUSY_{unit}"),
             "waits for the pool": mean(f"STALL_POOL_{unit}"),
             "waits for partial sums": mean(f"STALL_PSUM_{unit}"),
             "waits for a stream": mean(f"STALL_STREAM_{unit}")} for unit in UNITS]


def roofs(config: Any) -> dict[str, Any]:
    """What array and memory could do: lanes, and bytes a cycle."""
    return {"lanes": tagged(config.core.lanes, "cost-model", "of the array"),
            "bytes_per_cycle": tagged(8 * config.timing.words_per_cycle, "cost-model",
                                      f"bandwidth of the {config.timing.name}")}


def logged_cycles(design: Any, records: np.ndarray) -> dict[str, int]:
    """Cycles by layer of a :class:`gen.api.Design`, from the core's log of an image."""
    timed = layer_cycles(design.program, spans(records), design.config.timing)
    return {name: layer.cycles for name, layer in timed.items()}


def layer_figures(design: Any, measured: Mapping[str, int], tag: str) -> list[dict[str, Any]]:
    """A row for every layer: measured cycles beside predicted ones, work and traffic.

    Parameters
    ----------
    design : gen.api.Design
    measured : mapping
        Cycles by layer, as of :func:`logged_cycles`.
    """
    rows = []
    for row in layer_rows(design.config, design.network, design.program, design.prediction, None):
        cycles = measured[row["name"]]
        moved = sum(row[key]["value"] for key in ("weights B", "maps in B", "out B"))
        rows.append({
            "name": row["name"], "group": row["group"], "cycles": tagged(cycles, tag),
            "predicted": row["cycles"],
            "MAC": row["MAC"], "bytes": tagged(moved, "cost-model"), "wall": row["wall"],
            "MAC/cycle": tagged(row["MAC"]["value"] / cycles if cycles else 0.0, tag),
            "made in": row["made in"]})
    return rows
