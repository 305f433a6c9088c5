"""Which number format trains quicker here: fp32, or bf16 by autocast, by a timed step."""

from collections.abc import Callable
import statistics
import time

import torch


__all__ = ["autocast", "choose"]

_RUNS = 3
_MARGIN = 0.95
"""bf16 must take less than this share of fp32's time: timings differ by a few per cent."""


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The autocast of `precision` ("fp32" or "bf16") on a device."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def choose(step: Callable[[str], object], device: torch.device) -> tuple[str, dict[str, float]]:
    """"fp32" or "bf16", and the seconds of a step in each: the median of three, after a first.

    `step` computes one training step in a precision and leaves nothing behind. On a CPU its own
    seconds count, so that other programs disturb less.
    """
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    seconds = {}
    for precision in ("fp32", "bf16"):
        times = []
        for _ in range(1 + _RUNS):
            started = clock()
            step(precision)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(clock() - started)
        seconds[precision] = statistics.median(times[1:])
    quicker = "bf16" if seconds["bf16"] < _MARGIN * seconds["fp32"] else "fp32"
    return quicker, seconds
