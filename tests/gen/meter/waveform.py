"""Known waveforms and what a meter makes of them: the truth that the tests compare with."""

from dataclasses import dataclass, field
import time

import numpy as np

from gen.meter.base import Accuracy, Block, Meter, Phase
from gen.meter.trace import build


@dataclass
class Wave:
    """Power over the host's time in s, and its exact integral."""

    watts: object
    joules: object

    @classmethod
    def ramp(cls, low, slope):
        return cls(lambda t: low + slope * t,
                   lambda a, b: low * (b - a) + slope * (b * b - a * a) / 2)

    @classmethod
    def sine(cls, mean, depth, hz):
        w = 2 * np.pi * hz
        return cls(lambda t: mean + depth * np.sin(w * t),
                   lambda a, b: mean * (b - a) + depth / w * (np.cos(w * a) - np.cos(w * b)))

    @classmethod
    def bursts(cls, idle, busy, period, length, first, count):
        """`count` bursts, `length` s each, from `first` on."""
        def level(t):
            at = np.asarray(t) - first
            return ((at >= 0) & (at < count * period) & (at % period < length)).astype(int)

        def busy_s(t):
            at = np.clip(t - first, 0, count * period)
            return at // period * length + min(at % period, length)

        wave = cls(lambda t: idle + (busy - idle) * level(t),
                   lambda a, b: idle * (b - a) + (busy - idle) * (busy_s(b) - busy_s(a)))
        wave.level = level
        return wave


@dataclass
class Sampled:
    """How a meter samples: with jitter, gaps, drift and delay."""

    rate: float = 1000.0
    jitter: float = 0.0        # of a period, to both sides
    ppm: float = 0.0           # the meter's clock is slow
    gaps: tuple = ()           # (start, end) on the host's clock
    noise: float = 0.0
    delay: float = 0.001       # mean of the random delay of an arrival, in s
    seed: int = 1
    phases: list = field(default_factory=list)

    def trace(self, wave, start, end, *, marker=True):
        random = np.random.default_rng(self.seed)
        host = start + np.arange(round((end - start) * self.rate)) / self.rate
        host = host + self.jitter / self.rate * random.uniform(-1, 1, len(host))
        kept = np.ones(len(host), bool)
        for a, b in self.gaps:
            kept &= (host <= a) | (host >= b)
        watts = wave.watts(host) + self.noise * random.standard_normal(len(host))
        meter_s = (host - start) / (1 + self.ppm * 1e-6)    # on a clock that began at 0
        edges = []
        if marker and hasattr(wave, "level"):
            level = wave.level(host)
            edges = [(float(meter_s[i]), int(level[i]))
                     for i in np.flatnonzero(np.diff(np.concatenate([[0], level])))]
        host, meter_s, watts = host[kept], meter_s[kept], watts[kept]
        blocks = [Block(meter_s[i:i + 50], np.full(len(host[i:i + 50]), 5.0), watts[i:i + 50] / 5,
                        watts[i:i + 50],
                        float(host[i:i + 50][-1] + 2e-4 + random.exponential(self.delay)))
                  for i in range(0, len(host), 50)]
        blocks[0].edges = edges
        return build(Instrument(), blocks, [Phase(*phase) for phase in self.phases])


class Instrument(Meter):
    """A meter that nobody opens."""

    name = "instrument"
    own_clock = True
    accuracy = Accuracy(0.0, 0.0, "exact")

    def nothing(self):
        pass

    open = start = stop = close = nothing

    def read(self, timeout_s):
        return None

    def describe(self):
        return "instrument of the tests"


class FakeTime:
    """A clock that goes on only when someone sleeps or works."""

    def __init__(self, start=1000.0):
        self.now = start

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def until(recorder, seconds):
    """Wait until a recorder has samples of so many seconds, however busy this machine is."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        recorder.check()
        last = [block for block in list(recorder._blocks) if len(block.time_s)][-1:]
        if last and last[0].time_s[-1] >= seconds:
            return
        time.sleep(0.01)
    raise AssertionError(f"no {seconds} s of samples within 20 s")
