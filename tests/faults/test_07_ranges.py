"""Row 7: ranges of a twin's memory; a design that needs more block RAMs than there are."""

import pytest

from gen.build import cli as build
from gen.config.spec import read_overrides
from model.error import InputError


@pytest.mark.parametrize("text, message", [
    ("{stall: 3}", r"twin: Stall must be in 0\.\.0\.95, not 3"),
    ("{stall: -0.1}", "twin: Stall must be in"),
    ("{latency: 1}", r"twin: Latency must be an integer in 2\.\.255, not 1"),
    ("{words_per_cycle: 0}", "twin: Words per cycle must be in"),
    ("{words_per_cycle: 1.5}", "twin: Words per cycle must be in"),
    ("{refresh_interval: 10, refresh_cycles: 10}", "twin: Refresh must pause for less"),
    ("{refresh_interval: -1}", "twin: Refresh must pause for less"),
    ("{latency: 2.5}", r"twin\.latency must be a whole number, not 2\.5"),
    ("{stall: .nan}", r"twin\.stall must be a number, not nan"),
    ("{stall: true}", r"twin\.stall must be a number, not True"),
])
def test_twin(tmp_path, text, message):
    path = tmp_path / "c.yaml"
    path.write_text(f"twin: {text}\n")
    with pytest.raises(InputError, match=message):
        read_overrides(path)


def test_twin_in_range(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("twin: {latency: 255, stall: 0.95, words_per_cycle: 1, seed: -4,\n"
                    "       refresh_interval: 10, refresh_cycles: 9}\n")
    assert read_overrides(path)["twin"]["stall"] == 0.95


def test_more_block_rams_than_there_are(tmp_path, capsys):
    """What a twin verifies need not fit a chip; what is built must."""
    path = tmp_path / "c.yaml"
    path.write_text("twin: {latency: 20}\nmemory_words: 60000\n")
    out = tmp_path / "out"
    status = build(["--board", "ulx3s-85f", "--model", "qsdt_nano", "--config", str(path),
                    "--out", str(out), "--until", "config", "-q"])
    error = capsys.readouterr().err.strip()
    assert status == 1
    assert "Does not fit: block RAMs (DP16KD) of ulx3s-85f: " in error
    assert "208 available" in error and "\n" not in error
    assert not out.exists()
