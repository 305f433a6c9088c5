import json

from gen import work
from model.error import TimingMissed


def test_predict():
    found = work.predict(model="qsdt_nano", board="ulx3s-25f")
    assert found["fits"] and found["lanes"] == 256
    assert found["images/s"] == round(80_000_000 / found["cycles"], 2)
    none = work.predict(model="qsdt_nano", board="ulx3s-25f", rows=64)
    assert not none["fits"] and none["reason"].startswith("block RAMs (DP16KD) of ulx3s-25f: ")


def test_verify():
    assert work.verify(model="qsdt_nano", first=3, count=2) == {
        "images": 2, "equal": True, "difference": ""}


def test_route_has_a_result_where_timing_is_missed(tmp_path, monkeypatch):
    """The figures are those of nextpnr's report."""
    from gen.flow import route as module
    from gen.flow import toolchain

    (tmp_path / "synth.stamp.json").write_text(json.dumps({"data": {"congested": False}}))
    asked = []

    def route(board, folder, tools, *, seeds, congested):
        asked.append((board.name, seeds, congested))
        (folder / "route-7.json").write_text(json.dumps({"critical_paths": [], "fmax": {
            "clk": {"achieved": 75.0, "constraint": 80.0},
            "board_clk": {"achieved": 150.0, "constraint": 25.0}}}))
        raise TimingMissed("Too slow")

    monkeypatch.setattr(module, "route", route)
    monkeypatch.setattr(toolchain, "find_toolchain", lambda choice: None)
    assert work.route(board="ulx3s-12f", seed=7, folder=tmp_path) == {
        "met": False, "margin": 0.9375, "MHz of board_clk": 150.0, "MHz of clk": 75.0,
        "crossing ns": 0}
    assert asked == [("ulx3s-12f", (7,), False)]
