"""Cost model: cycles of a compiled program without simulating it.

Every descriptor gets a duration from its fields; a walk in program order gives it a start from the
same rules as the hardware: dispatch in order into bounded queues, units in order, waits, and
weights that stream ahead only as far as their buffer. Held to the RTL by tests.
"""

from dataclasses import dataclass

import numpy as np

from hw.descriptor import DepthwiseMode, Destination, NeuronFunction, NeuronSource, UnitKind


__all__ = ["Prediction", "LayerCost", "predict", "spans", "layer_cycles"]


# Cycles between events of the sequencer (hw/sequencer.py), measured in RTL.
DISPATCH = 4      # from one descriptor to the next
TO_START = 5      # from dispatch to the earliest start
AFTER_OWN = 4     # from a unit's done to its next start
AFTER_OTHER = 3   # from another unit's done to a start that waited for it
BEGIN = 24        # from start of the core to the first dispatch, memory latency left out
END = 14          # from the last done to idle

SPIKES = 0.05
"""Assumed share of set bits in the planes of q and k; what attention costs depends on it."""


@dataclass(frozen=True)
class LayerCost:
    """Cycles of one layer, its memory traffic, busy cycles by unit, and the busiest one."""

    cycles: int
    memory_bytes: int
    busy: dict
    bound: str


@dataclass(frozen=True)
class Prediction:
    """Cycles per image, per-layer costs, and (start, end) of every descriptor."""

    cycles: int
    layers: dict
    times: list


def _neuron_cycles(f, config):
    groups = config.rows // config.neuron_lanes
    words = 0
    if f["function"] is NeuronFunction.FIRE:
        words = 3
    elif f.get("write_planes"):
        words = f["planes"]
    else:
        words = 16 * f.get("write_membrane", 0) + 3 * f.get("write_levels", 0)
    if f["source"] is NeuronSource.MEMBRANE_SUM:
        return 16 * f["count"] + 40
    reads = 16 if f.get("add") else 0
    return f["count"] * max(groups, words, reads) + (38 if reads else 24)


def _inside(f, dy, dx):
    """(positions of a tile that are read, all positions)."""
    y = (f["first_row"] + np.arange(f["out_rows"])) * f["stride"] + dy
    x = np.arange(f["out_width"]) * f["stride"] + dx
    read = int(((y >= 0) & (y < f["height"])).sum()) * int(((x >= 0) & (x < f["width"])).sum())
    return read, len(y) * len(x)


def _tile_cycles(f, tiles):
    """Lookup cycles of every tile of an ARRAY descriptor."""
    cycles = []
    for index, (dy, dx) in enumerate(tiles):
        read, every = _inside(f, dy, dx)
        if index == 0 and not f.get("accumulate"):
            cycles.append(read * f["planes"] + every - read)
        else:
            cycles.append(max(read, 1) * max(f["planes"], 3) + (read < every))
    return cycles


def _depthwise_cycles(f, config):
    level = f["mode"] is DepthwiseMode.LEVEL
    kernel = f["kernel"] if level else 3
    words = kernel * config.rows // (2 if level else 4)
    per_position = 3 if level else 4
    total = 0
    for ky in range(kernel):
        rows = [f["first_row"] + y + ky - kernel // 2 for y in range(f["out_rows"])]
        valid = sum(0 <= iy < f["height"] for iy in rows)
        total += valid * f["width"] * per_position + 20
    return words, total + 8


def _attention_cycles(f, config):
    events = config.rows * SPIKES
    per_word = max(1.0, events)
    key = max(3 + 3 * f["words"], 3 * f["words"] * per_word)
    query = max(4, 3 * f["words"] * per_word + 2)
    return round(f["tokens"] * (key + query) + 14)


def predict(program):
    """Predict cycles of a :class:`gen.compiler.Program` on the memory of one word per cycle.

    Returns
    -------
    Prediction
    """
    config = program.config
    units = len(UnitKind) - 1
    done = [[] for _ in range(units)]     # completion times per unit
    started = [[] for _ in range(units)]
    dispatch = BEGIN
    times = []
    depth = {Destination.WEIGHT: config.weight_fifo_words,
             Destination.CONST: config.const_fifo_words,
             Destination.DEPTHWISE: config.depthwise_fifo_words}
    taken = {d: [] for d in depth}        # when each word of a stream was taken
    loaded = {d: 0 for d in depth}        # words of the stream whose load is placed
    load_cycles = 17 * config.rows // config.load_columns
    overhead = 7

    for descriptor in program.descriptors:
        unit, f = descriptor.unit.value, descriptor.fields
        queue = started[unit]
        room = queue[-(config.queue_depth + 2)] if len(queue) >= config.queue_depth + 2 else 0
        dispatch = max(dispatch + DISPATCH, room + 1)
        start = dispatch + TO_START
        if done[unit]:
            start = max(start, done[unit][-1] + AFTER_OWN)
        for other, wait in enumerate(descriptor.waits):
            if other != unit and wait:
                start = max(start, done[other][wait - 1] + AFTER_OTHER)
        kind = descriptor.unit
        if kind is UnitKind.LOAD:
            words = f["length"] * f["count"]
            target = f.get("destination", Destination.POOL)
            if target is Destination.POOL:
                end = start + overhead + f["count"] * max(f["length"], f["pool_words"])
            else:
                loaded[target] += words
                end = start + overhead + words
                # Words beyond the buffer wait for those that the consumer takes.
                blocked = loaded[target] - depth[target]
                if 0 < blocked <= len(taken[target]):
                    end = max(end, taken[target][blocked - 1] + 2)
                elif blocked > 0:
                    end = None  # known when the consumer is placed
        elif kind is UnitKind.STORE:
            end = start + 12 + f["count"] * f["pool_words"]
        elif kind is UnitKind.ARRAY:
            end = _array_end(program, descriptor, start, config, load_cycles, done, taken)
        elif kind is UnitKind.DEPTHWISE:
            words, cycles = _depthwise_cycles(f, config)
            arrive = done[UnitKind.LOAD.value][-1]
            begin = max(start + words, arrive + 2)
            taken[Destination.DEPTHWISE] += [begin] * words
            end = begin + cycles
        elif kind is UnitKind.ATTENTION:
            end = start + _attention_cycles(f, config)
        else:
            words = config.tile_const_words
            # Constants may be taken while the tile before still runs.
            arrive = done[UnitKind.LOAD.value][-1]
            begin = max(start, arrive + 4)
            taken[Destination.CONST] += [max(arrive, queue[-1] if queue else 0)] * words
            end = begin + _neuron_cycles(f, config)
        if end is None:
            # The array decides when this load ends; it is the next consumer (see _array_end).
            end = start + overhead + f["length"] * f["count"]
        started[unit].append(start)
        done[unit].append(end)
        times.append([start, end])
    cycles = max(end for unit in done for end in unit) + END
    busy_times = [tuple(t) for t in times]
    return Prediction(cycles, layer_cycles(program, busy_times), busy_times)


def _array_end(program, descriptor, start, config, load_cycles, done, taken):
    """End of an ARRAY descriptor; also moves the end of its weight load, which it drains."""
    f = descriptor.fields
    tiles = descriptor.taps
    words = config.tile_weight_words + 1
    load_done = done[UnitKind.LOAD.value]
    stream = taken[Destination.WEIGHT]
    total = words * len(tiles)
    load_start = load_done[-1] - total    # when its first word could come
    depth = config.weight_fifo_words
    now = start + 2
    base = len(stream)
    arrival = load_start
    for index, lookups in enumerate(_tile_cycles(f, tiles)):
        # Arrival of the tile's last word: one a cycle, and never more than a bufferful ahead.
        arrival += words
        ahead = base + (index + 1) * words - depth
        if ahead > 0:
            arrival = max(arrival, stream[ahead - 1] + 3)
        loaded = max(now + load_cycles + 1, arrival + 18)
        # Its words are taken evenly while its tables load.
        first = loaded - load_cycles
        stream.extend(first + k * load_cycles // words for k in range(words))
        now = loaded + lookups
    load_done[-1] = max(load_done[-1], arrival)
    return now + 12


def layer_cycles(program, times):
    """Per-layer costs from (start, end) of every descriptor, predicted or measured.

    A layer's cycles are those by which it prolongs the run: the end of its last descriptor
    minus that of all layers before it.
    """
    layers = {}
    finish = 0
    for descriptor, (start, end) in zip(program.descriptors, times, strict=True):
        entry = layers.setdefault(descriptor.layer, {"busy": {}, "bytes": 0, "end": 0})
        name = descriptor.unit.name.lower()
        entry["busy"][name] = entry["busy"].get(name, 0) + end - start
        entry["end"] = max(entry["end"], end)
        if descriptor.unit in (UnitKind.LOAD, UnitKind.STORE):
            entry["bytes"] += 8 * descriptor.fields["length"] * descriptor.fields["count"]
    costs = {}
    for name, entry in layers.items():
        cycles = max(0, entry["end"] - finish)
        finish = max(finish, entry["end"])
        work = {k: v for k, v in entry["busy"].items() if k != "load"} or entry["busy"]
        costs[name] = LayerCost(cycles, entry["bytes"], entry["busy"], max(work, key=work.get))
    return costs


def spans(records):
    """(start, end) of every descriptor from the core's log (two memory words a record)."""
    times = np.asarray(records, np.uint64)[1::2]
    return [(int(t & np.uint64(0xFFFFFFFF)), int(t >> np.uint64(32))) for t in times]
