"""How tensors lie in pool and memory words (docs/architecture.md).

The words themselves are those of the units: see :mod:`sim.reference`.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from math import gcd

import numpy as np

from hw.config import CoreConfig, MEMBRANE_BITS, MEMORY_BITS
from sim.reference.lanes import from_membranes, from_planes, to_membranes, to_planes


__all__ = ["FeatureMap", "default_lanes", "head_lanes", "head_slot", "im2col", "laid_lanes",
           "pack_lanes", "unpack_lanes"]


IMAGE_PLANES = 8


def default_lanes(channels, rows):
    """Channel of every lane, groups of ``rows`` lanes; -1 for unused ones."""
    groups = -(-channels // rows)
    lanes = np.full(groups * rows, -1, np.int64)
    lanes[:channels] = np.arange(channels)
    return lanes


def head_slot(head_size, rows, *, alone=False):
    """(words, slot): whole words a head takes, and lanes of its slot where it shares a word; with
    ``alone`` it never does."""
    if alone or head_size > rows:
        return -(-head_size // rows), rows
    return 1, 1 << (head_size - 1).bit_length() if head_size > 1 else 1


def head_lanes(channels, heads, rows, *, alone=False):
    """Channel of every lane where attention heads start at slots (see AttentionUnit)."""
    size = channels // heads
    words, slot = head_slot(size, rows, alone=alone)
    shared = rows // slot
    groups = heads * words if words > 1 or shared == 1 else -(-heads // shared)
    lanes = np.full(groups * rows, -1, np.int64)
    for head in range(heads):
        start = head * words * rows if shared == 1 else head * slot
        lanes[start:start + size] = np.arange(head * size, (head + 1) * size)
    return lanes


def laid_lanes(channels, rows, fold, copies, *, whole):
    """Channel of every lane where each of ``fold`` elements has its channels so many times: side
    by side in one word or, with ``whole``, each time in words of their own."""
    size = -(-channels // rows) * rows if whole else channels
    lanes = np.full(-(-size * fold * copies // rows) * rows, -1, np.int64)
    for place in range(fold * copies):
        element = place // copies
        lanes[place * size:place * size + channels] = element * channels + np.arange(channels)
    return lanes


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """A tensor as the accelerator stores it: C x H x W of one kind, channels on lanes.

    ``kind`` is "level", "z", "image" or "u" (membranes; also the raw results of the head).
    ``width`` counts positions of ``fold`` neighbouring elements of a row each
    (gen/compile/fold.py); ``lanes`` tell for every lane its folded channel ``element * channels +
    channel``, or -1; they begin with those of group ``first_group``. Of a map with ``steps`` > 1
    the results of so many images lie one below the other, in ``height`` rows together. With
    ``copies`` > 1 every element has its channels so many times: a map that finer ones add.
    """

    name: str
    kind: str
    channels: int
    height: int
    width: int
    rows: int
    planes: int
    lanes: np.ndarray = field(repr=False)
    fold: int = 1
    first_group: int = 0
    steps: int = 1
    copies: int = 1

    @classmethod
    def make(cls, name, kind, shape, config: CoreConfig, lanes=None, fold=1, *, z_bits=None,
             copies=1, whole=False):
        """The map of a tensor of ``shape`` (C, H, W); ``z_bits`` are planes of a z, if not all
        that the core has; ``whole`` says whether copies have words of their own."""
        planes = {"level": config.level_planes, "z": z_bits or config.z_bits, "image": IMAGE_PLANES,
                  "u": MEMBRANE_BITS}[kind]
        channels, height, width = shape
        if lanes is None:
            lanes = laid_lanes(channels, config.rows, fold, copies, whole=whole)
        return cls(name, kind, channels, height, width // fold, config.rows, planes, lanes, fold,
                   copies=copies)

    @property
    def read_lanes(self):
        """``lanes`` for what reads the map: of copies only the first ones count."""
        if self.copies == 1:
            return self.lanes
        first = np.zeros(len(self.lanes), bool)
        first[np.unique(self.lanes, return_index=True)[1]] = True
        return np.where(first, self.lanes, -1)

    def folded(self, fold):
        """The same words seen with another fold, of which whole pool words are positions."""
        if fold == self.fold:
            return self
        shared = self.fold // gcd(self.fold, self.groups)    # positions that take whole words
        if fold % shared or self.width * self.fold % fold:
            raise ValueError(f"{self.name} is folded by {self.fold}, not {fold}")
        one = self.lanes[:len(self.lanes) * shared // self.fold]    # of the first of these
        lanes = np.concatenate([np.where(one >= 0, one + position * self.channels, -1)
                                for position in range(0, fold, shared)])
        return replace(self, width=self.width * self.fold // fold, fold=fold, lanes=lanes)

    def of_steps(self, steps):
        """The map for the results of so many images, one below the other."""
        return replace(self, height=self.height * steps, steps=steps)

    @property
    def one_step(self):
        """The map of one image's results."""
        return replace(self, height=self.height // self.steps, steps=1)

    def only(self, group):
        """One channel group of the map by itself."""
        return replace(self, first_group=group,
                       lanes=self.lanes[group * self.rows:(group + 1) * self.rows])

    def place(self, group, lane, position):
        """(channel, row, column) of an element."""
        row, column = divmod(position, self.width)
        element, channel = divmod(int(self.lanes[group * self.rows + lane]), self.channels)
        return channel, row, column * self.fold + element

    @property
    def groups(self):
        return len(self.lanes) // self.rows

    @cached_property
    def used(self):
        """Groups with channels; others lie in the pool beside them."""
        return np.flatnonzero((self.lanes >= 0).reshape(self.groups, -1).any(axis=1)).tolist()

    @property
    def position_words(self):
        """Pool words of one position."""
        return self.groups * self.planes

    @property
    def row_words(self):
        """Pool words of one row."""
        return self.width * self.position_words

    @property
    def words(self):
        return self.height * self.row_words

    @property
    def memory_row_words(self):
        """Memory words of one row; rows start on whole memory words there."""
        return -(-self.row_words * self.rows // MEMORY_BITS)

    @property
    def memory_words(self):
        return self.height * self.memory_row_words

    def pack(self, values):
        """Integer array (C, H, W) -> pool words, uint64 (words,)."""
        values = np.asarray(values, np.int64).reshape(
            self.channels, self.height, self.width, self.fold)
        values = values.transpose(3, 0, 1, 2).reshape(-1, self.height, self.width)
        spread = np.where((self.lanes >= 0)[:, None, None], values[self.lanes], 0)
        spread = spread.reshape(self.groups, self.rows, -1).transpose(2, 0, 1)
        return pack_lanes(spread, self.kind, self.planes).reshape(-1)

    def unpack(self, words):
        """Pool words -> int64 (C, H, W)."""
        words = np.asarray(words, np.uint64).reshape(-1, self.groups, self.planes)
        spread = unpack_lanes(words, self.kind, self.rows)
        spread = spread.transpose(1, 2, 0).reshape(len(self.lanes), -1)
        values = np.zeros((self.fold * self.channels, spread.shape[1]), np.int64)
        used = self.lanes >= 0
        values[self.lanes[used]] = spread[used]
        values = values.reshape(self.fold, self.channels, self.height, self.width)
        return values.transpose(1, 2, 3, 0).reshape(self.channels, self.height, -1)


def pack_lanes(values, kind, planes):
    """Lane values int64 (..., R) of one kind -> pool words uint64 (..., planes)."""
    return to_membranes(values) if kind == "u" else to_planes(values, bits=planes)


def unpack_lanes(words, kind, rows):
    """Pool words uint64 (..., planes) -> lane values int64 (..., R)."""
    if kind == "u":
        return from_membranes(words, rows=rows)
    return from_planes(words, rows=rows, signed=kind in ("z", "image"))


def im2col(image, *, kernel, stride, padding, fold=1, columns_first=False):
    """Patches of an image: (C, H, W) -> (C * k * (k + stride * (fold - 1)), H', W' / fold), zero
    padding: what ``fold`` neighbouring outputs use.

    A patch goes through channels, rows and columns, with ``columns_first`` through columns,
    channels and rows: then what one output uses lies together.

    The stem as a 1x1 convolution on these is the same sum; the host makes them.
    """
    channels, height, width = image.shape
    padded = np.zeros((channels, height + 2 * padding, width + 2 * padding), image.dtype)
    padded[:, padding:padding + height, padding:padding + width] = image
    columns = kernel + stride * (fold - 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, columns), axis=(1, 2))
    windows = windows[:, ::stride, ::stride * fold]
    order = (4, 0, 3, 1, 2) if columns_first else (0, 3, 4, 1, 2)
    return np.ascontiguousarray(windows.transpose(order).reshape(
        channels * kernel * columns, windows.shape[1], windows.shape[2]))
