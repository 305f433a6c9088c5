"""The script with which a board works without a host: what a host would send, as records.

Their kinds, and what a board does with each: :mod:`hw.boot_layout`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gen.boot.scores import ScoreTable, with_scores
from gen.compile.package import image_words, ProgramImage
from gen.device.device import crc_of
from gen.device.frame import encode_frame, HEADER
from gen.device.session import WATCHDOG_FACTOR
from hw.boot_layout import CHECK_BYTES, CLASSES, Record, record_byte
from hw.config import RECORD_WORDS
from hw.register import (
    config_digest,
    Counter,
    COUNTER_BASE,
    FRAME_WORDS,
    Opcode,
    Register,
    RING_BITS,
    value_of,
    WATCHDOG_BITS,
    WATCHDOG_UNIT_BITS,
)
from model.error import DoesNotFit, InputError


__all__ = ["BootScript", "Script", "boot_script"]


SCORE_WORD = 4
"""Scores in a memory word."""


class Script:
    """Records, one after the other; each method appends what its name says."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._data)

    def __bytes__(self) -> bytes:
        return bytes(self._data)

    def record(self, kind: Record, body: bytes = b"") -> None:
        self._data += bytes([record_byte(kind)]) + body

    def text(self, text: str, kind: Record = Record.TEXT) -> None:
        """ASCII text; what is not, and control characters but the end of a line, as ``?``."""
        body = "".join(character if " " <= character <= "~" or character in "\r\n" else "?"
                       for character in text)
        self.record(kind, body.encode() + b"\0")

    def frame(self, opcode: int, address: int, length: int, data: bytes = b"",
              kind: Record = Record.FRAME) -> None:
        self._sequence = (self._sequence + 1) % (1 << 16)
        self.record(kind, encode_frame(HEADER.pack(opcode, length, self._sequence, address)
                                       + data))

    def write(self, address: int, words) -> None:
        """Memory words uint64."""
        for start in range(0, len(words), FRAME_WORDS):
            part = np.ascontiguousarray(words[start:start + FRAME_WORDS], "<u8")
            self.frame(Opcode.WRITE_MEMORY, address + start, len(part), part.tobytes())

    def check_memory(self, address: int, words) -> None:
        """That memory has the CRC-32 of these words."""
        self.frame(Opcode.CRC_MEMORY, address, 1, len(words).to_bytes(8, "little"))
        self._check(crc_of(words), Record.CHECK)

    def set_register(self, register: int, value: int) -> None:
        self.frame(Opcode.WRITE_REGISTER, register, 1, value.to_bytes(8, "little"))

    def check_register(self, register: int, value: int, kind: Record = Record.CHECK) -> None:
        """That a register has a value, or it is another design (``IDENTITY``)."""
        self.frame(Opcode.READ_REGISTER, register, 1)
        self._check(value, kind)

    def _check(self, value, kind):
        self.record(kind, value.to_bytes(CHECK_BYTES, "little"))

    def show(self, address: int, classes: int) -> None:
        """The class whose score is the highest, of memory words from ``address`` on."""
        words = -(-classes // SCORE_WORD)
        for start in range(0, words, FRAME_WORDS):
            self.frame(Opcode.READ_MEMORY, address + start, min(FRAME_WORDS, words - start),
                       kind=Record.SCORES)
        self.record(Record.SHOW)


@dataclass(frozen=True)
class BootScript:
    """A script, and what is known of it.

    ``data`` are its bytes, ``first`` those up to the first class; ``classes`` int (N,) what the
    board shows for each picture, ``cycles`` what the core takes for all of them (cost-model).
    """

    data: bytes
    first: int
    classes: NDArray[np.int64]
    cycles: int


@dataclass(frozen=True)
class _Places:
    """Where the tables of scores, images, results, records (right behind them) and log lie: in
    the place of the program's own image, result and log, which are the last in its memory."""
    tables: int
    images: int
    results: int
    log: int

    @classmethod
    def find(cls, image, count, memory_words):
        tables = min(image.image, image.result, image.log)
        images = (tables + image.config.tile_const_words
                  * len(image.maps["logits_acc"].lanes) // image.config.rows)
        results = images + count * image.image_words
        # The records end two words before the log (hw.register.RING_BITS).
        log = results + count * (image.result_words + RECORD_WORDS) + RECORD_WORDS
        needed = log + RECORD_WORDS * image.descriptors
        if needed > memory_words:
            raise DoesNotFit("memory words for program and pictures", needed=needed,
                             available=memory_words,
                             hint="take fewer pictures, or a build with memory: sdram")
        return cls(tables, images, results, log)


def boot_script(image: ProgramImage, pictures, acc, *, names: Sequence[str],
                memory_words: int, seconds_of_pause: int = 1) -> BootScript:
    """What a board with ``image`` needs to classify pictures without a host.

    Identity and configuration are compared; program, tables and pictures written, and their CRC
    compared; all pictures run back to back (:mod:`hw.run_sequence`), and the counters compared;
    then, one after the other, each class is shown and written as a line.

    Parameters
    ----------
    pictures : array int8 (N, C, H, W)
    acc : array int (N, classes)
        Accumulators of the integer model for them.
    names : sequence of str
        What a line calls each.
    memory_words : int
        Of the board.
    seconds_of_pause : int
        Pauses behind each class; the board's clock makes them about a second long.

    Raises
    ------
    InputError
        The program has other results than classes, too many of these, or the two best scores of a
        picture are so close that 16 bits show another class than the integer model's.
    DoesNotFit
    """
    if image.logits is None:
        raise InputError(f"{image.source or image.model}: a board without a host shows classes; "
                         f"the results are {', '.join(result.name for result in image.results)}")
    count, classes = np.shape(acc)
    if classes > CLASSES:
        raise InputError(f"A board shows at most {CLASSES} classes without a host, the network "
                         f"has {classes}")
    table = ScoreTable.of(image, acc)
    _check_classes(image, acc, table, names)
    place = _Places.find(image, count, memory_words)
    payload, tables = with_scores(image, table, place.tables)
    words = np.concatenate([tables, *(image_words(image, one) for one in pictures)])
    script = Script()
    script.check_register(Register.IDENTITY, image.identity, Record.IDENTITY)
    script.check_register(Register.CONFIG, config_digest(image.config), Record.IDENTITY)
    script.text(f"{image.model}: {count} pictures\r\n")
    script.write(0, payload)
    script.write(place.tables, words)
    script.check_memory(0, payload)
    script.check_memory(place.tables, words)
    _run(script, image, place, count)
    first = 0
    for index, name in enumerate(names):
        script.text(f"{name}: class ")
        script.show(place.results + index * image.result_words, classes)
        first = first or len(script)
        script.text("\r\n")
        for _ in range(seconds_of_pause):
            script.record(Record.PAUSE)
    script.record(Record.END)
    return BootScript(bytes(script), first, table.classes(acc), count * image.predicted_cycles)


def _check_classes(image, acc, table, names):
    logits = image.logits["scale"] * np.asarray(acc) + image.logits["offset"]
    for name, wanted, found in zip(names, logits.argmax(axis=1), table.classes(acc), strict=True):
        if wanted != found:
            raise InputError(f"{name}: classes {wanted} and {found} have scores that 16 bits do "
                             "not tell apart: leave this picture out")


def _run(script, image, place, count):
    """Run all images of the ring once, and check that the board did."""
    units = -(-WATCHDOG_FACTOR * image.predicted_cycles >> WATCHDOG_UNIT_BITS) + 1
    script.set_register(Register.WATCHDOG, min(units, (1 << WATCHDOG_BITS) - 1))
    for register, value in {
            Register.COUNT: count, Register.PROGRAM: image.program, Register.LOG: place.log,
            Register.IMAGE: place.images, Register.IMAGE_STRIDE: image.image_words,
            Register.RESULT: place.results, Register.RESULT_STRIDE: image.result_words,
            Register.RING: value_of(RING_BITS, {"images": count, "results": count}),
            Register.START: 1}.items():
        script.set_register(register, value)
    script.record(Record.WAIT)
    script.set_register(Register.WATCHDOG, 0)
    for counter, value in ((Counter.ERRORS, 0), (Counter.IMAGES, count),
                           (Counter.DESCRIPTORS, count * image.descriptors)):
        script.check_register(COUNTER_BASE + counter, value)
