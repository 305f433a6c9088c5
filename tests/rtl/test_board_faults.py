"""Restarts and flipped bits on the board of qsdt_nano: the core's RTL, and the host's code.

The same against a device in software, at every step: ``tests/faults``.
"""

from functools import partial
import random

import numpy as np
import pytest

from gen.api import configure, load, samples
from gen.config.memory import twin_memory
from gen.device import session as session_module
from gen.device.check import CheckFailed, Checks
from gen.device.device import Device
from gen.device.link import DeviceRestarted
from gen.device.session import Session
from hw.register import Register, Restart
from sim.rtl.virtual_board import VirtualBoard


pytestmark = [pytest.mark.rtl, pytest.mark.slow]

RESTARTS = 50
FLIPS = 50
TIMEOUT = 600


WITHOUT = 5
"""Every so many restarts there is a run without one."""

WAY = 4
"""Cycles that pass while the host thinks, for each that the link is busy."""


class WatchedDevice(Device):
    """Calls a function before the next use of one of its methods."""

    before = None
    """(name, function), or None."""

    def _call(self, name, *arguments, **options):
        if self.before is not None and self.before[0] == name:
            (_, function), self.before = self.before, None
            function()
        return getattr(super(), name)(*arguments, **options)

    def write(self, *arguments, **options):
        return self._call("write", *arguments, **options)

    def start(self, *arguments, **options):
        return self._call("start", *arguments, **options)

    def wait(self, *arguments, **options):
        return self._call("wait", *arguments, **options)

    def read(self, *arguments, **options):
        return self._call("read", *arguments, **options)

    def crc(self, *arguments, **options):
        return self._call("crc", *arguments, **options)


class Bench:
    """A board with qsdt_nano on it, its session, and what is right."""

    def __init__(self, board, device, design):
        self.board, self.device, self.image = board, device, design.image
        self.images, _ = samples("qsdt_nano")
        found = design.network.run_batched(self.images, keep=("logits_acc",))["logits_acc"]
        self.wanted = found.reshape(len(self.images), -1)
        self.session = Session(device, design.image)
        self.session.load()

    def run(self, number, **options):
        """Accumulators of an image; fails where they are wrong."""
        acc, _, _ = self.session.run(self.images[[number]], timeout=TIMEOUT, **options)
        np.testing.assert_array_equal(acc[0], self.wanted[number])


@pytest.fixture(scope="module")
def bench(request):
    design = configure(load("qsdt_nano"), board="ulx3s", name="qsdt_nano")
    board = VirtualBoard(design.config.core, memory=twin_memory(design.board, design.config),
                         cache=request.config.cache.mkdir("rtl"))
    with board, WatchedDevice(board.url, timeout=10, tries=20) as device:
        yield Bench(board, device, design)


def recovered(session, call, *, loading=False):
    """Open the device again, load what is not known to be there, and call. Twice a restart that
    comes late may end this. The memory of a simulation keeps its content; asking for its CRC each
    time would take as long as the runs."""
    for late in (True, True, False):
        try:
            session._device.reopen()
            if loading:
                session.load()
            session._doubtful = False
            call()
        except DeviceRestarted:
            if not late:
                raise
        else:
            break


def test_restarts(bench):
    """While program, weights and an image are loaded, while it runs, while results are read: what
    comes back is right, or an error that names the cause; and so is what follows."""
    rng, session, device = random.Random(0), bench.session, bench.device
    cycles = {"load": 32 * len(bench.image.payload), "write": 4000 * WAY, "start": 2000 * WAY,
              "wait": bench.image.predicted_cycles, "read": 2000 * WAY}
    found, causes = {step: [0, 0] for step in cycles}, []
    for count in range(1, RESTARTS + 1):
        step, = rng.choices([*cycles], weights=(1, 2, 2, 4, 2))
        causes = [*causes[-1:], rng.choice([*Restart][1:])]     # the last one may come late
        restart = partial(bench.board.restart, causes[-1], after=rng.randrange(cycles[step]))
        device.before = "write" if step == "load" else step, restart
        try:
            if step == "load":
                session.load()
            bench.run(rng.randrange(len(bench.images)))
        except DeviceRestarted as error:
            assert error.cause in causes
            found[step][1] += 1
            torn = step == "load"
        else:
            found[step][0] += 1
            torn = False
        device.before = None
        again = partial(bench.run, count % len(bench.images)) if count % WITHOUT == 0 else list
        recovered(session, again, loading=torn)
    print(f"by step [right, errors]: {found}")
    assert sum(errors for _, errors in found.values()) > RESTARTS // 3


@pytest.mark.parametrize("part", ["weights", "program", "image"])
def test_flipped_bits(bench, part, monkeypatch):
    """One bit, before the core starts: each is found by ``--check crc``."""
    monkeypatch.setattr(session_module, "CRC_WORDS", 1024)  # less is read to name the word
    rng, image, device = random.Random(part), bench.image, bench.device
    first = image.image if bench.session._base is None else bench.session._base
    places = {"weights": range(image.program), "image": range(first, first + image.image_words),
              "program": range(image.program, len(image.payload))}[part]

    def flip(address, bit):
        device.write(address, device.read(address, 1) ^ np.uint64(1 << bit))

    for _ in range(FLIPS):
        address, bit = rng.choice(places), rng.randrange(64)
        device.before = "crc", partial(flip, address, bit)
        started = device.read_registers(Register.START)
        with pytest.raises(CheckFailed, match=f"1 of .* words differ, the first at {address} "):
            bench.run(0, checks=Checks(crc=True))
        assert device.read_registers(Register.START) == started
        if part != "image":
            flip(address, bit)
        bench.session._doubtful = False             # the bit is as it was
    bench.run(0, checks=Checks(crc=True))
