import os
import pty
import random
import socket
import threading
import zlib

import numpy as np
import pytest

from gen.device.device import decode_memory_status, Device, MemoryFailed, RunAborted
from gen.device.frame import cobs_decode, decode_frame
from gen.device.link import DeviceRestarted
from gen.device.port import LinkError
from gen.device.transport import Transport
from hw.register import Counter, MemoryFault, Register, Restart
from tests.gen.device.software_device import memory_status, SoftwareDevice, SoftwareTransport


def random_words(count, seed=0):
    return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)


def test_write_and_read():
    transport = SoftwareTransport()
    seen = []
    with Device(transport) as device:
        assert device.info().memory_words == 4096 and device.info().config_digest == 0x1234
        words = random_words(1000)
        device.write(50, words, progress=lambda done, total: seen.append((done, total)))
        assert seen[-1] == (1000, 1000) and len(seen) == 16
        np.testing.assert_array_equal(device.read(50, 1000), words)
        device.write(7, b"\x01" * 8)
        np.testing.assert_array_equal(device.read(6, 3), [6, 0x0101010101010101, 8])
        assert device.read(0, 0).size == 0
        assert device.repeated == 0
    assert transport.closed


def test_start_wait_counters():
    transport = SoftwareTransport()
    looks = []
    with Device(transport) as device:
        device.start(image=5, count=2)
        assert transport.model.registers[Register.IMAGE] == 5
        device.wait(timeout=10, progress=looks.append)
        assert len(looks) == 4 and looks[0] == 101
        device.start()
        device.wait(timeout=10)
        assert transport.model.starts == 2
        counters = device.counters()
        assert counters["CYCLES"] == 100 and counters["ERRORS"] == 136 and len(counters) == 37
        device.start()
        with pytest.raises(LinkError, match="^Device is still busy with an earlier run$"):
            device.start()


def hanging(device):
    device.counters[Counter.IMAGES] = 7
    while True:
        yield 1000


def test_hung_run_is_aborted():
    """The device can be used afterwards, and memory is as it was."""
    model = SoftwareDevice(core=hanging)
    with Device(SoftwareTransport(model)) as device:
        device.start(image=5, count=2)
        with pytest.raises(RunAborted, match="^Device is still busy after 0 s, 7 images done: the "
                                             "run was aborted$"):
            device.wait(timeout=0)
        state = device.state()
        assert state == device.info().state
        assert (state["busy"], state["cause"], state["restarts"]) == (0, Restart.ABORT, 1)
        np.testing.assert_array_equal(device.read(0, 4096), np.arange(4096))
        assert device.read_registers(Register.IMAGE) == [0]
        device.start()
        assert device.is_busy() and model.starts == 2


def test_watchdog():
    """The limit is rounded up; a run beyond it is ended by the device, and the host says why."""
    model = SoftwareDevice(core=hanging)
    device = Device(SoftwareTransport(model))
    for cycles, units in (0, 0), (1, 2), (65536, 2), (65537, 3), (1 << 40, 65535):
        device.set_watchdog(cycles)
        assert model.registers[Register.WATCHDOG] == units
    device.set_watchdog(100_000)
    device.start()
    with pytest.raises(DeviceRestarted, match="^model restarted: an image took longer than its "
                                              "watchdog allows, so the program hangs; its results "
                                              "are void, run again$") as caught:
        device.wait(timeout=100)
    assert caught.value.cause == Restart.WATCHDOG
    with pytest.raises(DeviceRestarted):
        device.read(0, 1)
    assert device.reopen().state["restarts"] == 1
    assert device.read(7, 1) == [7]


@pytest.mark.parametrize("delay", range(4))
@pytest.mark.parametrize("cause", [Restart.HOST, Restart.ABORT])
def test_restart(cause, delay):
    """It acts some requests after it was asked for, and the device is opened again behind it."""
    model = SoftwareDevice()
    model.restart_delay = delay
    device = Device(SoftwareTransport(model))
    device.start(count=3)
    state = device.restart(cause)
    assert (state["busy"], state["cause"], state["restarts"]) == (0, cause, 1)
    assert (model.memory == np.arange(4096)).all() == (cause is Restart.ABORT)
    assert device.read_registers(Register.COUNT) == [0]
    device.write(0, np.ones(3, np.uint64))
    np.testing.assert_array_equal(device.read(0, 3), 1)


def test_restart_whose_answer_is_lost():
    """The frame is repeated to a device that has restarted, which restarts once more."""
    model = SoftwareDevice()
    model.restart_delay = 0
    device = Device(SoftwareTransport(model), timeout=0.01)
    model.restart_at = model.requests + 1, "unanswered", Restart.ABORT
    assert device.restart(Restart.ABORT)["restarts"] in (1, 2)
    assert device.read(9, 1) == [9]


def test_device_that_does_not_restart():
    model = SoftwareDevice()
    model.restart_delay = 10**9
    device = Device(SoftwareTransport(model), timeout=0.01, tries=3)
    with pytest.raises(LinkError, match="^The device did not restart within 1 s: load its "
                                        "bitstream again$"):
        device.restart()
    model.core = hanging
    device.reopen()
    device.start()
    with pytest.raises(LinkError, match=r"^Device is still busy after 0 s, 7 images done, and "
                                        r"cannot be stopped \(The device did not restart "):
        device.wait(timeout=0)


def test_lost_lock(caplog):
    """Before: a warning when the device is opened. During a run: an error."""
    model = SoftwareDevice()
    device = Device(SoftwareTransport(model))
    assert caplog.text == ""
    device.start()
    model.lock_lost = 1
    with pytest.raises(LinkError, match="^A PLL of the device lost its lock during the run"):
        device.wait(timeout=1)
    assert Device(SoftwareTransport(model)).info().state["lock_lost"] == 1
    assert "model: a PLL lost its lock since the board was configured" in caplog.text


def test_crc():
    device = Device(SoftwareTransport())
    words = random_words(3000)
    device.write(17, words)
    for start, count in (0, 1), (5, 2995), (2999, 1), (0, 3000):
        assert device.crc(17 + start, count) == zlib.crc32(words[start:start + count].tobytes())


@pytest.mark.parametrize("seed", range(30))
def test_noise_never_gives_wrong_data(seed):
    """Up to one byte in 100 damaged: either everything is right or there is a LinkError."""
    rate = [0.0003, 0.001, 0.003, 0.01][seed % 4]
    transport = SoftwareTransport(rate=rate, seed=seed)
    words = random_words(700, seed)
    try:
        with Device(transport, timeout=0.002, tries=12) as device:
            device.write(100, words)
            np.testing.assert_array_equal(transport.model.memory[100:800], words)
            np.testing.assert_array_equal(device.read(100, 700), words)
            device.start(count=seed)
            device.wait(timeout=20)
    except LinkError:
        assert rate >= 0.003
    else:
        assert transport.model.starts == 1
        assert transport.model.registers[Register.COUNT] == seed
    untouched = np.delete(transport.model.memory, np.s_[100:800])
    np.testing.assert_array_equal(untouched, np.delete(np.arange(4096), np.s_[100:800]))


def test_random_bytes_are_no_frames():
    rng = random.Random(0)
    for _ in range(3000):
        data = rng.randbytes(rng.randrange(40))
        cobs_decode(data)
        assert decode_frame(data) is None


def test_lost_answers_resent_at_once():
    """An answer that overtakes another makes the host repeat before the time-out."""
    transport = SoftwareTransport()
    device = Device(transport, timeout=100)
    feed, dropped = transport.model.feed, []

    def lossy(data):
        if len(data) > 500 and len(dropped) < 1:
            dropped.append(data)
            return b""
        return feed(data)

    transport.model.feed = lossy
    words = random_words(300)
    device.write(0, words)
    np.testing.assert_array_equal(device.read(0, 300), words)
    assert device.repeated == 1 and len(dropped) == 1


def test_no_answer():
    transport = SoftwareTransport(rate=1.0)
    with pytest.raises(LinkError, match=r"^model: no answer after 3 tries; is this the right "
                                        r"port, and the board programmed\?$"):
        Device(transport, timeout=0.001, tries=3)
    assert transport.closed


def test_only_damaged_answers():
    transport = SoftwareTransport()
    transport.back = lambda data: data[:5] + b"\x09" + data[5:]
    with pytest.raises(LinkError, match=r"^model: no intact answer after 2 tries, 2 damaged "
                                        r"frames received; check cable and baud rate$"):
        Device(transport, timeout=0.001, tries=2)


@pytest.mark.parametrize("register, message", [
    (Register.MAGIC, r"^model answers, but is no accelerator \(identification 0x00000007\)$"),
    (Register.VERSION, r"^Device has link version 7, this program needs 3: build and load a "
                       r"matching bitstream$"),
])
def test_other_device(register, message):
    model = SoftwareDevice()
    model.constant[register] = 7
    with pytest.raises(LinkError, match=message):
        Device(SoftwareTransport(model))


@pytest.mark.parametrize("status, message", [
    ({"fault": MemoryFault.CALIBRATION, "delay": 1, "phase": 7, "window": 3},
     "^The device's SDRAM fails its test at every setting, or at too many around the best one "
     r"\(read delay 1, clock phase 7, window of 3 phases\): build with a lower sdram_mhz"),
    ({"fault": MemoryFault.GEOMETRY, "window": 20, "address_bit": 21},
     "^The device's SDRAM is not the part that the bitstream was built for: it should have 4096 "
     r"words of 64 bits, but address bit 21 of them is missing or stuck \(read delay 0, clock "
     r"phase 0, window of 20 phases\)$"),
    ({}, "^The device's SDRAM is still being tested: its clock does not run$"),
])
def test_memory_fault(status, message):
    """Told when the device is opened: nothing is written to its memory, nothing read."""
    transport = SoftwareTransport(SoftwareDevice())
    transport.model.constant[Register.MEMORY_STATUS] = memory_status(**status)
    with pytest.raises(MemoryFailed, match=message) as caught:
        Device(transport, timeout=0.01)
    assert transport.closed
    assert caught.value.status == decode_memory_status(memory_status(**status))


def test_memory_fault_has_its_map():
    transport = SoftwareTransport(SoftwareDevice())
    transport.model.constant |= {
        Register.MEMORY_STATUS: memory_status(fault=MemoryFault.CALIBRATION),
        Register.MEMORY_TEST_PINS: 1 << 7 | 1 << 12}
    transport.model.map_rows = (0, 0, 0, 0)
    with pytest.raises(MemoryFailed) as caught:
        Device(transport)
    assert str(caught.value) == (
        "The device's SDRAM passes at no setting, because words are never right at data "
        "pins 7, 12: look at these solder joints")
    assert caught.value.map.rows == (0, 0, 0, 0) and caught.value.map.pins == 1 << 7 | 1 << 12
    assert "delay 3  ....\n" in caught.value.map.text()


def test_memory_size_found():
    model = SoftwareDevice()
    model.constant[Register.MEMORY_STATUS] = memory_status(ready=1, size_bits=13, window=5)
    info = Device(SoftwareTransport(model)).info()
    assert info.memory_words == 8192
    assert (info.memory["ready"], info.memory["window"]) == (1, 5)


@pytest.mark.parametrize("call, message", [
    (lambda device: device.read(4000, 97), "Range of 97 words at 4000 must be inside the device's "
                                           "4096 words of memory"),
    (lambda device: device.crc(4096, 1), "Range of 1 words at 4096 must be inside the device's "
                                         "4096 words of memory"),
    (lambda device: device.crc(0, 0), "Count of words must be at least 1, not 0"),
    (lambda device: device.set_watchdog(-1), "Cycles must not be negative, not -1"),
    (lambda device: device.restart(Restart.LOCK), "Cause must be HOST or ABORT, not "
                                                  "<Restart.LOCK: 5>"),
    (lambda device: device.write(-1, b""), "Range of 0 words at -1 must be inside the device's "
                                           "4096 words of memory"),
    (lambda device: device.write(0, b"123"), "Data must be whole words of 8 bytes, not 3 bytes"),
    (lambda device: device.start(count=65536), "count must fit in 16 bits, not 65536"),
    (lambda device: device.start(start=1), "Control register must be one of count, program, log, "
     "image, image_stride, result, result_stride, not 'start'"),
    (lambda device: Device("x", timeout=0), "Timeout must be positive, not 0"),
    (lambda device: Device("x", tries=0), "Tries must be at least 1, not 0"),
])
def test_wrong_arguments(call, message):
    device = Device(SoftwareTransport())
    with pytest.raises(ValueError) as caught:
        call(device)
    assert str(caught.value) == message


def test_port_missing():
    with pytest.raises(LinkError, match="^Cannot open /dev/nonexistent: "):
        Device("/dev/nonexistent")


def serve(connection, model):
    with connection:
        while data := connection.recv(4096):
            connection.sendall(model.feed(data))


def test_socket():
    with socket.create_server(("127.0.0.1", 0)) as server:
        model = SoftwareDevice()
        thread = threading.Thread(
            target=lambda: serve(server.accept()[0], model))
        thread.start()
        with Device(f"socket://127.0.0.1:{server.getsockname()[1]}") as device:
            words = random_words(2000)
            device.write(0, words)
            np.testing.assert_array_equal(device.read(0, 2000), words)
        thread.join(10)


def test_unplugged_socket():
    with socket.create_server(("127.0.0.1", 0)) as server:
        transport = Transport(f"socket://127.0.0.1:{server.getsockname()[1]}")
        server.accept()[0].close()
        with pytest.raises(LinkError, match=r"^Lost socket://127.0.0.1:\d+ \(unplugged\?\)"):
            Device(transport, timeout=1)


def test_pseudo_terminal_and_unplugged():
    master, slave = pty.openpty()
    model = SoftwareDevice()

    def answer():
        try:
            while data := os.read(master, 4096):
                os.write(master, model.feed(data))
        except OSError:
            pass

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    device = Device(os.ttyname(slave), timeout=5)
    words = random_words(100)
    device.write(0, words)
    np.testing.assert_array_equal(device.read(0, 100), words)
    os.close(slave)
    device._timeout = 0.05
    model.feed = lambda data: b""
    with pytest.raises(LinkError, match=r"^/dev/\S+ stopped answering after 10 answers, 6 tries; "
                                        r"is it still plugged in\?$"):
        device.read(0, 1)
    device.close()
    thread.join(5)
    os.close(master)
