"""Estimates: their arithmetic, and that nothing measured takes one."""

import json
from pathlib import Path

import pytest

from gen.flow.estimate import Estimate
from gen.flow.report import check_report, measured
from gen.measurement.figures import tagged
from gen.measurement.record import read_record
from model.error import InputError


RESULTS = Path(__file__).parents[3] / "docs" / "results"


def test_arithmetic():
    one, two = Estimate(7, 10, 14, "x"), Estimate(16, 20, 23)
    total = one + two
    assert (total.low, total.likely, total.high) == (25, 30, 35)    # 3-4-5 to both sides
    product = Estimate(0.7, 1, 1.3).times(Estimate(0.6, 1, 1.4))
    assert (product.low, product.likely, product.high) == pytest.approx((0.5, 1, 1.5))
    widest = one.by(two)
    assert (widest.low, widest.likely, widest.high) == (112, 200, 322)
    assert one.scaled(2).source == "x" and one.scaled(2).high == 28
    assert one.scaled(2, "y").source == "y"


def test_a_product_cannot_be_negative():
    product = Estimate(0.1, 1, 2).times(Estimate(0.1, 1, 2))
    assert product.low == 0
    nothing = Estimate(0, 0, 1).times(Estimate(1, 2, 3))
    assert (nothing.low, nothing.likely, nothing.high) == (0, 0, 3)


@pytest.mark.parametrize("values", [(2, 1, 3), (1, 3, 2), (1, float("nan"), 2)])
def test_range_holds_the_likely_value(values):
    with pytest.raises(ValueError, match="low <= likely <= high"):
        Estimate(*values)


@pytest.mark.parametrize("estimate, text", [
    (Estimate(0.234, 0.4444, 0.961), "0.44 W (0.23 to 0.96)"),
    (Estimate(123, 186.6, 331), "190 W (120 to 330)"), (Estimate(0, 0, 0.9999), "0 W (0 to 1)"),
])
def test_text(estimate, text):
    assert estimate.text("W") == text


def test_no_measured_table_takes_an_estimate():
    """It has no value, and its tag is none of theirs."""
    estimate = Estimate(1, 2, 3).to_json()
    assert "value" not in estimate and estimate["tag"] == "estimate"
    with pytest.raises(ValueError, match="Tag must be one of board, rtl-sim"):
        measured(2, "estimate")
    with pytest.raises(ValueError, match="Tag must be one of board, rtl-sim"):
        tagged(2, "estimate")
    report = json.loads((RESULTS / "build-qsdt_nano.json").read_text())
    check_report(report)
    for cell in (estimate, {"value": 2, "tag": "estimate"}):
        with pytest.raises(ValueError, match="Report key 'watts' must"):
            check_report({**report, "watts": cell})
        with pytest.raises(ValueError, match="Report key 'layers"):
            check_report({**report, "layers": [{"name": "a", "watts": cell}]})


def test_no_comparison_takes_an_estimate(tmp_path):
    path = tmp_path / "estimate.json"
    path.write_text(json.dumps({"tag": "estimate", "watts": {}}))
    with pytest.raises(InputError, match="is an estimate and has no place beside measurements"):
        read_record(path)
    cell = Estimate(1, 2, 3).to_json()
    path.write_text(json.dumps({"figures": {"watts": cell}, "checks": []}))
    with pytest.raises(InputError, match='watts must be {"value", "tag"}'):
        read_record(path)
