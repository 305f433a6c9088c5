"""``qsdt meter``: live watts, a file, one line for what is wrong."""

import pytest

from gen.main import COMMANDS
from gen.meter import meter


def run(*words):
    return meter.cli(list(words))


def test_live_watts_and_a_file(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(meter, "LINE_S", 0.2)
    path = tmp_path / "w.csv"
    assert run("--meter", "simulated:period=0.1", "--seconds", "0.7", "--csv", str(path)) == 0
    out = capsys.readouterr().out.splitlines()
    live = [line for line in out if line.endswith("  (simulated)")]
    assert len(live) >= 3 and all(" W " in line and " mA " in line and "marker" in line
                                  for line in live)
    assert out[-1] == f"samples: {path} (simulated)"
    assert all("simulated" in line for line in out if " W" in line or line.startswith("samples"))
    assert any(line.startswith("marker: ") and "pulses" in line for line in out)
    assert run("--meter", f"file:{path}") == 0
    again = capsys.readouterr().out
    assert "(simulated)" in again and "(board)" not in again


def test_quiet(capsys):
    assert run("--meter", "simulated", "--seconds", "0.3", "-q") == 0
    assert "(simulated)\n" not in capsys.readouterr().out.partition("meter: ")[0]


def test_marker_that_is_not_connected(capsys):
    assert run("--meter", "simulated:duty=0", "--seconds", "0.3") == 0
    assert "marker: always low; it is not connected, or nothing ran" in capsys.readouterr().out


@pytest.mark.parametrize("words, message", [
    (["--meter", "simulated", "--seconds", "0"], "error: --seconds must be more than 0, not 0\n"),
    (["--meter", "simulated", "--seconds", "nan"], "error: --seconds must be more than 0"),
    (["--meter", "simulated", "--csv", "/none/x.csv"], "error: /none"),
    (["--meter", "file:none.csv"], "error: none.csv: no such file or directory; check the name\n"),
    (["--meter", "ina:bus=250"], "error: ina: cannot open /dev/i2c-250: No such file"),
    (["--seconds", "1"], "error: the following arguments are required: --meter"),
    (["--meter", "nope"], "error: Unknown meter 'nope': known are ina"),
])
def test_mistakes(words, message, capsys):
    status = _status(words)
    captured = capsys.readouterr()
    assert status == 1
    assert captured.err.startswith(message) and captured.err.count("\n") == 1
    assert captured.out == ""


def _status(words):
    try:
        return run(*words)
    except SystemExit as end:    # of the parser
        return end.code


def test_it_is_a_command():
    assert COMMANDS["meter"][0] == "gen.meter.meter"
