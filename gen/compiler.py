"""Compiler: integer network + core configuration -> program, weight image and their map.

Layer by layer, strip by strip: each operator becomes, for every strip of rows and every group of
``rows`` output channels, moves and unit descriptors (docs/architecture.md). Tensors live in the
pool where they fit and are spilled to memory where not; hazards become wait counts.
"""

from dataclasses import dataclass, field
import logging

import numpy as np

from gen.error import DoesNotFit
from gen.hazard import Hazards
from gen.layout import (
    FeatureMap,
    head_lanes,
    head_slot,
    pack_depthwise,
    pack_fire,
    pack_scale,
    pack_tile,
)
from gen.residency import Residency
from hw.config import CoreConfig, MEMBRANE_BITS
from hw.descriptor import (
    DepthwiseMode,
    DESCRIPTOR_WORDS,
    Destination,
    Header,
    LAYOUTS,
    NeuronFunction,
    NeuronSource,
    pack,
    TileHeader,
    UnitKind,
    WAIT_BITS,
)
from model.graph import Attention, Conv, Depthwise, Fire, Integrate, Pool, Raw, RepConv, Requantise


__all__ = ["Program", "Descriptor", "Output", "compile_network"]


log = logging.getLogger(__name__)

MEMORY = "memory"
POOL = "pool"
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
    every tensor is laid out, ``homes`` where it lives: ("pool", address) or ("memory", address).
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
    """Rows of a tensor in the pool: ``base`` is the address of (perhaps absent) row 0."""

    map: FeatureMap
    base: int
    rows: tuple

    def span(self, low=None, high=None):
        """Pool interval of rows low..high."""
        low, high = (self.rows[0] if low is None else low), (self.rows[1] if high is None else high)
        start = self.base + low * self.map.row_words
        return start, start + (high - low) * self.map.row_words

    def position(self, row, group):
        """Address of the first position of ``row`` in ``group``."""
        return (self.base + row * self.map.row_words + group * self.map.planes) & 0xFFFF


class _Compiler:
    def __init__(self, network, config, memory_words):
        self.network = network
        self.config = config
        self.memory_limit = memory_words
        self.descriptors = []
        self.hazards = Hazards(
            {POOL: config.pool_words, PSUM: config.psum_words}, len(LAYOUTS), config.queue_depth)
        self.streams = _Stream()
        self.psum_next = 0
        self.maps = {}
        self.last_use = {}
        self.strips = {}
        self.layer = ""

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
        for index, op in enumerate(self.network.ops):
            for name in op.inputs:
                self.last_use[name] = index
            for name, kind in op.outputs.items():
                self.last_use.setdefault(name, index)
                shape = tensors[name][1:]
                self.maps[name] = FeatureMap.make(
                    name, "u" if kind == "raw" else kind, shape, self.config, slots.get(name))
        if not (isinstance(first, Conv) and first.source == "image"):
            raise ValueError(f"The first operator must be a convolution of the image, "
                             f"not {first.name}")
        kernel = first.weight.shape[-1]
        out = self.maps[next(iter(first.outputs))]
        # The host hands over patches, so the stem is a 1x1 convolution (docs/decisions).
        self.stem = {"kernel": kernel, "stride": first.stride, "padding": first.padding}
        self.maps["image"] = FeatureMap.make(
            "image", "image", (first.weight.shape[1] * kernel * kernel, out.height, out.width),
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

    def partial_sums(self, words):
        """A ring through the partial sums: later tiles find room while earlier ones drain."""
        if self.psum_next + words > self.config.psum_words:
            self.psum_next = 0
        start = self.psum_next
        self.psum_next += words
        return start

    def load(self, view):
        """Bring the view's rows from memory."""
        tensor, (low, high) = view.map, view.rows
        if high <= low:
            return
        image = tensor.name == "image"
        home = 0 if image else self.residency.memory[tensor.name]
        start, end = view.span()
        reads = [] if image else [
            (MEMORY, home + low * tensor.memory_row_words, home + high * tensor.memory_row_words)]
        self.emit(UnitKind.LOAD, reads=reads, writes=[(POOL, start, end)],
                  destination=Destination.POOL, image=int(image),
                  memory_address=home + low * tensor.memory_row_words,
                  length=tensor.memory_row_words, count=high - low,
                  memory_stride=tensor.memory_row_words, pool_address=start,
                  pool_words=tensor.row_words, pool_stride=tensor.row_words)

    def store(self, view):
        """Put the view's rows into memory."""
        tensor, (low, high) = view.map, view.rows
        result = tensor.name == "logits_acc"
        home = 0 if result else self.residency.memory[tensor.name]
        start, end = view.span()
        writes = [] if result else [
            (MEMORY, home + low * tensor.memory_row_words, home + high * tensor.memory_row_words)]
        self.emit(UnitKind.STORE, reads=[(POOL, start, end)], writes=writes, image=int(result),
                  memory_address=home + low * tensor.memory_row_words,
                  length=tensor.memory_row_words, count=high - low,
                  memory_stride=tensor.memory_row_words, pool_address=start,
                  pool_words=tensor.row_words, pool_stride=tensor.row_words)

    def view(self, name, low, high, *, load=False):
        """Rows low..high of a tensor in the pool, loaded from memory if it lives there."""
        tensor = self.maps[name]
        if name in self.residency.pool:
            return _View(tensor, self.residency.pool[name], (low, high))
        buffer = self.residency.buffers[self.index, name]
        view = _View(tensor, buffer - low * tensor.row_words, (low, high))
        if load:
            self.load(view)
        return view

    def finish(self, views):
        for view in views:
            if view.map.name not in self.residency.pool:
                self.store(view)

    # -- operators --------------------------------------------------------------------------

    def compile(self):
        self._make_maps()
        self._check()
        self.residency = Residency(self.network.ops, self.maps, self.last_use, self.config)
        self.hazards.add(MEMORY, self.residency.memory_words)
        for index, op in enumerate(self.network.ops):
            self.index = index
            self.layer = op.name
            {Conv: self._conv, Depthwise: self._depthwise, RepConv: self._rep_conv,
             Attention: self._attention, Pool: self._pool}[type(op)](op)
        self.layer = "end"
        return self._link()

    def _strips(self, height):
        rows = self.residency.strip_rows[self.index]
        self.strips[self.layer] = -(-height // rows)
        return [(low, min(low + rows, height)) for low in range(0, height, rows)]

    def _neuron(self, epilogue, views, psum, count, row, group):
        """NEURON descriptor (with its constants) for one tile of ``count`` positions."""
        config = self.config
        fields = {"source": NeuronSource.PARTIAL, "psum": psum, "count": count}
        reads, writes, outputs = [(PSUM, psum, psum + count)], [], []
        if isinstance(epilogue, Fire):
            level = views[epilogue.level]
            rule = epilogue.thresholds
            never = 1 << (config.acc_bits - 1)
            self.stream(Destination.CONST, pack_fire(
                self._spread(rule.thresholds, level, group, never),
                self._spread(rule.invert, level, group), config.acc_bits))
            fields |= {"function": NeuronFunction.FIRE, "plane_out": level.position(row, group),
                       "plane_stride": level.map.position_words}
            used = [(level, level.map.planes)]
        else:
            fields["function"] = NeuronFunction.SCALE
            if isinstance(epilogue, Raw):
                out = views["logits_acc"]
                channels = out.map.channels
                m, b, s = (np.full(channels, x, np.int64) for x in (1, 0, 0))
            else:
                out = views[epilogue.z if isinstance(epilogue, Requantise) else epilogue.u_out]
                m, b, s = (epilogue.scale.multiplier, epilogue.scale.bias, epilogue.scale.shift)
            self.stream(Destination.CONST, pack_scale(
                *(self._spread(x, out, group) for x in (m, b, s))))
            if isinstance(epilogue, Requantise):
                fields |= {"write_planes": 1, "planes": config.z_bits,
                           "plane_out": out.position(row, group),
                           "plane_stride": out.map.position_words}
            else:
                fields |= {"write_membrane": 1, "membrane_out": out.position(row, group),
                           "membrane_stride": out.map.position_words}
            used = [(out, out.map.planes)]
            if isinstance(epilogue, Integrate):
                if epilogue.u_in is not None:
                    source = views[epilogue.u_in]
                    fields |= {"add": 1, "membrane_in": source.position(row, group)}
                    reads.append((POOL, *source.span()))
                if epilogue.level is not None:
                    level = views[epilogue.level]
                    fields |= {"write_levels": 1, "plane_out": level.position(row, group),
                               "plane_stride": level.map.position_words}
                    used.append((level, level.map.planes))
        for view, words in used:
            writes.append((POOL, *view.span()))
            outputs.append(Output(view.map.name, group, row * view.map.width, count, words))
        self.emit(UnitKind.NEURON, reads=reads, writes=writes, outputs=outputs, **fields)

    def _spread(self, values, view, group, unused=0):
        """Per-channel values -> per lane of a group; unused lanes get ``unused``."""
        tensor = view.map
        lanes = tensor.lanes[group * tensor.rows:(group + 1) * tensor.rows]
        values = np.asarray(values)
        shape = (-1,) + (1,) * (values.ndim - 1)
        return np.where((lanes >= 0).reshape(shape), values[lanes], unused)

    def _epilogue_views(self, epilogue, low, high):
        """(views by name, those to store): the epilogue's inputs and outputs for output rows."""
        views, stored = {}, []
        if isinstance(epilogue, Integrate) and epilogue.u_in is not None:
            views[epilogue.u_in] = self.view(epilogue.u_in, low, high, load=True)
        for name in epilogue.outputs:
            views[name] = self.view(name, low, high)
            stored.append(views[name])
        return views, stored

    def _tiles(self, weight, source, target, group, padding):
        """Weight stream of one output group: ((dy, dx) of its tiles, memory words)."""
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
                        tiles.append((g * source.planes, ky - padding, kx - padding, tile))
        if not tiles:  # the partial sums must still be written
            tiles.append((0, 0, 0, np.zeros((config.rows, config.rows), np.int64)))
        words = [word for offset, dy, dx, tile in tiles for word in (
            np.array([pack(TileHeader, offset=offset, dy=dy, dx=dx)]
                     + [0] * (config.tile_header_words - 1), np.uint64),
            pack_tile(tile))]
        return [(dy, dx) for _, dy, dx, _ in tiles], np.concatenate(words)

    def _array(self, source, weight, target, group, *, psum, first, rows, width, stride, padding,
               span):
        taps, words = self._tiles(weight, source.map, target, group, padding)
        self.stream(Destination.WEIGHT, words)
        self.emit(UnitKind.ARRAY, reads=[(POOL, *span)],
                  writes=[(PSUM, psum, psum + rows * width)],
                  source=source.base & 0xFFFF, row_stride=source.map.row_words,
                  position_stride=source.map.position_words, planes=source.map.planes,
                  signed=int(source.map.kind != "level"), stride=stride,
                  height=source.map.height, width=source.map.width, first_row=first,
                  out_rows=rows, out_width=width, tiles=len(taps), psum=psum, taps=taps)

    def _conv(self, op):
        out = self.maps[next(iter(op.outputs))]
        weight, stride, padding = op.weight, op.stride, op.padding
        if op.source == "image":
            weight, stride, padding = weight.reshape(len(weight), -1, 1, 1), 1, 0
        kernel = weight.shape[2]
        for low, high in self._strips(out.height):
            first = max(0, low * stride - padding)
            last = min(self.maps[op.source].height, (high - 1) * stride - padding + kernel)
            source = self.view(op.source, first, max(first, last), load=True)
            views, stored = self._epilogue_views(op.epilogue, low, high)
            count = (high - low) * out.width
            for group in range(out.groups):
                psum = self.partial_sums(count)
                self._array(source, weight, out, group, psum=psum, first=low, rows=high - low,
                            width=out.width, stride=stride, padding=padding, span=source.span())
                self._neuron(op.epilogue, views, psum, count, low, group)
            self.finish(stored)

    def _depthwise(self, op):
        out = self.maps[op.epilogue.z]
        half = op.weight.shape[-1] // 2
        for low, high in self._strips(out.height):
            first, last = max(0, low - half), min(out.height, high + half)
            source = self.view(op.source, first, last, load=True)
            views, stored = self._epilogue_views(op.epilogue, low, high)
            count = (high - low) * out.width
            for group in range(out.groups):
                psum = self.partial_sums(count)
                self.stream(Destination.DEPTHWISE, pack_depthwise(
                    self._spread(op.weight, source, group)))
                self.emit(UnitKind.DEPTHWISE, reads=[(POOL, *source.span())],
                          writes=[(PSUM, psum, psum + count)], mode=DepthwiseMode.LEVEL,
                          kernel=op.weight.shape[-1],
                          source=(source.base + group * source.map.planes) & 0xFFFF,
                          row_stride=source.map.row_words,
                          position_stride=source.map.position_words, height=out.height,
                          width=out.width, first_row=low, out_rows=high - low, psum=psum)
                self._neuron(op.epilogue, views, psum, count, low, group)
            self.finish(stored)

    def _rep_conv(self, op):
        out = self.maps[op.epilogue.z]
        weight = op.pointwise[:, :, None, None]
        for low, high in self._strips(out.height):
            first, last = max(0, low - 1), min(out.height, high + 1)
            source = self.view(op.source, first, last, load=True)
            views, stored = self._epilogue_views(op.epilogue, low, high)
            inner, count = (last - first) * out.width, (high - low) * out.width
            for group in range(out.groups):
                psum = self.partial_sums(inner + count)
                self._array(source, weight, out, group, psum=psum, first=first,
                            rows=last - first, width=out.width, stride=1, padding=0,
                            span=source.span())
                self.stream(Destination.DEPTHWISE, pack_depthwise(
                    self._spread(op.depthwise, views[op.epilogue.z], group)))
                self.emit(UnitKind.DEPTHWISE, reads=[(PSUM, psum, psum + inner)],
                          writes=[(PSUM, psum + inner, psum + inner + count)],
                          mode=DepthwiseMode.PARTIAL, kernel=3, source=psum, source_row=first,
                          height=out.height, width=out.width, first_row=low,
                          out_rows=high - low, psum=psum + inner)
                self._neuron(op.epilogue, views, psum + inner, count, low, group)
            self.finish(stored)

    def _attention(self, op):
        out = self.maps[op.level]
        words, slot = head_slot(out.channels // op.heads, self.config.rows)
        query, key, value = (self.view(name, 0, out.height, load=True)
                             for name in (op.query, op.key, op.value))
        target = self.view(op.level, 0, out.height)
        tokens = out.height * out.width
        self.strips[self.layer] = 1
        for group in range(out.groups):
            head = group // words * words
            self.emit(UnitKind.ATTENTION,
                      reads=[(POOL, *v.span()) for v in (query, key, value)],
                      writes=[(POOL, *target.span())],
                      outputs=[Output(op.level, group, 0, tokens, out.planes)],
                      query=query.position(0, head), key=key.position(0, head),
                      value=value.position(0, group), output=target.position(0, group),
                      position_stride=out.position_words, tokens=tokens, words=words,
                      slot_log2=slot.bit_length() - 1)
        self.finish([target])

    def _pool(self, op):
        source_map = self.maps[op.source]
        source = self.view(op.source, 0, source_map.height, load=True)
        target = self.view(op.level, 0, 1)
        count = source_map.height * source_map.width
        frac = self.network.params.u_frac
        self.strips[self.layer] = 1
        # 8 S >= N (2k - 1) 2**F (MODEL.md §5.8), as a threshold on S.
        points = [-(-count * (2 * k - 1) * (1 << frac) // 8) for k in range(1, 5)]
        never = 1 << (self.config.acc_bits - 1)
        for group in range(source_map.groups):
            thresholds = np.tile(np.array(points, np.int64), (source_map.channels, 1))
            self.stream(Destination.CONST, pack_fire(
                self._spread(thresholds, target, group, never),
                np.zeros(self.config.rows, bool), self.config.acc_bits))
            self.emit(UnitKind.NEURON, reads=[(POOL, *source.span())],
                      writes=[(POOL, *target.span())],
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
        homes |= {name: (MEMORY, address + spill)
                  for name, address in self.residency.memory.items()}
        homes |= {"image": (MEMORY, image_at), "logits_acc": (MEMORY, result_at)}
        log.info("%d descriptors, %d memory words, %d spilled tensors", len(self.descriptors),
                 total, len(self.residency.memory))
        return Program(
            config=self.config, descriptors=self.descriptors, payload=payload, program=program,
            spill=spill, image=image_at, image_words=image.memory_words, result=result_at,
            result_words=result.memory_words, log=log_at, memory_words=total, maps=self.maps,
            homes=homes, stem=self.stem,
            logits={"scale": raw.scale, "offset": raw.offset}, strips=self.strips)


def compile_network(network, config, *, memory_words=1 << 24):
    """Compile an :class:`model.integer.IntegerNetwork` for one core.

    Parameters
    ----------
    network : IntegerNetwork
    config : CoreConfig
    memory_words : int
        Memory behind the core, in words of 64 bits.

    Returns
    -------
    Program

    Raises
    ------
    DoesNotFit
        If a resource is too small: which one, what is needed and what there is.
    """
    return _Compiler(network, config, memory_words).compile()
