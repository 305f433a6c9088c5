"""The host's code against the shell's RTL, with a core that copies."""
from functools import partial
import os
import random
import socket
import threading

import numpy as np
import pytest

from gen.device.device import Device, RunAborted
from gen.device.link import DeviceRestarted
from gen.device.port import LinkError
from gen.device.transport import Transport
from hw.config import CoreConfig
from hw.register import config_digest, Counter, COUNTER_BASE, Register, Restart
from hw.sdram_config import SdramConfig
from sim.rtl.back_door import BackDoorError
from sim.rtl.stub_core import HUNG, StubCore
from sim.rtl.verilator import SimulatorMissing
from sim.rtl.virtual_board import VirtualBoard
from sim.twin.memory import MemoryTwin
from sim.twin.sdram import SdramTwin


pytestmark = pytest.mark.rtl

CONFIG = CoreConfig(rows=16)


def virtual_board(cache, divisor=4, **options):
    memory = partial(MemoryTwin, words=4096, stall=0.2, seed=1)
    return VirtualBoard(CONFIG, cache=cache, divisor=divisor, core=StubCore(),
                        **{"memory": memory} | options)


@pytest.fixture(scope="module", params=[4, None], ids=["uart", "bytes"])
def board(tmp_path_factory, request):
    with virtual_board(tmp_path_factory.mktemp("cache"), request.param) as board:
        yield board


def random_words(count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2**64, count, dtype=np.uint64) * rng.integers(0, 2, count,
                                                                         dtype=np.uint64)


def test_run(board):
    image = random_words(300)
    seen = []
    with Device(board.url, timeout=board.link_timeout) as device:
        assert device.info().config_digest == config_digest(CONFIG)
        assert device.info().memory_words == 4096
        device.write(1000, image)
        np.testing.assert_array_equal(device.read(1000, 300), image)
        for run in range(2):
            device.start(image=1000, image_stride=100, result=2000 + run, result_stride=100,
                         count=3)
            device.wait(timeout=60, progress=seen.append)
            np.testing.assert_array_equal(device.read(2000 + run, 300), image + np.uint64(1))
        counters = device.counters()
        assert counters["IMAGES"] == 3 == seen[-1] and counters["READ_WORDS"] == 300
        assert counters["WRITE_WORDS"] == 0x1000 + 33
        assert device.repeated == device.damaged == 0
        assert device.read_registers(Register.LINK_ERRORS) == [0]


def ring_of(device, images, count, results):
    """Start ``count`` runs over ``images`` (n, 20); their log is at 4000."""
    device.write(1000, images.reshape(-1))
    device.write(2000, np.zeros(20 * results, np.uint64))
    device.write(4000 - 2 * (results + 1), np.zeros(2 * results, np.uint64))
    device.start(program=0, image=1000, image_stride=20, result=2000, result_stride=20, log=4000,
                 count=count, ring={"images": len(images), "results": results})


def test_ring(board):
    """Results and records of the last runs; counters are the sums of single ones."""
    images = random_words(60).reshape(3, 20)
    with Device(board.url, timeout=board.link_timeout) as device:
        words = 0
        for number in range(3):
            ring_of(device, images[[number]], 1, 1)
            device.wait(timeout=60)
            words += device.counters()["READ_WORDS"]
        ring_of(device, images, 12, 5)
        device.wait(timeout=60)
        counters = device.counters()
        assert counters["IMAGES"] == 12 and counters["READ_WORDS"] == 4 * words
        results = device.read(2000, 100).reshape(5, 20)
        records = device.read(4000 - 12, 10).reshape(5, 2)
        ends = {}
        for run in range(7, 12):
            np.testing.assert_array_equal(results[run % 5], images[run % 3] + np.uint64(1))
            left, end = records[run % 5].tolist()
            assert left == 12 - run and end % (1 << 32) == 0
            ends[run] = end >> 32
        assert sorted(ends.values()) == list(ends.values())
        assert ends[7] > 0 and ends[11] <= counters["CYCLES"]
        # A run without a ring follows.
        np.testing.assert_array_equal(use(device, random_words(40)), random_words(40)
                                      + np.uint64(1))


@pytest.mark.parametrize("cause", [Restart.ABORT, Restart.BUTTON])
def test_restart_in_a_ring(board, cause):
    """An error that names the cause, while the host waits; then the ring is gone."""
    with virtual_board(board._cache, board._divisor) as board:
        with Device(board.url, timeout=2) as device:
            ring_of(device, random_words(60).reshape(3, 20), 65535, 5)
            with pytest.raises(LinkError, match="still busy with an earlier run"):
                device.start(count=1)
            with pytest.raises(LinkError, match="The device refused WRITE_REGISTER .* core runs"):
                device.write_register(Register.START, device._run + 1)
            images, = device.read_registers(COUNTER_BASE + Counter.IMAGES)
            board.restart(cause, after=100)
            with pytest.raises(DeviceRestarted) as error:
                device.wait(timeout=60)
            assert error.value.cause == cause and images < 65535
            device.reopen()
            np.testing.assert_array_equal(use(device, random_words(40)), random_words(40)
                                          + np.uint64(1))


def restarted(board, cause, lost=False):
    """The board has no session, and tells why it began anew."""
    with Device(board.url, timeout=2) as device:
        state = device.info().state
        assert not state["busy"] and state["cause"] == cause and state["lock_lost"] == lost
        return state["restarts"]


def use(device, image):
    """A whole use of a board; returns the results."""
    device.write(1000, image)
    device.start(program=0, image=1000, image_stride=20, result=2000, result_stride=20, count=2)
    device.wait(timeout=60)
    return device.read(2000, 40)


@pytest.mark.parametrize("cause", [Restart.HOST, Restart.ABORT])
def test_host_restarts_it(board, cause):
    """The answer comes first; what the memory twin holds stays."""
    with Device(board.url, timeout=2) as device:
        device.write(500, random_words(20))
        before = device.state()["restarts"]
        state = device.restart(cause)
        assert state["cause"] == cause and state["restarts"] == (before + 1) % 256
        np.testing.assert_array_equal(device.read(500, 20), random_words(20))
        assert device.read_registers(Register.START) == [0]
        np.testing.assert_array_equal(use(device, random_words(40)), random_words(40)
                                      + np.uint64(1))


@pytest.mark.parametrize("cause", [Restart.BUTTON, Restart.LOCK])
def test_it_restarts_by_itself(board, cause):
    """The host's next request is an error that names the cause; a lost lock stays known."""
    with virtual_board(board._cache, board._divisor) as board:
        with Device(board.url, timeout=2) as device:
            device.write(500, random_words(20))
            board.restart(cause)
            with pytest.raises(DeviceRestarted) as error:
                for _ in range(1000):
                    device.read(500, 20)
            assert error.value.cause == cause
        assert restarted(board, cause, lost=cause == Restart.LOCK) == 1


def test_watchdog(board):
    """An image that takes longer than the limit ends in a restart; one that does not, well."""
    with Device(board.url, timeout=2) as device:
        device.write_register(Register.WATCHDOG, 1)
        use(device, random_words(40))
        device.start(program=HUNG)
        with pytest.raises(DeviceRestarted) as error:
            device.wait(timeout=60)
        assert error.value.cause == Restart.WATCHDOG
    restarted(board, Restart.WATCHDOG)


def test_hung_program(board):
    """Without a watchdog the host aborts it; the next image is right."""
    with Device(board.url, timeout=2) as device:
        device.write(500, random_words(20))
        device.start(program=HUNG)
        with pytest.raises(RunAborted, match="still busy after 0.2 s, 0 images done: the run was"):
            device.wait(timeout=0.2)
        np.testing.assert_array_equal(use(device, random_words(40)), random_words(40)
                                      + np.uint64(1))
        np.testing.assert_array_equal(device.read(500, 20), random_words(20))


STEPS = {"open": 3000, "write": 2000, "start": 4000, "wait": 1500, "read": 2000}
"""Of a use, and some cycles that each takes, the time of the host included."""


def interrupted_use(board, device, rng, image):
    """A use with a restart in some step: (results or None, step, what ended it)."""
    step, cause = rng.choice([*STEPS]), rng.choice([*Restart][1:])
    by_register = cause in (Restart.HOST, Restart.ABORT) and rng.random() < 0.5
    delay = rng.randrange(STEPS[step])

    def restart(now):
        if now == step and by_register:
            device.write_register(Register.RESTART, cause)
        elif now == step:
            board.restart(cause, after=delay)

    try:
        restart("open")
        device.reopen()
        restart("write")
        device.write(1000, image)
        restart("start")
        device.start(program=0, image=1000, image_stride=20, result=2000, result_stride=20,
                     count=2)
        restart("wait")
        device.wait(timeout=60)
        restart("read")
        return device.read(2000, 40), step, None
    except LinkError as error:
        return None, step, error


def restarts(board, count, seed=0):
    """Restarts at any step: what comes back is right, or an error, and so is what follows.

    Returns ``{step: [right, errors]}`` and the device's own count of restarts; fails where a result
    is wrong.
    """
    rng, found = random.Random(seed), {step: [0, 0] for step in STEPS}
    with Device(board.url, timeout=0.05) as device:
        for number in range(count):
            image = random_words(40, number)
            results, step, error = interrupted_use(board, device, rng, image)
            found[step][error is not None] += 1
            if error is None:
                np.testing.assert_array_equal(results, image + np.uint64(1))
            for _ in range(2):
                try:
                    device.reopen()
                    results = use(device, ~image)
                except DeviceRestarted:             # it came late
                    continue
                np.testing.assert_array_equal(results, ~image + np.uint64(1))
                break
            else:
                pytest.fail("one restart has ended two uses")
        count = device.state()["restarts"]
    return found, count


def test_restarts_at_random_steps(board):
    with virtual_board(board._cache, board._divisor) as board:
        count = 30 if board._divisor is None else 6
        found, restarted = restarts(board, count)
    assert restarted == count and sum(errors for _, errors in found.values()) >= count // 3


@pytest.mark.slow
@pytest.mark.parametrize("board", [None], indirect=True)
def test_thousand_restarts(board):
    with virtual_board(board._cache, None) as board:
        found, restarted = restarts(board, 1000, seed=1)
    print(f"by step [right, errors]: {found}")
    assert restarted == 1000 % 256
    assert all(errors > 10 for _, errors in found.values())
    assert sum(right for right, _ in found.values()) > 10


def test_sdram_twin(tmp_path):
    """32 MB in the simulator's own array; the ends of the memory are different places."""
    sdram = SdramConfig(clock_hz=125_000_000, trcd_ns=21, trp_ns=21, tras_ns=45, trc_ns=66,
                        trfc_ns=70, twr_ns=15, trrd_ns=15)
    memory = partial(SdramTwin, sdram, sync_hz=80_000_000, verilog=True)
    words = random_words(300, 2)
    with (virtual_board(tmp_path, memory=memory) as board,
          Device(board.url, timeout=board.link_timeout) as device):
        assert device.info().memory_words == 1 << 22
        for first in (0, (1 << 22) - 300, 1 << 21):
            device.write(first, words + np.uint64(first))
        for first in (0, (1 << 22) - 300, 1 << 21):
            np.testing.assert_array_equal(device.read(first, 300), words + np.uint64(first))


def test_connects_again_and_keeps_memory(board):
    words = random_words(64, 1)
    with Device(board.url, timeout=board.link_timeout) as device:
        device.write(3000, words)
    with Device(board.url, timeout=board.link_timeout) as device:
        np.testing.assert_array_equal(device.read(3000, 64), words)


def test_sleeps_while_idle(board):
    def cpu_ticks():
        with open(f"/proc/{board._process.pid}/stat") as stat:
            return int(stat.read().split()[13])

    with Device(board.url, timeout=board.link_timeout):
        before = cpu_ticks()
        threading.Event().wait(0.5)
        assert cpu_ticks() - before <= 5


class NoisyTransport(Transport):
    """Damages, drops and inserts bytes both ways."""

    def __init__(self, port, rate, seed):
        super().__init__(port)
        self._rate, self._rng = rate, random.Random(seed)

    def _noisy(self, data):
        noisy = bytearray()
        for byte in data:
            kind = self._rng.random() / self._rate
            if kind >= 1 / 3:
                noisy.append(byte if kind >= 1 else byte ^ 1 << self._rng.randrange(8))
            elif kind < 1 / 6:
                noisy += bytes([byte, self._rng.randrange(256)])
        return bytes(noisy)

    def write(self, data):
        super().write(self._noisy(data))

    def read(self, timeout):
        return self._noisy(super().read(timeout))


@pytest.mark.parametrize("seed", range(2))
def test_noise(board, seed):
    """On a noisy line: right data, or an error; and the memory around is untouched."""
    with Device(board.url, timeout=board.link_timeout) as device:
        before = device.read(0, 900)
    words = random_words(500, seed)
    transport = NoisyTransport(board.url, [0.0005, 0.002][seed % 2], seed)
    try:
        with Device(transport, timeout=0.3, tries=12) as device:
            device.write(200, words)
            np.testing.assert_array_equal(device.read(200, 500), words)
            repeated = device.repeated
    except LinkError:
        assert seed % 2
    else:
        assert repeated
    with Device(board.url, timeout=board.link_timeout) as device:
        after = device.read(0, 900)
    np.testing.assert_array_equal(np.delete(after, np.s_[200:700]),
                                  np.delete(before, np.s_[200:700]))


def test_board_gone(tmp_path_factory, board):
    """The process ends under the host: an error that names the port."""
    with virtual_board(board._cache, board._divisor) as other:
        device = Device(other.url, timeout=5)
        other.stop()
        assert other.cycles > 100
        with pytest.raises(LinkError, match="^Lost socket://127.0.0.1:"):
            device.read(0, 1)
        device.close()


def test_tool_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SimulatorMissing, match=r"^g\+\+ is missing; install it with: "):
        virtual_board(tmp_path).start()
    assert os.listdir(tmp_path) == []


def test_garbage_from_another_program(board):
    """Bytes that are no frames are counted and answered by nothing."""
    host, port = board.url.removeprefix("socket://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(random.Random(0).randbytes(3000))
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(1)
    with Device(board.url, timeout=board.link_timeout) as device:
        assert device.read_registers(Register.LINK_ERRORS)[0] > 0


def arrays(board):
    """The array of the memory behind the core."""
    (name, (entries, bits)), = board.door.arrays.items()
    assert "shell.memory" in name and (entries, bits) == (4096, 64)
    return name


def test_back_door(board):
    """Memory is filled at once; a bit, an entry and the identity change."""
    name, words = arrays(board), random_words(4096, 7)
    with board.door.copy() as copy, Device(copy.url, timeout=board.link_timeout) as device:
        copy.door.load(name, words[100:], 100)
        np.testing.assert_array_equal(device.read(100, 300), words[100:400])
        copy.door.plant(copy.door.flip(name, 101, 63))
        copy.door.plant(copy.door.poke(name, 102, 0x1234))
        found = device.read(100, 3)
        assert found[1] == words[101] ^ np.uint64(1 << 63) and found[2] == 0x1234
        copy.door.identify(0x89abcdef)
        assert device.read_registers(Register.IDENTITY) == [0x89abcdef]
        assert copy.door.planted == 2
        for order in (("now", "flip", 0, 4096, 0), ("now", "flip", 1, 0, 0), ("at", "year", 1),
                      ("load", 0, 0, "/no/such/file")):
            with pytest.raises(BackDoorError, match="refuses"):
                copy.door._order(*order)


def test_copies_share_nothing(board):
    """Each goes on from where it was copied, beside the others and the first."""
    name = arrays(board)
    with Device(board.url, timeout=board.link_timeout) as device:
        device.write(900, random_words(10, 1))
        with board.door.copy() as one, one.door.copy() as other:
            for copy, change in ((one, 1), (other, 2)):
                copy.door.plant(copy.door.poke(name, 900, change))
                with Device(copy.url, timeout=board.link_timeout) as found:
                    assert found.read(900, 1) == [change]
                    np.testing.assert_array_equal(found.read(901, 9), random_words(10, 1)[1:])
        np.testing.assert_array_equal(device.read(900, 10), random_words(10, 1))
    with pytest.raises(BackDoorError, match="The simulator has ended"):
        one.door.plant(("die",))


def test_faults_at_a_moment(board):
    """In a cycle of a run, at a byte of the line; a fault of a run that is over never comes."""
    name, image = arrays(board), random_words(40)
    with board.door.copy() as copy, Device(copy.url, timeout=board.link_timeout) as device:
        door = copy.door
        # The core reads the words of an image one after the other.
        door.plant(door.flip(name, 1039, 0), run=1, cycle=100)
        door.plant(door.flip(name, 1000, 0), run=1, cycle=10**6)
        changed = image.copy()
        changed[39] ^= np.uint64(1)
        np.testing.assert_array_equal(use(device, image), changed + np.uint64(1))
        np.testing.assert_array_equal(use(device, image), image + np.uint64(1))
        assert door.planted == 1
        door.plant(("restart", int(Restart.BUTTON)), byte=300)
        with pytest.raises(DeviceRestarted):
            device.write(1000, random_words(300))
        device.reopen()
        door.plant(("die",), run=1, cycle=50)
        with pytest.raises(LinkError, match="Lost"):
            use(device, image)


def test_memory_is_lost_in_part(board):
    """By a restart that calibrates it anew, not by one that ends a run; or at once."""
    name, words = arrays(board), random_words(4096, 3)
    with board.door.copy() as copy, Device(copy.url, timeout=2) as device:
        copy.door.load(name, words)
        copy.door.forget(name)
        device.restart(Restart.ABORT)
        np.testing.assert_array_equal(device.read(0, 4096), words)
        for lose in (lambda: device.restart(Restart.HOST), copy.door.decay):
            copy.door.load(name, words)
            lose()
            assert 128 <= (device.read(0, 4096) != words).sum() <= 256
