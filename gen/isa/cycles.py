"""Cycles of the accelerator: between events of the sequencer, and of every kind of descriptor.

The one owner of these figures: the cost model adds them up, the compiler's search weighs strips
by them. tests/rtl/test_cycles.py compares them with the RTL, kind by kind.
"""

from functools import cache
from itertools import starmap
from math import ceil, comb

import numpy as np

from gen.isa.program import Tap
from hw.config import BURST_WORDS, MEMBRANE_BITS, MEMORY_BITS
from hw.descriptor import (
    DepthwiseMode,
    Destination,
    HIGH_PLANES,
    NeuronFunction,
    NeuronSource,
    planes_of,
    UnitKind,
)


__all__ = ["AFTER_OTHER", "AFTER_OWN", "BEGIN", "BURST_CYCLES", "DISPATCH", "END", "FETCH_AHEAD",
           "FETCH_WORDS", "PARTIAL_CYCLES", "SET_CYCLES", "SPIKES", "TO_START",
           "attention_cycles", "depthwise_cycles", "inside", "is_stream", "load_cycles",
           "move_cycles", "neuron_cycles", "set_words", "tile_cycles", "work_cycles", "z_cycles"]


# Cycles between events of the sequencer (hw/sequencer.py), measured in RTL.
DISPATCH = 6      # from one descriptor to the next
TO_START = 4      # from dispatch, of the last word, to the earliest start
AFTER_OWN = 11    # from a unit's done to its next start: its record is written meanwhile
AFTER_OTHER = 3   # from another unit's done to a start that waited for it
BEGIN = 26        # from start of the core to the first dispatch, memory latency left out
END = 14          # from the last done to idle

BURST_CYCLES = 5
"""Cycles from one burst of a move unit to the next: 4 in the unit, and one in the arbiter."""

FETCH_WORDS, FETCH_AHEAD = 12, 20
"""Burst of the descriptor fetch, and words it may have ahead when it asks for one."""

SPIKES = 0.05
"""Assumed share of set bits in the planes of q and k; what attention costs depends on it."""


PARTIAL_CYCLES = 4
"""Cycles of the depthwise unit for a position of a pass of partial sums; of levels, one a plane."""

VALUE_CYCLES = 11 / 8
"""Cycles of the neuron core for a group of z, at least: as many as fit between its lanes and the
queue behind them."""

SET_CYCLES = 17
"""Cycles from one set of the table loader to the next."""


def neuron_cycles(f, config):
    """Cycles of a NEURON descriptor with fields ``f`` once its constants are there."""
    if f["source"] is NeuronSource.MEMBRANE_SUM:
        return MEMBRANE_BITS * f["count"] + 39
    if f["function"] is NeuronFunction.FIRE:
        words = config.level_planes
    elif f.get("write_planes"):
        words = f["planes"]
    else:
        words = (MEMBRANE_BITS * f.get("write_membrane", 0)
                 + config.level_planes * f.get("write_levels", 0))
    reads = MEMBRANE_BITS + 4 if f.get("add") else 0
    groups = config.rows // config.neuron_lanes
    if f.get("write_planes"):
        return ceil(f["count"] * z_cycles(words, config)) + 25
    return f["count"] * max(groups, words, reads) + (41 if reads else 25)


def z_cycles(planes, config):
    """Cycles of the neuron core for a position of z of so many planes, a fraction maybe."""
    return max(planes, VALUE_CYCLES * (config.rows // config.neuron_lanes))


def inside(first, count, stride, shift, size, ring=0):
    """How many k in first..first+count-1 have 0 <= k*stride + shift < size.

    With a ``ring``, rows below 0 count as well.
    """
    low = first if ring else max(first, -(shift // stride))
    high = min(first + count, -((shift - size) // stride))
    return max(0, high - low)


def tile_cycles(f, tiles):
    """Lookup cycles of every tile of an ARRAY descriptor; the most, where planes are left out."""
    every = f["out_rows"] * f["out_width"]
    planes, _ = planes_of(f)
    cycles = []
    for index, (dy, dx, high) in enumerate(starmap(Tap, tiles)):
        read = (inside(f["first_row"], f["out_rows"], f["stride"], dy, f["height"],
                       f.get("ring", 0))
                * inside(0, f["out_width"], f["stride"], dx, f["width"]))
        looked_up = planes + HIGH_PLANES * high
        if index == 0 and not f.get("accumulate"):
            cycles.append(read * looked_up + 2 * (every - read))
        else:
            cycles.append(max(read, 1) * looked_up + (read < every))
    return cycles


def set_words(config):
    """Memory words of a set of the table loader."""
    return config.load_rows * config.rows * 4 // MEMORY_BITS


def load_cycles(config):
    """Least cycles to load the tables of a tile whose first set is at hand."""
    return config.rows // config.load_rows * SET_CYCLES


def depthwise_cycles(f, config):
    """(stream words, cycles besides taking them), see :class:`hw.depthwise.unit.DepthwiseUnit`."""
    level = f["mode"] is DepthwiseMode.LEVEL
    kernel = f["kernel"]
    groups = 1 if f.get("half") else 2    # halves of the lanes
    words = groups * kernel * config.rows // 4
    per_position = config.level_planes if level else PARTIAL_CYCLES
    load = config.depthwise_lanes // 2
    per_pass = max(9 + 3 * per_position, load + 6) if level else max(17, load + 9)
    positions = 0
    for ky in range(kernel):
        valid = inside(f["first_row"], f["out_rows"], 1, ky - kernel // 2, f["height"],
                       f.get("ring", 0))
        positions += valid * f["width"]
    return words, groups * (positions * per_position + kernel * per_pass) + 33 + level - words


def attention_cycles(descriptor, config):
    """Cycles of an ATTENTION descriptor where :data:`SPIKES` of the bits that can be are set."""
    f, planes = descriptor.fields, config.level_planes
    words = planes * f["words"]
    query_lanes, key_lanes = descriptor.lanes or 2 * (f["words"] * config.rows,)
    key = 0
    if not f.get("keep"):
        # Events wait for one on their row, of another plane, that came up to 3 cycles before; less
        # often where fewer than 32 lanes have channels (measured by tests/rtl/test_cycles.py).
        key = 4 * SPIKES * comb(planes, 2) * min(1, key_lanes / 32) + sum(
            share * max(planes + words, events, (events + 4 + 2 * planes) / 2)
            for events, share in enumerate(_set_bits(planes * key_lanes)))
    # A plane doubles the sum where one before it had a bit.
    least = max(3, words)
    query = least * (1 - SPIKES) ** (planes * query_lanes) + sum(
        share * max(least, events + behind)
        for behind in range(planes)
        for events, share in enumerate(_set_bits_from(planes, query_lanes, behind)))
    return round(f.get("tokens", 0) * key + f["queries"] * query + 21)


@cache
def _set_bits(bits):
    """Probabilities that 0..bits of so many bits are set."""
    return np.array([comb(bits, found) * SPIKES ** found * (1 - SPIKES) ** (bits - found)
                     for found in range(bits + 1)])


@cache
def _set_bits_from(planes, lanes, behind):
    """The same for the bits of ``planes``, the first of which with a set one has ``behind`` behind
    it; that none before it has one is part of the probabilities."""
    none = (1 - SPIKES) ** lanes
    shares = _set_bits((behind + 1) * lanes).copy()
    shares[:behind * lanes + 1] -= none * _set_bits(behind * lanes)
    return none ** (planes - 1 - behind) * shares


def is_stream(f):
    """Whether a LOAD fills a stream buffer; others go to the pool."""
    return f.get("destination", Destination.POOL) is not Destination.POOL


def move_cycles(f):
    """Cycles of a move to or from the pool on a memory that never makes it wait."""
    bursts = f["count"] * -(-f["length"] // BURST_WORDS)
    return max(f["count"] * max(f["length"], f["pool_words"]), BURST_CYCLES * bursts)


def work_cycles(descriptor, config):
    """Cycles that the descriptor's unit needs if it never waits."""
    f, kind = descriptor.fields, descriptor.unit
    if kind is UnitKind.LOAD:
        return f["length"] * f["count"] if is_stream(f) else move_cycles(f)
    if kind is UnitKind.STORE:
        return move_cycles(f)
    if kind is UnitKind.ARRAY:
        tiles = descriptor.taps
        return len(tiles) * (load_cycles(config) + 1) + sum(tile_cycles(f, tiles)) + 15
    if kind is UnitKind.DEPTHWISE:
        return sum(depthwise_cycles(f, config))
    if kind is UnitKind.ATTENTION:
        return attention_cycles(descriptor, config)
    return neuron_cycles(f, config)
