"""A noisy line to the device in software (:mod:`gen.device.software`)."""

import random

from gen.device.software import (
    memory_status,
    POINTS,
    SoftwareDevice,
    SoftwareLine,
    three_looks,
    WRITABLE,
)


__all__ = ["POINTS", "Noise", "SoftwareDevice", "SoftwareTransport", "WRITABLE", "memory_status",
           "three_looks"]


class Noise:
    """Flips, drops and inserts bytes, each with chance ``rate``."""

    def __init__(self, rate, seed):
        self.rate, self.rng = rate, random.Random(seed)
        self.faults = 0

    def __call__(self, data):
        if not self.rate:
            return data
        noisy = bytearray()
        for byte in data:
            kind = self.rng.random() / self.rate
            if kind >= 1:
                noisy.append(byte)
                continue
            self.faults += 1
            if kind < 1 / 3:
                noisy.append(byte ^ 1 << self.rng.randrange(8))
            elif kind < 2 / 3:
                noisy += bytes([byte, self.rng.choice([0, self.rng.randrange(256)])])
        return bytes(noisy)


class SoftwareTransport(SoftwareLine):
    """Transport to a device in software, through noise both ways."""
    port = "model"

    def __init__(self, model=None, *, rate=0.0, seed=0):
        super().__init__(model or SoftwareDevice())
        self.there, self.back = Noise(rate, seed), Noise(rate, seed + 1)

    def write(self, data):
        self.answers += self.back(self.model.feed(self.there(data)))
