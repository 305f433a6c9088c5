"""Boards in software for trials: as :mod:`gen.campaign.board` has them, without a simulator."""

import numpy as np

from gen.device.port import LinkError
from hw.register import Register, Restart
from tests.faults.known_board import board_of
from tests.gen.device.software_device import SoftwareTransport


MEMORY, POOL = "TOP.top.shell.memory.storage.array.words", "TOP.top.shell.core.pool.bank_0"


class SoftwareDoor:
    """What :class:`sim.rtl.back_door.BackDoor` does, to a board in software."""

    def __init__(self, board, core):
        self.board, self.core = board, core
        self.planted = 0
        self.arrays = {MEMORY: (len(board.memory), 64), POOL: (4, 8)}

    def identify(self, identity):
        self.board.constant[Register.IDENTITY] = identity

    def decay(self):
        self.board.memory[3:9] ^= np.uint64(0xFF)

    def flip(self, array, entry, bit):
        return "flip", array, entry, bit

    def poke(self, array, entry, value):
        return "poke", array, entry, value

    def plant(self, fault, *, byte=None, run=None, cycle=0):
        if run is not None:
            self.core.before_run = lambda: self._now(fault)
        elif byte is not None:
            # Frames are of some twenty bytes, but for those of words.
            request = self.board.requests + 1 + byte // 20
            if fault[0] == "restart":
                self.board.restart_at = request, "before", Restart(fault[1])
                self.planted += 1
            else:
                self.board.dies_at = request
        else:
            self._now(fault)

    def _now(self, fault):
        self.planted += 1
        kind, *rest = fault
        if kind == "restart":
            self.board.restart(Restart(rest[0]))
        elif kind == "die":
            self.board.dies_at = 0
        elif rest[0] == POOL:
            run = self.board.starts
            self.core.wrong_run = lambda number: number == run
        elif kind == "flip":
            self.board.memory[rest[1]] ^= np.uint64(1) << np.uint64(rest[2])
        else:
            self.board.memory[rest[1]] = np.uint64(rest[2])


class _Transport(SoftwareTransport):
    """Is lost with its board."""

    def write(self, data):
        self._check()
        super().write(data)
        self._check()

    def read(self, timeout):
        self._check()
        return super().read(timeout)

    def _check(self):
        if self.model.dies_at is not None and self.model.requests >= self.model.dies_at:
            raise LinkError("Lost model (unplugged?)")


class SoftwareBoard:
    """A board that is loaded, or blank."""

    def __init__(self, case, *, loaded):
        board, core = board_of(case)
        board.dies_at = None
        core.before_run = None

        def run(device):
            if core.before_run is not None:
                call, core.before_run = core.before_run, None
                call()
            yield from core(device)

        board.core = run
        if loaded:
            board.memory[:len(case[1].payload)] = case[1].payload
        self.url, self.door = board, SoftwareDoor(board, core)

    def stop(self):
        self.url.dies_at = 0


class SoftwareShelf:
    """What :class:`gen.campaign.board.Shelf` has."""

    def __init__(self, case):
        self._case = case

    @property
    def door(self):
        return self.loaded().door

    def loaded(self):
        return SoftwareBoard(self._case, loaded=True)

    def decayed(self):
        board = self.loaded()
        board.door.decay()
        return board

    def blank(self):
        return SoftwareBoard(self._case, loaded=False)


def open_port(board):
    """A transport to a board in software."""
    return _Transport(board)
