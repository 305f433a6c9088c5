"""Runs on a device: warm-up, repeats, sums, and what ends a measurement."""

from contextlib import contextmanager, nullcontext
import time

import numpy as np
import pytest

from gen.device.check import CheckFailed
from gen.device.port import LinkError
from gen.device.ring import Ring
from gen.measurement.runs import check_sums, Runs, TIMES
from gen.meter.base import MeterError
from hw.config import RECORD_WORDS
from hw.register import Counter
from model.error import VerificationFailed
from tests.faults.known_board import IMAGE_CYCLES


def test_counters_are_the_sum_of_single_runs(bench, case):
    _, program, images, results = case
    runs = bench.measure()
    assert isinstance(runs, Runs)
    assert len(runs.runs) == 3 and runs.images == runs.compared == 6 and runs.warm_up == 0
    for run in runs.runs:
        assert run.images == 2 and run.cycles == IMAGE_CYCLES
        assert run.image_cycles.tolist() == [IMAGE_CYCLES] * 2
        assert run.counters["CYCLES"] == 2 * IMAGE_CYCLES
        assert run.counters["DESCRIPTORS"] == 2 * len(program.descriptors)
        assert 0 < run.busy_s <= run.seconds
    assert sum(run.busy_s for run in runs.runs) <= bench.watch.busy_s
    assert runs.link_errors == 0 and not runs.doubtful
    assert bench.board.starts == 3
    assert runs.way == ("2 images back to back for each start of the core, from a ring of 2 in the "
                        "device's memory")
    # The log of the last image, from its own beginning.
    assert np.array_equal(runs.records, list(results.values())[-1][1])


def room_for(image, *, images, results):
    """Words of a memory that has room for the program, and a ring of these."""
    each = image.result_words + RECORD_WORDS
    return (image.memory_words + images * image.image_words + results * each
            + RECORD_WORDS * (image.descriptors + 1))


def test_ring_is_read_again_and_again(bench, case):
    """More images than there are pictures: said, and each result that is left is compared."""
    runs = bench.measure(back_to_back=15, repeats=2)
    assert bench.board.starts == 2 and runs.images == runs.compared == 32
    assert runs.way.endswith("from a ring of 2 in the device's memory that is read again and "
                             "again, 8 times")
    assert runs.runs[0].counters["CYCLES"] == 16 * IMAGE_CYCLES
    network, _, images, _ = case
    assert np.array_equal(runs.classes, network.run(images)["logits"].reshape(2, -1).argmax(axis=1))


def test_results_that_are_overwritten_are_not_counted(bench):
    """Memory for two images and three results."""
    bench.says(memory_words=room_for(bench.session.image, images=2, results=3))
    runs = bench.measure(back_to_back=6, repeats=1)
    assert (runs.images, runs.compared) == (6, 3)


def test_images_of_several_rings(bench):
    """Memory for one image: a ring for each, and a run is all of them."""
    bench.says(memory_words=room_for(bench.session.image, images=1, results=2))
    runs = bench.measure(times=2, back_to_back=8, repeats=2)
    assert bench.board.starts == 8 and runs.images == runs.compared == 16
    assert runs.runs[0].counters["IMAGES"] == 8
    assert runs.way.startswith("2 images back to back for each start of the core, from a ring of 1")


def test_without_rings(bench):
    """The host starts every batch, and that is said; the sums are the same."""
    with_rings = bench.measure(repeats=1)
    bench.says(capabilities=frozenset())
    runs = bench.measure(repeats=1)
    assert runs.way == ("2 images for each start of the core, by the host: the device has no ring "
                        "of images, or no room for one")
    assert runs.runs[0].counters == with_rings.runs[0].counters
    assert np.array_equal(runs.classes, with_rings.classes)
    assert np.array_equal(runs.records[::2], with_rings.records[::2])
    # As its beginning is not known, its first descriptor stands for it.
    assert int(runs.records[1]) & 0xFFFFFFFF == 0
    assert not len(runs.image_cycles) and runs.compared == 2


@pytest.mark.parametrize("word, flip", [(0, 1), (0, 1 << 33), (1, None)])
def test_wrong_record(bench, word, flip):
    """Of another run, with an error, or of the end of the run before: nothing is measured."""
    def spoil(device, slot, place):
        if slot == 1:
            if flip is None:
                device.memory[place + word] = device.memory[place + word - 2]
            else:
                device.memory[place + word] ^= np.uint64(flip)

    bench.core.after_record = spoil
    with pytest.raises(LinkError, match="the results are void"):
        bench.measure()


def test_image_that_changed_in_memory(bench):
    """It is found before it is run again."""
    place = bench.session.image.memory_words

    def look():
        bench.board.memory[place + 1] ^= np.uint64(1)

    with pytest.raises(CheckFailed, match=f"1 of .* words differ, the first at {place + 1} "):
        bench.measure(look=look)


def test_ring_against_single_runs(bench, case):
    said = check_sums(bench.session, case[2], timeout_s=5)
    exact = [name.name for name in Counter if not name.name.startswith(TIMES)]
    assert said == ("a ring of 2 images against 2 single runs: the same results, and the same sums "
                    f"of {len(exact)} counters of work; 8000 cycles against 8000 (+0.000 %)")
    assert bench.board.starts == 3


@pytest.mark.parametrize(("name", "change", "equal"), [
    ("READ_WORDS", 1, False), ("WRITE_WORDS", -2, True), ("WRITE_WORDS", -3, False),
    ("WRITE_WORDS", 4, True), ("WRITE_WORDS", 5, False)])
def test_counter_of_a_ring(bench, case, monkeypatch, name, change, equal):
    """The last two words written of each start may be missing, in the ring or in both single
    runs."""
    run, starts = Ring.run, []

    def changed(ring, **options):
        result = run(ring, **options)
        if not starts:
            result.counters[name] += change
        starts.append(ring)
        return result

    monkeypatch.setattr(Ring, "run", changed)
    with nullcontext() if equal else pytest.raises(VerificationFailed, match=f"{name} of a ring"):
        check_sums(bench.session, case[2], timeout_s=5)


@pytest.mark.parametrize("counter", ["SPIKE_EVENTS", "READ_WORDS", "Z_SATURATED"])
def test_ring_whose_counters_are_no_sum(bench, case, counter):
    def spoil(device, slot, place):
        if slot == 1:       # only a run of a ring has a second slot
            device.counters[Counter[counter]] += 1

    bench.core.after_record = spoil
    with pytest.raises(VerificationFailed, match=f"^{counter} of a ring of 2 images is 1, and 0 in "
                                                 "as many single runs: nothing was measured"):
        check_sums(bench.session, case[2], timeout_s=5)


def test_ring_with_another_result(bench, case):
    bench.core.wrong_run = lambda run: run == 3
    with pytest.raises(VerificationFailed, match="^Image 1 has another result in a ring of 2 than"):
        check_sums(bench.session, case[2], timeout_s=5)


def test_busy_line(bench):
    """The pin of a simulated meter is high exactly while the core runs."""
    bench.measure(repeats=1)
    starts = bench.board.starts
    assert bench.levels == [1, 0] * starts and starts == 1


def test_for_a_time(bench):
    """However fast this machine is."""
    begun = time.monotonic()
    runs = bench.measure(repeats=1, seconds=0.3, warm_up_s=0.2)
    assert time.monotonic() - begun >= 0.5
    assert runs.warm_up >= 2 and runs.images == 2 * len(runs.runs)


def test_running_is_what_counts(bench):
    """The warm-up lies before the phase."""
    seen = []

    @contextmanager
    def phase():
        seen.append(("begin", bench.board.starts))
        yield
        seen.append(("end", bench.board.starts))

    runs = bench.measure(begin=phase, warm_up_s=0.05)
    (_, before), (_, after) = seen
    assert before == after - 3 > 0 and runs.warm_up == 2 * before


def test_wrong_result(bench):
    bench.core.wrong_run = lambda run: run > 2
    with pytest.raises(VerificationFailed, match="^2 of 2 results differ from the integer model, "
                                                 "the first is of image 0: nothing was measured"):
        bench.measure()


def test_meter_that_goes(bench):
    def look():
        if bench.board.starts > 1:
            raise MeterError("usb: the FNB58 is gone; connect it again")

    with pytest.raises(MeterError, match="is gone"):
        bench.measure(look=look)
