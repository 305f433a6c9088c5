"""``qsdt compare``: output, files, and what is wrong in one line."""

from pathlib import Path

import pytest

from gen import compare


RESULTS = Path(__file__).parents[2] / "docs" / "results"

A, B = (str(RESULTS / f"build-qsdt_t{name}.json") for name in ("", "-plane_skip"))


def test_text_and_files(capsys, tmp_path):
    assert compare.cli([A, B, "--out", str(tmp_path / "c")]) == 0
    captured = capsys.readouterr()
    assert "cycles_per_image" in captured.out and "0.968" in captured.out
    assert f"page: {tmp_path / 'c' / 'compare.html'}" in captured.out
    assert "next: " in captured.err and "--model qsdt_t" in captured.err
    assert {path.name for path in (tmp_path / "c").iterdir()} == {"compare.html", "compare.csv"}


def test_text_alone(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert compare.cli([A, B]) == 0
    assert "page:" not in capsys.readouterr().out and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words, message", [
    ((A,), "the following arguments are required: B"),
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
