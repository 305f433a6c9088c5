"""Instruction-set simulator: executes a compiled program, descriptor by descriptor, in NumPy.

It knows descriptors, the pool, partial sums and streams, and nothing of layers, so it finds
mistakes of the compiler; the RTL must do exactly what it does (docs/architecture.md).
"""

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from gen.compile.layout import im2col, memory_words, pack_lanes, pool_words, unpack_lanes
from hw.config import LEVEL_PLANES, MEMBRANE_BITS
from hw.descriptor import (
    DepthwiseMode,
    Destination,
    Header,
    LAYOUTS,
    NeuronFunction,
    NeuronSource,
    planes_of,
    RING_UNIT,
    TileHeader,
    UnitKind,
    unpack,
)
from hw.lib.plane_repeat import PLANES_MIN
from sim.reference.lanes import leading_repeats
from sim.reference.signature import signature


__all__ = ["Iss", "IssError", "Completion", "image_words", "logits_of"]


class IssError(Exception):
    """The program does something undefined: a bug of the compiler."""


@dataclass
class Completion:
    """What one descriptor did: signature, events, and the pool words it wrote, in order."""

    unit: UnitKind
    signature: int = 0
    events: int = 0
    addresses: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint16))
    words: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))


def image_words(program, image_q):
    """Memory words of an image int8 (C, H, W), patches first (see Program.stem)."""
    tensor = program.maps["image"]
    words = tensor.pack(im2col(image_q, **program.stem)).reshape(tensor.height, -1)
    return np.concatenate([memory_words(row, tensor.rows) for row in words])


def logits_of(program, words):
    """Memory words of a result -> (raw accumulators int64 (classes,), logits float64)."""
    tensor = program.maps["logits_acc"]
    pool = pool_words(words, tensor.rows)[:tensor.words]
    acc = tensor.unpack(pool)[:, 0, 0]
    return acc, program.logits["scale"] * acc + program.logits["offset"]


def _signed(value, bits):
    return value - ((value >> (bits - 1)) << bits)


class Iss:
    """State of the accelerator and the meaning of every descriptor.

    Parameters
    ----------
    program : gen.compile.compiler.Program
    """

    def __init__(self, program):
        self.program = program
        self.config = program.config
        self.memory = np.zeros(program.memory_words, np.uint64)
        self.memory[:len(program.payload)] = program.payload
        self.pool = np.zeros(self.config.pool_words, np.uint64)
        self.psum = np.zeros((self.config.psum_words, self.config.rows), np.int64)
        self.repeats = np.zeros(self.config.pool_words // PLANES_MIN, np.int64)
        self.saturated = {"u": 0, "z": 0, "ktv": 0, "qktv": 0}
        self._queues = {d: deque() for d in Destination if d is not Destination.POOL}
        self._execute = {
            UnitKind.LOAD: self._load, UnitKind.STORE: self._store, UnitKind.ARRAY: self._array,
            UnitKind.DEPTHWISE: self._depthwise, UnitKind.ATTENTION: self._attention,
            UnitKind.NEURON: self._neuron,
        }

    def run(self, image_q, *, progress=None):
        """Run one image int8 (C, H, W).

        Returns
        -------
        (acc, logits, completions)
            See :func:`logits_of`; completions in program order.
        """
        program = self.program
        words = image_words(program, image_q)
        self.memory[program.image:program.image + len(words)] = words
        completions = []
        at = program.program
        while True:
            packed = sum(int(w) << (64 * k) for k, w in enumerate(self.memory[at:at + 3]))
            header = unpack(Header, packed & ((1 << 64) - 1))
            if header["kind"] == UnitKind.END.value:
                break
            unit = UnitKind(header["kind"])
            fields = unpack(LAYOUTS[unit], packed >> 64)
            completion = Completion(unit)
            self._execute[unit](fields, completion)
            if len(completion.words):
                completion.signature = signature(completion.words, rows=self.config.rows)
            completions.append(completion)
            at += 3
            if progress is not None:
                progress(1)
        left = {d.name: len(q) for d, q in self._queues.items() if q}
        if left:
            raise IssError(f"stream words left at the end of the program: {left}")
        words = self.memory[program.result:program.result + program.result_words]
        return *logits_of(program, words), completions

    # -- helpers ----------------------------------------------------------------------------

    def _pop(self, destination, count):
        queue = self._queues[destination]
        if len(queue) < count:
            raise IssError(f"{destination.name} stream is empty")
        return np.array([queue.popleft() for _ in range(count)], np.uint64)

    def _lookup(self, addresses):
        addresses = np.asarray(addresses, np.int64) & 0xFFFF
        if addresses.size and addresses.max() >= self.config.pool_words:
            raise IssError(f"pool address {addresses.max()} of {self.config.pool_words}")
        return self.pool[addresses]

    def _write(self, completion, addresses, words):
        addresses = np.asarray(addresses, np.int64).reshape(-1) & 0xFFFF
        words = np.asarray(words, np.uint64).reshape(-1)
        if addresses.size and addresses.max() >= self.config.pool_words:
            raise IssError(f"pool address {addresses.max()} of {self.config.pool_words}")
        self.pool[addresses] = words
        completion.addresses = np.append(completion.addresses, addresses.astype(np.uint16))
        completion.words = np.append(completion.words, words)

    def _put_psum(self, start, values, *, add=False):
        limit = 1 << (self.config.acc_bits - 1)
        end = start + len(values)
        if end > self.config.psum_words:
            raise IssError(f"partial sum {end - 1} of {self.config.psum_words}")
        result = values + self.psum[start:end] if add else values
        if len(result) and (result.min() < -limit or result.max() >= limit):
            raise IssError(f"partial sum beyond {self.config.acc_bits} bits")
        self.psum[start:end] = result

    def _levels_at(self, base, stride, count):
        addresses = (base + stride * np.arange(count))[:, None] + np.arange(LEVEL_PLANES)
        return unpack_lanes(self._lookup(addresses), "level", self.config.rows)

    @staticmethod
    def _rows_inside(f, iy):
        """Whether input rows exist: with a ring, rows before the one at its start do, too."""
        return ((iy >= 0) | (f["ring"] > 0)) & (iy < f["height"])

    @staticmethod
    def _row_at(f, iy):
        """Pool address of input rows."""
        return f["source"] + iy * f["row_stride"] + np.where(iy < 0, f["ring"] * RING_UNIT, 0)

    @staticmethod
    def _bits(words):
        return int(np.bitwise_count(np.asarray(words, np.uint64)).sum())

    # -- units ------------------------------------------------------------------------------

    def _load(self, f, completion):
        base = f["memory_address"] + (self.program.image if f["image"] else 0)
        destination = Destination(f["destination"])
        completion.events = f["length"] * f["count"]
        for row in range(f["count"]):
            start = base + row * f["memory_stride"]
            words = self.memory[start:start + f["length"]]
            if destination is not Destination.POOL:
                self._queues[destination].extend(words.tolist())
                continue
            pool = pool_words(words, self.config.rows)[:f["pool_words"]]
            target = f["pool_address"] + row * f["pool_stride"]
            self._write(completion, target + np.arange(len(pool)), pool)

    def _store(self, f, completion):
        base = f["memory_address"] + (self.program.result if f["image"] else 0)
        completion.events = f["length"] * f["count"]
        moved = []
        for row in range(f["count"]):
            source = f["pool_address"] + row * f["pool_stride"]
            pool = self._lookup(source + np.arange(f["pool_words"]))
            words = memory_words(pool, self.config.rows)
            start = base + row * f["memory_stride"]
            self.memory[start:start + len(words)] = words
            moved.append(pool)
        completion.words = np.concatenate(moved)

    def _array(self, f, completion):
        rows, (planes, skip) = self.config.rows, planes_of(f)
        count = f["out_rows"] * f["out_width"]
        y, x = np.divmod(np.arange(count), f["out_width"])
        for tile in range(f["tiles"]):
            header = unpack(TileHeader, int(self._pop(
                Destination.WEIGHT, self.config.tile_header_words)[0]))
            words = self._pop(Destination.WEIGHT, self.config.tile_weight_words)
            nibbles = words[:, None] >> np.arange(0, 64, 4, dtype=np.uint64) & np.uint64(15)
            weight = nibbles.astype(np.int64).reshape(self.config.tile_order)
            weight = _signed(weight.transpose(2, 4, 1, 5, 0, 6, 3).reshape(rows, rows), 4)
            iy = (f["first_row"] + y) * f["stride"] + _signed(header["dy"], 8)
            ix = x * f["stride"] + _signed(header["dx"], 8)
            inside = self._rows_inside(f, iy) & (ix >= 0) & (ix < f["width"])
            at = (header["offset"] + self._row_at(f, iy)
                  + ix * f["position_stride"])[inside, None] + np.arange(planes)
            found = self._lookup(at)
            if skip:
                # As the array does it: the highest plane that it reads is the sign.
                left_out = self.repeats[at[:, -1] % self.config.pool_words // PLANES_MIN]
                read = np.arange(planes) < planes - left_out[:, None]
                completion.events += self._bits(found[read])
                sign = found[np.arange(len(found)), planes - 1 - left_out]
                found = np.where(read, found, sign[:, None])
            else:
                completion.events += self._bits(found)
            values = np.zeros((count, rows), np.int64)
            values[inside] = unpack_lanes(found, "z" if f["signed"] else "level", rows)
            # Exact in float64: sums stay far below 2**53, and BLAS is much faster than integers.
            sums = (values.astype(np.float64) @ weight.T.astype(np.float64)).astype(np.int64)
            self._put_psum(f["psum"], sums, add=tile > 0 or bool(f["accumulate"]))
        completion.events &= 0xFFFFFFFF

    def _depthwise(self, f, completion):
        rows, width = self.config.rows, f["width"]
        level = DepthwiseMode(f["mode"]) is DepthwiseMode.LEVEL
        kernel, taps = f["kernel"], 7
        words = self._pop(Destination.DEPTHWISE, kernel * rows * (taps + 1) // 16)
        nibbles = words[:, None] >> np.arange(0, 64, 4, dtype=np.uint64) & np.uint64(15)
        weight = _signed(nibbles.astype(np.int64), 4).reshape(kernel, rows, taps + 1)[..., :taps]
        first, count = f["first_row"], f["out_rows"]
        result = np.zeros((count, width, rows), np.int64)
        for oy in range(count):
            for ky in range(kernel):
                iy = first + oy + ky - kernel // 2
                if not self._rows_inside(f, iy):
                    continue
                if level:
                    at = ((self._row_at(f, iy)
                           + np.arange(width) * f["position_stride"])[:, None]
                          + np.arange(LEVEL_PLANES))
                    found = self._lookup(at)
                    completion.events += self._bits(found)
                    line = unpack_lanes(found, "level", rows)
                else:
                    start = f["source"] + (iy - f["source_row"]) * width
                    line = self.psum[start:start + width]
                padded = np.zeros((width + taps - 1, rows), np.int64)
                padded[taps // 2:taps // 2 + width] = line
                for t in range(taps):
                    result[oy] += padded[t:t + width] * weight[ky, :, t]
        self._put_psum(f["psum"], result.reshape(-1, rows))
        completion.events &= 0xFFFFFFFF

    def _attention(self, f, completion):
        rows, words, tokens = self.config.rows, f["words"], f["tokens"]
        stride = f["position_stride"]

        def wide(base):
            return np.concatenate([self._levels_at(base + LEVEL_PLANES * w, stride, tokens)
                                   for w in range(words)], axis=1)

        key, query = wide(f["key"]), wide(f["query"])
        value = self._levels_at(f["value"], stride, tokens)
        lanes = np.arange(words * rows) % rows >> f["slot_log2"]
        same = lanes[:, None] == np.arange(rows) >> f["slot_log2"]
        ktv = np.where(same, key.T @ value, 0)
        self.saturated["ktv"] += int((ktv >= 224).sum())
        products = query @ np.minimum(ktv, 224)
        self.saturated["qktv"] += int((products >= 224).sum())
        level = np.clip((np.minimum(products, 224) + 32) >> 6, 0, 4)
        completion.events = sum(int(np.bitwise_count(x.astype(np.uint64)).sum())
                                for x in (key, query))
        addresses = (f["output"] + stride * np.arange(tokens))[:, None] + np.arange(LEVEL_PLANES)
        self._write(completion, addresses, pack_lanes(level, "level", LEVEL_PLANES))

    def _neuron(self, f, completion):
        config = self.config
        rows, count = config.rows, f["count"]
        words = self._pop(Destination.CONST, config.tile_const_words).tolist()
        constants = [words[2 * k] | words[2 * k + 1] << 64 for k in range(rows)]
        positions = np.arange(count)

        def membranes():
            at = (f["membrane_in"] + f["membrane_stride"] * positions)[:, None] + np.arange(16)
            return unpack_lanes(self._lookup(at), "u", rows)

        if NeuronSource(f["source"]) is NeuronSource.MEMBRANE_SUM:
            acc = membranes().sum(axis=0, keepdims=True)
            positions = positions[:1]
        else:
            acc = self.psum[f["psum"]:f["psum"] + count]
        planes_at = (f["plane_out"] + f["plane_stride"] * positions)[:, None]
        if NeuronFunction(f["function"]) is NeuronFunction.FIRE:
            width = config.acc_bits + 1
            thresholds = np.array([[_signed(c >> (k * width) & ((1 << width) - 1), width)
                                    for k in range(4)] for c in constants])
            invert = np.array([bool(c >> 127) for c in constants])
            reached = np.where(invert[:, None], acc[..., None] <= thresholds,
                               acc[..., None] >= thresholds)
            level = reached.sum(axis=-1)
            completion.events = int(level.sum())
            self._write(completion, planes_at + np.arange(LEVEL_PLANES),
                        pack_lanes(level, "level", LEVEL_PLANES))
            return
        multiplier = np.array([_signed(c & 0xFFFFFF, 24) for c in constants], np.int64)
        bias = np.array([_signed(c >> 24 & ((1 << 48) - 1), 48) for c in constants], np.int64)
        shift = np.array([c >> 72 & 31 for c in constants], np.int64)
        half = np.where(shift > 0, np.int64(1) << np.maximum(shift - 1, 0), 0)
        y = (multiplier * acc + bias + half) >> shift
        if f["write_planes"]:
            limit = 1 << (f["planes"] - 1)
            z = np.clip(y, -limit, limit - 1)
            self.saturated["z"] += int((z != y).sum())
            words, at = pack_lanes(z, "z", f["planes"]), planes_at + np.arange(f["planes"])
            self._write(completion, at, words)
            if config.plane_skip:
                repeats = leading_repeats(words.reshape(count, -1))
                self.repeats[at[:, -1] % config.pool_words // PLANES_MIN] = repeats
            return
        if f["add"]:
            y = y + membranes()
        limit = 1 << (MEMBRANE_BITS - 1)
        u = np.clip(y, -limit, limit - 1)
        self.saturated["u"] += int((u != y).sum())
        addresses, out = [], []
        if f["write_membrane"]:
            addresses.append((f["membrane_out"] + f["membrane_stride"] * positions)[:, None]
                             + np.arange(16))
            out.append(pack_lanes(u, "u", MEMBRANE_BITS))
        if f["write_levels"]:
            frac = config.membrane_frac
            level = np.clip((u + (1 << (frac - 3))) >> (frac - 2), 0, 4)
            completion.events = int(level.sum())
            addresses.append(planes_at + np.arange(LEVEL_PLANES))
            out.append(pack_lanes(level, "level", LEVEL_PLANES))
        # Word by word per position: membrane words, then level words.
        self._write(completion, np.concatenate(addresses, axis=1), np.concatenate(out, axis=1))
