"""gen.build, gen.verify and gen.run as commands: exit codes, messages, files."""

import json

import pytest

from gen import build, run, verify
from gen.check import record as records
from gen.compile.package import ProgramImage
from model.integer.synthetic import NOTICE


def failing(capsys, command, arguments, code=1):
    assert command(arguments) == code
    return capsys.readouterr().err


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "onchip.yaml").write_text("memory: onchip")
    return tmp_path


@pytest.mark.parametrize("command, arguments, text", [
    (build.cli, ["--board", "ulx4", "--model", "qsdt_nano"], "known boards are ulx3s-12f"),
    (build.cli, ["--board", "ulx3s", "--model", "qsdt"], "must be one of .*qsdt_nano"),
    (build.cli, ["--board", "ulx3s"], "Name a network: --model .*qsdt_nano"),
    (build.cli, ["--board", "ulx3s", "--weights", "none.qsd"], "none.qsd"),
    (build.cli, ["--board", "ulx3s-12f", "--model", "qsdt_nano", "--until", "config",
                 "--config", "onchip.yaml"],
     "Does not fit: block RAMs .* needed, 56 available.* nearest that fits, without memory: "
     "rows 16, .* SDRAM"),
    (verify.cli, ["--model", "qsdt_nano", "--forms", "integer,gate"], "known are integer, iss"),
    (verify.cli, ["--model", "qsdt_nano", "--forms", "iss"], "At least two forms"),
    (verify.cli, ["--model", "qsdt_nano", "--images", "none.npz"], "none.npz"),
    (run.cli, ["--board", "virtual2", "--model", "qsdt_nano"], "known are virtual, ulx3s-12f"),
    (run.cli, ["--board", "ulx3s-85f", "--model", "qsdt_nano"], "Name the board's serial port"),
    (run.cli, ["--board", "ulx3s-85f", "--model", "qsdt_nano", "--port", "no/such/port"],
     "Cannot open no/such/port"),
    (run.cli, ["--board", "virtual", "--model", "qsdt_nano", "--port", "x"],
     "--port and --program are for real boards"),
    (run.cli, ["--board", "virtual", "--model", "qsdt_nano", "--check", "crc,all"],
     "Unknown check 'all': known are crc, twice, host"),
    (run.cli, ["--board", "virtual", "--model", "qsdt_nano", "--count", "0"],
     "Count of images must be at least 1"),
])
def test_bad_input(workplace, capsys, command, arguments, text):
    import re

    message = failing(capsys, command, arguments)
    assert re.search(text, message), message
    assert "Traceback" not in message


def test_build_refuses_without_verification(workplace, capsys):
    message = failing(capsys, build.cli, ["--board", "ulx3s", "--model", "qsdt_nano",
                                          "--until", "synth", "-q"])
    assert "No passing verification" in message and "python -m gen.verify" in message


def test_build_until_config(workplace, capsys):
    assert build.cli(["--board", "ulx3s", "--model", "qsdt_nano", "--until", "config"]) == 0
    folder = workplace / "build" / "ulx3s-85f-qsdt_nano"
    report = json.loads((folder / "report.json").read_text())
    assert report["lanes"]["value"] >= 1024
    assert report["cycles"]["tag"] == "cost-model"
    assert len(report["layers"]) > 30
    assert (folder / "program.img").is_file() and (folder / "report.md").is_file()


@pytest.mark.parametrize("overrides, hz", [({}, 50_000_000), ({"clock_mhz": 60}, 60_000_000)])
def test_build_without_output_registers(workplace, overrides, hz):
    """Slower, unless told otherwise."""
    (workplace / "c.yaml").write_text(json.dumps(overrides))
    assert build.cli(["--board", "ulx3s", "--model", "qsdt_nano", "--until", "config", "-q",
                      "--config", "c.yaml", "--no-output-registers"]) == 0
    config = workplace / "build" / "ulx3s-85f-qsdt_nano" / "config.json"
    assert json.loads(config.read_text())["clock_hz"] == hz


def test_cycles_behind_another_memory(workplace, monkeypatch):
    """What was simulated behind one memory is not what a core does behind a slower one."""
    monkeypatch.setattr(records, "core_digest", lambda core: "c" * 64)
    (workplace / "fast.yaml").write_text("memory: sdram")
    (workplace / "slow.yaml").write_text("memory: sdram\nsdram_mhz: 75")

    def report(config):
        assert build.cli(["--board", "ulx3s", "--model", "qsdt_nano", "--until", "config", "-q",
                          "--config", config, "--out", "out"]) == 0
        return json.loads((workplace / "out" / "report.json").read_text())

    fast = report("fast.yaml")
    records.save({"equal": True, "forms": ["integer", "rtl"], "inputs": "images", "images": 2,
                  "lines": [], "memory": "SDRAM", "command": "gen.verify",
                  "config": fast["config"],
                  "figures": {"cycles": [4, 6], "layer_cycles": {}}},
                 "c" * 64, fast["digests"]["network"])
    assert report("fast.yaml")["cycles"] == {"value": 5, "tag": "rtl-sim"}
    assert report("slow.yaml")["cycles"]["tag"] == "cost-model"


def test_qsdt_t_until_config(workplace, cache_home, monkeypatch, capsys):
    """The 15 M-weight network: a prediction in seconds, and no word of it without saying that
    its weights are synthetic."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))
    assert build.cli(["--board", "ulx3s", "--model", "qsdt_t", "--until", "config"]) == 0
    out, err = capsys.readouterr()
    assert out.count(NOTICE) == 1 and NOTICE in err
    header, *rows = out.splitlines()[:-1]
    assert header.split()[:5] == ["name", "group", "strips", "cycles", "wall"]
    assert "SDRAM" in header
    assert len(rows) == 115 and rows[0].startswith("downsample1_1.encode_conv")
    place = header.index("wall")
    assert {"SDRAM", "array", "SDSA"} <= {row[place:].split()[0] for row in rows}
    folder = workplace / "build" / "ulx3s-85f-qsdt_t"
    report = json.loads((folder / "report.json").read_text())
    assert report["weights"] == NOTICE and report["config"]["memory"] == "sdram"
    assert report["images_per_s"]["value"] > 1
    assert f"**Weights: {NOTICE}.**" in (folder / "report.md").read_text()
    assert ProgramImage.load(folder / "program.img").origin == NOTICE


def test_verify_integer_and_iss(workplace, capsys):
    assert verify.cli(["--model", "qsdt_nano", "--forms", "integer,iss", "--count", "2",
                       "--report", "report.json"]) == 0
    out = capsys.readouterr().out
    assert "integer = iss: equal on images: 2 " in out
    assert json.loads((workplace / "report.json").read_text())["equal"]
    # Without the RTL there is nothing that a build could rely on.
    assert not (workplace / "build" / "verified").exists()
