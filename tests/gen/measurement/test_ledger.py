"""Figures of a ledger: read by their place in a record, and compared with each other."""

import json

import pytest

from gen.measurement.ledger import Ledger
from model.error import InputError


RECORD = {
    "command": "make it", "cycles": {"value": 1000, "tag": "rtl-sim"},
    "seconds.route": {"value": 2.5, "tag": "routed"},
    "block3.0": {"list": [3, 1, 2]}, "clocks": [{"name": "clk", "achieved": 80.5}],
    "power": {"low": 1.0, "likely": 2.0, "high": 4.0, "tag": "estimate"},
    "flag": True, "nothing": None, "empty": []}


@pytest.fixture
def ledger(tmp_path):
    def make(text, **changes):
        (tmp_path / "r.json").write_text(json.dumps({**RECORD, **changes}))
        (tmp_path / "log.jsonl").write_text('{"a": 1}\n{"a": 0.25}\n')
        (tmp_path / "claims.yaml").write_text(text)
        return Ledger(tmp_path / "claims.yaml")

    return make


@pytest.mark.parametrize("figure, value, tag", [
    ("{record: r.json, at: cycles}", 1000, "rtl-sim"),
    ("{record: r.json, at: cycles, scale: 0.001}", 1, "rtl-sim"),
    ("{record: r.json, at: seconds.route}", 2.5, "routed"),
    ("{record: r.json, at: block3.0.list, take: min, tag: rtl-sim}", 1, "rtl-sim"),
    ("{record: r.json, at: block3.0.list, take: max, tag: rtl-sim}", 3, "rtl-sim"),
    ("{record: r.json, at: block3.0.list, take: mean, tag: rtl-sim}", 2, "rtl-sim"),
    ("{record: r.json, at: block3.0.list, take: count, tag: rtl-sim}", 3, "rtl-sim"),
    ("{record: r.json, at: block3.0.list.1, tag: rtl-sim}", 1, "rtl-sim"),
    ("{record: r.json, at: clocks.clk.achieved, tag: routed}", 80.5, "routed"),
    ("{record: r.json, at: power}", 2.0, "estimate"),
    ("{record: log.jsonl, at: a, tag: software, command: train}", 0.25, "software"),
    ("{tag: paper, command: their table 2}", None, "paper"),
])
def test_places(ledger, figure, value, tag):
    claim = ledger(f"figures: {{x: {figure}}}").claims["x"]
    assert (claim.value, claim.tag) == (value, tag)
    assert claim.command and (claim.record != "") == (value is not None)


def test_change(ledger):
    claims = ledger("""figures:
  change: {change: [new, old]}
  new: {record: r.json, at: cycles}
  old: {record: r.json, at: seconds.route}""").claims
    assert claims["change"].value == 1000 / 2.5 - 1
    assert claims["change"].tag == "rtl-sim against routed"


@pytest.mark.parametrize("text, message", [
    ("figure: {}", "unknown key 'figure'; known are agree, complete, figures, root, texts"),
    ("figures: []\nagree: 3", "agree must be a list"),
    ("figures: 3", "figures must be a mapping"),
    ("figures: {x: 3}", "figure x must be a mapping of at, change, command"),
    ("figures: {x: {file: r.json}}", "figure x must be a mapping of"),
    ("figures: {x: {record: none.json, at: a}}", "none.json: No such file or directory; named in"),
    ("figures: {x: {record: r.json, at: cycle}}", "r.json has nothing at 'cycle'"),
    ("figures: {x: {record: r.json, at: cycles.value.more}}", "r.json has nothing at"),
    ("figures: {x: {record: r.json, at: flag, tag: board}}", "r.json has no number at 'flag'"),
    ("figures: {x: {record: r.json, at: block3.0.list, tag: board}}",
     "there is a list at block3.0.list; take one of min, max"),
    ("figures: {x: {record: r.json, at: empty, take: min, tag: board}}",
     "there is a list at empty"),
    ("figures: {x: {record: r.json, at: cycles, tag: board}}",
     "the record says rtl-sim, the ledger board"),
    ("figures: {x: {record: r.json, at: clocks.clk.achieved}}", "tag must be one of board"),
    ("figures: {x: {record: r.json, at: cycles, scale: much}}", "scale must be a number"),
    ("figures: {x: {tag: guess, command: y}}", "tag must be one of board"),
    ("figures: {x: {tag: board}}", "neither the record nor the ledger says which command"),
    ("figures: {x: {change: [x, x]}}", "change must be [new, old] of two other figures"),
    ("figures: {x: {change: [y, y]}, y: {change: [x, x]}}", "change must be [new, old] of two"),
    ("figures: {x: {change: [y, y]}, y: {tag: board, command: z}}",
     "change needs two figures with a record"),
])
def test_refused(ledger, text, message):
    with pytest.raises(InputError) as refused:
        ledger(text)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_root(ledger, tmp_path):
    made = ledger("figures: {x: {record: r.json, at: cycles}}")
    (tmp_path / "below").mkdir()
    path = tmp_path / "below" / "claims.yaml"
    path.write_text("root: ..\nfigures: {x: {record: r.json, at: cycles}}")
    assert Ledger(path).claims == made.claims


AGREE = """figures:
  a: {record: r.json, at: cycles}
  b: {record: r.json, at: board}
  c: {tag: paper, command: theirs}
  p: {record: r.json, at: power}
agree: [{of: [a, %s], within: %s, why: because}]"""


@pytest.mark.parametrize("value, within, found", [
    (1010, 1, []), (990, 1, []), (1000, 0, []),
    (1011, 1, ["b of r.json (board) is 1011 and a of r.json (rtl-sim) is 1000: +1.1 %, and 1 % "
               "are stated: because"]),
    (1001, 0, ["b of r.json (board) is 1001 and a of r.json (rtl-sim) is 1000: +0.1 %, and 0 % "
               "are stated: because"]),
])
def test_agree(ledger, value, within, found):
    made = ledger(AGREE % ("b", within), board={"value": value, "tag": "board"})
    assert made.differences() == found


def test_agree_needs_records(ledger):
    made = ledger(AGREE % ("c", 1), board={"value": 1, "tag": "board"})
    assert made.differences() == ["a and c cannot be compared: c has no record: because"]


@pytest.mark.parametrize("board, fits", [(1.0, True), (4.0, True), (0.99, False), (4.01, False)])
@pytest.mark.parametrize("order", ["[p, b]", "[b, p]"])
def test_a_board_lies_in_the_range_of_its_estimate(ledger, board, fits, order):
    text = (AGREE % ("b", 1)).replace("[a, b]", order)
    found = ledger(text, board={"value": board, "tag": "board"}).differences()
    assert (found == []) == fits
    if not fits:
        assert found[0].startswith(f"b of r.json (board) is {board:g}, outside of the range 1 to "
                                   "4 of p of r.json (estimate)")


@pytest.mark.parametrize("rows", ["[3]", "[{of: [a], within: 1}]", "[{of: [a, b]}]",
                                  "[{of: [a, b], within: much}]"])
def test_rows_that_are_none(ledger, rows):
    made = ledger("figures: {a: {record: r.json, at: cycles}}\nagree: " + rows)
    with pytest.raises(InputError, match="agree must have rows of"):
        made.differences()


def test_unknown_names(ledger):
    made = ledger("figures: {a: {record: r.json, at: cycles}}\n"
                  "agree: [{of: [a, z], within: 1}]")
    with pytest.raises(InputError, match="agree names the figure 'z', which is not under figures"):
        made.differences()
