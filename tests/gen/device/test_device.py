import os
import pty
import random
import socket
import struct
import threading

import numpy as np
import pytest

from gen.device.device import decode_memory_status, Device, MemoryFailed
from gen.device.frame import cobs_decode, decode_frame, encode_frame
from gen.device.port import LinkError
from gen.device.transport import Transport
from hw.register import (
    Counter,
    COUNTER_BASE,
    MAGIC,
    MEMORY_STATUS_BITS,
    MemoryFault,
    Opcode,
    Refusal,
    REFUSED,
    Register,
    REPLY,
    VERSION,
)


class Model:
    """The device in software: frames in, answers out; a core that takes three looks."""

    def __init__(self, words=4096):
        self.memory = np.arange(words, dtype=np.uint64)
        self.registers = dict.fromkeys(range(128), 0)
        self.registers |= {Register.MAGIC: MAGIC, Register.VERSION: VERSION,
                           Register.CONFIG: 0x1234, Register.MEMORY_WORDS: words,
                           Register.MEMORY_STATUS: 1}
        self.registers |= {COUNTER_BASE + counter: 100 + counter for counter in Counter}
        self.starts = 0
        self.refusal = None             # of everything but registers that are read
        self._line = bytearray()

    def feed(self, data):
        self._line += data
        *frames, self._line = self._line.split(b"\0")
        return b"".join(self._execute(payload) for frame in frames
                        if (payload := decode_frame(frame)))

    def _execute(self, payload):
        opcode, length, sequence, address = struct.unpack_from("<BBHI", payload)
        data = np.frombuffer(payload[8:], dtype="<u8")
        answer, refusal = b"", None
        if self.refusal is not None and opcode != Opcode.READ_REGISTER:
            refusal = self.refusal
        elif opcode == Opcode.WRITE_MEMORY and len(data) == length:
            self.memory[address:address + length] = data
        elif opcode == Opcode.WRITE_REGISTER and len(data) == length == 1:
            if address == Register.START and self.registers[address] != data[0]:
                self.starts += 1
                self.registers[Register.STATE] = 3
            self.registers[address] = int(data[0])
        elif opcode == Opcode.READ_MEMORY and not len(data):
            answer = self.memory[address:address + length].tobytes()
        elif opcode == Opcode.READ_REGISTER and not len(data):
            values = [self.registers[address + k] for k in range(length)]
            if address == Register.STATE:
                values[0] = int(values[0] != 0)
                self.registers[address] = max(0, self.registers[address] - 1)
            answer = struct.pack(f"<{length}Q", *values)
        else:
            refusal = Refusal.MALFORMED
        if refusal is not None:
            opcode, length = opcode | REFUSED, refusal
        origin = self.registers[Register.SESSION] | self.registers[Register.START] << 24
        return encode_frame(struct.pack("<BBHI", opcode | REPLY, length, sequence, origin)
                            + answer)

    def restart(self):
        """As a board does: memory keeps its content."""
        self.registers[Register.SESSION] = self.registers[Register.START] = 0


class Noise:
    """Flips, drops and inserts bytes, each with chance ``rate``."""

    def __init__(self, rate, seed):
        self.rate, self.rng = rate, random.Random(seed)
        self.faults = 0

    def __call__(self, data):
        noisy = bytearray()
        for byte in data:
            kind = self.rng.random() / self.rate if self.rate else 1
            if kind >= 1:
                noisy.append(byte)
                continue
            self.faults += 1
            if kind < 1 / 3:
                noisy.append(byte ^ 1 << self.rng.randrange(8))
            elif kind < 2 / 3:
                noisy += bytes([byte, self.rng.choice([0, self.rng.randrange(256)])])
        return bytes(noisy)


class ModelTransport:
    """Transport to a model, through noise both ways, in pieces."""
    port = "model"

    def __init__(self, model=None, *, rate=0.0, seed=0):
        self.model = model or Model()
        self.there, self.back = Noise(rate, seed), Noise(rate, seed + 1)
        self.answers = bytearray()
        self.closed = False

    def write(self, data):
        self.answers += self.back(self.model.feed(self.there(data)))

    def read(self, timeout):
        count = min(len(self.answers), 300)
        data = bytes(self.answers[:count])
        del self.answers[:count]
        return data

    def close(self):
        self.closed = True


def random_words(count, seed=0):
    return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)


def test_write_and_read():
    transport = ModelTransport()
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
    transport = ModelTransport()
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
        transport.model.registers[Register.STATE] = 10**9
        with pytest.raises(LinkError, match="^Device is still busy after 0 s, 101 images done$"):
            device.wait(timeout=0)


@pytest.mark.parametrize("seed", range(30))
def test_noise_never_gives_wrong_data(seed):
    """Up to one byte in 100 damaged: either everything is right or there is a LinkError."""
    rate = [0.0003, 0.001, 0.003, 0.01][seed % 4]
    transport = ModelTransport(rate=rate, seed=seed)
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
    transport = ModelTransport()
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
    transport = ModelTransport(rate=1.0)
    with pytest.raises(LinkError, match=r"^No answer from model after 3 tries; is this the right "
                                        r"port, and the board programmed\?$"):
        Device(transport, timeout=0.001, tries=3)
    assert transport.closed


def test_only_damaged_answers():
    transport = ModelTransport()
    transport.back = lambda data: data[:5] + b"\x09" + data[5:]
    with pytest.raises(LinkError, match=r"^No intact answer from model after 2 tries, 2 damaged "
                                        r"frames received; check cable and baud rate$"):
        Device(transport, timeout=0.001, tries=2)


@pytest.mark.parametrize("register, message", [
    (Register.MAGIC, r"^model answers, but is no accelerator \(identification 0x00000007\)$"),
    (Register.VERSION, r"^Device has link version 7, this program needs 3: build and load a "
                       r"matching bitstream$"),
])
def test_other_device(register, message):
    model = Model()
    model.registers[register] = 7
    with pytest.raises(LinkError, match=message):
        Device(ModelTransport(model))


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
    transport = ModelTransport(Model())
    transport.model.registers[Register.MEMORY_STATUS] = memory_status(**status)
    with pytest.raises(MemoryFailed, match=message) as caught:
        Device(transport, timeout=0.01)
    assert transport.closed
    assert caught.value.status == decode_memory_status(memory_status(**status))


def test_memory_size_found():
    model = Model()
    model.registers[Register.MEMORY_STATUS] = memory_status(ready=1, size_bits=13, window=5)
    info = Device(ModelTransport(model)).info()
    assert info.memory_words == 8192
    assert (info.memory["ready"], info.memory["window"]) == (1, 5)


def memory_status(**fields):
    value = 0
    for name in reversed(MEMORY_STATUS_BITS):
        value = value << MEMORY_STATUS_BITS[name] | fields.get(name, 0)
    return value


@pytest.mark.parametrize("refusal, message", [
    (Refusal.MALFORMED, "^Device refused READ_MEMORY of 3 words at 9$"),
    (Refusal.BUSY, "^Device is still busy with an earlier run$"),
    (Refusal.NOT_READY, "^The device's memory cannot be used now$")])
def test_refused(refusal, message):
    model = Model()
    device = Device(ModelTransport(model))
    model.refusal = refusal
    with pytest.raises(LinkError, match=message):
        device.read(9, 3)


@pytest.mark.parametrize("restarts", [True, False])
def test_other_session(restarts):
    """A device that restarted, or that another program opened, gives an error: never its words."""
    model = Model()
    device = Device(ModelTransport(model))
    assert device.read(9, 3).tolist() == [9, 10, 11]
    if restarts:
        model.restart()
    else:
        Device(ModelTransport(model))
    with pytest.raises(LinkError, match="^model has restarted, or another program has opened it"):
        device.read(9, 3)


def test_other_run():
    """A run that this program did not start is an error."""
    model = Model()
    device = Device(ModelTransport(model))
    device.start(count=1)
    assert device.read_registers(Register.START) != [0]
    model.registers[Register.START] += 1
    with pytest.raises(LinkError, match="^model tells of run 2, not 1: another program uses it$"):
        device.wait(timeout=1)


@pytest.mark.parametrize("call, message", [
    (lambda device: device.read(4000, 97), "Range of 97 words at 4000 must be inside the device's "
                                           "4096 words of memory"),
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
    device = Device(ModelTransport())
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
        model = Model()
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
    model = Model()

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
    with pytest.raises(LinkError, match=r"^/dev/\S+ stopped answering after 9 answers, 6 tries; "
                                        r"is it still plugged in\?$"):
        device.read(0, 1)
    device.close()
    thread.join(5)
    os.close(master)
