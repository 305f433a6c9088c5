"""gen.accelerator: batches, threads, lost boards and several boards; the boards are in software."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
import os
from pathlib import Path
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from gen import accelerator as module
from gen.accelerator import Accelerator, Pool
from gen.api import RunResult, samples
from gen.compile.package import ProgramImage
from gen.device.device import Device
from gen.device.port import LinkError
from hw.register import Register, Restart
from model.error import InputError, WeightsMismatch
from tests.faults.known_board import board_of, known_results
from tests.gen.device.software_device import SoftwareTransport
from tests.gen.random_cases import compile_case


ROOT = Path(__file__).resolve().parents[2]

COUNT = 6


@pytest.fixture(scope="module")
def case():
    found, program = compile_case(3)
    images = np.random.default_rng(1).integers(-128, 128, (COUNT, *found.network.input_shape),
                                               dtype=np.int8)
    return found.network, program, images, known_results(program, images)


@pytest.fixture(scope="module")
def wanted(case):
    network, _, images, _ = case
    return network.run_batched(images, keep=("logits_acc",))["logits_acc"].reshape(COUNT, -1)


class Plug(SoftwareTransport):
    """A transport that is lost once its board is unplugged."""

    def __init__(self, socket):
        super().__init__(socket.board)
        self._socket, self.port = socket, socket.name

    def write(self, data):
        self._socket.check(self.port)
        super().write(data)

    def read(self, timeout):
        self._socket.check(self.port)
        return super().read(timeout)


class Socket:
    """Where a board is plugged in; and no longer after so many more writes and reads."""

    def __init__(self, case, name):
        self.name, self.board, self.left = name, board_of(case)[0], None

    def check(self, port):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise LinkError(f"Lost {port} (unplugged?)")

    def connect(self):
        self.check(self.name)
        return Device(Plug(self), timeout=0.01)


@pytest.fixture
def boards(case, monkeypatch):
    """Sockets by port name, with a board in software each."""
    network, program, _, _ = case
    sockets = {name: Socket(case, name) for name in ("A", "B", "C")}

    @contextmanager
    def reachable(board, config, port, cache):
        yield sockets[port].connect

    monkeypatch.setattr(module, "reachable", reachable)
    monkeypatch.setattr(module, "bound_image", lambda design, folder: design.image)
    image = ProgramImage.of(program, model="random", network=network, predicted_cycles=9)
    design = SimpleNamespace(board=None, config=None, program=program, image=image, name="random",
                             network=network, folder="none")
    return design, sockets


@pytest.fixture
def single(boards):
    design, sockets = boards
    with Accelerator(design, device="A", patience=0) as found:
        yield found, sockets["A"]


def right(result, wanted):
    np.testing.assert_array_equal(result.acc, wanted)
    np.testing.assert_array_equal(result.classes, result.logits.argmax(axis=1))


def test_batches(case, wanted, single):
    found, socket = single
    images = case[2]
    right(found.run(images), wanted)
    starts = socket.board.starts
    classes = found.classify(images[:2])
    assert classes.dtype == np.int64 and classes.shape == (2,)
    assert socket.board.starts == starts + 1
    assert found.run(images).counters["IMAGES"] == COUNT
    assert found.checked[1].startswith("check after loading: ")


@pytest.mark.parametrize("change", [
    lambda images: images[0], lambda images: images[:0], lambda images: images[:, :, :-1],
    lambda images: images.astype(np.uint8), lambda images: images.astype(np.float32),
    lambda images: images.tolist()])
def test_wrong_images(case, single, change):
    found, socket = single
    starts = socket.board.starts
    with pytest.raises(InputError, match=r"^Images must be int8 of shape \(N, \d+, \d+, \d+\) with "
                                         r"N at least 1, in units of 1/48 .*, not \w+ of shape"):
        found.run(change(case[2]))
    assert socket.board.starts == starts


def test_submitted_batches_come_in_order(case, wanted, single):
    found, _ = single
    futures = [found.submit(case[2][[number]]) for number in range(COUNT)]
    for number, future in enumerate(futures):
        right(future.result(timeout=60), wanted[[number]])
    with pytest.raises(InputError, match="Images must be"):
        found.submit(case[2][0]).result(timeout=60)


def test_stream_takes_few_ahead(case, wanted, single):
    found, _ = single
    taken = []

    def batches():
        for number in range(COUNT):
            taken.append(number)
            yield case[2][[number]]

    for number, result in enumerate(found.stream(batches(), ahead=2)):
        assert len(taken) <= number + 3
        right(result, wanted[[number]])
    assert len(taken) == COUNT
    assert list(found.stream([])) == []
    with pytest.raises(InputError, match="ahead must be at least 1, not 0"):
        next(found.stream([case[2]], ahead=0))


def test_many_threads(case, wanted, single):
    found, _ = single

    def use(number):
        for image in range(COUNT):
            chosen = (number + image) % COUNT
            right(found.run(case[2][[chosen]]), wanted[[chosen]])
        return number

    with ThreadPoolExecutor(5) as threads:
        assert list(threads.map(use, range(5))) == list(range(5))


def test_closing_ends_what_waits(case, boards, monkeypatch):
    design, _ = boards
    begun, go = threading.Event(), threading.Event()
    found = Accelerator(design, device="A")
    run = found.run

    def slow(images):
        begun.set()
        assert go.wait(60)
        return run(images)

    monkeypatch.setattr(found, "run", slow)
    futures = [found.submit(case[2][:1]) for _ in range(3)]
    assert begun.wait(60)
    threading.Timer(0.05, go.set).start()
    found.close()
    assert isinstance(futures[0].result(timeout=1), RunResult)
    assert all(future.cancelled() for future in futures[1:])


@pytest.mark.parametrize("cause", [Restart.ABORT, Restart.BUTTON])
def test_a_restarted_board_is_an_error(case, wanted, single, cause):
    """Never a class; the next batch is right, also where the memory was lost."""
    found, socket = single
    socket.board.restart_at = socket.board.requests + 12, "after", cause
    with pytest.raises(InputError, match="^A restarted: .*; its results are void, run again$"):
        found.run(case[2])
    socket.board.restart_at = None
    right(found.run(case[2]), wanted)


@pytest.mark.parametrize("left", [0, 1, 7, 20])
def test_unplugged_and_plugged_in_again(case, wanted, single, left):
    found, socket = single
    socket.left = left
    for _ in range(2):
        with pytest.raises(InputError, match=r"^Lost A \(unplugged\?\)$"):
            found.run(case[2])
    socket.left = None
    socket.board.restart(Restart.CONFIGURATION)
    right(found.run(case[2]), wanted)


def test_another_board_is_plugged_in(case, boards):
    """It is refused, by its identity or configuration, until the right one is there."""
    design, sockets = boards
    design.image = replace(design.image, identity=0x5678, source="program.img")
    with Accelerator(design, device="A", patience=0) as found:
        for register in (Register.IDENTITY, Register.CONFIG):
            known = sockets["A"].board.constant[register]
            sockets["A"].left = 0
            with pytest.raises(InputError, match="Lost A"):
                found.run(case[2])
            sockets["A"].left = None
            sockets["A"].board.constant[register] = 0x1234567
            for _ in range(2):
                with pytest.raises(WeightsMismatch):
                    found.run(case[2])
            sockets["A"].board.constant[register] = known
            found.reconnect()
            assert len(found.run(case[2]).acc) == COUNT


def test_a_flipped_weight_while_it_was_away(case, wanted, single):
    found, socket = single
    found.reconnect()
    socket.left = 0
    with pytest.raises(InputError):
        found.run(case[2])
    socket.left = None
    socket.board.memory[5] ^= np.uint64(1)
    right(found.run(case[2]), wanted)


def test_retries(case, wanted, boards, caplog):
    design, sockets = boards
    with Accelerator(design, device="A", retries=2, patience=0) as found:
        sockets["A"].board.restart_at = (sockets["A"].board.requests + 12, "after",
                                         Restart.BUTTON)
        right(found.run(case[2]), wanted)
        message, = caplog.messages
        assert message.startswith("A restarted: ") and message.endswith("; trying again")


def test_a_board_that_comes_back_late(case, wanted, boards):
    design, sockets = boards
    with Accelerator(design, device="A", retries=1, patience=30) as found:
        sockets["A"].left = 0
        threading.Timer(0.8, setattr, (sockets["A"], "left", None)).start()
        right(found.run(case[2]), wanted)


@pytest.mark.parametrize("part", [None, 1, 4])
def test_pool(case, wanted, boards, part):
    design, sockets = boards
    accelerators = [Accelerator(design, device=name, patience=0) for name in sockets]
    with Pool(accelerators, part=part) as pool:
        right(pool.run(case[2]), wanted)
        right(pool.submit(case[2]).result(timeout=60), wanted)
        assert pool.run(case[2]).counters["IMAGES"] == COUNT
        assert any(line.startswith("B: check after loading") for line in pool.run(case[2]).checked)
    assert sum(socket.board.starts for socket in sockets.values()) >= 4


def test_a_board_without_work_waits_for_those_that_may_fail():
    """Two of three boards fail, the second while the third has nothing to do: it helps out."""
    def fails(part):
        raise InputError("unplugged")

    def fails_late(part):
        taken.set()
        assert go.wait(10)
        fails(part)

    def works(part):
        return RunResult(part[:, None], {"logits": part[:, None]}, {}, 0.0, [])

    taken, go = threading.Event(), threading.Event()
    shares = module._Shares(np.arange(2), 1)
    boards = [SimpleNamespace(name=str(number), run=run)
              for number, run in enumerate((fails, fails_late, works))]
    shares.work(boards[0])
    others = []
    for board in boards[1:]:
        others.append(threading.Thread(target=shares.work, args=[board]))
        others[-1].start()
        assert taken.wait(10)
    others[1].join(0.2)
    assert others[1].is_alive()
    go.set()
    for thread in others:
        thread.join(10)
    assert [result.acc.item() for result in shares.results()] == [0, 1]


def test_pool_goes_on_without_a_board(case, wanted, boards, caplog):
    design, sockets = boards
    accelerators = [Accelerator(design, device=name, patience=0) for name in sockets]
    with Pool(accelerators, part=1) as pool:
        sockets["B"].left = 9
        for _ in range(3):
            right(pool.run(case[2]), wanted)
        assert "B: Lost B (unplugged?)" in caplog.messages
        sockets["B"].left = None
        caplog.clear()
        right(pool.run(case[2]), wanted)
        assert not caplog.messages
        for socket in sockets.values():
            socket.left = 0
        with pytest.raises(InputError, match=r"^Lost [ABC] \(unplugged\?\)$"):
            pool.run(case[2])


def test_wrong_options(boards):
    design, _ = boards
    with pytest.raises(InputError, match="Unknown check 'all'"):
        Accelerator(design, check=["all"])
    with pytest.raises(InputError, match="must not be negative, not -1 and 10"):
        Accelerator(design, retries=-1)
    with pytest.raises(InputError, match="has no checks"):
        Accelerator(design, device="iss", check=["crc"])
    with pytest.raises(InputError, match="at least one accelerator"):
        Pool([])
    with pytest.raises(InputError, match="Name the board's serial port, such as /dev/ttyUSB0"):
        Accelerator.open(board="ulx3s", model="qsdt_nano")
    with pytest.raises(InputError, match="A port is for real boards, not for virtual"):
        Accelerator.open(board="virtual", model="qsdt_nano", port="/dev/ttyUSB0")


@pytest.mark.parametrize("ports", [[], ["--port", "iss", "--port", "iss"]])
def test_example(cache_home, ports):
    """Without a board; two simulators stand for two boards."""
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "classify_stream.py", "--count", "2",
         *(ports or ["--board", "iss"])],
        capture_output=True, text=True, timeout=600,
        env=os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(cache_home)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("a batch of 2: 2 as labelled\nbatch 0: classes [")


def test_open_in_the_simulator(cache_home, monkeypatch):
    """By names, as users do; two at once in a pool."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))
    images, labels = samples("qsdt_nano")
    with Pool.open(ports=["iss", "iss"], model="qsdt_nano") as pool:
        np.testing.assert_array_equal(pool.classify(images[:2]), labels[:2])
    with Accelerator.open(board="iss", model="qsdt_nano") as found:
        assert found.run(images[:1]).counters == {}
        found.reconnect()
