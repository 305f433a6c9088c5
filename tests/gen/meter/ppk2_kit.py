"""A PPK2 behind a pseudo terminal, from Nordic's public app (pc-nrfconnect-ppk, src/device).

Commands: 0x06 and 0x07 start and stop the stream, 0x0C and a byte switch the board's supply, 0x0D
and two bytes (high first) set its mV, 0x11 and a byte choose ampere (1) or source (2) meter, 0x19
asks for the calibration as text that ends with END. Samples are words of 32 bits, low byte first.
"""

import os
import select
import struct
import threading
import time
import tty


RATE = 100_000

LENGTHS = {0x06: 1, 0x07: 1, 0x0C: 2, 0x0D: 3, 0x11: 2, 0x19: 1, 0x20: 1, 0x25: 6}

CALIBRATION = {
    "R": (1003.3506, 101.5865, 10.3027, 0.9636, 0.0564), "GS": (0.0, 0.0, 0.02, 0.001, 0.6),
    "GI": (1.0, 0.99, 1.01, 0.98, 1.02), "O": (112.7, 78.4, 61.2, 89.6, 87.9),
    "S": (0.0, 0.0, 0.0, 1e-8, 0.000012), "I": (-2.5e-9, 0.0, -1.1e-7, -9.8e-6, 0.00045),
    "UG": (1.0, 1.0, 1.0, 1.0, 1.0),
}


def word(code, *, span=4, counter=0, logic=0):
    """A sample: conversion, range, counter, digital inputs."""
    return code | span << 14 | (counter & 63) << 18 | logic << 24


def amperes(code, span, volts):
    """Current of a conversion, as ``getAdcResult`` of Nordic's serialDevice.ts computes it."""
    c = {name: values[span] for name, values in CALIBRATION.items()}
    x = (4 * code - c["O"]) * (1.8 / 163840 / c["R"])
    return c["UG"] * (x * (c["GS"] * x + c["GI"]) + c["S"] * volts + c["I"])


class Kit:
    """A kit at ``port``; ``sample(n)`` gives (code, range, digital inputs) of sample n.

    ``received`` keeps all bytes of the host. ``drop`` are numbers of samples that it loses.
    """

    def __init__(self, sample, *, drop=(), answer=None):
        self.sample, self.drop, self.answer = sample, set(drop), answer
        self.received = b""
        self.millivolts, self.mode, self.power = 3000, 2, False
        self.begun, self.sent = None, 0
        self._master, slave = os.openpty()
        tty.setraw(slave)
        self.port, self._slave = os.ttyname(slave), slave
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.unplug()
        self._thread.join(5)

    def unplug(self):
        self._ending.set()

    def metadata(self):
        if self.answer is not None:
            return self.answer
        lines = ["Calibrated: 1"]
        lines += [f"{name}{span}: {value}" for name, values in CALIBRATION.items()
                  for span, value in enumerate(values)]
        return "\n".join([*lines, f"VDD: {self.millivolts}", "HW: 9173", f"mode: {self.mode}",
                          "IA: 55", "END"]) + "\n"

    def _run(self):
        buffer = b""
        os.close(self._slave)    # the kit is gone when the master is closed
        while not self._ending.is_set():
            if select.select([self._master], [], [], 0.002)[0]:
                try:
                    data = os.read(self._master, 4096)
                except OSError:    # nobody has it open
                    time.sleep(0.002)
                    continue
                self.received += data
                buffer += data
                while buffer and len(buffer) >= LENGTHS[buffer[0]]:
                    length = LENGTHS[buffer[0]]
                    self._obey(buffer[:length])
                    buffer = buffer[length:]
            if self.begun is not None:
                self._stream()
        os.close(self._master)

    def _obey(self, command):
        kind = command[0]
        if kind == 0x06:
            self.begun, self.sent = time.monotonic(), 0
        elif kind == 0x07:
            self.begun = None
        elif kind == 0x0C:
            self.power = bool(command[1])
        elif kind == 0x0D:
            self.millivolts = command[1] << 8 | command[2]
        elif kind == 0x11:
            self.mode = command[1]
        elif kind == 0x19:
            os.write(self._master, self.metadata().encode())

    def _stream(self):
        due = min(int((time.monotonic() - self.begun) * RATE), self.sent + 900)
        data = b""
        for number in range(self.sent, due):
            if number not in self.drop:
                code, span, logic = self.sample(number)
                data += struct.pack("<I", word(code, span=span, counter=number, logic=logic))
        self.sent = due
        if data:
            os.write(self._master, data)
