"""Watch a power meter: ``python -m gen.meter.meter --meter ina:shunt=0.1 --seconds 10``.

For the wiring, before a measurement: live watts, and a file.
"""

import argparse
from pathlib import Path
import sys
import time

import numpy as np

from gen.meter.base import Block, Meter
from gen.meter.choice import meter_help, parse_meter
from gen.meter.energy import integrate
from gen.meter.recorder import Recorder
from gen.meter.trace import Trace
from model.command import add_verbosity, ArgumentParser, called, main, next_step
from model.error import InputError
from model.files import check_writable


__all__ = ["cli"]


LINE_S = 1.0
"""Time between two lines."""

FIRST_S = 10.0
"""Longest wait for the first sample."""


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog=called("gen.meter.meter"),
        description="Show what a power meter measures, once a second, and check its recording: "
                    "gaps, jitter, marker (docs/tutorials/measure.md).",
        epilog=f"Meters and their options:\n{meter_help()}\n\n",
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--meter", required=True, metavar="M",
                        help="NAME or NAME:key=value,key=value; file:PATH; see below")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="N",
                        help="length of the recording (default: %(default)s)")
    parser.add_argument("--csv", type=Path, metavar="F",
                        help="file for all samples, which --meter file:F reads")
    add_verbosity(parser)
    return parser


class _Lines:
    """Means of each second, as they come."""

    def __init__(self, meter: Meter, quiet: bool) -> None:
        self._meter, self._quiet = meter, quiet
        self._blocks: list[Block] = []
        self._level, self._due = 0, LINE_S
        self._begin: float | None = None

    def put(self, block: Block) -> None:
        """Take a block; print when a second is full."""
        if self._quiet or not len(block.time_s):
            return
        if self._begin is None:
            self._begin = float(block.time_s[0])
        self._blocks.append(block)
        if block.edges:
            self._level = block.edges[-1][1]
        now = float(block.time_s[-1]) - self._begin
        if now >= self._due:
            self._due = now - now % LINE_S + LINE_S
            self._print(now)

    def _print(self, now: float) -> None:
        volts, amps, watts = (np.concatenate([getattr(block, name) for block in self._blocks])
                              for name in ("volts", "amps", "watts"))
        marker = f"  marker {self._level}" if self._meter.has_marker else ""
        print(f"{now:8.1f} s  {watts.mean():8.4f} W  {volts.mean():7.4f} V  "
              f"{1e3 * amps.mean():8.2f} mA  {watts.min():.4f} to {watts.max():.4f} W{marker}  "
              f"({self._meter.tag})", flush=True)
        self._blocks.clear()


def _summary(trace: Trace, has_marker: bool) -> list[str]:
    tag = trace.tag
    energy = integrate(trace, float(trace.time_s[0]), float(trace.time_s[-1]))
    lines = [f"meter: {trace.meter} ({tag})", f"recording: {trace.quality()}",
             f"mean {energy.watts:.5g} +- {energy.error_w:.2g} W, {energy.joules:.5g} J in "
             f"{energy.seconds:.4g} s ({tag}, 95 %)"]
    if energy.gaps_text():
        lines.append(energy.gaps_text())
    if has_marker:
        lines.append(f"marker: {len(trace.pulses)} pulses, "
                     f"{sum(end - start for start, end in trace.pulses):.4g} s high together"
                     if trace.edges else
                     "marker: always low; it is not connected, or nothing ran")
    return lines


def _run(arguments: argparse.Namespace) -> None:
    if not arguments.seconds > 0 or arguments.seconds == float("inf"):
        raise InputError(f"--seconds must be more than 0, not {arguments.seconds:g}")
    meter = parse_meter(arguments.meter)
    if arguments.csv:
        check_writable(arguments.csv)
    lines = _Lines(meter, arguments.quiet)
    with meter, Recorder(meter, watch=lines.put) as recorder:
        recorder.wait(FIRST_S)
        end = time.monotonic() + (0.0 if meter.name == "file" else arguments.seconds)
        while time.monotonic() < end:
            recorder.check()
            time.sleep(min(0.1, max(0.0, end - time.monotonic())))
    trace = recorder.trace()
    for line in _summary(trace, meter.has_marker):
        print(line)
    if arguments.csv:
        trace.write_csv(arguments.csv)
        print(f"samples: {arguments.csv} ({trace.tag})")
    next_step("gen.measure", "--help")


def cli(argv=None):
    """The command."""
    return main(_run, _parser(), argv)


if __name__ == "__main__":
    sys.exit(cli())
