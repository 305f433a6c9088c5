"""Page and table of a comparison."""

import csv
from pathlib import Path
import re

from gen.measurement.comparison import compare
from gen.measurement.comparison_page import FILES, write_comparison
from gen.measurement.record import read_record


RESULTS = Path(__file__).parents[3] / "docs" / "results"
OTHER = Path(__file__).parents[2] / "data" / "build-qsdt_t-plane_skip.json"


def test_files(tmp_path):
    one, two = read_record(RESULTS / "build-qsdt_t.json"), read_record(OTHER)
    found = compare(one, two)
    write_comparison(found, tmp_path / "out", "qsdt compare <a> b")
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(FILES)
    page = (tmp_path / "out" / "compare.html").read_text()
    assert not re.search(r"https?://|src=|@import|url\(|<script", page)
    assert "qsdt compare &lt;a&gt; b" in page
    for row in found.rows + found.layers:
        assert f"<code>{row.name}</code>" in page
    assert page.count('class="pair"') == len(found.layers) > 100
    assert page.count('class="stamp"') == 2
    with open(tmp_path / "out" / "compare.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found.rows) + len(found.layers)
    cycles = next(row for row in rows if row["figure"] == "cycles_per_image")
    a, b = (record.figures["cycles_per_image"] for record in (one, two))
    assert (cycles["A"], cycles["A (tag)"], cycles["B"]) == (str(a.value), a.tag, str(b.value))
    assert float(cycles["B/A"]) == b.value / a.value
    assert {row["of"] for row in rows} == {"the whole", "cycles of a layer"}


def test_another_network_has_no_layers(tmp_path):
    found = compare(read_record(RESULTS / "build-qsdt_nano.json"),
                    read_record(RESULTS / "build-qsdt_t.json"))
    write_comparison(found, tmp_path, "x")
    page = (tmp_path / "compare.html").read_text()
    assert "Cycles of each layer" not in page
    assert page.count('<td class="soft">another network</td>') == sum(
        row.why == "another network" for row in found.rows)
