"""Steps with the bitstream of a core: one layer, one image, many images."""

from dataclasses import replace
import time

import numpy as np

from gen.bench.step import Bench, Step, StepFailed
from gen.check.trace import iss_trace
from gen.compile.excerpt import excerpt
from gen.compile.package import ProgramImage
from gen.compile.results import raw_of
from gen.device.check import CheckFailed, Checks
from gen.device.session import Session
from gen.machine.cost import predict
from gen.machine.iss import Iss
from model.error import WeightsMismatch
from model.progress import track


__all__ = ["CORE_STEPS"]


LOAD = "load the core's bitstream: --program, or by hand as said at the beginning"

UNRELIABLE = ("this step again: where the same descriptor differs each time, qsdt prove on the "
              "build folder; where others do, a lower clock_mhz or sdram_mhz")

IMAGE_S = 10.0
"""Longest time for an image, with the link."""


def _session(device, image):
    """A loaded session whose memory holds what was written."""
    if device.info().state["lock_lost"]:
        raise StepFailed("a PLL lost its lock since the board was configured",
                         "back to --step 4: look at supply and cable")
    try:
        session = Session(device, image)
    except WeightsMismatch as error:
        raise StepFailed(str(error), LOAD, "where the memory is too small for one layer, name "
                         "another one: --layer") from None
    with track("load", len(image.payload), "words") as task:
        session.load(task.reach)
    try:
        session.check()
    except CheckFailed as error:
        raise StepFailed(str(error), "back to --step 5 (SDRAM tests)") from None
    return session


def _run(session, images, bench, **checks):
    """Accumulators, counters, and the checks that the run passed."""
    checked = Checks(**checks)
    try:
        acc, _, counters = session.run(images, timeout=IMAGE_S * bench.patience * len(images),
                                       checks=checked)
    except CheckFailed as error:
        raise StepFailed(str(error), UNRELIABLE, "back to --step 5 (SDRAM tests)") from None
    return acc, counters, checked


def one_layer(bench: Bench) -> list[str]:
    """A layer by itself, instruction by instruction as in the instruction-set simulator."""
    design = bench.design
    part = excerpt(design.network, design.program, bench.layer)
    values = bench.images[0]
    presets = part.presets(part.tensors(values))
    wanted = iss_trace(part.program, values, presets).sigs
    image = replace(
        ProgramImage.of(part.program, model=design.name, network=design.network,
                        predicted_cycles=predict(part.program, design.config.timing).cycles),
        identity=bench.image.identity, source=bench.image.source)
    with bench.opened(need_memory=True) as device:
        session = _session(device, image)
        for address, words in presets:
            device.write(address, words)
        _, counters, _ = _run(session, values[None], bench, signatures=lambda _: wanted)
    return [session.bitstream,
            f"layer {bench.layer}: {len(wanted)} descriptors, every signature as in the "
            f"instruction-set simulator; {counters['CYCLES']} cycles"]


def one_image(bench: Bench) -> list[str]:
    """An image twice, with every signature, CRCs before and after, and all results."""
    design, values = bench.design, bench.images[:1]

    def signatures(image):
        _, _, outcomes = Iss(design.program).run(image)
        return [outcome.write_hash for outcome in outcomes]

    with bench.opened(need_memory=True) as device:
        session = _session(device, bench.image)
        acc, counters, checked = _run(session, values, bench, crc=True, twice=True,
                                      signatures=signatures)
    _compare(design.network, values, acc, 0)
    return [*checked.lines(bench.image.descriptors),
            f"one image: all results as in the integer model; {counters['CYCLES']} cycles, "
            f"{design.prediction.cycles} predicted"]


def _compare(network, images, acc, first):
    different = np.flatnonzero((acc != raw_of(network, images)).any(axis=1))
    if len(different):
        raise StepFailed(
            f"{len(different)} of {len(images)} images from {first} on have other results than in "
            f"the integer model, the first is image {first + different[0]}", UNRELIABLE,
            "back to --step 7, which names the instruction")


def many_images(bench: Bench) -> list[str]:
    """Image after image; every result is compared."""
    design, images = bench.design, bench.images
    started = time.monotonic()
    cycles = 0
    with bench.opened(need_memory=True) as device:
        session = _session(device, bench.image)
        with track("images", len(images), "images") as task:
            for first in range(0, len(images), session.batch):
                part = images[first:first + session.batch]
                acc, counters, _ = _run(session, part, bench)
                _compare(design.network, part, acc, first)
                cycles += counters["CYCLES"]
                task.reach(first + len(part))
        session.check()
        state = device.state()
    if state["lock_lost"]:
        raise StepFailed("a PLL lost its lock during the images",
                         "look at the supply: another cable, a port of the computer itself")
    seconds = time.monotonic() - started
    return [f"{len(images)} images: all results as in the integer model, program and weights "
            f"still have their CRC; {cycles // len(images)} cycles an image, "
            f"{len(images) / seconds:.2f} images/s with all checks"]


CORE_STEPS = (
    Step("one layer", "the array, its neighbours and the memory do what the compiler means",
         one_layer, 120, core=True),
    Step("one image", "every instruction of a whole image, twice, with CRCs before and after",
         one_image, 300, core=True),
    Step("many images", "nothing goes wrong rarely", many_images, 3600, core=True),
)
