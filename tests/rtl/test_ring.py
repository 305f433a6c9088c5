"""Rings of images and results on a real core: many runs are as so many single ones."""

from dataclasses import replace

import numpy as np
import pytest

from gen.api import configure, load, samples
from gen.compile.marks import with_marks
from gen.compile.package import ProgramImage
from gen.config.memory import twin_memory
from gen.device.device import Device
from gen.device.ring import run_ring
from gen.device.session import Session
from gen.isa.program import Descriptor
from hw.config import RECORD_WORDS
from hw.descriptor import DESCRIPTOR_WORDS, Destination, Header, pack, UnitKind
from hw.register import RING_BITS
from sim.reference.neuron import pack_fire
from sim.rtl.core import NOTHING
from sim.rtl.virtual_board import VirtualBoard
from tests.rtl import test_cycles
from tests.rtl.test_cycles import FIRE, packed, program_of, WEIGHTS


pytestmark = pytest.mark.rtl

nano, core = test_cycles.nano, test_cycles.core

TOKENS = 40
"""Of an attention whose q, k and v are the image."""

IMAGES, RESULTS, LOG = 1 << 16, 1 << 17, 1 << 18


def image_program(config, attention):
    """An image goes into the pool, perhaps through attention, and out as the result."""
    words, lanes = 3 * TOKENS, config.rows
    memory_words = words // config.words_per_memory_word
    move = {"memory_address": 0, "length": memory_words, "count": 1, "image": 1,
            "pool_words": words, "memory_stride": memory_words, "pool_stride": words}
    load = UnitKind.LOAD, {**move, "destination": Destination.POOL, "pool_address": 0}, (0,) * 6
    if not attention:
        parts = [load, (UnitKind.STORE, {**move, "pool_address": 0}, (1, 0, 0, 0, 0, 0))]
    else:
        parts = [
            load,
            (UnitKind.LOAD, {"destination": Destination.CONST, "memory_address": WEIGHTS,
                             "length": config.tile_const_words, "count": 1}, (0,) * 6),
            (UnitKind.ATTENTION, {
                "query": 0, "key": 0, "value": 0, "position_stride": 3, "value_stride": 3,
                "tokens": TOKENS, "queries": TOKENS, "words": 1, "slot_log2": 4, "psum": 0},
             (1, 0, 0, 0, 0, 0)),
            (UnitKind.NEURON, FIRE | {"count": TOKENS}, (0, 0, 0, 0, 1, 0)),
            (UnitKind.STORE, {**move, "pool_address": FIRE["plane_out"]}, (0, 0, 0, 0, 0, 1))]
    program = program_of(config, [])
    program.payload[WEIGHTS:WEIGHTS + config.tile_const_words] = pack_fire(
        np.tile([32, 96, 160, 224], (lanes, 1)), np.zeros(lanes, bool), config.acc_bits)
    return packed(replace(program, descriptors=[
        Descriptor(unit, fields, wait, unit.name) for unit, fields, wait in parts])), memory_words


def runs(core, program, words, numbers, *, images=0, results=0):
    """Results, records and progress of a run of ``numbers``, with all that they write erased."""
    count = len(numbers)
    slots = results or count
    first = LOG - RECORD_WORDS * (slots + 1)
    core.write(RESULTS, np.zeros(slots * words, np.uint64))
    core.write(first, np.zeros(RECORD_WORDS * (slots + 1), np.uint64))
    run = core.run(count=count, ring=images | results << RING_BITS["images"], trace=NOTHING,
                   program=program.program, log=LOG, image=IMAGES + numbers[0] * words,
                   image_stride=words, result=RESULTS, result_stride=words)
    records = core.read(first, RECORD_WORDS * (slots + 1)).reshape(-1, RECORD_WORDS)
    return core.read(RESULTS, slots * words).reshape(slots, words), records, run.end


@pytest.mark.parametrize("attention", [False, True], ids=["copied", "attention"])
@pytest.mark.parametrize("images, results, count", [
    (0, 0, 3), (3, 0, 5), (0, 2, 3), (3, 7, 7), (3, 2, 8), (1, 1, 4)])
def test_as_single_runs(core, nano, images, results, count, attention):
    """Results of every slot, the record of every run and all counters: the sums of single runs."""
    program, words = image_program(nano, attention)
    payload = program.payload.copy()
    layers = len(program.descriptors)
    for index in range(layers):
        payload[program.program + DESCRIPTOR_WORDS * index] |= pack(Header, mark=1)
    core.write(0, payload)
    pictures = images or count
    # Few bits are set: attention saturates soon.
    bits = np.random.default_rng(count).random((pictures * words, 64)) < 0.02
    core.write(IMAGES, np.packbits(bits, axis=1).view(np.uint64)[:, 0])
    singles = [runs(core, program, words, [number], results=int(results > 0))
               for number in range(pictures)]
    found, records, end = runs(core, program, words, list(range(count)), images=images,
                               results=results)
    order = [singles[number % pictures] for number in range(count)]
    sums = {name: sum(single.counters[name] for _, _, single in order) for name in end.counters}
    # Attention waits two cycles where its first row is the last one of the run before.
    late = end.counters["CYCLES"] - sums["CYCLES"]
    assert abs(late) <= 4 * count * attention
    assert end.counters == {**sums, "CYCLES": sums["CYCLES"] + late,
                            "BUSY_ATTENTION": sums["BUSY_ATTENTION"] + late}
    assert end.counters["IMAGES"] == count and end.counters["READ_WORDS"] > count * words
    assert (end.counters["EVENTS_ATTENTION"] > 0) == attention
    # An odd number leaves it high; the next image starts with it low.
    assert end.phase_changes == count * (layers + layers % 2)
    slots = results or count
    for number in range(max(0, count - slots), count):
        np.testing.assert_array_equal(found[number % slots], order[number][0][0])
    assert len({tuple(single[0][0]) for single in singles}) == pictures
    if not results:
        assert not records.any()
        return
    before = 0
    for number, (_, (record, *_), single) in enumerate(order):
        wanted = before + int(record[1]) // (1 << 32)
        before += single.counters["CYCLES"]
        if number >= count - slots:
            left, found_end = records[number % slots].tolist()
            assert left == count - number
            assert found_end % (1 << 32) == 0
            assert abs((found_end >> 32) - wanted) <= 4 * count * attention
    assert not records[slots].any()


@pytest.mark.slow
def test_nano(request):
    """qsdt_nano from SDRAM through the host's code: every result is the integer model's."""
    design = configure(load("qsdt_nano"), board="ulx3s", name="qsdt_nano",
                       overrides={"memory": "sdram"})
    images = samples("qsdt_nano")[0][:3]
    wanted = design.network.run_batched(images, keep=("logits_acc",))["logits_acc"]
    image = with_marks(ProgramImage.of(design.program, model="qsdt_nano", network=design.network,
                                       predicted_cycles=design.prediction.cycles))
    board = VirtualBoard(design.config.core, memory=twin_memory(design.board, design.config),
                         cache=request.config.cache.mkdir("rtl"))
    with board, Device(board.url, timeout=10, tries=20) as device:
        session = Session(device, image)
        session.load()
        found = run_ring(session, images, 8, timeout=600, results=5)
        single = [run_ring(session, images[[number]], 1, timeout=600) for number in range(3)]
    found.check(wanted.reshape(3, -1))
    assert found.runs.tolist() == [4, 5, 6, 7, 8] and not found.doubtful
    for name in ("DESCRIPTORS", "SPIKE_EVENTS", "EVENTS_DEPTHWISE", "EVENTS_ATTENTION",
                 "EVENTS_NEURON", "WEIGHT_WORDS", "U_SATURATED", "Z_SATURATED"):
        assert found.counters[name] == sum(single[n % 3].counters[name] for n in range(8)), name
    # Refreshes come when they come.
    cycles = np.array([one.counters["CYCLES"] for one in single])
    np.testing.assert_allclose(found.cycles, cycles[found.pictures[1:]], rtol=0.01)
