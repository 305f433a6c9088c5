"""A program for the accelerator: descriptors, what they write, and the map of the memory."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from hw.config import CoreConfig, RECORD_WORDS
from hw.descriptor import DESCRIPTOR_WORDS, Header, LAYOUTS, pack, UnitKind, WAIT_BITS


__all__ = ["Descriptor", "Output", "Program", "Tap"]


class Tap(NamedTuple):
    """Where a weight tile reads, and whether its sums count 16 times, as of its
    :class:`hw.descriptor.TileHeader`."""

    dy: int
    dx: int
    high: bool = False


@dataclass(frozen=True)
class Output:
    """What a unit writes for one descriptor: positions of one channel group of a tensor.

    ``words`` words per position, of ``tensor`` (name) and ``group``, from position ``first``.
    """

    tensor: str
    group: int
    first: int
    count: int
    words: int


@dataclass(frozen=True)
class Descriptor:
    """One instruction: its unit, fields, waits (absolute counts) and where it comes from.

    ``taps`` are the :class:`Tap` of an ARRAY descriptor's tiles, ``lanes`` those that a channel has
    in the words of a query and of a key of an ATTENTION descriptor (None: all), ``step`` is the
    image of a sample of several; of what reads them all, the last.
    """

    unit: UnitKind
    fields: dict
    waits: tuple
    layer: str
    outputs: tuple = ()
    taps: tuple = ()
    lanes: tuple | None = None
    step: int = 0

    def pack(self):
        """Memory words, little endian."""
        header = pack(Header, kind=self.unit, waits=[w % (1 << WAIT_BITS) for w in self.waits])
        value = header | pack(LAYOUTS[self.unit], **self.fields) << 64
        return [value >> (64 * k) & (1 << 64) - 1 for k in range(DESCRIPTOR_WORDS)]


@dataclass
class Program:
    """A compiled network.

    ``payload`` is written to memory address 0; regions are in memory words; ``image`` holds the
    ``steps`` images of a sample, one behind the other. ``maps`` tells how
    every tensor is laid out, ``homes`` where it lives: ("pool", address), ("rolling", address of
    its ring of rows in the pool) or ("memory", address); membranes that nobody reads have none.
    ``strips`` counts the strips of every layer, ``groups`` names the layers of every fused group,
    ``plan`` tells the compiler's options and what its search decided
    (:func:`gen.compile.compiler.compile_plan`); ``stem`` are the arguments of
    :func:`gen.compile.layout.im2col` for the image. ``results`` has the
    :class:`gen.compile.results.Result` of every output, in order.
    """

    config: CoreConfig
    descriptors: list
    payload: np.ndarray
    program: int
    spill: int
    image: int
    image_words: int
    result: int
    result_words: int
    log: int
    memory_words: int
    maps: dict
    homes: dict
    stem: dict
    results: list
    strips: dict = field(default_factory=dict)
    groups: list = field(default_factory=list)
    plan: dict = field(default_factory=dict)
    steps: int = 1

    @property
    def spilled(self):
        """Tensors that lie in memory, beside those that come from and go to the host."""
        outside = {"image", *(result.tensor for result in self.results
                              if self.homes.get(result.tensor, ("",))[0] == "memory"
                              and self.homes[result.tensor][1] >= self.result)}
        return [name for name, (home, _) in self.homes.items()
                if home == "memory" and name not in outside]

    @property
    def log_words(self):
        return RECORD_WORDS * len(self.descriptors)
