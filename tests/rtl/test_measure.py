"""gen.measure on the virtual board: the whole measurement without a board."""

import csv
import json

import pytest

from gen import measure
from gen.measurement.runs import TIMES, UNCOUNTED
from gen.measurement.write import FILES
from hw.register import Counter


pytestmark = pytest.mark.rtl


def measured(request, tmp_path, *words):
    """measure.json of a measurement; the simulator is that of test_run.py."""
    out = tmp_path / "out"
    assert measure.cli(["--board", "virtual", "--config", "narrow.yaml", "--cache",
                        str(request.config.cache.mkdir("rtl")), "--out", str(out), *words]) == 0
    return json.loads((out / "measure.json").read_text())


def rows(tmp_path):
    with open(tmp_path / "out" / "runs.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_measures_the_virtual_board(request, tmp_path, capsys):
    found = measured(request, tmp_path, "--model", "qsdt_nano", "--count", "1", "--meter",
                     "simulated:idle=1,busy=1.5", "--unconfigured", "--idle", "0.5")
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(FILES)
    said = capsys.readouterr().out.splitlines()
    figures, energy = found["figures"], found["energy"]
    assert figures["images"] == {"value": 1, "tag": "rtl-sim", "text": "in 1 run: 1 image back "
                                 "to back for each start of the core, from a ring of 1 in the "
                                 "device's memory; 0 before as warm-up"}
    assert figures["images_compared"]["value"] == 1
    # The layers make up the image but for its last record.
    cycles = {int(row["CYCLES"]) for row in rows(tmp_path)}
    assert cycles == {figures["cycles_per_image"]["value"]}
    layers = sum(row["cycles"]["value"] for row in found["layers"])
    assert 0.99 * cycles.copy().pop() < layers <= cycles.pop()
    assert figures["core_errors"]["value"] == figures["link_errors"]["value"] == 0
    assert found["accuracy"]["value"] == 1.0
    # The meter is simulated, and its power known: busy while the core ran.
    assert energy["tag"] == "simulated" and energy["window"] == "edges of the marker"
    assert energy["phases"]["idle"]["watts"] == pytest.approx(1.0, rel=0.01)
    assert energy["phases"]["unconfigured"]["watts"] == pytest.approx(1.0, rel=0.01)
    assert 1.0 < energy["phases"]["running"]["watts"] <= 1.5 * 1.01
    assert any("The meter is simulated" in line for line in said)
    assert all("simulated" in line for line in said if " W " in line or " mJ " in line)
    for check in ("without a chip: nothing to calibrate", "have the right CRC, computed by the",
                  "a ring of 1 image against 1 single run: the same results, and the same sums of",
                  "1 result of 1 image as in the integer model, every one that was kept"):
        assert any(check in line for line in said), check


def test_ring_of_fewer_pictures(request, tmp_path):
    """Counters of nine images of one start, from a ring of three, are the sums of three starts, but
    for the times at which the memory refreshes; the command itself compares with single runs."""
    words = ["--model", "tiny_grey.yaml", "--count", "3"]
    found = measured(request, tmp_path, *words, "--back-to-back", "9")
    figures = found["figures"]
    assert figures["images"]["value"] == figures["images_compared"]["value"] == 9
    assert "from a ring of 3 in the device's memory that is read again and again, 3 times" in (
        figures["images"]["text"])
    assert figures["latency_ms"]["text"].startswith("median of 9 images by the board's cycle")
    ring, = rows(tmp_path)
    # The layers are those of the last image.
    layers = sum(row["cycles"]["value"] for row in found["layers"])
    assert layers == pytest.approx(figures["cycles_per_image"]["value"], rel=0.02)
    measured(request, tmp_path, *words, "--repeats", "3")
    single = rows(tmp_path)
    assert len(single) == 3
    for name in Counter.__members__:
        if not name.startswith(TIMES):
            lack = UNCOUNTED.get(name, 0)
            difference = sum(int(row[name]) for row in single) - int(ring[name])
            assert -3 * lack <= difference <= lack, name
    cycles = sum(int(row["CYCLES"]) for row in single)
    assert int(ring["CYCLES"]) == pytest.approx(cycles, rel=0.02)
    assert ring["ERRORS"] == "0"
