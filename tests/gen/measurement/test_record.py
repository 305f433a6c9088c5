"""Records that can be compared: what is read, and what is refused."""

import json
from pathlib import Path

import pytest

from gen.measurement.record import flat, read_record
from model.error import InputError


RESULTS = Path(__file__).parents[3] / "docs" / "results"


def test_build():
    path = RESULTS / "build-qsdt_t.json"
    report = json.loads(path.read_text())
    record = read_record(path)
    assert (record.kind, record.model, record.board) == ("build", "qsdt_t", "ulx3s-85f")
    for name, key in (("cycles_per_image", "cycles"), ("comb", "comb"),
                      ("cycles_per_image predicted", "predicted_cycles")):
        assert record.figures[name].value == report[key]["value"]
        assert record.figures[name].tag == report[key]["tag"]
    for clock in report["clocks"]:
        assert record.figures[f"MHz of {clock['name']}"].value == clock["achieved"]
    assert len(record.layers) == len(report["layers"])
    assert record.layers["downsample1_1.encode_conv"].tag == "rtl-sim"
    assert record.settings["core.rows"] == "64" and record.settings["clock_hz"] == "80000000"
    assert "synthetic" in record.stamps[0]
    assert record.network == report["digests"]["network"]


def test_measurement(written):
    folder, content = written()
    record = read_record(folder)
    assert record == read_record(folder / "measure.json")
    assert record.kind == "measurement" and record.network == content["network"]
    for name, figure in content["figures"].items():
        assert record.figures[name].value == figure["value"]
        assert record.figures[name].tag == figure["tag"]
    assert record.figures["accuracy"].value == 0.5
    energy = content["energy"]
    found = record.figures["joules_per_image"]
    assert (found.value, found.tag, found.error) == (
        energy["joules_per_image"], "board", energy["error_joules_per_image"])
    assert record.figures["watts idle"].value == energy["phases"]["idle"]["watts"]
    assert record.settings["instrument"] == "instrument of the tests"
    assert list(record.layers) == [row["name"] for row in content["layers"]]


def test_measurement_without_a_meter(written):
    folder, _ = written(trace=None, accuracy=None)
    record = read_record(folder)
    assert not {name for name in record.figures if "watts" in name or "joules" in name}
    assert "accuracy" not in record.figures and "instrument" not in record.settings


def test_flat():
    assert dict(flat({"a": {"b": 1, "c": True}, "d": None, "e": "x"})) == {
        "a.b": "1", "a.c": "true", "d": "null", "e": "x"}


@pytest.mark.parametrize("name, content, message", [
    ("none", None, "none: No such file or directory; name a folder of qsdt measure or"),
    ("a.json", "{", "a.json: not JSON, or not whole"),
    ("a.json", "[]", "a.json: must hold an object, not list"),
    ("a.json", "{}", "a.json: is neither a measurement (measure.json) nor a build (report.json)"),
    ("a.json", '{"until": "rtl"}', "a.json: Report key 'schema' is missing; build again"),
    ("a.json", '{"figures": {}, "checks": []}', "a.json: not whole ('accuracy'); measure again"),
    ("a.json", '{"figures": {"x": 3}, "checks": []}', 'a.json: x must be {"value", "tag"}'),
    ("a.json", '{"figures": {"x": {"value": NaN, "tag": "board"}}, "checks": []}',
     "with a finite number"),
    ("a.json", '{"figures": [], "checks": []}', "a.json: not whole"),
])
def test_refused(name, content, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path(name).write_text(content)
    with pytest.raises(InputError) as refused:
        read_record(Path(name))
    assert str(refused.value).startswith(message) or message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_folder(tmp_path):
    with pytest.raises(InputError, match=r"holds neither measure\.json nor report\.json"):
        read_record(tmp_path)
    for name in ("measure.json", "report.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match="holds a measurement and a build; name"):
        read_record(tmp_path)
