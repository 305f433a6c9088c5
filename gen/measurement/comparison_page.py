"""``compare.html`` and ``compare.csv``: a comparison as a page and as a table."""

from pathlib import Path

from gen.flow.page import page_environment
from gen.measurement.comparison import cells_of, Comparison
from gen.measurement.table import csv_text
from model.files import make_folder, write_atomic


__all__ = ["FILES", "write_comparison"]


FILES = ("compare.html", "compare.csv")


def write_comparison(found: Comparison, folder: Path, command: str) -> None:
    """Write both files; `command` is the command line, to be run again."""
    make_folder(folder)
    rows = [*({"of": "the whole", **row.to_json()} for row in found.rows),
            *({"of": "cycles of a layer", **row.to_json()} for row in found.layers)]
    write_atomic(folder / FILES[1], csv_text(rows))
    page = page_environment("gen.measurement").get_template("compare.html")
    largest = max((figure.value for row in found.layers for figure in (row.a, row.b) if figure),
                  default=0) or 1
    write_atomic(folder / FILES[0], page.render(found=found, command=command, cells_of=cells_of,
                                                largest=largest))
