"""gen.faults: the command, on the RTL of a narrow core with the smallest network."""

import json

import pytest

from gen import faults


SMALL = ["--model", "tiny_grey.yaml", "--config", "narrow.yaml", "--pictures", "2"]


@pytest.mark.parametrize("words, text", [
    (["--count", "0"], "--count must be at least 1, not 0"),
    (["--jobs", "0"], "--jobs must be at least 1, not 0"),
    (["--kinds", "pool,all"], "Unknown kind 'all': known are weights, constants, program"),
    (["--check", "all"], "Unknown check 'all': known are none, crc, twice, host"),
    (["--board", "ulx4"], "known boards are ulx3s-12f"),
    (["--config", "no.yaml"], "no.yaml"),
])
def test_bad_input(tmp_path, capsys, words, text):
    assert faults.cli([*SMALL, *words, "--out", str(tmp_path / "out")]) == 1
    message = capsys.readouterr().err
    assert text in message and "Traceback" not in message
    assert not (tmp_path / "out").exists()


def test_out_is_a_file(tmp_path, capsys):
    (tmp_path / "out").write_text("")
    assert faults.cli([*SMALL, "--out", str(tmp_path / "out")]) == 1
    assert "is a file; name a folder" in capsys.readouterr().err


@pytest.mark.rtl
def test_campaign(request, tmp_path, capsys):
    """Some faults of each kind that is quick; resumed, and refused with another seed."""
    out = tmp_path / "out"
    kinds = "weights,program,image,result,pool,psum,buffers,restart,power,duplicate,cut,bitstream"
    words = [*SMALL, "--kinds", kinds, "--out", str(out), "--check", "none,host", "-q",
             "--cache", str(request.config.cache.mkdir("rtl"))]
    assert faults.cli([*words, "--count", "12"]) == 0
    assert faults.cli([*words, "--count", "24"]) == 0
    lines = (out / "results.jsonl").read_text().splitlines()
    results = [json.loads(line) for line in lines]
    assert sorted(entry["number"] for entry in results) == [*range(24)]
    assert {entry["class"] for entry in results} <= {"masked", "detected", "wrong", "wedged"}
    assert all(entry["class"] == "detected" for entry in results if entry["kind"] == "bitstream")
    found = json.loads((out / "campaign.json").read_text())
    assert found["faults"] == 24 and found["broken_promises"] == []
    assert found["settings"]["seed"] == 1 and found["tag"] == "rtl-sim"
    text = (out / "campaign.md").read_text()
    assert "24 faults on the virtual board" in text and "16x16 lanes, memory SDRAM" in text
    capsys.readouterr()
    assert faults.cli([*words, "--count", "24", "--seed", "2"]) == 1
    assert "holds a campaign with other settings" in capsys.readouterr().err
