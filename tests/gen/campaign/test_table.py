"""gen.campaign.table: the counts, and what must not be."""

import json

import pytest

from gen.campaign.table import broken_promises, page, read_results, summary
from model.error import InputError


SETTINGS = {"model": "random", "command": "qsdt faults", "core": "16x16 lanes", "cycles": 1234}


def entry(number, kind, check, outcome, **more):
    return {"number": number, "kind": kind, "check": check, "class": outcome, "planted": True,
            "error": "", **more}


RESULTS = [
    entry(0, "pool", "none", "wrong", other_class=True),
    entry(1, "pool", "none", "masked", planted=False),
    entry(2, "pool", "twice", "detected", recovered="itself"),
    entry(3, "result", "crc", "wrong", other_class=False),
    entry(4, "flash", "none", "wedged", recovered="command"),
]


def test_counts():
    found = summary(RESULTS, SETTINGS)
    assert found["faults"] == 5 and found["not_planted"] == 1
    assert found["counts"]["pool"]["none"] == {"masked": 1, "detected": 0, "wrong": 1,
                                               "wedged": 0, "hung": 0, "lost": 0}
    assert found["wrong"] == 2 and found["wrong_with_another_class"] == 1
    assert found["recovered"] == {"itself": 1, "command": 1} and not found["broken_promises"]
    assert json.loads(json.dumps(found)) == found


def test_page():
    text = page(summary(RESULTS, SETTINGS))
    assert "| pool | none | 1 | 0 | 1 | 0 | 0 | 0 |" in text
    assert "| result | crc | 0 | 0 | 1 | 0 | 0 | 0 |" in text
    assert "| **all** | | 1 | 1 | 2 | 1 | 0 | 0 |" in text
    assert "No wrong result was returned as right" in text


@pytest.mark.parametrize("kind, check, outcome", [
    ("weights", "crc", "wrong"), ("image", "host", "wrong"), ("pool", "twice", "wrong"),
    ("result", "host", "wrong"), ("restart", "none", "wrong"), ("flip", "none", "wrong"),
    ("bitstream", "none", "wrong"), ("pool", "none", "hung"), ("power", "none", "lost")])
def test_what_must_not_be(kind, check, outcome):
    results = [*RESULTS, entry(5, kind, check, outcome, error="why")]
    assert broken_promises(results) == [f"fault 5: {kind}, --check {check}: {outcome} (why)"]
    text = page(summary(results, SETTINGS))
    assert "**1 results that must not be.**" in text and "**1**" in text


@pytest.mark.parametrize("kind, check", [("weights", "none"), ("weights", "twice"),
                                         ("image", "none"), ("psum", "crc"), ("result", "none")])
def test_what_a_check_does_not_cover(kind, check):
    assert broken_promises([entry(0, kind, check, "wrong")]) == []


def test_read(tmp_path):
    path = tmp_path / "results.jsonl"
    assert read_results(path) == {}
    lines = [json.dumps(result) for result in RESULTS]
    path.write_text("\n".join(lines) + "\n")
    assert list(read_results(path).values()) == RESULTS
    path.write_text("\n".join(lines)[:-20])     # the last line was not written to its end
    assert list(read_results(path).values()) == RESULTS[:-1]
    path.write_text("\n".join([lines[0][:-20], *lines[1:]]) + "\n")
    with pytest.raises(InputError, match="results.jsonl: line 1 is damaged; remove it"):
        read_results(path)
