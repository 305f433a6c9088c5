"""Tables as CSV."""

import csv
import io

from gen.measurement.figures import tagged
from gen.measurement.table import csv_text


def test_a_tagged_value_is_two_columns():
    text = csv_text([{"name": "a, b", "cycles": tagged(3, "board")},
                     {"name": "c", "cycles": tagged(0.5, "rtl-sim", "text")}])
    assert text == 'name,cycles,cycles (tag)\n"a, b",3,board\nc,0.5,rtl-sim\n'
    assert next(csv.DictReader(io.StringIO(text)))["name"] == "a, b"
