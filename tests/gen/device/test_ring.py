"""Rings on a device in software that knows the results; in RTL: tests/rtl/test_ring.py."""

from types import SimpleNamespace

import numpy as np
import pytest

from gen.device.check import CheckFailed
from gen.device.device import Device
from gen.device.link import DeviceRestarted
from gen.device.port import LinkError
from gen.device.ring import run_ring, Totals
from hw.register import Counter, Register, Restart
from tests.faults.known_board import (
    board_of,
    case_of,
    IMAGE_CYCLES,
    known_results,
    session_on,
)
from tests.gen.device.software_device import POINTS, SoftwareDevice, SoftwareTransport
from tests.gen.random_cases import compile_case


@pytest.fixture(scope="module")
def case():
    return case_of()


@pytest.fixture
def ring(case):
    """A board, its core, a session, and what is right."""
    network, _, images, _ = case
    board, core = board_of(case)
    wanted = network.run_batched(images, keep=("logits_acc",))["logits_acc"]
    return SimpleNamespace(board=board, core=core, session=session_on(board, case),
                           images=images, wanted=wanted.reshape(len(images), -1))


@pytest.mark.parametrize("runs, results, kept", [
    (7, None, 7), (7, 3, 3), (1, None, 1), (5, 5, 5), (4, 1, 1), (3, 65535, 3)])
def test_results(ring, runs, results, kept):
    seen = []
    found = run_ring(ring.session, ring.images, runs, timeout=9, results=results, interval=0,
                     progress=seen.append)
    assert found.runs.tolist() == list(range(runs - kept + 1, runs + 1))
    assert found.pictures.tolist() == [(run - 1) % 2 for run in found.runs]
    found.check(ring.wanted)
    np.testing.assert_array_equal(found.acc, ring.wanted[found.pictures])
    np.testing.assert_array_equal(found.ends, found.runs * IMAGE_CYCLES)
    assert found.cycles.tolist() == [IMAGE_CYCLES] * (kept if kept == runs else kept - 1)
    assert found.counters["IMAGES"] == runs == seen[-1]
    assert found.counters["CYCLES"] == runs * IMAGE_CYCLES and not found.doubtful
    with pytest.raises(CheckFailed, match="^Run .* gave another result than the integer model"):
        found.check(ring.wanted + 1)


def test_single_runs_follow(ring):
    """A run without rings after one with them: the device's register is put back."""
    run_ring(ring.session, ring.images, 3, timeout=9, interval=0)
    assert ring.board.registers[Register.RING]
    acc, _, _ = ring.session.run(ring.images, timeout=9)
    np.testing.assert_array_equal(acc, ring.wanted)
    assert ring.board.registers[Register.RING] == 0


def test_ring_of_another_program(case):
    """What a program before has left in the register is known from opening on."""
    board, _ = board_of(case)
    board.registers[Register.RING] = 0x30002
    board.memory[:] = 0
    session = session_on(board, case)
    session.run(case[2], timeout=9)
    assert board.registers[Register.RING] == 0


@pytest.mark.parametrize("point", POINTS)
def test_restarts(ring, point):
    """At any request: the right result or an error, and the next ring is right."""
    ring.session.check()
    first = ring.board.requests
    run_ring(ring.session, ring.images, 4, timeout=9, interval=0)
    requests = ring.board.requests - first
    errors = 0
    for at in range(1, requests + 1, 2):
        ring.board.restart_at = ring.board.requests + at, point, Restart.ABORT
        try:
            found = run_ring(ring.session, ring.images, 4, timeout=9, interval=0)
        except LinkError as error:
            assert isinstance(error, DeviceRestarted) and error.cause == Restart.ABORT
            errors += 1
        else:
            found.check(ring.wanted)
        ring.board.restart_at = None
        try:
            ring.session.recover()              # a restart with the last answer comes late
        except DeviceRestarted:
            ring.session.recover()
        run_ring(ring.session, ring.images, 4, timeout=9, interval=0).check(ring.wanted)
    assert errors >= requests // 2 - 2


def test_hung_and_watchdog(ring):
    ring.core.hangs = True
    with pytest.raises(DeviceRestarted) as error:
        run_ring(ring.session, ring.images, 4, timeout=99, interval=0)
    assert error.value.cause == Restart.WATCHDOG
    ring.core.hangs = False
    run_ring(ring.session, ring.images, 4, timeout=9, interval=0).check(ring.wanted)


@pytest.mark.parametrize("word, flip, match", [
    (0, 1, "^Run 3 of 4 left no record of its own in the device's memory"),
    (0, 1 << 33, "^Run 3 of 4 left no record of its own"),
    (1, None, "^Two runs ended in the same cycle")])
def test_wrong_record(ring, word, flip, match):
    def spoil(device, slot, place):
        if slot == 2:
            if flip is None:
                device.memory[place + word] = device.memory[place + word - 2]
            else:
                device.memory[place + word] ^= np.uint64(flip)
    ring.core.after_record = spoil
    with pytest.raises(LinkError, match=match):
        run_ring(ring.session, ring.images, 4, timeout=9, interval=0)


@pytest.mark.parametrize("counter, value, match", [
    ("ERRORS", 1, "^The core reports memory collisions"),
    ("DESCRIPTORS", 5, "^The device did not make all runs to their end: 4 of 4")])
def test_wrong_counters(ring, counter, value, match):
    def spoil(device, slot, place):
        device.counters[Counter[counter]] = value
    ring.core.after_record = spoil
    with pytest.raises(LinkError, match=match):
        run_ring(ring.session, ring.images, 4, timeout=9, interval=0)


def test_out_of_range(ring):
    for options, match in (({"runs": 0}, "^Runs must be 1..65535, not 0: start again for more$"),
                           ({"runs": 65536}, "^Runs must be"),
                           ({"runs": 3, "results": 0}, "^Results must be 1..65535, not 0$"),
                           ({"runs": 3, "images": ring.images[:0]}, "^Images must be 1..65535")):
        with pytest.raises(ValueError, match=match):
            run_ring(ring.session, **{"images": ring.images, "timeout": 1} | options)
    many = np.concatenate([ring.images] * 2000)
    with pytest.raises(LinkError, match="no room for a ring of 4000 images: [0-9]+ words needed, "
                       "[0-9]+ free; use fewer images, or a build with memory: sdram$"):
        run_ring(ring.session, many, 3, timeout=1)


def test_device_without_rings():
    model = SoftwareDevice()
    model.constant[Register.CAPABILITIES] = 0
    with Device(SoftwareTransport(model)) as device:
        assert device.info().capabilities == frozenset()
        device.start(count=2)
        device.wait(timeout=1)
        with pytest.raises(LinkError, match="^The device has no rings of images and results: "):
            device.start(count=2, ring={"images": 1})


def test_ring_fields():
    model = SoftwareDevice()
    with Device(SoftwareTransport(model)) as device:
        device.start(count=2, ring={"images": 3, "results": 65535})
        assert model.registers[Register.RING] == 0xFFFF_0003
        with pytest.raises(ValueError, match="^Fields must be images of 16 bits, results "
                           "of 16 bits, not results = 65536$"):
            device.start(count=2, ring={"results": 65536})


def test_totals_count_on():
    """Over many wraps of 32 bits; what may have grown by 2**32 between two looks is said."""
    rng = np.random.default_rng(0)
    names = [counter.name for counter in Counter]
    true = dict.fromkeys(names, 0)
    before = {name: 7 if name == "U_SATURATED" else 123 for name in names}
    totals = Totals(before, lanes=64)
    for _ in range(300):
        cycles = int(rng.integers(0, 1 << 24))
        for name in names:
            true[name] += int(rng.integers(0, 40000)) if name.endswith("SATURATED") else cycles
        true["ERRORS"] = 2
        totals.look({name: (value + 7) % (1 << 16) if name == "U_SATURATED"
                     else (value + 123) % (1 << 16) if name == "Z_SATURATED"
                     else value % (1 << 32) for name, value in true.items()})
        assert totals.counters == true
    assert true["CYCLES"] > 1 << 31 and not totals.doubtful
    totals.look({**dict.fromkeys(names, 0), "CYCLES": (true["CYCLES"] + (1 << 24)) % (1 << 32)})
    assert totals.doubtful == {"SPIKE_EVENTS", "EVENTS_DEPTHWISE", "EVENTS_ATTENTION",
                               "EVENTS_NEURON"}


def test_samples_of_several_images():
    """One result of two images; the device knows nothing of it but the words of a sample."""
    found, program = compile_case(3, time_steps=2)
    images = found.images(2)
    case = found.network, program, images, known_results(program, images)
    session = session_on(board_of(case, free=8192)[0], case)
    made = found.network.run(images, keep=("logits_acc", "logits"))
    wanted = made["logits_acc"].reshape(2, -1)
    acc, logits, _ = session.run(images, timeout=9)
    np.testing.assert_array_equal(acc, wanted)
    np.testing.assert_array_equal(logits, made["logits"])
    run_ring(session, images, 5, timeout=9, interval=0).check(wanted)
