"""Numbers that texts state: those of the project hold, and planted differences are found."""

import json
from pathlib import Path
import re
import shutil

import pytest

from gen.campaign.table import page as campaign_page
from gen.flow.report import render
from gen.measurement.claims import check, formatted
from gen.measurement.ledger import Ledger
from model.error import InputError
from tests.campaign.__main__ import page as faults_page


ROOT = Path(__file__).resolve().parents[3]

LEDGER = Path("docs") / "results" / "claims.yaml"


def test_claims_of_this_project():
    """README and docs/results say what the committed records say."""
    found = check(Ledger(ROOT / LEDGER))
    assert found.failures == []
    assert len(found.places) > 100
    for place in found.places:
        assert place["tag"] and place["command"], place
    assert sum(bool(place["record"]) for place in found.places) > 0.6 * len(found.places)


MADE = {"build": render, "campaign": campaign_page,
        "faults": lambda record: "\n".join(faults_page(record)) + "\n"}
"""Pages of docs/results that a command makes from a committed record, by the record's name."""


@pytest.mark.parametrize("path", [path for kind in MADE for path in sorted(
    (ROOT / "docs" / "results").glob(f"{kind}-*.json"))], ids=lambda path: path.stem)
def test_pages_made_from_records(path):
    """The Markdown beside a committed record is what its command makes of it today."""
    made = MADE[path.stem.split("-")[0]](json.loads(path.read_text()))
    assert path.with_suffix(".md").read_text() == made


@pytest.fixture
def copy(tmp_path):
    """A copy of what the ledger names, to plant differences in."""
    content = Ledger(ROOT / LEDGER)
    for name in {*content.texts, *(record for claim in content.claims.values() if claim.record
                                   for record in claim.record.split(" and ")), str(LEDGER)}:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)

    def planted(name, old, new):
        path = tmp_path / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        return check(Ledger(tmp_path / LEDGER)).failures

    return planted


def stated(name, key):
    return json.loads((ROOT / "docs" / "results" / name).read_text())[key]["value"]


def test_a_wrong_number_in_a_text(copy):
    comb = stated("build-qsdt_nano.json", "comb")
    found = copy("README.md", f"{comb:,} LUTs", f"{comb + 1:,} LUTs")
    assert len(found) == 1
    assert re.fullmatch(rf"README\.md:\d+ says {comb + 1:,}, but nano\.comb of docs/results/"
                        rf"build-qsdt_nano\.json is {comb:,} \(routed\)", found[0])


def test_a_record_that_changed(copy):
    """Both texts are then wrong, and the report is no longer that of its verification."""
    cycles = stated("build-qsdt_nano.json", "cycles")
    found = copy("docs/results/build-qsdt_nano.json", f'"value": {cycles}',
                 f'"value": {cycles + 5000}')
    text = "\n".join(found)
    assert "README.md" in text
    assert re.search(r"nano\.cycles of .* is .*: \+2\.\d+ %, and 0\.1 % are stated", text)
    assert "nano.predicted" not in text    # the cost model's own figure has not changed


def test_a_simulation_that_left_the_cost_model(copy):
    predicted = stated("build-qsdt_t.json", "predicted_cycles")
    found = copy("docs/results/build-qsdt_t.json", f'"value": {predicted}',
                 f'"value": {2 * predicted}')
    assert any(re.search(r"qsdt_t\.predicted of .*: \+10\d %, and \d % are stated: the cost model "
                         "against RTL", text) for text in found)


def test_a_text_that_is_gone(copy):
    found = copy("README.md", "| memory traffic per image |", "| traffic |")
    assert any(text.startswith("README.md does not say '| memory traffic per") for text in found)


def test_a_number_that_is_not_in_the_ledger(copy):
    found = copy("README.md", "## What it proves, and how\n", "## What it proves, and how\n\n"
                 "At 1.25 W it draws 12,345 mJ, with `1.5` of v0.66.1 on [this](https://a/1.5).\n")
    assert [text.split(": ")[-1] for text in found] == [
        f"README.md:{line_of('## What it proves') + 2} says {number}, which claims.yaml does not "
        "have" for number in ("1.25", "12,345")]


def line_of(text):
    return (ROOT / "README.md").read_text().split(text)[0].count("\n") + 1


def test_texts_that_contradict_each_other(copy):
    found = copy("docs/results/README.md", "multiplier 16 bit | 93", "multiplier 16 bit | 94")
    assert len(found) == 1 and "for nano.integer, but README.md:" in found[0]


def test_a_figure_that_nothing_uses(copy):
    found = copy(str(LEDGER), "figures:\n", "figures:\n  idle: {tag: paper, command: theirs}\n")
    assert len(found) == 1 and "nothing uses the figure idle; take it out" in found[0]


@pytest.mark.parametrize("value, spec, text", [
    (213535, ",", "213,535"), (213535, ",.4s", "213,500"), (374.646, ".3s", "375"),
    (7.53, ".2s", "7.5"), (92.77, "", "92.77"), (92.77, ".3s", "92.8"), (0.93114, ".2%", "93.11"),
    (-0.03197, ".1%", "-3.2"), (20.978304, ".2f", "20.98"), (5.0, "", "5"), (1e6, ",.1s",
                                                                          "1,000,000"),
    (0.00123, ".2s", "0.0012"), (1234.5, ",.1f", "1,234.5"),
])
def test_formats(value, spec, text):
    assert formatted(value, spec) == text


@pytest.mark.parametrize("spec", ["d", ".2", ",,", ".2e", "2f"])
def test_formats_that_are_none(spec):
    with pytest.raises(ValueError, match="is no format"):
        formatted(1.0, spec)


@pytest.fixture
def small(tmp_path):
    def make(text, page="A has 1,000 cycles.\n\nB has 12\nof them.\n"):
        (tmp_path / "r.json").write_text(json.dumps(
            {"command": "c", "a": {"value": 1000, "tag": "rtl-sim"},
             "b": {"value": 12, "tag": "board"}}))
        (tmp_path / "page.md").write_text(page)
        path = tmp_path / "claims.yaml"
        path.write_text("figures: {a: {record: r.json, at: a}, b: {record: r.json, at: b}}\n"
                        + text)
        return check(Ledger(path))

    return make


def test_places(small):
    found = small('texts: {page.md: ["A has {a:,} cycles", "has {b} of them"]}')
    assert found.failures == []
    assert found.places == [
        {"file": "page.md", "line": 1, "text": "1,000", "figure": "a", "tag": "rtl-sim",
         "record": "r.json", "command": "c"},
        {"file": "page.md", "line": 3, "text": "12", "figure": "b", "tag": "board",
         "record": "r.json", "command": "c"}]


def test_every_place_counts(small):
    """A piece that stands twice must be right twice."""
    found = small('texts: {page.md: ["A has {a:,} cycles", "has {b} of them"]}',
                  "A has 1,000 cycles. A has 1,001 cycles. B has 12 of them.")
    assert found.failures == ["page.md:1 says 1,001, but a of r.json is 1,000 (rtl-sim)"]


@pytest.mark.parametrize("text, message", [
    ("texts: {page.md: 3}", "texts of page.md must be a list"),
    ("texts: {none.md: [a]}", "cannot read none.md: No such file or directory"),
    ('texts: {page.md: ["{z}"]}', "a text of page.md names the figure 'z'"),
    ('texts: {page.md: ["{a:.2}"]}', "'.2' is no format"),
    ('texts: {page.md: ["{} cycles"]}', "has a number without a figure: give it a tag"),
    ("texts: {page.md: [{text: x}]}", "texts of page.md must be texts or {text, tag, command}"),
    ("texts: {page.md: [{text: x, tag: guess, command: y}]}", "with a tag of board, rtl-sim"),
    ("complete: {page.md: 3}", "complete of page.md must be a list of headings"),
])
def test_refused(small, text, message):
    with pytest.raises(InputError) as refused:
        small(text)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_sections(small):
    page = "# T\n\n9.5\n\n## A\n\n1.5\n\n### B\n\n2.5\n\n## C\n\n3.5\n"
    text = "complete: {{page.md: [{}]}}\nagree: [{{of: [a, b], within: 100}}]"
    for heading, numbers in (("A", ["1.5", "2.5"]), ("B", ["2.5"]), ("C", ["3.5"]),
                             ('"*"', ["9.5", "1.5", "2.5", "3.5"])):
        assert [found.split()[2].rstrip(",") for found in
                small(text.format(heading), page).failures] == numbers
    assert small(text.format("D"), page).failures == ["page.md has no section 'D'"]
