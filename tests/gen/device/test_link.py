"""gen.device.link: what an answer must carry, and why a frame was refused."""

import struct

import numpy as np
import pytest

from gen.device.device import Device
from gen.device.frame import decode_frame, encode_frame
from gen.device.link import decode_state, DeviceRestarted
from gen.device.port import LinkError
from hw.register import Opcode, Register, Restart
from tests.gen.device.software_device import memory_status, SoftwareDevice, SoftwareTransport


def opened(**options):
    model = SoftwareDevice(**options)
    return model, Device(SoftwareTransport(model), timeout=0.01)


def test_sessions_are_not_zero_and_differ():
    model = SoftwareDevice()
    found = set()
    for _ in range(20):
        Device(SoftwareTransport(model))
        found.add(model.registers[Register.SESSION])
    assert len(found) == 20 and min(found) > 0


@pytest.mark.parametrize("cause, text", [
    (Restart.CONFIGURATION, "it was powered up or configured anew; look at supply and cable"),
    (Restart.HOST, "another program asked for it"),
    (Restart.ABORT, "another program aborted its run"),
    (Restart.BUTTON, "somebody pressed its button"),
    (Restart.WATCHDOG, "an image took longer than its watchdog allows, so the program hangs"),
    (Restart.LOCK, "a PLL lost its lock; look at supply and cable"),
    (7, "cause 7"),
])
@pytest.mark.parametrize("call", [
    lambda device: device.read(0, 200), lambda device: device.write(0, np.ones(200, np.uint64)),
    lambda device: device.crc(0, 1), lambda device: device.state(), lambda device: device.start(),
    lambda device: device.counters(), lambda device: device.wait(timeout=1)])
def test_every_answer_tells_of_a_restart(call, cause, text):
    model, device = opened()
    model.restart(cause)
    for _ in range(2):
        with pytest.raises(DeviceRestarted) as caught:
            call(device)
        assert str(caught.value) == f"model restarted: {text}; its results are void, run again"
        assert caught.value.cause == cause


def test_restart_and_silence():
    """The answers end before the device can say why."""
    model, device = opened()
    model.restart(Restart.LOCK)
    answers = [model.feed]
    model.feed = lambda data: answers.pop()(data) if answers else b""
    with pytest.raises(DeviceRestarted, match="powered up or configured anew"):
        device.read(0, 1)


def test_another_program():
    model, device = opened()
    Device(SoftwareTransport(model))
    with pytest.raises(DeviceRestarted, match="^model was opened by another program: end that, "
                                              "and run again$") as caught:
        device.read(0, 1)
    assert caught.value.cause is None


def test_another_run():
    model, device = opened()
    device.start()
    assert model.run == 1
    model.run = 2
    with pytest.raises(LinkError, match="^The device is in run 2, not 1 as it was told: its "
                                        "results are void, run again$"):
        device.read(0, 1)
    device.reopen()
    device.wait(timeout=1)
    device.start()
    assert model.run == 3


def test_runs_wrap():
    model, device = opened(core=lambda device: iter(()))
    for run in [*range(1, 256), 1, 2]:
        device.start()
        device.wait(timeout=1)
        assert model.run == run
    assert model.starts == 257


def test_start_whose_answer_is_lost_starts_once():
    model, device = opened()
    feed, dropped = model.feed, []

    def lossy(data):
        answers = feed(data)
        if model.starts and not dropped:
            dropped.append(answers)
            return b""
        return answers

    model.feed = lossy
    device.start(count=1)
    assert model.starts == 1 and device.repeated == 1


def test_refused_start():
    """While the core runs: another program began it behind our look at STATE."""
    model, device = opened()
    device.start()
    device.is_busy = lambda: False
    with pytest.raises(LinkError, match="^The device refused WRITE_REGISTER of 1 words at 8: the "
                                        "core runs; wait for it, or abort it with a restart$"):
        device.start()
    device.wait(timeout=1)                      # the run is the first one, as before
    assert model.starts == 1


def test_refused_memory():
    model, device = opened()
    model.constant[Register.MEMORY_STATUS] = memory_status(fault=1)
    for call in (lambda: device.read(9, 3), lambda: device.crc(9, 3)):
        with pytest.raises(LinkError, match="^The device refused .*: its memory cannot be used "
                                            "now; open the device again to hear why$"):
            call()
    with pytest.raises(LinkError, match="refused WRITE_REGISTER of 1 words at 8: its memory "):
        device.start()


def test_refused_frame():
    model, device = opened()
    model._command = lambda *fields: (b"", 0)
    with pytest.raises(LinkError, match="^The device refused READ_MEMORY of 3 words at 9: it does "
                                        "not know such a frame; build and load a matching "):
        device.read(9, 3)
    model._command = lambda *fields: (b"", 9)
    with pytest.raises(LinkError, match="of 3 words at 9: for reason 9, which is not known here$"):
        device.read(9, 3)


def test_answer_of_another_length():
    model, device = opened()
    model._command = lambda *fields: (bytes(16), None)
    with pytest.raises(LinkError, match="^The device answered READ_MEMORY of 3 words at 9 with a "
                                        "frame of wrong length"):
        device.read(9, 3)


def test_old_answers_are_ignored():
    """Of another program's session, or to a frame sent twice."""
    model, device = opened()
    feed = model.feed

    def repeating(data):
        old = encode_frame(struct.pack("<BBHI", 0xA0, 1, device._sequence + 77 & 0xFFFF, 123)
                           + bytes(8))
        answers = feed(data)
        return old + answers + answers

    model.feed = repeating
    np.testing.assert_array_equal(device.read(3, 300), np.arange(3, 303))


def test_state():
    assert decode_state(0b10101010_010_1_1) == {
        "busy": 1, "lock_lost": 1, "cause": Restart.ABORT, "restarts": 0xAA}
    assert decode_state(7 << 2)["cause"] == 7


def test_crc_is_a_frame_with_a_word():
    model, device = opened()
    seen = []
    feed = model.feed
    model.feed = lambda data: (seen.append(decode_frame(data.rstrip(b"\0"))), feed(data))[1]
    device.crc(9, 1000)
    opcode, length, _, address, count = struct.unpack("<BBHIQ", seen[-1])
    assert (opcode, length, address, count) == (Opcode.CRC_MEMORY, 1, 9, 1000)


def test_text_between_frames(caplog):
    """A board that works by itself has written lines: they are logged, and no damage."""
    model = SoftwareDevice()
    transport = SoftwareTransport(model)
    read, texts = transport.read, [b"picture 0: class 009\r\n\0", b"old image\r\n\0"]

    def with_text(timeout):
        return (texts.pop(0) if texts else b"") + read(timeout)

    transport.read = with_text
    with caplog.at_level("INFO", "gen.device.link"):
        device = Device(transport, timeout=0.01)
        assert device.read(3, 2).tolist() == [3, 4]
    assert device.damaged == device.repeated == 0
    assert [line.partition(" says: ")[2] for line in caplog.messages if " says: " in line] == [
        "picture 0: class 009", "old image"]
