"""A script, record by record, as a board reads it."""

from dataclasses import replace

import numpy as np
import pytest

from gen.boot.script import boot_script, Script
from gen.compile.package import image_words
from gen.device.device import crc_of
from gen.device.frame import decode_frame, HEADER
from hw.boot_layout import CHECK_BYTES, Record, record_byte
from hw.register import config_digest, Opcode, Register
from model.error import DoesNotFit, InputError
from tests.gen.boot.test_scores import case


WORDS = 1 << 20


def records(data):
    """(kind, body) of each, without the 0 behind a body."""
    kinds = {record_byte(kind): kind for kind in Record}
    found, at = [], 0
    while at < len(data):
        kind, at = kinds[data[at]], at + 1
        end = at
        if kind in (Record.CHECK, Record.IDENTITY):
            end = at + CHECK_BYTES
        elif kind in (Record.COMMENT, Record.TEXT, Record.FRAME, Record.SCORES):
            end = data.index(b"\0", at)
        found.append((kind, data[at:end]))
        at = end + (end > at and kind not in (Record.CHECK, Record.IDENTITY))
    return found


def test_record_bytes():
    """Two kinds differ in two bits at least, and no kind is erased or zero."""
    values = [record_byte(kind) for kind in Record]
    assert {(a ^ b).bit_count() for a in values for b in values if a != b} <= {2, 4, 6, 8}
    assert not {0x00, 0xFF} & set(values)


def test_text_is_ascii():
    script = Script()
    script.text("café\0\r\n\x1b")
    assert records(bytes(script)) == [(Record.TEXT, b"caf??\r\n?")]


def memory_of(frames):
    """Memory as the written frames leave it, and all register writes."""
    memory, registers = {}, []
    for frame in frames:
        payload = decode_frame(frame)
        opcode, length, _, address = HEADER.unpack_from(payload)
        words = np.frombuffer(payload[HEADER.size:], "<u8").tolist()
        if opcode == Opcode.WRITE_MEMORY:
            assert len(words) == length
            memory |= dict(enumerate(words, address))
        elif opcode == Opcode.WRITE_REGISTER:
            registers += [(address, *words)]
    return memory, registers


def test_boot_script():
    """Everything that is checked is what was written; pictures lie where the core is told."""
    _, _, image, pictures, acc = case(3)
    found = boot_script(image, pictures, acc, names=["a", "b"], memory_words=WORDS)
    read = records(found.data)
    assert read[-1] == (Record.END, b"") and read.count((Record.SHOW, b"")) == 2
    kinds = [kind for kind, _ in read]
    assert kinds[:4] == [Record.FRAME, Record.IDENTITY] * 2
    assert read[1][1] == image.identity.to_bytes(4, "little")
    assert read[3][1] == config_digest(image.config).to_bytes(4, "little")
    memory, registers = memory_of(body for kind, body in read if kind == Record.FRAME)
    checks = 0
    for (kind, body), (_, wanted) in zip(read, read[1:], strict=False):
        if kind == Record.FRAME and (payload := decode_frame(body))[0] == Opcode.CRC_MEMORY:
            start, = np.frombuffer(payload[4:8], "<u4")
            count, = np.frombuffer(payload[8:16], "<u8")
            words = [memory[int(start) + k] for k in range(int(count))]
            assert wanted == crc_of(np.array(words, np.uint64)).to_bytes(4, "little")
            checks += len(words)
    assert checks == len(memory)
    values = dict(registers)
    for index, picture in enumerate(pictures):
        words = image_words(image, picture)
        at = values[Register.IMAGE] + index * values[Register.IMAGE_STRIDE]
        assert [memory[at + k] for k in range(len(words))] == words.tolist()
    assert values[Register.COUNT] == 2 and values[Register.RING] == 2 | 2 << 16
    assert values[Register.WATCHDOG] == 0 and registers[0][0] == Register.WATCHDOG
    # Whatever the core writes lies behind what it reads.
    assert min(values[Register.RESULT], values[Register.LOG]) > max(memory)
    assert found.classes.tolist() == (
        image.logits["scale"] * acc + image.logits["offset"]).argmax(axis=1).tolist()
    assert found.data[:found.first].endswith(bytes([record_byte(Record.SHOW)]))


def test_room():
    _, _, image, pictures, acc = case(3)
    with pytest.raises(DoesNotFit, match="memory words for program and pictures"):
        boot_script(image, pictures, acc, names=["a", "b"], memory_words=image.memory_words)


def test_scores_too_close():
    """Two classes with the same score, of which the model takes the second."""
    _, _, image, pictures, _ = case(3)
    classes = image.maps["logits_acc"].channels
    scale = np.full(classes, 1e-9)
    offset = np.zeros(classes)
    offset[0], offset[1], offset[2:] = 1, 1 + 1e-12, -5
    image.results[0] = replace(image.results[0], scale=scale, offset=offset)
    with pytest.raises(InputError, match="b: classes 1 and 0 have scores that 16 bits do not tell"):
        boot_script(image, pictures[:1], np.zeros((1, classes), int), names=["b"],
                    memory_words=WORDS)


def test_other_results_than_classes():
    _, _, image, pictures, acc = case(3)
    other = replace(image, results=[replace(image.results[0], name="seg")])
    with pytest.raises(InputError, match="a board without a host shows classes; the results are "
                                         "seg"):
        boot_script(other, pictures, acc, names=["a", "b"], memory_words=WORDS)


def test_too_many_classes():
    _, _, image, pictures, _ = case(3)
    with pytest.raises(InputError, match="at most 1000 classes without a host, the network"):
        boot_script(image, pictures, np.zeros((2, 1001), int), names=["a", "b"],
                    memory_words=WORDS)
