"""Where faults may come about: measured on a run without one, and read from the program."""

from collections import Counter
import math

from gen.campaign.board import arrays_of, GROUPS, Shelf
from gen.campaign.fault import Space
from gen.campaign.trial import Trial
from gen.isa.program import Descriptor, Program
from hw.descriptor import DESCRIPTOR_WORDS, Destination, UnitKind, WAIT_BITS
from model.error import VerificationFailed


__all__ = ["hung_words", "loaded_regions", "measure", "used_shares"]


_HANGS = 60
"""Descriptors that may hang."""


def loaded_regions(program: Program) -> dict[str, list[tuple[int, int]]]:
    """(first word, words) of weights, constants and descriptors in the board's memory."""
    found: dict[str, set[tuple[int, int]]] = {"weights": set(), "constants": set()}
    for descriptor in program.descriptors:
        fields = descriptor.fields
        if descriptor.unit is not UnitKind.LOAD or Destination(
                fields["destination"]) is Destination.POOL:
            continue
        kind = ("constants" if Destination(fields["destination"]) is Destination.CONST
                else "weights")
        for row in range(fields["count"]):
            found[kind].add((fields["memory_address"] + row * fields.get("memory_stride", 0),
                             fields["length"]))
    # What is loaded for several strips counts once.
    return {**{kind: sorted(ranges) for kind, ranges in found.items()},
            "program": [(program.program, len(program.payload) - program.program)]}


def hung_words(program: Program) -> list[tuple[int, int]]:
    """(memory word, value): headers of descriptors that wait for one more completion of a unit than
    there ever is."""
    totals = Counter(descriptor.unit for descriptor in program.descriptors)
    units = [unit for unit, total in totals.items() if total < 1 << WAIT_BITS - 2]
    step = max(1, len(program.descriptors) // _HANGS)
    found = []
    for number in range(0, len(program.descriptors), step):
        descriptor = program.descriptors[number]
        unit = units[number // step % len(units)]
        waits = list(descriptor.waits)
        waits[unit.value] = totals[unit] + 1
        header, *_ = Descriptor(descriptor.unit, descriptor.fields, tuple(waits), "").pack()
        found.append((program.program + DESCRIPTOR_WORDS * number, header))
    return found


def used_shares(program: Program) -> dict[str, float]:
    """Shares of the pool and of the partial sums, from their beginnings, that a program uses."""
    config = program.config
    pool = max((address + program.maps[name].words
                for name, (home, address) in program.homes.items() if home != "memory"), default=1)
    sums = 1
    for descriptor in program.descriptors:
        fields = descriptor.fields
        if descriptor.unit is UnitKind.ARRAY:
            sums = max(sums, fields["psum"] + fields["out_rows"] * fields["out_width"])
        elif descriptor.unit is UnitKind.DEPTHWISE:
            sums = max(sums, fields["psum"] + fields["out_rows"] * fields["width"])
    return {"pool": min(1.0, pool / config.pool_words), "psum": min(1.0, sums / config.psum_words)}


def measure(shelf: Shelf, program: Program, trial: Trial, *, images: int, cycles: int) -> Space:
    """The space of faults, for a number of images and the predicted cycles of one; ``trial`` has a
    board of its own, and is closed.

    Raises
    ------
    VerificationFailed
        A run without a fault is wrong.
    """
    try:
        trial.open()
        opening = trial.line.written
        acc = trial.run(0, "none")
        sent = trial.line.written - opening - trial.device.waited
        if not trial.is_right(0, acc):
            raise VerificationFailed("Without a fault the virtual board and the integer model "
                                     "differ: see what is wrong with: qsdt verify")
        session = trial.runner.session
        image, shares = trial.image, used_shares(program)
        # Nine bytes are on the line for eight, and heads beside them.
        loading = 9 * len(image.payload)
        return Space(
            images=images, cycles=cycles, bytes=sent, opening=opening, loading=loading,
            regions={**loaded_regions(program),
                     "image": [(session.image_address, image.image_words)],
                     "result": [(session.result_address, image.result_words)]},
            # Beyond what the program uses a fault does nothing.
            arrays={kind: [(name, math.ceil(shares.get(kind, 1.0) * entries), bits)
                           for name, entries, bits in arrays_of(shelf.door, kind)]
                    for kind in GROUPS},
            hung=hung_words(program))
    finally:
        trial.close()
