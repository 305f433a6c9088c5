"""Compiler: integer network + core configuration -> program, weight image and their map.

Strip by strip through fused groups of operators (gen/compile/residency.py): every strip of an
operator becomes, for each group of ``rows`` output channels, moves and unit descriptors
(docs/architecture.md). Hazards become wait counts.
"""

from dataclasses import dataclass, field, replace
from itertools import pairwise
import logging

import numpy as np

from gen.compile.fold import choose_folds, fold_patches, fold_weight
from gen.compile.hazard import Hazards
from gen.compile.layout import FeatureMap, head_lanes, head_slot
from gen.compile.residency import Buffer, OUTSIDE, Residency, turns
from gen.compile.schedule import FIRE, reads, SUM
from hw.config import CoreConfig, MEMBRANE_BITS
from hw.descriptor import (
    Array,
    DepthwiseMode,
    DESCRIPTOR_WORDS,
    Destination,
    Header,
    LAYOUTS,
    NeuronFunction,
    NeuronSource,
    pack,
    RING_UNIT,
    SKIP_PLANES,
    TileHeader,
    UnitKind,
    WAIT_BITS,
)
from model.error import DoesNotFit, InputError
from model.graph import Attention, Conv, Depthwise, Fire, Integrate, Pool, Raw, RepConv, Requantise
from sim.reference.array import pack_tile
from sim.reference.depthwise import pack_depthwise
from sim.reference.neuron import pack_fire, pack_scale


__all__ = ["Program", "Descriptor", "Output", "compile_network", "least_memory"]


log = logging.getLogger(__name__)

MEMORY = "memory"
POOL = "pool"
ROLLING = "rolling"
PSUM = "psum"


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

    ``taps`` are the (dy, dx) of an ARRAY descriptor's tiles.
    """

    unit: UnitKind
    fields: dict
    waits: tuple
    layer: str
    outputs: tuple = ()
    taps: tuple = ()

    def pack(self):
        """Memory words, little endian."""
        header = pack(Header, kind=self.unit, waits=[w % (1 << WAIT_BITS) for w in self.waits])
        value = header | pack(LAYOUTS[self.unit], **self.fields) << 64
        return [value >> (64 * k) & (1 << 64) - 1 for k in range(DESCRIPTOR_WORDS)]


@dataclass
class Program:
    """A compiled network.

    ``payload`` is written to memory address 0; regions are in memory words. ``maps`` tells how
    every tensor is laid out, ``homes`` where it lives: ("pool", address), ("rolling", address of
    its ring of rows in the pool) or ("memory", address); membranes that nobody reads have none.
    ``strips`` counts the strips of every layer, ``groups`` names the layers of every fused group;
    ``stem`` are the arguments of
    :func:`gen.compile.layout.im2col` for the image.
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
    logits: dict
    strips: dict = field(default_factory=dict)
    groups: list = field(default_factory=list)

    @property
    def log_words(self):
        return 2 * len(self.descriptors)


class _Stream:
    """Blocks of memory words laid end to end; equal blocks are stored once."""

    def __init__(self):
        self.parts = []
        self.size = 0
        self._known = {}

    def add(self, words):
        """Address of ``words``, relative to the start."""
        words = np.ascontiguousarray(words, np.uint64)
        key = words.tobytes()
        if key not in self._known:
            self._known[key] = self.size
            self.parts.append(words)
            self.size += len(words)
        return self._known[key]


@dataclass
class _View:
    """Rows of a tensor in the pool; ``home`` says "pool", "rolling" or "memory"."""

    map: FeatureMap
    buffer: Buffer
    rows: tuple
    home: str
    first_row: int = 0      # the row at the buffer's start, in the first round of a ring

    def parts(self, cuts=()):
        """The rows as (low, high) that follow each other in the pool; cut at ``cuts``, too."""
        low, high = self.rows
        ring = self.buffer.rows
        ends = sorted({*range(low // ring * ring + ring, high, ring),
                       *(cut for cut in cuts if low < cut < high)})
        return [(a, b) for a, b in pairwise((low, *ends, high)) if a < b]

    def address(self, row):
        """Pool address of a row."""
        row = (row - self.first_row) % self.buffer.rows
        return self.buffer.address + row * self.map.row_words

    def intervals(self):
        """Pool intervals of the rows, for hazards."""
        return [(POOL, self.address(low), self.address(low) + (high - low) * self.map.row_words)
                for low, high in self.parts()]

    def position(self, row, group):
        """Address of the first position of ``row`` in ``group``."""
        return self.address(row) + (group - self.map.first_group) * self.map.planes

    def origin(self):
        """(row, ring) for descriptors that read all of the rows.

        They count rows from the one that lies at the start of the buffer; where the rows run
        over its end, those before that one count as negative and are ``ring`` units higher.
        """
        low, high = self.rows
        row, size = low // self.buffer.rows * self.buffer.rows, self.buffer.rows
        if high <= row + size:
            return row, 0
        return row + size, size * self.map.row_words // RING_UNIT


class _Compiler:
    def __init__(self, network, config, memory_words, word_cycles, strip_rows, fold, apart,
                 memo=None):
        self.network = network
        self.memo = memo
        self.apart = apart
        self.config = config
        self.word_cycles = word_cycles
        self.strip_rows = strip_rows
        self.most_fold = fold
        self.memory_limit = memory_words
        self.descriptors = []
        self.hazards = Hazards(
            {POOL: config.pool_words, PSUM: config.psum_words}, len(LAYOUTS), config.queue_depth)
        self.streams = _Stream()
        self.psum_rings = {}
        self.summed = 0
        self.maps = {}
        self.strips = {}
        self.layer = ""
        self.group = None
        self.loaded = {}
        self.cache = {}
        self.tiles = {}

    # -- preparation ------------------------------------------------------------------------

    def _make_maps(self):
        rows = self.config.rows
        tensors = self.network.tensors()
        slots = {}
        for op in self.network.ops:
            if isinstance(op, Attention):
                channels = tensors[op.query][1]
                for name in (op.query, op.key, op.value, op.level):
                    slots[name] = head_lanes(channels, op.heads, rows)
        first = self.network.ops[0]
        self.folds = choose_folds(self.network.ops, tensors, rows, self.most_fold)
        for op in self.network.ops:
            for name, kind in op.outputs.items():
                shape, fold = tensors[name][1:], self.folds.get(op.name, 1)
                self.maps[name] = FeatureMap.make(
                    name, "u" if kind == "raw" else kind, shape, self.config, slots.get(name),
                    fold)
        if not (isinstance(first, Conv) and first.source == "image"):
            raise ValueError(f"The first operator must be a convolution of the image, "
                             f"not {first.name}")
        kernel = first.weight.shape[-1]
        out = self.maps[next(iter(first.outputs))]
        # The host hands over patches, so the stem is a 1x1 convolution (docs/decisions).
        self.stem = {"kernel": kernel, "stride": first.stride, "padding": first.padding,
                     "fold": out.fold}
        columns = kernel + first.stride * (out.fold - 1)
        self.maps["image"] = FeatureMap.make(
            "image", "image", (first.weight.shape[1] * kernel * columns, out.height, out.width),
            self.config)

    def _check(self):
        """Refuse what the widths of the core cannot hold, naming the resource."""
        config, params = self.config, self.network.params
        for name, have, need in (
                ("Membrane fraction", config.membrane_frac, params.u_frac),
                ("Membrane width", MEMBRANE_BITS, params.u_bits),
                ("Width of z", config.z_bits, params.z_bits),
                ("Accumulator width", config.acc_bits, params.acc_bits)):
            if have != need:
                raise DoesNotFit(f"{name} in bits (must be equal)", needed=need, available=have)
        if params.mult_bits > config.multiplier_bits:
            raise DoesNotFit("multiplier bits", needed=params.mult_bits,
                             available=config.multiplier_bits)
        limit = 1 << (config.acc_bits - 1)
        for op in self.network.ops:
            for stage, bound in enumerate(self.network.acc_bounds(op)):
                allowed = limit
                if isinstance(op, RepConv) and stage == 0:
                    allowed = 1 << 17  # what the depthwise unit reads of a partial sum
                if isinstance(getattr(op, "epilogue", None), Raw):
                    allowed = 1 << 15
                if bound.max() >= allowed:
                    raise DoesNotFit(f"largest accumulator of {op.name}",
                                     needed=int(bound.max()), available=allowed - 1)
            if isinstance(op, Attention):
                size = self.maps[op.query].channels // op.heads
                words, _ = head_slot(size, config.rows)
                if words > config.head_words:
                    raise DoesNotFit(f"words for heads of {size} channels in {op.name}",
                                     needed=words, available=config.head_words)
            if isinstance(op, Pool):
                source = self.maps[op.source]
                bits = MEMBRANE_BITS + (source.height * source.width - 1).bit_length()
                if bits > config.acc_bits:
                    raise DoesNotFit(f"accumulator bits for the sums of {op.name}",
                                     needed=bits, available=config.acc_bits)
        for tensor in self.maps.values():
            for what, need, have in (
                    ("rows or columns", max(tensor.height, tensor.width), 511),
                    ("pool words per position", tensor.position_words, 4095)):
                if need > have:
                    raise DoesNotFit(f"{what} of {tensor.name}", needed=need, available=have)

    # -- emission ---------------------------------------------------------------------------

    def emit(self, unit, *, reads=(), writes=(), outputs=(), taps=(), **fields):
        """Append a descriptor; reads and writes are (resource, start, end) intervals."""
        waits = self.hazards.issue(unit.value, reads, writes)
        self.descriptors.append(Descriptor(unit, fields, waits, self.layer, tuple(outputs),
                                           tuple(taps)))

    def stream(self, destination, words):
        address = self.streams.add(words)
        left, start = len(words), address
        while left:
            length = min(left, 0xFFFF)
            self.emit(UnitKind.LOAD, destination=destination, memory_address=start,
                      length=length, count=1)
            left, start = left - length, start + length

    def share_partial_sums(self, group):
        """Divide the partial sums where a depthwise convolution runs beside other operators."""
        words = max((self.residency.partial_sums(self.network.ops[step.op], step.high - step.low)
                     for step in group.steps if step.half), default=0)
        rest = [words, words, self.config.psum_words]
        self.psum_rings = {True: [0, 0, words] if words else rest, False: rest}

    def partial_sums(self, words, *, depthwise=False):
        """A ring through the partial sums: later tiles find room while earlier ones drain."""
        ring = self.psum_rings[depthwise]
        low, start, high = ring
        if start + words > high:
            start = low
        ring[1] = start + words
        return start

    def once(self, make, *key):
        """``make()``, remembered under ``key``: every strip streams the same weights."""
        if key not in self.cache:
            self.cache[key] = make()
        return self.cache[key]

    def _move(self, view, unit, low, high):
        """LOAD or STORE of rows that follow each other in the pool."""
        tensor = view.map
        host = tensor.name in OUTSIDE
        home = 0 if host else self.residency.memory[tensor.name]
        words, address = tensor.memory_row_words, view.address(low)
        whole = self.maps[tensor.name]
        if tensor.groups != whole.folded(tensor.fold).groups:
            self._move_tile(view, unit, low, high)
            return
        pool = [(POOL, address, address + (high - low) * tensor.row_words)]
        memory = [] if host else [(MEMORY, home + low * words, home + high * words)]
        load = unit is UnitKind.LOAD
        fields = {"destination": Destination.POOL} if load else {}
        self.emit(unit, reads=memory if load else pool, writes=pool if load else memory,
                  image=int(host), memory_address=home + low * words, length=words,
                  count=high - low, memory_stride=words, pool_address=address,
                  pool_words=tensor.row_words, pool_stride=tensor.row_words, **fields)

    def _move_tile(self, view, unit, low, high):
        """The same for one channel group of a membrane: position by position."""
        tensor, whole = view.map, self.maps[view.map.name]
        ratio = self.config.words_per_memory_word
        words, stride = tensor.planes // ratio, whole.position_words // ratio
        home = self.residency.memory[tensor.name] + tensor.first_group * words
        start = home + low * whole.width * stride
        count = (high - low) * whole.width
        pool = view.intervals()
        memory = [(MEMORY, start, start + (count - 1) * stride + words)]
        load = unit is UnitKind.LOAD
        fields = {"destination": Destination.POOL} if load else {}
        self.emit(unit, reads=memory if load else pool, writes=pool if load else memory, image=0,
                  memory_address=start, length=words, count=count, memory_stride=stride,
                  pool_address=view.address(low), pool_words=tensor.planes,
                  pool_stride=tensor.planes, **fields)

    def view(self, name, role, low, high, fold=1):
        """Rows low..high of a tensor in the pool: where they are or, with ``role`` "out", will be.

        Rows of a tensor in memory that the group has not loaded yet are loaded. The view is
        folded by ``fold``.
        """
        low, high = int(low), int(high)
        tensor, buffers = self.maps[name].folded(fold), self.group.buffers
        if name in self.residency.pool:
            return _View(tensor, Buffer(self.residency.pool[name], tensor.height), (low, high),
                         POOL)
        if (name, "") in buffers:
            return _View(tensor, buffers[name, ""], (low, high), ROLLING)
        view = _View(tensor, buffers[name, role], (low, high), MEMORY)
        if role == "in":
            missing = max(low, self.loaded.get(name, 0)), high
            if missing[0] < high:
                self.loaded[name] = high
                for part in replace(view, rows=missing).parts():
                    self._move(view, UnitKind.LOAD, *part)
        return view

    def finish(self, views):
        """Store those that live in memory."""
        for view in views:
            if view.home == MEMORY:
                for part in view.parts():
                    self._move(view, UnitKind.STORE, *part)

    # -- operators --------------------------------------------------------------------------

    def least_memory(self):
        """Memory words that every program has: distinct tiles of the array, and the image."""
        self._make_maps()
        self._check()
        self._make_tiles()
        tiles = {words.tobytes(): len(words) for groups in self.tiles.values()
                 for group in groups for _, words in group}
        return sum(tiles.values()) + self.maps["image"].memory_words

    def compile(self):
        self._make_maps()
        self._check()
        self._make_tiles()
        tiles = {name: sum(map(len, groups)) for name, groups in self.tiles.items()}
        self.residency = Residency(self.network.ops, self.maps, tiles, self.config,
                                   word_cycles=self.word_cycles,
                                   strip_rows=self.strip_rows, apart=self.apart,
                                   memo=self.memo and self.memo.of(
                                       self.config, strip_rows=self.strip_rows,
                                       fold=self.most_fold))
        self.hazards.add(MEMORY, self.residency.memory_words)
        emit = {Conv: self._conv, Depthwise: self._depthwise, RepConv: self._rep_conv,
                Attention: self._attention, Pool: self._pool}
        for group in self.residency.groups:
            self.group, self.loaded = group, {}
            self.share_partial_sums(group)
            for step in group.steps:
                op = self.network.ops[step.op]
                self.layer = op.name
                self.strips[op.name] = self.strips.get(op.name, 0) + self._begins(step)
                emit[type(op)](op, step)
        self.layer = "end"
        return self._link()

    @staticmethod
    def _begins(step):
        """Whether a step is the first, or all, of a strip."""
        return step.group in (None, 0) and step.half != FIRE

    @staticmethod
    def _groups(tensor, step):
        """Channel groups of an output that a step is about."""
        return range(tensor.groups) if step.group is None else [step.group]

    def _neuron(self, op, views, psum, group):
        """NEURON descriptors (with their constants) for the strip of one output group.

        One for all rows that follow each other in every buffer concerned.
        """
        first = next(iter(views.values()))
        cuts = {low for view in views.values() for low, _ in view.parts()}
        for low, high in first.parts(cuts):
            parts = {name: replace(view, rows=(low, high)) for name, view in views.items()}
            at = psum + (low - first.rows[0]) * first.map.width
            self._neuron_part(op, parts, at, low, high, group)

    def _neuron_part(self, op, views, psum, low, high, group):
        config, epilogue = self.config, op.epilogue
        main = next(iter(views.values())).map
        count = (high - low) * main.width
        fields = {"source": NeuronSource.PARTIAL, "psum": psum, "count": count}
        reads, writes, outputs = [(PSUM, psum, psum + count)], [], []
        if isinstance(epilogue, Fire):
            level = views[epilogue.level]
            rule = epilogue.thresholds
            never = 1 << (config.acc_bits - 1)
            constants = self.once(lambda: pack_fire(
                self._spread(rule.thresholds, level.map, group, never),
                self._spread(rule.invert, level.map, group), config.acc_bits), op.name, group)
            fields |= {"function": NeuronFunction.FIRE, "plane_out": level.position(low, group),
                       "plane_stride": level.map.position_words}
            used = [level]
        else:
            fields["function"] = NeuronFunction.SCALE
            if isinstance(epilogue, Raw):
                out = views["logits_acc"]
                m, b, s = (np.full(out.map.channels, x, np.int64) for x in (1, 0, 0))
            else:
                m, b, s = (epilogue.scale.multiplier, epilogue.scale.bias, epilogue.scale.shift)
            constants = self.once(lambda: pack_scale(
                *(self._spread(x, main, group) for x in (m, b, s))), op.name, group)
            used = []
            if isinstance(epilogue, Requantise):
                out = views[epilogue.z]
                used.append(out)
                fields |= {"write_planes": 1, "planes": config.z_bits,
                           "plane_out": out.position(low, group),
                           "plane_stride": out.map.position_words}
            else:
                name = "logits_acc" if isinstance(epilogue, Raw) else epilogue.u_out
                if name in views:
                    out = views[name]
                    used.append(out)
                    fields |= {"write_membrane": 1, "membrane_out": out.position(low, group),
                               "membrane_stride": out.map.position_words}
            if isinstance(epilogue, Integrate):
                if epilogue.u_in is not None:
                    source = views[epilogue.u_in]
                    fields |= {"add": 1, "membrane_in": source.position(low, group),
                               "membrane_stride": source.map.position_words}
                    reads += source.intervals()
                if epilogue.level is not None:
                    level = views[epilogue.level]
                    fields |= {"write_levels": 1, "plane_out": level.position(low, group),
                               "plane_stride": level.map.position_words}
                    used.append(level)
        for view in used:
            writes += view.intervals()
            outputs.append(Output(view.map.name, group, low * view.map.width, count,
                                  view.map.planes))
        self.stream(Destination.CONST, constants)
        self.emit(UnitKind.NEURON, reads=reads, writes=writes, outputs=outputs, **fields)

    @staticmethod
    def _spread(values, tensor, group, unused=0):
        """Per-channel values -> per lane of a group; unused lanes get ``unused``."""
        first = (group - tensor.first_group) * tensor.rows
        lanes = tensor.lanes[first:first + tensor.rows]
        values = np.asarray(values)
        shape = (-1,) + (1,) * (values.ndim - 1)
        return np.where((lanes >= 0).reshape(shape), values[lanes % tensor.channels], unused)

    def _epilogue_views(self, op, low, high):
        """(views by name, those to store): the epilogue's inputs and outputs for output rows."""
        fold = self.folds.get(op.name, 1)
        outputs = {name: self.view(name, "out", low, high, fold) for name in op.epilogue.outputs
                   if name not in self.residency.dead and not self.group.by_tile(name)}
        inputs = {name: self.view(name, "in", low, high, fold) for name in op.epilogue.inputs
                  if not self.group.by_tile(name)}
        return outputs | inputs, outputs.values()

    def _tile_views(self, op, low, high, group):
        """(views by name, those to load, those to store) of the membranes that are moved one
        channel group at a time: one of it."""
        views, loaded, stored = {}, [], []
        for role, names in (("in", op.epilogue.inputs), ("out", op.epilogue.outputs)):
            for name in names:
                if self.group.by_tile(name):
                    tensor = self.maps[name].only(group)
                    buffer = self.group.buffers[name, role]
                    turn = group % turns(self.maps[name]) * buffer.rows * tensor.row_words
                    view = _View(tensor, Buffer(buffer.address + turn, tensor.height), (low, high),
                                 MEMORY, first_row=low)
                    views[name] = view
                    (loaded if role == "in" else stored).append(view)
        return views, loaded, stored

    def _make_tiles(self):
        """Array tiles of every operator: by output group, ((dy, dx), memory words) each."""
        known = {} if self.memo is None else self.memo.of(self.config, fold=self.most_fold)
        self.tiles = known.setdefault("tiles", {})
        if self.tiles:
            return
        for op in self.network.ops:
            if isinstance(op, RepConv):
                source, target = (self.maps[name] for name in (op.source, op.epilogue.z))
                weight, padding = op.pointwise[:, :, None, None], (0, 0)
            elif isinstance(op, Conv):
                fold = self.folds[op.name]
                target = self.maps[next(iter(op.outputs))]
                if op.source == "image":
                    source, padding = self.maps["image"], (0, 0)
                    weight = fold_patches(op.weight, fold, stride=op.stride)
                else:
                    source = self.maps[op.source].folded(fold)
                    weight, across = fold_weight(op.weight, fold, stride=op.stride,
                                                 padding=op.padding)
                    padding = op.padding, across
            else:
                continue
            self.tiles[op.name] = [self._tiles(weight, source, target, group, padding)
                                   for group in range(target.groups)]

    def _tiles(self, weight, source, target, group, padding):
        """Tiles of one output group: ((dy, dx), memory words) each."""
        config = self.config
        _, _, height, width = weight.shape
        outputs = target.lanes[group * config.rows:(group + 1) * config.rows]
        tiles = []
        for ky in range(height):
            for kx in range(width):
                for g in range(source.groups):
                    inputs = source.lanes[g * config.rows:(g + 1) * config.rows]
                    tile = np.where((outputs[:, None] >= 0) & (inputs >= 0),
                                    weight[outputs[:, None], inputs, ky, kx], 0)
                    if tile.any():
                        tiles.append((g * source.planes, ky - padding[0], kx - padding[1], tile))
        if not tiles:  # the partial sums must still be written
            tiles.append((0, 0, 0, np.zeros((config.rows, config.rows), np.int64)))
        blank = [0] * (config.tile_header_words - 1)
        return [((dy, dx), np.append(
            np.array([pack(TileHeader, offset=offset, dy=dy, dx=dx), *blank], np.uint64),
            pack_tile(tile, config))) for offset, dy, dx, tile in tiles]

    def _array(self, op, source, target, group, *, psum, first, rows, stride=1, loaded=()):
        """ARRAY descriptors (with their weights): output rows from ``first`` of one group.

        Views ``loaded`` come meanwhile: behind as many weights as fill their buffer, or half of
        them, so that the array has work until then and the rest arrives in time.
        """
        tiles = self.tiles[op.name][group]
        origin, ring = source.origin()
        width, planes = target.width, source.map.planes
        if self.config.plane_skip and source.map.kind == "z" and source.home != MEMORY:
            planes += SKIP_PLANES
        limit = (1 << Array.as_shape()["tiles"].width) - 1
        for start in range(0, len(tiles), limit):
            taps, words = zip(*tiles[start:start + limit], strict=True)
            first_tiles = len(words)
            if loaded and start == 0:
                first_tiles = max(self.config.weight_fifo_words // self.config.tile_words,
                                  first_tiles // 2)
            for low, high in ((0, first_tiles), (first_tiles, len(words))):
                if low < len(words):
                    self.stream(Destination.WEIGHT, self.once(
                        lambda w=words[low:high]: np.concatenate(w), op.name, "tiles", group,
                        start + low))
                if start == low == 0:
                    for view in loaded:
                        self._move(view, UnitKind.LOAD, *view.rows)
            self.emit(UnitKind.ARRAY, reads=source.intervals(),
                      writes=[(PSUM, psum, psum + rows * width)], source=source.buffer.address,
                      row_stride=source.map.row_words, ring=ring,
                      position_stride=source.map.position_words, planes=planes,
                      signed=int(source.map.kind != "level"), stride=stride,
                      height=source.map.height - origin, width=source.map.width,
                      first_row=first - origin // stride, out_rows=rows, out_width=width,
                      tiles=len(taps), psum=psum, accumulate=int(start > 0), taps=taps)

    def _conv(self, op, step):
        low, high = step.low, step.high
        out = self.maps[next(iter(op.outputs))]
        image = op.source == "image"
        stride, fold = (1, 1) if image else (op.stride, self.folds[op.name])
        source = self.view(op.source, "in", *reads(op, low, high, self.maps)[op.source], fold)
        views, stored = self._epilogue_views(op, low, high)
        for group in self._groups(out, step):
            psum = self.partial_sums((high - low) * out.width)
            tile_views, tile_loaded, tile_stored = self._tile_views(op, low, high, group)
            self._array(op, source, out, group, psum=psum, first=low, rows=high - low,
                        stride=stride, loaded=tile_loaded)
            self._neuron(op, views | tile_views, psum, group)
            self.finish(tile_stored)
        if step.group in (None, out.groups - 1):
            self.finish(stored)

    def _depthwise(self, op, step):
        """A strip, or one half of a channel group of it."""
        out, low, high = self.maps[op.epilogue.z], step.low, step.high
        count = (high - low) * out.width
        views, stored = self._epilogue_views(op, low, high)
        for group in self._groups(out, step):
            if step.half != FIRE:
                self.summed = self.partial_sums(count, depthwise=True)
                self._depthwise_sums(op, low, high, group)
            if step.half != SUM:
                self._neuron(op, views, self.summed, group)
        if step.half != SUM and step.group in (None, out.groups - 1):
            self.finish(stored)

    def _depthwise_sums(self, op, low, high, group):
        out, psum = self.maps[op.epilogue.z], self.summed
        source = self.view(op.source, "in", *reads(op, low, high, self.maps)[op.source])
        origin, ring = source.origin()
        self.stream(Destination.DEPTHWISE, self.once(lambda: pack_depthwise(
            self._spread(op.weight, source.map, group)), op.name, "taps", group))
        self.emit(UnitKind.DEPTHWISE, reads=source.intervals(),
                  writes=[(PSUM, psum, psum + (high - low) * out.width)],
                  mode=DepthwiseMode.LEVEL, kernel=op.weight.shape[-1],
                  source=source.buffer.address + group * source.map.planes,
                  row_stride=source.map.row_words, ring=ring,
                  position_stride=source.map.position_words, height=out.height - origin,
                  width=out.width, first_row=low - origin, out_rows=high - low, psum=psum)

    def _rep_conv(self, op, step):
        low, high = step.low, step.high
        out = self.maps[op.epilogue.z]
        source = self.view(op.source, "in", *reads(op, low, high, self.maps)[op.source])
        first, last = source.rows
        views, stored = self._epilogue_views(op, low, high)
        inner, count = (last - first) * out.width, (high - low) * out.width
        for group in range(out.groups):
            psum = self.partial_sums(inner + count)
            self._array(op, source, out, group, psum=psum, first=first, rows=last - first)
            self.stream(Destination.DEPTHWISE, self.once(lambda g=group: pack_depthwise(
                self._spread(op.depthwise, out, g)), op.name, "taps", group))
            self.emit(UnitKind.DEPTHWISE, reads=[(PSUM, psum, psum + inner)],
                      writes=[(PSUM, psum + inner, psum + inner + count)],
                      mode=DepthwiseMode.PARTIAL, kernel=3, source=psum, source_row=first,
                      height=out.height, width=out.width, first_row=low, out_rows=high - low,
                      psum=psum + inner)
            self._neuron(op, views, psum + inner, group)
        self.finish(stored)

    def _attention(self, op, step):
        low, high = step.low, step.high
        out = self.maps[op.level]
        words, slot = head_slot(out.channels // op.heads, self.config.rows)
        query, key, value = (self.view(name, "in", low, high)
                             for name in (op.query, op.key, op.value))
        target = self.view(op.level, "out", low, high)
        tokens = out.height * out.width
        for group in range(out.groups):
            head = group // words * words
            self.emit(UnitKind.ATTENTION,
                      reads=[interval for v in (query, key, value) for interval in v.intervals()],
                      writes=target.intervals(),
                      outputs=[Output(op.level, group, 0, tokens, out.planes)],
                      query=query.position(0, head), key=key.position(0, head),
                      value=value.position(0, group), output=target.position(0, group),
                      position_stride=out.position_words, tokens=tokens, words=words,
                      slot_log2=slot.bit_length() - 1)
        self.finish([target])

    def _pool(self, op, step):
        low, high = step.low, step.high
        source_map = self.maps[op.source]
        source = self.view(op.source, "in", 0, source_map.height)
        target = self.view(op.level, "out", low, high)
        count = source_map.height * source_map.width
        frac = self.network.params.u_frac
        # 8 S >= N (2k - 1) 2**F (docs/model.md 5.8), as a threshold on S.
        points = [-(-count * (2 * k - 1) * (1 << frac) // 8) for k in range(1, 5)]
        never = 1 << (self.config.acc_bits - 1)
        for group in range(source_map.groups):
            thresholds = np.tile(np.array(points, np.int64), (source_map.channels, 1))
            self.stream(Destination.CONST, pack_fire(
                self._spread(thresholds, target.map, group, never),
                np.zeros(self.config.rows, bool), self.config.acc_bits))
            self.emit(UnitKind.NEURON, reads=source.intervals(), writes=target.intervals(),
                      outputs=[Output(op.level, group, 0, 1, target.map.planes)],
                      source=NeuronSource.MEMBRANE_SUM, function=NeuronFunction.FIRE,
                      count=count, membrane_in=source.position(0, group),
                      membrane_stride=source_map.position_words,
                      plane_out=target.position(0, group),
                      plane_stride=target.map.position_words)
        self.finish([target])

    # -- memory map -------------------------------------------------------------------------

    def _link(self):
        image, result = self.maps["image"], self.maps["logits_acc"]
        program = self.streams.size
        end = [0] * DESCRIPTOR_WORDS
        end[0] = pack(Header, kind=UnitKind.END)
        spill = program + DESCRIPTOR_WORDS * (len(self.descriptors) + 1)
        image_at = spill + self.residency.memory_words
        result_at = image_at + image.memory_words
        log_at = result_at + result.memory_words
        total = log_at + 2 * len(self.descriptors)
        if total > self.memory_limit:
            raise DoesNotFit(
                "memory words of 64 bits", needed=total, available=self.memory_limit,
                hint=f"weights and constants {program}, program {spill - program}, spilled "
                     f"tensors {self.residency.memory_words}, image, result and log "
                     f"{total - image_at}")
        words = []
        for descriptor in self.descriptors:
            fields = descriptor.fields
            spilled = (descriptor.unit in (UnitKind.LOAD, UnitKind.STORE)
                       and not fields.get("image")
                       and fields.get("destination", Destination.POOL) is Destination.POOL)
            if spilled:  # spill addresses were relative while the streams still grew
                fields["memory_address"] += spill
            words += descriptor.pack()
        payload = np.concatenate([*self.streams.parts, np.array(words + end, np.uint64)])
        raw = self.network.ops[-1].epilogue
        homes = {name: (POOL, address) for name, address in self.residency.pool.items()}
        homes |= {name: (ROLLING, buffer.address) for group in self.residency.groups
                  for (name, role), buffer in group.buffers.items() if not role}
        homes |= {name: (MEMORY, address + spill)
                  for name, address in self.residency.memory.items()}
        homes |= {"image": (MEMORY, image_at), "logits_acc": (MEMORY, result_at)}
        kinds = [home for home, _ in homes.values()]
        log.debug("%d descriptors, %d memory words; tensors: %d in the pool, %d rolling, %d in "
                  "memory", len(self.descriptors), total, kinds.count(POOL), kinds.count(ROLLING),
                  kinds.count(MEMORY))
        return Program(
            config=self.config, descriptors=self.descriptors, payload=payload, program=program,
            spill=spill, image=image_at, image_words=image.memory_words, result=result_at,
            result_words=result.memory_words, log=log_at, memory_words=total, maps=self.maps,
            homes=homes, stem=self.stem,
            logits={"scale": raw.scale, "offset": raw.offset}, strips=self.strips,
            groups=[[op.name for op in self.network.ops[group.start:group.end]]
                    for group in self.residency.groups])


STRIP_ROWS = 127
"""Most output rows of a strip: what ``out_rows`` of an ARRAY descriptor holds."""

FOLD = 64
"""Most positions in a pool word: those of one channel on the widest array."""


def compile_network(network, config, *, memory_words=1 << 24, word_cycles=0.25,
                    strip_rows=STRIP_ROWS, fold=FOLD, apart=True, memo=None):
    """Compile an :class:`model.integer.IntegerNetwork` for one core.

    Parameters
    ----------
    network : IntegerNetwork
    config : CoreConfig
    memory_words : int
        Memory behind the core, in words of 64 bits.
    word_cycles : float
        What moving a word is worth in cycles of the core: those that the memory takes, as far as
        they cannot be hidden. About 4.5 for 16-bit SDRAM at the clock of the core.
    strip_rows : int
        Most output rows of a strip, 1..127. Strips are as tall as pays otherwise.
    fold : int
        Most neighbouring positions of a narrow map that share a pool word, 1..64
        (:mod:`gen.compile.fold`). Maps are folded as far as they fit otherwise; 1 folds nothing.
    apart : bool
        A depthwise convolution runs beside the other operators of its group wherever there is
        room.
    memo : gen.compile.residency.StripMemo or None
        What earlier calls for this network have worked out, for one call among several.

    Returns
    -------
    Program

    Raises
    ------
    DoesNotFit
        If a resource is too small: which one, what is needed and what there is.
    """
    if not isinstance(strip_rows, int) or not 1 <= strip_rows <= STRIP_ROWS:
        raise InputError(f"Strip rows must be 1..{STRIP_ROWS}, not {strip_rows!r}")
    if not isinstance(fold, int) or not 1 <= fold <= FOLD:
        raise InputError(f"Fold must be 1..{FOLD}, not {fold!r}")
    return _Compiler(network, config, memory_words, word_cycles, strip_rows, fold, apart,
                     memo).compile()


def least_memory(network, config, *, fold=FOLD, memo=None):
    """Words of memory that any program of the network takes on this core, at the least.

    Weights of the array and the image's patches: what a search can know before it looks for
    strips. ``memo`` as in :func:`compile_network`; raises :exc:`DoesNotFit` for widths.
    """
    return _Compiler(network, config, 0, 0, STRIP_ROWS, fold, False, memo).least_memory()
