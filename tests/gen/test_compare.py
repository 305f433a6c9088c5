"""``qsdt compare``: output, files, and what is wrong in one line."""

import csv
from pathlib import Path

import pytest

from gen import compare


RESULTS = Path(__file__).parents[2] / "docs" / "results"

A = str(RESULTS / "build-qsdt_t.json")
B = str(Path(__file__).parents[1] / "data" / "build-qsdt_t-plane_skip.json")


def test_text_and_files(capsys, tmp_path):
    assert compare.cli([A, B, "--out", str(tmp_path / "c")]) == 0
    captured = capsys.readouterr()
    assert "cycles_per_image" in captured.out and "B/A" in captured.out
    assert f"page: {tmp_path / 'c' / 'compare.html'}" in captured.out
    assert "next: " in captured.err and "--model qsdt_t" in captured.err
    assert {path.name for path in (tmp_path / "c").iterdir()} == {"compare.html", "compare.csv"}


def test_text_alone(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert compare.cli([A, B]) == 0
    assert "page:" not in capsys.readouterr().out and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words, message", [
    ((), "name two measurements or builds, A and B, or a ledger with --claims"),
    ((A,), "name two measurements or builds, A and B, or a ledger with --claims"),
    ((A, B, "--claims", "x.yaml"), "--claims needs no A and B: it names what it compares"),
    (("--claims", "x.yaml"), "Cannot read x.yaml: No such file or directory"),
    (("--claims", A), "has more than 65536 bytes; is it a YAML file?"),
    ((A, "none"), "none: No such file or directory; name a folder of qsdt measure or of qsdt "
                  "build"),
    ((A, "."), ".: holds neither measure.json nor report.json"),
    ((A, str(RESULTS / "verify-nano.json")), "is neither a measurement"),
    ((A, B, "--out", "/dev/null"), "/dev/null: is a file; name a folder"),
])
def test_mistakes(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        status = compare.cli(list(words))
    except SystemExit as ended:
        status = ended.code
    assert status == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and message in captured.err
    assert captured.err.count("\n") == 1 and captured.out == ""
    assert list(tmp_path.iterdir()) == []


def test_claims(capsys, tmp_path):
    ledger = RESULTS / "claims.yaml"
    assert compare.cli(["--claims", str(ledger), "--out", str(tmp_path / "c")]) == 0
    captured = capsys.readouterr()
    assert "every one is that of its record" in captured.out and "next: " in captured.err
    numbers = int(captured.out.split()[0])
    with open(tmp_path / "c" / "claims.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == numbers and all(row["tag"] and row["command"] for row in rows)


def test_claims_that_do_not_hold(capsys, tmp_path):
    (tmp_path / "page.md").write_text("It has 3 lanes, at 1.5 MHz.")
    (tmp_path / "r.json").write_text('{"lanes": 4, "command": "build"}')
    (tmp_path / "claims.yaml").write_text(
        "figures: {lanes: {record: r.json, at: lanes, tag: routed}}\n"
        'texts: {page.md: ["It has {lanes} lanes"]}\ncomplete: {page.md: ["*"]}')
    assert compare.cli(["--claims", str(tmp_path / "claims.yaml")]) == 1
    captured = capsys.readouterr()
    assert "page.md:1 says 3, but lanes of r.json is 4 (routed)" in captured.out
    assert "page.md:1 says 1.5, which claims.yaml does not have" in captured.out
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert "2 claims do not hold" in captured.err
