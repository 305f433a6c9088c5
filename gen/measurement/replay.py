"""A board that replays recorded cycles: what a measurement would say, without board and simulator.

A record of ``qsdt verify`` holds the cycles of whole images in RTL, which for a large network take
minutes each to simulate. The board here has memory, registers, frames and rings as a real one
(:class:`gen.device.software.SoftwareDevice`). A run lasts as long as the recorded cycles do at the
core's clock, and leaves the results of the instruction-set simulator.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
import json
from pathlib import Path
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen.compile.package import image_words
from gen.device.device import SATURATED
from gen.device.ring import COUNTER_VALUES
from gen.device.software import SoftwareDevice, SoftwareLine
from gen.machine.iss import Iss
from hw.config import CoreConfig, RECORD_WORDS
from hw.register import config_digest, Counter, fields_of, Register, RING_BITS
from model.error import as_input_error, InputError
from model.progress import track


__all__ = ["Record", "read_record", "replaying"]


LARGEST = 10_000_000
"""Bytes of a record that are read."""


@dataclass(frozen=True)
class Record:
    """Cycles of images in RTL.

    Parameters
    ----------
    name : str
        Of the file.
    memory : str
        What the core had as its memory, in words.
    cycles, spike_events : tuple of int
        Of each image; the same length, at least 1.
    counters : dict
        Of one of them, by :class:`hw.register.Counter`; 0 for those that are not named.
    layer_cycles : dict
        Of the same image, by layer.
    """

    name: str
    memory: str
    cycles: tuple[int, ...]
    spike_events: tuple[int, ...]
    counters: dict[str, int]
    layer_cycles: dict[str, int]

    def counters_of(self, number: int) -> dict[str, int]:
        """Counters of a picture: its own cycles and spike events, the others of the image that the
        record has them of."""
        number %= len(self.cycles)
        return {**self.counters, "CYCLES": self.cycles[number],
                "SPIKE_EVENTS": self.spike_events[number]}


def _counts(values: Any, what: str) -> tuple[int, ...]:
    if not isinstance(values, list) or not values or not all(
            isinstance(value, int) and 0 < value < COUNTER_VALUES for value in values):
        raise InputError(f"{what} must be a list of counts")
    return tuple(values)


def _named(values: Any, names: set[str], what: str) -> dict[str, int]:
    if not isinstance(values, Mapping) or not set(values) <= names or not all(
            isinstance(value, int) and 0 <= value < COUNTER_VALUES for value in values.values()):
        raise InputError(f"{what} must be counts by their names")
    return dict(values)


def read_record(path: Path, design: Any) -> Record:
    """The record of ``qsdt verify --forms ...,rtl`` for a design (:class:`gen.api.Design`).

    Raises
    ------
    InputError
        The file is none, or is of another network, core, memory or program.
    """
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST + 1)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    try:
        if len(text) > LARGEST:
            raise InputError(f"it has more than {LARGEST} bytes")
        return _record(json.loads(text), path.name, design)
    except (InputError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no record of this network's cycles in RTL: {error}; make "
                         f"one with: qsdt verify --forms iss,rtl") from None


def _record(found: Any, name: str, design: Any) -> Record:
    if not isinstance(found, Mapping) or found.get("equal") is not True:
        raise InputError("it does not say that the forms are equal")
    if found.get("network_digest") != design.network.digest():
        raise InputError(f"it is of another network ({found.get('model')!r:.40})")
    config, figures = found.get("config"), found.get("figures")
    if not isinstance(config, Mapping) or not isinstance(figures, Mapping):
        raise InputError("it has no configuration, or no figures")
    wanted = design.config.to_dict()
    for key in ("clock_hz", "memory", "sdram_clock_hz"):
        if config.get(key) != wanted[key]:
            raise InputError(f"its {key} is {config.get(key)!r:.40}, not {wanted[key]!r}")
    with as_input_error():
        try:
            core = CoreConfig(**config.get("core", {}))
        except TypeError as error:
            raise InputError(str(error)) from None
    if core != design.config.core:
        raise InputError("its core has another configuration")
    cycles = _counts(figures.get("cycles"), "its cycles")
    events = _counts(figures.get("spike_events"), "its spike events")
    counters = _named(figures.get("counters"), set(Counter.__members__), "its counters")
    layers = _named(figures.get("layer_cycles"), set(design.prediction.layers),
                    "its cycles of layers")
    if len(events) != len(cycles) or set(layers) != set(design.prediction.layers):
        raise InputError("it has not every figure of every image and layer")
    if counters.get("DESCRIPTORS") != len(design.program.descriptors):
        raise InputError(f"its program has {counters.get('DESCRIPTORS')} descriptors, this one "
                         f"{len(design.program.descriptors)}")
    return Record(name, str(found.get("memory")), cycles, events,
                  dict.fromkeys(Counter.__members__, 0) | counters, layers)


class _Core:
    """A core that is as slow as the recorded one. See :class:`SoftwareDevice`."""

    def __init__(self, program: Any, record: Record, clock_hz: int,
                 results: Mapping[bytes, tuple[int, NDArray[np.uint64]]]) -> None:
        self._program, self._record, self._clock_hz = program, record, clock_hz
        self._results = results

    def __call__(self, device: SoftwareDevice) -> Iterator[int]:
        started, passed = time.monotonic(), 0
        device.counters = [value if counter.name in SATURATED else 0
                           for counter, value in zip(Counter, device.counters, strict=True)]
        log, image, image_stride, result, result_stride, count = (
            device.registers[Register[name]] for name in (
                "LOG", "IMAGE", "IMAGE_STRIDE", "RESULT", "RESULT_STRIDE", "COUNT"))
        ring = fields_of(RING_BITS, device.registers[Register.RING])
        images, slots = ring["images"] or count, ring["results"] or count
        memory, words = device.memory, self._program.image_words
        for index in range(count):
            source = memory[image + index % images * image_stride:][:words].tobytes()
            # An image that is not one of those has no result: zeros, which the host finds.
            picture, outcome = self._results.get(source, (0, np.zeros(0, np.uint64)))
            cycles = self._record.counters_of(picture)
            passed += cycles["CYCLES"]
            while time.monotonic() - started < passed / self._clock_hz:
                yield 0
            target = result + index % slots * result_stride
            memory[target:target + len(outcome)] = outcome
            device.counters = [
                (value + cycles[counter.name]) % SATURATED.get(counter.name, COUNTER_VALUES)
                for counter, value in zip(Counter, device.counters, strict=True)]
            end = np.uint64(passed % COUNTER_VALUES << 32)
            memory[log + RECORD_WORDS * len(self._program.descriptors) - 1] = end
            if ring["results"]:
                place = log - RECORD_WORDS * (slots + 1 - index % slots)
                memory[place:place + RECORD_WORDS] = count - index, end


def replaying(design: Any, record: Record, images: NDArray[np.int8]) -> SoftwareLine:
    """The line to a board that knows these images int8 (N, C, H, W), for
    :class:`gen.device.device.Device`.

    Picture n takes the cycles of the record's image n, or of those again from the first on.
    """
    program, results = design.program, {}
    core = Iss(program)
    with track("results by the instruction-set simulator", len(images), "images") as task:
        for number, image in enumerate(images):
            core.run(image)
            results[image_words(program, image).tobytes()] = (
                number, core.memory[program.result:][:program.result_words].copy())
            task.update()
    board = SoftwareDevice(design.config.memory_words,
                           _Core(program, record, design.config.clock_hz, results),
                           config_digest(design.config.core))
    board.memory[:] = 0
    board.constant[Register.IDENTITY] = 0
    return SoftwareLine(board)
