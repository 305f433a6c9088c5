"""Roofline: where points and roofs lie."""

import json
from pathlib import Path

import pytest

from gen.flow.page import render_page
from gen.flow.roofline import draw, planes_of, Point, roof


RESULTS = Path(__file__).parents[3] / "docs" / "results"

ROOFS = dict(lanes=1024, bytes_per_cycle=2.5, planes=3)


def drawn(*points, **options):
    return draw(points, clock_hz=80e6, tag="board", **ROOFS | options)


def test_roof():
    assert roof(10, **ROOFS) == 25
    assert roof(1e6, **ROOFS) == pytest.approx(1024 / 3)
    assert roof(1024 / 3 / 2.5, **ROOFS) == pytest.approx(1024 / 3)
    assert roof(1e6, **ROOFS | {"planes": 2}) == 512


def test_planes_of_a_configuration():
    """Of one that was recorded before there was a choice, too."""
    configs = {}, {"core": {"rows": 32}}, {"core": {"levels": 4}}, {"core": {"levels": 3}}
    assert [planes_of(config) for config in configs] == [3, 3, 3, 2]


def test_places():
    """Twice the work a byte is as far to the right everywhere, and points lie under the roof by
    their share."""
    picture = drawn(Point("a", 1000, 100, 50), Point("b", 2000, 100, 50), Point("c", 4000, 100, 50),
                    Point("none", 0, 100, 50), Point("still", 100, 0, 50))
    a, b, c = picture["points"]
    assert b["px"] - a["px"] == pytest.approx(c["px"] - b["px"]) and a["px"] < b["px"]
    assert a["py"] - b["py"] == pytest.approx(b["py"] - c["py"]) and a["py"] > b["py"]
    assert (a["x"], a["y"], a["roof"], a["share"]) == (10, 20, 25, 0.8)
    assert picture["left"] == ["none", "still"]
    assert picture["peak_gmacs"] == pytest.approx(1024 / 3 * 0.08)
    assert picture["mb_per_s"] == pytest.approx(200)
    # Slope and flat roof meet where both allow the same.
    (x0, y0), (x1, y1), (x2, y2) = picture["walls"]
    assert x0 < x1 < x2 and y0 > y1 == y2
    assert y1 < min(point["py"] for point in picture["points"])


def test_a_point_on_the_slope_lies_on_its_line():
    picture = drawn(Point("a", 1000, 100, 40), Point("b", 1000, 1, 40))
    (x0, y0), (x1, y1), _ = picture["walls"]
    a = picture["points"][0]
    assert a["share"] == 1
    assert (a["px"] - x0) / (x1 - x0) == pytest.approx((a["py"] - y0) / (y1 - y0))


def test_a_point_above_the_roof_is_in_the_picture():
    picture = drawn(Point("a", 10 ** 6, 100, 100))
    assert picture["points"][0]["py"] > 0 and picture["points"][0]["share"] > 1


def test_fused_layers_are_a_point_together():
    """Alone they may lie above the roof, together they lie under it."""
    points = (Point("a", 1000, 100, 90, "array", "1"), Point("b", 9000, 100, 10, "SDSA", "1"),
              Point("c", 100, 100, 100, "array", "2"), Point("d", 100, 100, 100))
    picture = drawn(*points)
    assert [point["name"] for point in picture["points"]] == ["a", "b", "c", "d"]
    group, = picture["groups"]
    assert group["name"] == "a to b (2 fused layers)" and group["wall"] == "array"
    assert (group["x"], group["y"]) == (50, 100)
    assert picture["points"][1]["share"] > 1 > group["share"] == pytest.approx(100 / 125)
    assert group["py"] > picture["points"][1]["py"]


def test_nothing_to_draw():
    assert drawn(Point("a", 0, 1, 1)) is None


def test_page_of_a_build():
    report = json.loads((RESULTS / "build-qsdt_nano.json").read_text())
    html = render_page(report)
    layers = [row for row in report["layers"] if row["MAC"]["value"]
              and row["weights B"]["value"] + row["maps in B"]["value"] + row["out B"]["value"]]
    assert html.count("<circle") == len(layers) > 30
    assert 'Roofline <span class="tag">rtl-sim' in html
    groups = {row["group"] for row in report["layers"] if row.get("group")}
    for number, row in enumerate(report["layers"]):
        row["group"] = str(number // 2)
    html = render_page(report)
    assert html.count('class="group"') >= 20 and len(groups) > 1 and "A ring is a group" in html
    assert "27.31 GMAC/s at 80 MHz" in html
