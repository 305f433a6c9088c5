"""gen/isa/cycles.py against the RTL, one kind of descriptor at a time.

Hand-made programs on the core of qsdt_nano, which other tests compile, too. Nothing waits but for
what the program is about, so that a wrong figure shows as what it is.
"""

from dataclasses import replace

import numpy as np
import pytest

from boards import find_board
from gen.check.simulate import simulate
from gen.config.derive import derive
from gen.config.spec import TwinSpec
from gen.isa.cycles import AFTER_OTHER, AFTER_OWN, DISPATCH, is_stream, SPIKES
from gen.isa.program import Descriptor, Program
from gen.machine.cost import predict, spans
from hw.config import RECORD_WORDS
from hw.descriptor import (
    DepthwiseMode,
    DESCRIPTOR_WORDS,
    Destination,
    Header,
    NeuronFunction,
    NeuronSource,
    pack,
    TileHeader,
    UnitKind,
)
from model import zoo
from sim.rtl.core import NOTHING, RtlCore, twin_memory


pytestmark = pytest.mark.rtl

REPEATS = 4

WEIGHTS, PROGRAM = 1 << 13, 1 << 14
"""Where they are in memory, in words."""

MOVE = {"memory_address": 0, "pool_address": 0}

WALK = {"source": 0, "row_stride": 84, "position_stride": 6, "height": 14, "width": 14,
        "first_row": 0, "psum": 0}

FIRE = {"source": NeuronSource.PARTIAL, "function": NeuronFunction.FIRE, "plane_out": 4096,
        "plane_stride": 3}
SCALE = FIRE | {"function": NeuronFunction.SCALE}

ATTENTION = {"query": 0, "key": 0, "value": 0, "position_stride": 6, "value_stride": 6, "words": 1,
             "slot_log2": 4, "psum": 0}

CASES = {
    # name: (unit, fields, taps)
    "load": (UnitKind.LOAD, MOVE | {"destination": Destination.POOL, "length": 64, "count": 5,
                                    "memory_stride": 64, "pool_words": 128, "pool_stride": 128},
             ()),
    "load of single words": (
        UnitKind.LOAD, MOVE | {"destination": Destination.POOL, "length": 1, "count": 90,
                               "memory_stride": 1, "pool_words": 2, "pool_stride": 2}, ()),
    "store": (UnitKind.STORE, MOVE | {"length": 64, "count": 5, "memory_stride": 64,
                                      "pool_words": 128, "pool_stride": 128}, ()),
    "store of single words": (
        UnitKind.STORE, MOVE | {"length": 1, "count": 90, "memory_stride": 1, "pool_words": 2,
                                "pool_stride": 2}, ()),
    "array": (UnitKind.ARRAY, WALK | {"planes": 3, "signed": 0, "stride": 1, "out_rows": 7,
                                      "out_width": 14, "tiles": 9},
              tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))),
    "array with a stride": (
        UnitKind.ARRAY, WALK | {"planes": 12, "signed": 1, "stride": 2, "out_rows": 7,
                                "out_width": 7, "tiles": 1}, ((0, 0),)),
    "depthwise of levels": (
        UnitKind.DEPTHWISE, WALK | {"mode": DepthwiseMode.LEVEL, "kernel": 7, "out_rows": 7}, ()),
    "depthwise of partial sums": (
        UnitKind.DEPTHWISE, {"mode": DepthwiseMode.PARTIAL, "kernel": 3, "source": 0,
                             "source_row": 0, "height": 7, "width": 7, "first_row": 0,
                             "out_rows": 7, "psum": 49}, ()),
    "attention": (UnitKind.ATTENTION, ATTENTION | {"tokens": 196, "queries": 196}, ()),
    "attention of few queries": (UnitKind.ATTENTION, ATTENTION | {"tokens": 196, "queries": 40},
                                 ()),
    "attention that keeps": (UnitKind.ATTENTION, ATTENTION | {"queries": 300, "keep": 1}, ()),
    "neuron fires": (UnitKind.NEURON, FIRE | {"count": 70}, ()),
    "neuron requantises": (
        UnitKind.NEURON, SCALE | {"count": 70, "write_planes": 1, "planes": 12}, ()),
    "neuron requantises to few planes": (
        UnitKind.NEURON, SCALE | {"count": 72, "write_planes": 1, "planes": 5}, ()),
    "neuron adds and writes": (
        UnitKind.NEURON, SCALE | {"count": 70, "add": 1, "write_membrane": 1, "write_levels": 1,
                                  "membrane_in": 0, "membrane_out": 0, "membrane_stride": 16}, ()),
    "neuron writes levels": (UnitKind.NEURON, SCALE | {"count": 70, "write_levels": 1}, ()),
    "neuron sums membranes": (
        UnitKind.NEURON, FIRE | {"source": NeuronSource.MEMBRANE_SUM, "count": 49,
                                 "membrane_in": 0, "membrane_stride": 16}, ()),
}


@pytest.fixture(scope="module", params=[4, 3], ids="levels 0..{}".format)
def nano(request):
    """Configuration of the core of qsdt_nano; also with levels of two planes."""
    _, program = derive(find_board("ulx3s"), zoo.load("qsdt_nano"))
    return replace(program.config, levels=request.param)


@pytest.fixture(scope="module")
def core(nano, request):
    with RtlCore(nano, memory=twin_memory(1 << 20, **vars(TwinSpec())),
                 cache=request.config.cache.mkdir("rtl")) as core:
        yield core


def streamed(kind, fields, taps, config):
    """(destination, memory words) that a descriptor takes from a stream, or None."""
    if kind is UnitKind.ARRAY:
        return Destination.WEIGHT, len(taps) * config.tile_words
    if kind is UnitKind.NEURON:
        return Destination.CONST, config.tile_const_words
    if kind is UnitKind.DEPTHWISE:
        level = fields["mode"] is DepthwiseMode.LEVEL
        kernel = fields["kernel"]
        return Destination.DEPTHWISE, kernel * config.rows // 2 if level else 3 * config.rows // 2
    return None


def program_of(config, cases, lanes=None):
    """A program of these (unit, fields, taps), every one behind the words that it takes; of every
    pool word only the first ``lanes`` may have set bits."""
    # What is below the program: maps, constants and weights, of which few bits are set.
    bits = np.random.default_rng(0).random((PROGRAM, 64)) < SPIKES
    if lanes is not None:
        bits &= np.arange(64) % config.rows < lanes
    below = np.packbits(bits, axis=1, bitorder="little").view(np.uint64)[:, 0]
    descriptors, fill = [], config.pool_words // config.words_per_memory_word

    def load(**fields):
        descriptors.append(Descriptor(UnitKind.LOAD, {"count": 1} | fields, (0,) * 6, "all"))

    load(destination=Destination.POOL, memory_address=0, length=fill, pool_address=0,
         pool_words=config.pool_words)
    for kind, fields, taps in cases:
        words = streamed(kind, fields, taps, config)
        if words is not None:
            load(destination=words[0], memory_address=WEIGHTS, length=words[1])
        for index, (dy, dx) in enumerate(taps):
            below[WEIGHTS + index * config.tile_words] = pack(TileHeader, offset=0, dy=dy, dx=dx)
        waits = [1, 0, 0, 0, 0, 0] if kind is not UnitKind.LOAD else [0] * 6
        descriptors.append(Descriptor(kind, fields, tuple(waits), "all", taps=taps,
                                      lanes=lanes and (lanes, lanes)))
    log = PROGRAM + DESCRIPTOR_WORDS * (len(descriptors) + 1)
    return packed(Program(
        config=config, descriptors=descriptors, payload=below, program=PROGRAM, spill=log, image=0,
        image_words=0, result=0, result_words=0, log=log,
        memory_words=log + RECORD_WORDS * len(descriptors), maps={}, homes={}, stem={}, results=[]))


def packed(program):
    """The program with its descriptors in the payload."""
    words = [word for descriptor in program.descriptors for word in descriptor.pack()]
    words += [pack(Header, kind=UnitKind.END), *[0] * (DESCRIPTOR_WORDS - 1)]
    below = program.payload[:PROGRAM]
    return replace(program, payload=np.concatenate([below, np.array(words, np.uint64)]))


def run(core, program):
    """(predicted, measured) spans of a program's descriptors."""
    simulate(core, program, [(0, program.payload)], limit=500_000, trace=NOTHING)
    records = core.read(program.log, program.log_words)
    return np.array(predict(program).times), np.array(spans(records))


@pytest.mark.parametrize(("case", "lanes"), [
    *((case, None) for case in CASES),
    *((case, lanes) for case in CASES if "attention" in case for lanes in (1, 5, 16))])
def test_a_kind_alone(case, lanes, core, nano):
    """A unit takes as long as predicted, and is as soon ready for the next descriptor."""
    kind, fields, _ = CASES[case]
    program = program_of(nano, [CASES[case]] * REPEATS, lanes)
    mine = [k for k, d in enumerate(program.descriptors)
            if k > 0 and d.unit is kind and not is_stream(d.fields)]
    predicted, measured = (times[mine] for times in run(core, program))
    # The first one may wait for its words. Of attention, which takes as long as there are set bits,
    # only the average is predicted.
    within = 0.02 if kind is UnitKind.ATTENTION else 0.005
    lengths = [times[1:, 1] - times[1:, 0] for times in (predicted, measured)]
    assert np.abs(lengths[0] - lengths[1]).max() <= 12 + within * lengths[1].max(), lengths
    assert (np.diff(lengths[1]) == 0).all()
    assert set(measured[1:, 0] - measured[:-1, 1]) == {AFTER_OWN}


@pytest.mark.parametrize("longer", [case for case in CASES if "attention" not in case])
def test_work_grows_as_predicted(longer, core, nano):
    """Twice the work: what it adds is predicted to the cycle, or to 1 %."""
    kind, fields, taps = CASES[longer]
    size = "out_rows" if "out_rows" in fields else "count"
    lengths = []
    for times in (1, 2):
        twice = fields | {size: times * (fields[size] // 2)}
        lengths.append([int(found[-1, 1] - found[-1, 0])
                        for found in run(core, program_of(nano, [(kind, twice, taps)] * 2))])
    predicted, measured = np.diff(lengths, axis=0)[0]
    assert abs(predicted - measured) <= 1 + 0.01 * measured, lengths


def test_dispatch(core, nano):
    """A descriptor for each of three units that wait for nobody: they start one after the other,
    as they are dispatched."""
    program = program_of(nano, [CASES["attention"], CASES["store"]])
    program.descriptors[1:] = [replace(d, waits=(0,) * 6) for d in program.descriptors[1:]]
    program = packed(program)
    predicted, measured = run(core, program)
    assert np.diff(measured[:, 0]).tolist() == [DISPATCH, DISPATCH]
    assert np.diff(predicted[:, 0]).tolist() == [DISPATCH, DISPATCH]


def test_waiting_for_another_unit(core, nano):
    """From the end of one unit's descriptor to the start of another's that waits for it."""
    program = program_of(nano, [CASES["store"]])
    for times in run(core, program):
        assert times[1, 0] - times[0, 1] == AFTER_OTHER
