import copy
import json
import math

import pytest

from boards import find_board
from gen.flow import report
from gen.flow.route import RouteResult
from gen.flow.step import StepResult
from gen.flow.toolchain import Tool, Toolchain


def step(name, seconds, **data):
    return StepResult(name=name, digest="0" * 64, outputs={},
                      data={"seconds": seconds, "cpu_seconds": seconds, "peak_mb": 123.4, **data})


def tool(name):
    return Tool(name=name, origin="yowasp", version="1.2", command=(name,))


def make(until="bitstream", **changes):
    far = report.STAGES.index(until)
    routed = RouteResult(
        seed=2, config=None, report=None, log=None, layout=None,
        clocks={"clk": {"achieved": 84.2, "constraint": 80.0}},
        crossings=[{"from": "clk", "to": "sdram", "ns": 3.2, "start": "a", "end": "b"}],
        used={"comb": 41000, "ff": 30000, "ebr": 150, "dsp": 16}, utilization={},
        seeds=[{"seed": 1, "margin": 0.98, "seconds": 900.0},
               {"seed": 2, "margin": 1.0525, "seconds": 1000.0,
                "parts": {"draft": 600.0, "routing": 400.0}}],
        data={"seconds": 1900.0, "cpu_seconds": 1800.0, "peak_mb": 2000.0}, reused=False)
    arguments = {
        "board": find_board("ulx3s"), "model": "qsdt_nano", "until": until,
        "command": "python -m gen.build --board ulx3s --model qsdt_nano",
        "core_clock_hz": 80_000_000, "lanes": 1024,
        "cycles": report.measured(400_000, "cost-model"),
        "digests": {"config": "a" * 64, "verify": "b" * 64}, "skip_verify": False,
        "config": {"rows": 32}, "commit": "c" * 40,
        "layers": [{"name": "stem", "kind": "conv",
                    "cycles": report.measured(1000, "cost-model")},
                   {"name": "head", "cycles": report.measured(0.5, "cost-model")}],
        "toolchain": Toolchain(yosys=tool("yosys"), nextpnr=tool("nextpnr-ecp5"),
                               ecppack=tool("ecppack")),
        "rtl": step("rtl", 3, identity=0x1a2b3c4d) if far >= 1 else None,
        "synth": step("synth", 120) if far >= 2 else None,
        "routed": routed if far >= 3 else None,
        "packed": step("pack", 4) if far >= 4 else None,
    }
    return report.make_report(**(arguments | changes))


@pytest.mark.parametrize("until", report.STAGES)
def test_every_stage(until, tmp_path):
    paths = report.write_report(make(until), tmp_path)
    assert [path.name for path in paths] == ["report.json", "report.md"]
    loaded = json.loads(paths[0].read_text())
    assert loaded["until"] == until
    report.check_report(loaded)


def test_values():
    made = make()
    assert made["fmax_mhz"] == {"value": 84.2, "tag": "routed"}
    assert made["comb"] == {"value": 41000, "tag": "routed"}
    assert made["lanes"] == {"value": 1024, "tag": "routed"}
    assert made["cycles"] == {"value": 400_000, "tag": "cost-model"}
    assert made["images_per_s"] == {"value": 200.0, "tag": "cost-model"}
    assert made["seconds.route"] == {"value": 1900.0, "tag": "routed"}
    assert made["seed"] == 2
    assert made["resources"][2] == {"name": "ebr", "used": 150, "available": 208,
                                    "share": 0.7212}
    assert made["tools"]["yosys"] == {"version": "1.2", "origin": "yowasp"}
    assert make("config")["lanes"]["tag"] == "cost-model"
    assert make(extra={"accuracy": report.measured(0.92, "board")})["accuracy"]["value"] == 0.92


def test_markdown():
    text = report.render(make())
    assert "# qsdt_nano on ulx3s-85f (LFE5U-85F)" in text
    assert "| fmax_mhz | 84.20 | routed |" in text
    assert "| block RAMs (DP16KD) | 150 | 208 | 72.1 % |" in text
    assert "| name | kind | cycles (cost-model) |" in text
    assert "| head |  | 0.50 |" in text
    assert "| route | 1,900 | 2,000 |" in text
    assert "| 1 | 98.0 % | 900 |" in text
    assert "| 2 | 105.2 % | 1,000 | draft 600, routing 400 |" in text
    assert "NOT VERIFIED" not in text


def test_skip_verify_is_stamped(tmp_path):
    made = make(skip_verify=True, digests={"verify": None})
    paths = report.write_report(made, tmp_path)
    assert json.loads(paths[0].read_text())["skip_verify"] is True
    assert "**NOT VERIFIED: built with `--skip-verify`;" in paths[1].read_text()
    assert "**NOT VERIFIED yet;" in report.render(make("config", skip_verify=True))


def test_weights_that_were_not_trained_are_stamped(tmp_path):
    made = make(weights="made up")
    paths = report.write_report(made, tmp_path)
    assert "**Weights: made up.**" in paths[1].read_text()
    assert report.headline(made).endswith("(made up)")
    assert "Weights:" not in report.render(make())


def test_layers_for_a_terminal():
    lines = report.layer_lines(make())
    assert lines[0].split() == ["name", "kind", "cycles"]
    assert len(lines) == 3 and {len(line) for line in lines} == {len(lines[0])}
    assert lines[1].endswith("1,000") and lines[2].startswith("head ")
    assert report.layer_lines(make(layers=[])) == []


def test_headline():
    assert report.headline(make()) == (
        "qsdt_nano on ulx3s-85f, 84.20 MHz (routed), 41,000 LUTs (routed), "
        "150 block RAMs (routed), 16 multipliers (routed), 400,000 cycles (cost-model), "
        "200 images/s (cost-model)")
    assert report.headline(make("config", skip_verify=True)).endswith(
        "200 images/s (cost-model), NOT VERIFIED")


def broken(change):
    made = copy.deepcopy(make())
    change(made)
    return made


@pytest.mark.parametrize("change,text", [
    (lambda r: r.pop("board"), "Report key 'board' is missing"),
    (lambda r: r.update(seed="x"), "Report key 'seed' has the wrong type: 'x'"),
    (lambda r: r.update(schema=9), "Report schema must be 2, not 9"),
    (lambda r: r.update(until="x"), "'until' must be one of config, rtl"),
    (lambda r: r.pop("fmax_mhz"), "'fmax_mhz' is missing after stage 'route'"),
    (lambda r: r.update(comb=3), "'comb' must be .* not 3"),
    (lambda r: r.update(comb={"value": 3, "tag": "guess"}), "must have a tag of board, rtl-sim"),
    (lambda r: r.update(comb={"value": math.nan, "tag": "routed"}), "must have a finite number"),
    (lambda r: r.update(comb={"value": True, "tag": "routed"}), "must have a finite number"),
    (lambda r: r.update(other=1), "'other' must be"),
    (lambda r: r["layers"].append({}), "row 2 has no name"),
    (lambda r: r["layers"][0].update(cycles=1), "'layers.stem.cycles' must be"),
    (lambda r: r.update(tools={}), "'tools' is empty"),
    (lambda r: r["digests"].pop("verify"), "has no 'verify' and 'skip_verify' is not set"),
])
def test_schema(change, text, tmp_path):
    with pytest.raises(ValueError, match=text):
        report.write_report(broken(change), tmp_path)
    assert not list(tmp_path.iterdir())


def test_tag():
    with pytest.raises(ValueError, match="Tag must be one of board, rtl-sim, routed"):
        report.measured(1, "measured")
