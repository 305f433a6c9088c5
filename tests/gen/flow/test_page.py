import json
from pathlib import Path
import re

import pytest

from gen import report as command
from gen.flow import page
from model.error import InputError


RESULTS = Path(__file__).parents[3] / "docs" / "results"

LAYOUT = {
    "schema": 1, "grid": [20, 10],
    "blocks": {"array": {"comb": [1, 2, 8, 2, 2, 8], "ff": [1, 2, 3]},
               "load_queue": {"comb": [5, 5, 4]}, "store_queue": {"ff": [5, 6, 4]},
               "memory": {"ebr": [9, 9, 2]}, "dust$1": {"ff": [0, 0, 1]}},
    "paths": [{"clock": "clk", "achieved": 93.4, "constraint": 80.0, "ns": 10.7, "steps": [
        {"type": "clk-to-q", "ns": 0.5, "cell": "a<b>", "block": "array", "x": 1, "y": 2,
         "port": "Q"},
        {"type": "routing", "ns": 10.0, "cell": "m", "block": "memory", "x": 9, "y": 9,
         "port": "A", "net": "n"},
        {"type": "setup", "ns": 0.2, "cell": "m", "block": "memory", "x": 9, "y": 9,
         "port": "A"}]}],
}


@pytest.fixture
def report():
    return json.loads((RESULTS / "build-qsdt_nano.json").read_text())


def text_of(html):
    html = re.sub(r"<(style|title)[^>]*>.*?</\1>", "", html, flags=re.DOTALL)
    return re.sub(r"<[^>]+>", " ", html)


@pytest.mark.parametrize("layout", [None, LAYOUT])
def test_figures_of_the_report_stand_on_the_page(report, layout):
    html = page.render_page(report, layout)
    text = text_of(html)
    for key in ("cycles", "comb", "ff", "ebr", "dsp"):
        assert f"{report[key]['value']:,}" in text
    assert f"{report['fmax_mhz']['value']:.2f}" in text
    for name, digest in report["digests"].items():
        assert name in text and digest in text
    for layer in report["layers"]:
        if layer["cycles"]["value"] > 4000:
            assert layer["name"] in text


def test_page_loads_nothing(report):
    html = page.render_page(report, LAYOUT)
    assert not re.search(r"https?://|src=|@import|url\(", html)
    assert "<script" not in html


def test_what_comes_from_outside_is_escaped(report):
    report["model"] = "<img onerror=x>"
    html = page.render_page(report, LAYOUT)
    assert "<img" not in html
    assert "a&lt;b&gt;" in html


def test_stages_without_a_route(report):
    report = {key: value for key, value in report.items()
              if key not in ("fmax_mhz", "comb", "ff", "ebr", "dsp")
              and not key.startswith("seconds.")}
    report |= {"until": "config", "clocks": [], "resources": [], "seeds": [], "peak_mb": {},
               "tools": {}, "skip_verify": True, "seed": None, "weights": "synthetic"}
    text = text_of(page.render_page(report))
    assert "Not verified" in text and "synthetic" in text
    assert "need a routed design" in text
    assert "qsdt verify --board ulx3s-85f --model qsdt_nano" in text


def test_blocks_are_put_together():
    blocks = page._blocks(LAYOUT)
    assert blocks["queues"] == {"comb": 4, "ff": 4}
    assert blocks["other"] == {"ff": 1}
    boxes = page._treemap([("a", 3.0), ("b", 2.0), ("c", 1.0)], 0, 0, 60, 10)
    assert [box.name for box in boxes] == ["a", "b", "c"]
    assert [round(box.width * box.height) for box in boxes] == [300, 200, 100]


def test_every_tile_is_drawn_once():
    drawn = [place for part in page._floorplan(LAYOUT, page._blocks(LAYOUT))
             for place in part["tiles"]]
    assert sorted(drawn) == [(0, 0), (1, 2), (2, 2), (5, 5), (5, 6), (9, 9)]


def test_lane_use_adds_up(report):
    for row in report["layers"]:
        row["full lanes"] = {"value": row["array"]["value"] // 2, "tag": "cost-model"}
    parts = page._lane_use(report)
    total = sum(row["cycles in RTL"]["value"] for row in report["layers"])
    assert sum(part["cycles"] for part in parts) == pytest.approx(total, abs=2)
    assert sum(part["share"] for part in parts) == pytest.approx(1)


def test_command(report, tmp_path, capsys):
    (tmp_path / "report.json").write_text(json.dumps(report))
    (tmp_path / "layout.json").write_text(json.dumps(LAYOUT))
    assert command.cli([str(tmp_path)]) == 0
    assert "qsdt_nano on ulx3s-85f" in capsys.readouterr().out
    assert "Floorplan" in (tmp_path / "report.html").read_text()
    assert (tmp_path / "report.md").read_text().startswith("# qsdt_nano on ulx3s-85f")


@pytest.mark.parametrize("content,message", [
    (None, "No such file"), ("", "not JSON"), ("[]", "must hold an object"),
    ("{}", "Report key 'schema' is missing"), ("[" * 100_000, "not JSON"),
])
def test_wrong_report(tmp_path, content, message):
    if content is not None:
        (tmp_path / "report.json").write_text(content)
    with pytest.raises(InputError, match=message):
        page.read_report(tmp_path)


RECORD = RESULTS / "verify-nano.json"


def test_estimate_stands_apart(report):
    """In a table of its own, with ranges; no measured figure has its tag."""
    html = page.render_page(report)
    before, section = html.split("<h2>Power, before there is a board")
    section, after = section.split("<h2>")[0], "<h2>".join(section.split("<h2>")[1:])
    assert section.count(" to ") > 10 and "Virtex-II by Shang" in section
    assert ">estimate<" in section and ">estimate<" not in before + after
    assert "Power, before" not in page.render_page({**report, "layers": []})


def test_command_estimates(report, tmp_path, capsys):
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert command.cli([str(tmp_path), "--activity", str(RECORD), "--out",
                        str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "running: " in text and "(estimate)" in text and "(rtl-sim)" in text
    found = json.loads((tmp_path / "out" / "estimate.json").read_text())
    assert found["tag"] == "estimate" and found["activity"]["tag"] == "rtl-sim"
    assert "energy" not in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.parametrize("record, change, message", [
    ("none.json", {}, "none.json: No such file or directory; make it with gen.verify"),
    ("verify-qsdt_s-iss.json", {}, "has no counters of a whole image in RTL"),
    ("verify-qsdt_t.json", {}, "is of another network (qsdt_t) than the build (qsdt_nano)"),
    ("verify-nano.json", {"part": "XC7A35T"}, "--activity needs a routed design"),
])
def test_wrong_activity(record, change, message, report, tmp_path, capsys):
    (tmp_path / "report.json").write_text(json.dumps({**report, **change}))
    assert command.cli([str(tmp_path), "--activity", str(RESULTS / record)]) == 1
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
