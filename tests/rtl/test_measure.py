"""gen.measure on the virtual board: the whole measurement without a board."""

import csv
import json

import pytest

from gen import measure
from gen.measurement.write import FILES


pytestmark = pytest.mark.rtl


def test_measures_the_virtual_board(request, tmp_path, capsys):
    # The simulator of test_run.py.
    small = tmp_path / "small.yaml"
    small.write_text("core: {rows: 16, load_rows: 8, neuron_lanes: 4}\n")
    cache, out = request.config.cache.mkdir("rtl"), tmp_path / "out"
    assert measure.cli(["--board", "virtual", "--model", "qsdt_nano", "--count", "1", "--repeats",
                        "1", "--config", str(small), "--cache", str(cache), "--meter",
                        "simulated:idle=1,busy=1.5", "--unconfigured", "--idle", "0.5", "--out",
                        str(out)]) == 0
    assert {path.name for path in out.iterdir()} == set(FILES)
    said = capsys.readouterr().out.splitlines()
    found = json.loads((out / "measure.json").read_text())
    figures, energy = found["figures"], found["energy"]
    assert figures["images"] == {"value": 1, "tag": "rtl-sim", "text": "in 1 runs, 1 for each "
                                 "start of the core; 1 before as warm-up"}
    # The layers make up the image but for its last record.
    with open(out / "runs.csv", newline="") as file:
        cycles = {int(row["CYCLES"]) for row in csv.DictReader(file)}
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
