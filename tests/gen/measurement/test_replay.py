"""The board that replays recorded cycles, through the host's own code."""

import json
import time

import numpy as np
import pytest

from gen.device.device import Device, RunAborted
from gen.device.ring import run_ring
from gen.device.session import Session
from gen.measurement.replay import read_record, replaying
from model.error import InputError


CYCLES = (400_000, 500_000, 300_000)


@pytest.fixture
def content(design):
    """Of a record: three images of the case."""
    return {
        "equal": True, "model": "random", "network_digest": design.network.digest(),
        "memory": "SDRAM at 125 MHz, its twin", "config": design.config.to_dict(),
        "figures": {
            "cycles": list(CYCLES), "spike_events": [70, 80, 90],
            "counters": {"CYCLES": 300_000, "IMAGES": 1, "READ_WORDS": 11, "U_SATURATED": 30,
                         "DESCRIPTORS": len(design.program.descriptors)},
            "layer_cycles": dict.fromkeys(design.prediction.layers, 10)}}


@pytest.fixture
def record(content, design, tmp_path):
    def read(**changes):
        path = tmp_path / "verify-random.json"
        path.write_text(json.dumps({**content, **changes}))
        return read_record(path, design)

    return read


def test_as_recorded(design, record, case):
    """Each run takes its picture's cycles, in the record and in time; results are the integer
    model's; counters are sums."""
    found, (network, _, images, _) = record(), case
    assert found.name == "verify-random.json" and found.memory == "SDRAM at 125 MHz, its twin"
    with Device(replaying(design, found, images)) as device:
        session = Session(device, design.image)
        session.load()
        session.check()
        started = time.monotonic()
        ring = run_ring(session, images, 6, timeout=9, interval=0)
        seconds = time.monotonic() - started
    assert ring.cycles.tolist() == [400_000, 500_000] * 3
    assert seconds >= sum(ring.cycles) / design.config.clock_hz == 3 * 900_000 / 80e6
    wanted = network.run_batched(images, keep=("logits_acc",))["logits_acc"]
    ring.check(wanted.reshape(2, -1))
    assert ring.counters["SPIKE_EVENTS"] == 3 * 70 + 3 * 80
    assert ring.counters["READ_WORDS"] == 66 and ring.counters["STALL_POOL_ARRAY"] == 0
    assert ring.counters["U_SATURATED"] == 180
    assert not ring.doubtful


def test_single_runs(design, record, case):
    """Of one image after the other, without a ring."""
    _, _, images, _ = case
    with Device(replaying(design, record(), images)) as device:
        session = Session(device, design.image)
        session.load()
        counters = [session.run(images[[number]], timeout=9)[2] for number in (0, 1, 0)]
    assert [one["CYCLES"] for one in counters] == [400_000, 500_000, 400_000]


def test_image_that_is_not_known_has_no_result(design, record, case):
    network, _, images, _ = case
    with Device(replaying(design, record(), images[:1])) as device:
        session = Session(device, design.image)
        session.load()
        acc, _, _ = session.run(images[1:], timeout=9)
        assert (acc != network.run(images[1:])["logits_acc"].reshape(1, -1)).any()


def test_more_images_than_cycles_are_recorded(design, record, content, case):
    figures = content["figures"] | {"cycles": [400_000], "spike_events": [70]}
    _, _, images, _ = case
    with Device(replaying(design, record(figures=figures), images)) as device:
        session = Session(device, design.image)
        session.load()
        assert run_ring(session, images, 2, timeout=9, interval=0).cycles.tolist() == [400_000] * 2


def test_run_that_lasts_is_not_a_hung_one(design, record, content, case):
    """The watchdog is set as on a board, and counts nothing here; the host's time-out ends it."""
    _, _, images, _ = case
    figures = content["figures"] | {"cycles": [1 << 31], "spike_events": [70]}
    line = replaying(design, record(figures=figures), images)
    with Device(line) as device:
        session = Session(device, design.image)
        session.load()
        with pytest.raises(RunAborted, match="still busy after 0.2 s, 0 images done: the run was"):
            session.run(images, timeout=0.2)
        assert line.model.restarts == 1


def spoilt(content, *path, value):
    """The content with a value in another place."""
    content = json.loads(json.dumps(content))
    place = content
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return content


@pytest.mark.parametrize("path, value, message", [
    (("equal",), False, "it does not say that the forms are equal"),
    (("network_digest",), "00", "it is of another network ('random')"),
    (("config",), None, "it has no configuration, or no figures"),
    (("config", "clock_hz"), 1, "its clock_hz is 1, not 80000000"),
    (("config", "memory"), "sdram", "its memory is 'sdram', not 'onchip'"),
    (("config", "core", "queue_depth"), 8, "its core has another configuration"),
    (("config", "core", "colour"), 8, "unexpected keyword argument 'colour'"),
    (("figures", "cycles"), [], "its cycles must be a list of counts"),
    (("figures", "cycles"), [1, -1, 1], "its cycles must be a list of counts"),
    (("figures", "cycles"), [1, 2**32, 1], "its cycles must be a list of counts"),
    (("figures", "spike_events"), [1], "it has not every figure of every image and layer"),
    (("figures", "counters"), {"NONE": 1}, "its counters must be counts by their names"),
    (("figures", "counters", "DESCRIPTORS"), 1, "its program has 1 descriptors, this one "),
    (("figures", "layer_cycles"), {}, "it has not every figure of every image and layer"),
])
def test_records_of_something_else(record, content, path, value, message):
    with pytest.raises(InputError) as error:
        record(**spoilt(content, *path, value=value))
    assert message in str(error.value) and "\n" not in str(error.value)
    assert "make one with: qsdt verify --forms iss,rtl" in str(error.value)


def test_files_that_are_none(design, tmp_path):
    for text, message in (("{", "is no record"), ("[]", "is no record"), ("[" * 9000, "is no rec")):
        (tmp_path / "f.json").write_text(text)
        with pytest.raises(InputError, match=message):
            read_record(tmp_path / "f.json", design)
    with pytest.raises(InputError, match="none.json: No such file or directory$"):
        read_record(tmp_path / "none.json", design)


def test_images_are_left_as_they_are(design, record, case):
    before = case[2].copy()
    replaying(design, record(), case[2])
    np.testing.assert_array_equal(case[2], before)
