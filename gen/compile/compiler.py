"""Compiler: integer network + core configuration -> program, weight image and their map.

Strip by strip through fused groups of operators (gen/compile/residency.py): every strip of an
operator becomes, for each group of ``rows`` output channels, moves and unit descriptors
(docs/architecture.md). Hazards become wait counts. Where a result is of several images, all groups
but the last operator's are repeated for each of them.
"""

import logging

import numpy as np

from gen.compile.emit import Emitter
from gen.compile.maps import check, make_maps
from gen.compile.operators import Operators
from gen.compile.residency import Residency
from gen.compile.results import on_core, results_of
from gen.compile.rings import StripMemo
from gen.compile.schedule import FIRE
from gen.compile.supported import check_supported
from gen.compile.tiles import make_tiles
from gen.compile.view import MEMORY, POOL, ROLLING
from gen.compile.wide import lowered
from gen.isa.limits import DESCRIPTORS, STRIP_ROWS
from gen.isa.program import Program
from hw.config import RECORD_WORDS
from hw.descriptor import DESCRIPTOR_WORDS, Destination, Header, pack, UnitKind
from model.error import DoesNotFit, InputError


__all__ = ["FOLD", "compile_network", "compile_plan", "least_memory"]


log = logging.getLogger(__name__)


FOLD = 64
"""Most positions in a pool word: those of one channel on the widest array."""

GROUP_DESCRIPTORS = 4
"""Fewest descriptors for a group of output channels that the array computes: weights, ARRAY,
constants, NEURON."""


def compile_network(network, config, *, memory_words=1 << 24, word_cycles=0.25,
                    strip_rows=STRIP_ROWS, fold=FOLD, apart=True, beside=False, memo=None):
    """Compile an :class:`model.integer.network.IntegerNetwork` for one core.

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
    beside : bool
        So does what needs no group, since all its maps are in the pool: a depthwise convolution
        beside what makes its source and what reads it, attention beside what makes v.
    memo : gen.compile.rings.StripMemo or None
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
    options = {"memory_words": memory_words, "word_cycles": word_cycles, "strip_rows": strip_rows,
               "fold": fold, "apart": apart, "beside": beside}
    return _compile(network, config, options, StripMemo() if memo is None else memo, None, beside)


def compile_plan(network, config, plan, *, beside=False, memo=None):
    """The program that had this :attr:`gen.isa.program.Program.plan`, without a search; with
    ``beside`` as :func:`compile_network` would have made it with that."""
    options = plan["options"]
    more = beside and not options["beside"]
    return _compile(network, config, options | {"beside": options["beside"] or more},
                    StripMemo() if memo is None else memo, plan["residency"], more)


def _compile(network, config, options, memo, known, beside):
    """Compile with the options of :func:`compile_network`; ``known`` is a residency's plan,
    ``beside`` whether what it says is to be changed."""
    fold, strip_rows = options["fold"], options["strip_rows"]
    whole, network = network, lowered(on_core(network))
    layout, tiles = _prepare(network, config, fold, memo)
    results = results_of(whole, layout.maps)
    residency = Residency(
        network.ops, layout.maps, {name: sum(map(len, groups)) for name, groups in tiles.items()},
        config, word_cycles=options["word_cycles"], strip_rows=strip_rows, apart=options["apart"],
        memo=memo.of(config, strip_rows=strip_rows, fold=fold), plan=known, beside=beside,
        read_out=network.read_out)
    emitter = Emitter(layout.maps, residency, config,
                      {result.tensor: result.start for result in results})
    operators = Operators(network, layout, tiles, config, emitter)
    *body, head = residency.groups
    for image in range(network.time_steps):
        emitter.step = image
        for group in body if image < network.time_steps - 1 else (*body, head):
            emitter.begin(group, residency.partial_sums_beside(group))
            for step in group.steps:
                operators.strip(step)
    strips = {}
    for step in (step for group in residency.groups for step in group.steps):
        op = network.ops[step.op]
        first = layout.maps[next(iter(op.outputs))].used[0]
        strips[op.name] = strips.get(op.name, 0) + (
            step.group in (None, first) and step.half != FIRE)
    return _link(network, layout, emitter, results, memory_words=options["memory_words"],
                 strips=strips, plan={"options": options, "residency": residency.plan})


def least_memory(network, config, *, fold=FOLD, memo=None):
    """Words of memory that any program of the network takes on this core, at the least.

    Weights of the array, the image's patches, and what runs each group of output channels, as
    a single strip: what a search can know before it looks for strips. ``memo`` as in
    :func:`compile_network`; raises :exc:`DoesNotFit` for widths.
    """
    network = lowered(on_core(network))
    layout, tiles = _prepare(network, config, fold, StripMemo() if memo is None else memo)
    distinct = {words.tobytes(): len(words) for groups in tiles.values()
                for group in groups for _, words in group}
    steps, head = network.time_steps, network.ops[-1].name
    descriptors = GROUP_DESCRIPTORS * sum(len(groups) * (1 if name == head else steps)
                                          for name, groups in tiles.items())
    return (sum(distinct.values()) + steps * layout.maps["image"].memory_words
            + (DESCRIPTOR_WORDS + RECORD_WORDS) * descriptors)


def _prepare(network, config, fold, memo):
    """(layouts, weight tiles) of a network that the core's widths can hold."""
    known = memo.of(config, fold=fold)
    if "tiles" not in known:
        check_supported(network)
    layout = make_maps(network, config, fold)
    check(network, config, layout.maps)
    if "tiles" not in known:
        known["tiles"] = make_tiles(network, layout, config)
    return layout, known["tiles"]


def _link(network, layout, emitter, results, *, memory_words, strips, plan):
    """The program: the map of the memory, and every descriptor's words in it."""
    maps, residency, descriptors = layout.maps, emitter.residency, emitter.descriptors
    image_words = network.time_steps * maps["image"].memory_words
    result_words = max((result.start + maps[result.tensor].memory_words for result in results),
                       default=0)
    if len(descriptors) > DESCRIPTORS:
        raise DoesNotFit("descriptors", needed=len(descriptors), available=DESCRIPTORS,
                         hint="higher strips need fewer: more pool words or partial sums"
                              + (f"; {network.time_steps} images are in one program"
                                 if network.time_steps > 1 else ""))
    program = emitter.streams.size
    end = [0] * DESCRIPTOR_WORDS
    end[0] = pack(Header, kind=UnitKind.END)
    spill = program + DESCRIPTOR_WORDS * (len(descriptors) + 1)
    image_at = spill + residency.memory_words
    result_at = image_at + image_words
    log_at = result_at + result_words
    total = log_at + RECORD_WORDS * len(descriptors)
    if total > memory_words:
        raise DoesNotFit(
            "memory words of 64 bits", needed=total, available=memory_words,
            hint=f"weights and constants {program}, program {spill - program}, spilled "
                 f"tensors {residency.memory_words}, image, result and log "
                 f"{total - image_at}")
    words = []
    for descriptor in descriptors:
        fields = descriptor.fields
        spilled = (descriptor.unit in (UnitKind.LOAD, UnitKind.STORE)
                   and not fields.get("image")
                   and fields.get("destination", Destination.POOL) is Destination.POOL)
        if spilled:  # spill addresses were relative while the streams still grew
            fields["memory_address"] += spill
        words += descriptor.pack()
    payload = np.concatenate([*emitter.streams.parts, np.array(words + end, np.uint64)])
    homes = {name: (POOL, address) for name, address in residency.pool.items()}
    homes |= {name: (ROLLING, buffer.address) for group in residency.groups
              for (name, role), buffer in group.buffers.items() if not role}
    homes |= {name: (MEMORY, address + spill)
              for name, address in residency.memory.items()}
    homes |= {"image": (MEMORY, image_at)}
    homes |= {result.tensor: (MEMORY, result_at + result.start) for result in results
              if result.tensor in residency.outside}
    kinds = [home for home, _ in homes.values()]
    log.debug("%d descriptors, %d memory words; tensors: %d in the pool, %d rolling, %d in "
              "memory", len(descriptors), total, kinds.count(POOL), kinds.count(ROLLING),
              kinds.count(MEMORY))
    return Program(
        config=emitter.config, descriptors=descriptors, payload=payload, program=program,
        spill=spill, image=image_at, image_words=image_words, result=result_at,
        result_words=result_words, log=log_at, memory_words=total, maps=maps, homes=homes,
        stem=layout.stem, results=results, strips=strips,
        groups=[[op.name for op in network.ops[group.start:group.end]]
                for group in residency.groups],
        plan=plan, steps=network.time_steps)
