"""Tables as CSV, with the provenance of each number beside it."""

from collections.abc import Mapping, Sequence
import csv
import io
from typing import Any


__all__ = ["csv_text"]


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the same keys as CSV; a tagged value becomes two columns."""
    text = io.StringIO()
    flat = []
    for row in rows:
        line: dict[str, Any] = {}
        for key, value in row.items():
            if isinstance(value, Mapping):
                line[key], line[f"{key} (tag)"] = value["value"], value["tag"]
            else:
                line[key] = value
        flat.append(line)
    writer = csv.DictWriter(text, list(flat[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()
