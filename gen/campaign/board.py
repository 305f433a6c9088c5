"""Virtual boards of a campaign: one is loaded by the back door, and copied for each fault."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
import re
import threading
from typing import Any

import numpy as np

from boards.spec import BoardSpec
from gen.check.simulate import reported
from gen.compile.package import ProgramImage
from gen.config.memory import twin_memory
from model.error import ToolFailed
from sim.rtl.back_door import BackDoor, BackDoorError, CopiedBoard
from sim.rtl.virtual_board import VirtualBoard, VirtualBoardError


__all__ = ["GROUPS", "Shelf", "arrays_of", "memory_place", "on_shelf"]


_MEMORY = "TOP.top.shell.memory."

_CORE = "TOP.top.shell.core."

GROUPS = {"pool": ("pool.",), "psum": ("psum.",),
          "buffers": ("array.", "attention.", "depthwise.", "neuron.", "load.", "store.")}
"""Beginnings of the names of the core's arrays, by the kind of fault."""


def arrays_of(door: BackDoor, kind: str) -> list[tuple[str, int, int]]:
    """``(name, entries, bits)`` of the arrays that a kind of :data:`GROUPS` is about."""
    starts = tuple(_CORE + start for start in GROUPS[kind])
    return [(name, entries, bits) for name, (entries, bits) in door.arrays.items()
            if name.startswith(starts)]


def _memory_arrays(door: BackDoor) -> list[tuple[str, int]]:
    """``(name, words)`` of what the memory behind the core consists of, lowest address first."""
    found = []
    for name, (words, _) in door.arrays.items():
        last = name.removeprefix(_MEMORY)
        bank = re.fullmatch(r"\\?bank_(\d+)(?:\$\d+_)?", last)
        if name.startswith(_MEMORY) and (bank or last.endswith(".words")):
            found.append((int(bank[1]) if bank else 0, name, words))
    return [(name, words) for _, name, words in sorted(found)]


def memory_place(door: BackDoor, address: int) -> tuple[str, int]:
    """(array, entry) of a word of the memory behind the core."""
    for name, words in _memory_arrays(door):
        if address < words:
            return name, address
        address -= words
    raise ValueError(f"There are {address} words too few of memory")


class Shelf:
    """Boards to take: loaded, decayed and blank ones. From any thread."""

    def __init__(self, loaded: CopiedBoard, blank: CopiedBoard):
        self._loaded, self._blank = loaded, blank
        self._lock = threading.Lock()

    @property
    def door(self) -> BackDoor:
        """Of the board that all loaded ones are copies of."""
        return self._loaded.door

    def loaded(self) -> CopiedBoard:
        """A board that holds program, weights and constants."""
        with self._lock:
            return self._loaded.door.copy()

    def decayed(self) -> CopiedBoard:
        """The same after a short while without power: some of the memory is another."""
        board = self.loaded()
        board.door.decay()
        return board

    def blank(self) -> CopiedBoard:
        """A board as after power-up: its memory holds anything."""
        with self._lock:
            return self._blank.door.copy()


def _fill(door: BackDoor, payload: Any) -> None:
    for name, words in _memory_arrays(door):
        part, payload = payload[:words], payload[words:]
        if len(part):
            door.load(name, part)


@contextmanager
def on_shelf(board: BoardSpec, config: Any, image: ProgramImage, cache: Path) -> Iterator[Shelf]:
    """A :class:`Shelf` of the RTL that a configuration asks for.

    Raises
    ------
    ToolFailed
        A simulator does not start or has ended.
    ToolMissing
        One cannot be compiled here.
    """
    rng = np.random.default_rng(0)
    try:
        with (reported(), VirtualBoard(config.core, memory=twin_memory(board, config),
                                       cache=cache) as virtual,
              virtual.door.copy() as blank, virtual.door.copy() as loaded):
            if config.memory == "sdram":        # block RAMs keep what they hold
                for copy in (blank, loaded):
                    copy.door.forget(*_names(copy.door))
            _fill(blank.door, rng.integers(0, 2**64, len(image.payload), dtype=np.uint64))
            _fill(loaded.door, image.payload)
            yield Shelf(loaded, blank)
    except (VirtualBoardError, BackDoorError) as error:
        raise ToolFailed(str(error)) from None


def _names(door: BackDoor) -> Sequence[str]:
    return [name for name, _ in _memory_arrays(door)]
