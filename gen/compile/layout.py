"""How tensors, weights and constants lie in pool and memory words (docs/architecture.md)."""

from dataclasses import dataclass, field, replace

import numpy as np

from hw.config import CoreConfig, LEVEL_PLANES, MEMBRANE_BITS, MEMORY_BITS


__all__ = ["FeatureMap", "default_lanes", "head_lanes", "head_slot", "memory_words",
           "pool_words", "pack_tile", "pack_fire", "pack_scale", "pack_depthwise", "im2col"]


IMAGE_PLANES = 8


def default_lanes(channels, rows):
    """Channel of every lane, groups of ``rows`` lanes; -1 for unused ones."""
    groups = -(-channels // rows)
    lanes = np.full(groups * rows, -1, np.int64)
    lanes[:channels] = np.arange(channels)
    return lanes


def head_slot(head_size, rows):
    """(words, slot): whole words a head takes, and lanes of its slot where it shares a word."""
    if head_size > rows:
        return -(-head_size // rows), rows
    return 1, 1 << (head_size - 1).bit_length() if head_size > 1 else 1


def head_lanes(channels, heads, rows):
    """Channel of every lane where attention heads start at slots (see AttentionUnit)."""
    size = channels // heads
    words, slot = head_slot(size, rows)
    shared = rows // slot
    groups = heads * words if words > 1 or shared == 1 else -(-heads // shared)
    lanes = np.full(groups * rows, -1, np.int64)
    for head in range(heads):
        start = head * words * rows if shared == 1 else head * slot
        lanes[start:start + size] = np.arange(head * size, (head + 1) * size)
    return lanes


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """A tensor as the accelerator stores it: C x H x W of one kind, channels on lanes.

    ``kind`` is "level", "z", "image" or "u" (membranes; also the raw results of the head).
    ``width`` counts positions of ``fold`` neighbouring elements of a row each
    (gen/compile/fold.py); ``lanes`` tell for every lane its folded channel ``element * channels +
    channel``, or -1; they begin with those of group ``first_group``.
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

    @classmethod
    def make(cls, name, kind, shape, config: CoreConfig, lanes=None, fold=1):
        planes = {"level": LEVEL_PLANES, "z": config.z_bits, "image": IMAGE_PLANES,
                  "u": MEMBRANE_BITS}[kind]
        channels, height, width = shape
        if lanes is None:
            lanes = default_lanes(channels * fold, config.rows)
        return cls(name, kind, channels, height, width // fold, config.rows, planes, lanes, fold)

    def folded(self, fold):
        """The same words seen with another fold; for channels that fill whole pool words."""
        if fold == self.fold:
            return self
        if self.channels % self.rows or self.width * self.fold % fold:
            raise ValueError(f"{self.name} is folded by {self.fold}, not {fold}")
        return replace(self, width=self.width * self.fold // fold, fold=fold,
                       lanes=default_lanes(self.channels * fold, self.rows))

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
    """Lane values int64 (..., R) -> pool words uint64 (..., planes)."""
    values = np.asarray(values, np.int64).astype(np.uint64)
    rows = values.shape[-1]
    if kind == "u":
        per_word = rows // 16
        parts = (values & np.uint64(0xFFFF)).reshape(*values.shape[:-1], 16, per_word)
        shifts = np.arange(per_word, dtype=np.uint64) * np.uint64(16)
        return (parts << shifts).sum(axis=-1, dtype=np.uint64)
    bits = values[..., None, :] >> np.arange(planes, dtype=np.uint64)[:, None] & np.uint64(1)
    return (bits << np.arange(rows, dtype=np.uint64)).sum(axis=-1, dtype=np.uint64)


def unpack_lanes(words, kind, rows):
    """Pool words uint64 (..., planes) -> lane values int64 (..., R)."""
    words = np.asarray(words, np.uint64)
    if kind == "u":
        per_word = rows // 16
        shifts = np.arange(per_word, dtype=np.uint64) * np.uint64(16)
        parts = (words[..., None] >> shifts & np.uint64(0xFFFF)).astype(np.int64)
        values = parts.reshape(*words.shape[:-1], rows)
        return values - ((values >> 15) << 16)
    planes = words.shape[-1]
    bits = (words[..., None] >> np.arange(rows, dtype=np.uint64) & np.uint64(1)).astype(np.int64)
    weights = np.int64(1) << np.arange(planes, dtype=np.int64)
    if kind in ("z", "image"):
        weights[-1] = -weights[-1]
    return (bits * weights[:, None]).sum(axis=-2)


def memory_words(pool, rows):
    """Pool words -> memory words; a last partial one is filled with zeros."""
    ratio = MEMORY_BITS // rows
    pool = np.asarray(pool, np.uint64)
    padded = np.zeros(-(-len(pool) // ratio) * ratio, np.uint64)
    padded[:len(pool)] = pool
    shifts = np.arange(ratio, dtype=np.uint64) * np.uint64(rows)
    return (padded.reshape(-1, ratio) << shifts).sum(axis=1, dtype=np.uint64)


def pool_words(memory, rows):
    """Memory words -> pool words."""
    ratio = MEMORY_BITS // rows
    memory = np.asarray(memory, np.uint64)
    shifts = np.arange(ratio, dtype=np.uint64) * np.uint64(rows)
    mask = np.uint64((1 << rows) - 1)
    return (memory[:, None] >> shifts & mask).reshape(-1)


def _nibbles(values):
    """Integers -8..7, multiples of 16 of them -> memory words."""
    values = (np.asarray(values, np.int64).reshape(-1, 16) & 15).astype(np.uint64)
    shifts = np.arange(16, dtype=np.uint64) * np.uint64(4)
    return (values << shifts).sum(axis=1, dtype=np.uint64)


def pack_tile(weight, config):
    """Weights (outputs R, inputs R) -> memory words of one tile, without header."""
    sets, blocks, halves, weights, parts, columns, groups = config.tile_order
    weight = np.asarray(weight).reshape(halves, parts, blocks, columns, sets, groups, weights)
    return _nibbles(weight.transpose(4, 2, 0, 6, 1, 3, 5))


def pack_depthwise(weight):
    """Depthwise weights (R, k, k) -> memory words; rows of seven taps and a 0 per lane.

    A smaller kernel is centred.
    """
    lanes, rows, columns = weight.shape
    padded = np.zeros((rows, lanes, 8), np.int64)
    start = (7 - columns) // 2
    padded[:, :, start:start + columns] = np.asarray(weight, np.int64).transpose(1, 0, 2)
    return _nibbles(padded)


def _words_of_ints(values):
    """128-bit Python integers -> memory words, two each."""
    mask = (1 << MEMORY_BITS) - 1
    return np.array([part for value in values for part in (value & mask, value >> MEMORY_BITS)],
                    np.uint64)


def pack_fire(thresholds, invert, acc_bits):
    """Constants of FIRE for R lanes: thresholds (R, 4), invert (R,) -> memory words."""
    width = acc_bits + 1
    mask = (1 << width) - 1
    values = []
    for row, negative in zip(np.asarray(thresholds).tolist(), np.asarray(invert).tolist(),
                             strict=True):
        value = int(bool(negative)) << 127
        for k, threshold in enumerate(row):
            if not -(1 << (width - 1)) <= threshold < 1 << (width - 1):
                raise ValueError(f"Threshold must fit in {width} bits, not {threshold}")
            value |= (threshold & mask) << (k * width)
        values.append(value)
    return _words_of_ints(values)


def pack_scale(multiplier, bias, shift):
    """Constants of SCALE for R lanes -> memory words."""
    values = []
    for m, b, s in zip(*(np.asarray(x).tolist() for x in (multiplier, bias, shift)),
                       strict=True):
        values.append((m & 0xFFFFFF) | (b & (1 << 48) - 1) << 24 | s << 72)
    return _words_of_ints(values)


def im2col(image, *, kernel, stride, padding, fold=1):
    """Patches of an image: (C, H, W) -> (C * k * (k + stride * (fold - 1)), H', W' / fold), zero
    padding: what ``fold`` neighbouring outputs use.

    The stem as a 1x1 convolution on these is the same sum; the host makes them.
    """
    channels, height, width = image.shape
    padded = np.zeros((channels, height + 2 * padding, width + 2 * padding), image.dtype)
    padded[:, padding:padding + height, padding:padding + width] = image
    columns = kernel + stride * (fold - 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, columns), axis=(1, 2))
    windows = windows[:, ::stride, ::stride * fold]
    return np.ascontiguousarray(windows.transpose(0, 3, 4, 1, 2).reshape(
        channels * kernel * columns, windows.shape[1], windows.shape[2]))
