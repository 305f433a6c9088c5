from contextlib import nullcontext
import json
from pathlib import Path

import pytest

from boards import find_board
from gen.flow.congested import EFFORTS, Hopeless, Watch
from gen.flow.route import route
from gen.pnr import place
from model.error import DoesNotFit, TimingMissed
from tests.gen.flow.fake_flow import runs


PLACED = {"modules": {"top": {
    "settings": {"timing_driven": f"{0:032b}"},
    "ports": {"pin": {"direction": "output", "bits": [3]}},
    "netnames": {"clk": {"bits": [2]}, "n": {"bits": [3]}},
    "cells": {name: {"type": "TRELLIS_COMB", "parameters": {}, "connections": {port: [3]},
                     "port_directions": {port: direction},
                     "attributes": {"NEXTPNR_BEL": f"X{x}/Y4/SLICEA.K0"}}
              for name, port, direction, x in (("t", "F", "output", 3), ("u", "A", "input", 9))}}}}

NEXTPNR = f"""
echo "$*" >> "$RUNS"
while [ $# -gt 0 ]; do
  case $1 in --write) placed=$2;; --textcfg) config=$2;; --report) report=$2;; --lpf) lpf=$2;;
             --tmg-ripup) hasty=1;; esac
  shift
done
if [ ! "$config" ]; then
  echo "Info:     Derived frequency constraint of 80.0 MHz for net clk"
  echo '{json.dumps(PLACED)}' > $placed
  exit 0
fi
if [ "$hasty" ] && [ "$NEVER" ]; then
  echo "$NEVER" | while read line; do echo "$line"; sleep 1; done; sleep 60
fi
cp $lpf $config
cp placed.json $placed
echo '{{"fmax": {{"clk": {{"achieved": 82, "constraint": 83}},
               "other": {{"achieved": 26, "constraint": 25}}}}, "utilization": {{}}}}' > $report
exit 1
"""


@pytest.fixture
def congested(fake, folder, monkeypatch):
    """``(board, tools)``, and a netlist that needs help."""
    monkeypatch.setattr(place, "MOVES", 500)
    (folder / "top.lpf").write_text("LOCATE;\n")
    tools = fake()
    Path(tools.nextpnr.command[0]).write_text(f"#!/bin/sh\n{NEXTPNR}")
    return find_board("ulx3s-85f"), tools


def test_congested_chip(congested, folder):
    """Placed for wire, then for clocks, too; a router in more of a hurry than the report says."""
    board, tools = congested
    told = []
    routed = route(board, folder, tools, congested=True, seeds=[7], on_progress=told.append)
    placed, routing = runs(folder)
    assert "--json sited.json" in placed and "--no-tmdriv --no-route --write placed.json" in placed
    assert "--seed 7" in routing and "--json placed.json --lpf route.lpf" in routing
    assert "--tmg-ripup" in routing
    assert routed.config.read_text() == (
        'LOCATE;\n\nFREQUENCY NET "clk" 81.6 MHZ;\nFREQUENCY NET "$glbnet$clk" 81.6 MHZ;\n')
    assert routed.clocks == {"clk": {"achieved": 82, "constraint": 80},
                             "other": {"achieved": 26, "constraint": 25}}
    assert any("seed 7: placement, round 80 of 80: wire length 0" in line for line in told)
    of_seed, = routed.seeds
    assert list(of_seed["parts"]) == ["block RAMs", "global placement",
                                     "detailed placement", "routing"]
    assert sum(of_seed["parts"].values()) == pytest.approx(of_seed["seconds"], abs=0.5)
    assert of_seed["placement"]["wire"] == 0 and of_seed["effort"] == 1.02
    assert route(board, folder, tools, congested=True, seeds=[7]).reused
    assert len(runs(folder)) == 2


ITERATION = "Info:     iter={} wires=1 overused={} overuse=0 tmgfail={} archfail=NA"


@pytest.mark.parametrize("line", [ITERATION.format(151, 0, 3), ITERATION.format(10, 9, 0) + "\n"
                                  + ITERATION.format(300, 9, 0)])
def test_router_that_does_not_end(congested, folder, monkeypatch, line):
    """What it cannot make fast enough is routed all the same, to say how fast it is."""
    monkeypatch.setenv("NEVER", line)
    board, tools = congested
    assert route(board, folder, tools, congested=True).clocks["clk"]["achieved"] == 82
    asked = [effort for effort in EFFORTS if effort <= 1.02]
    assert ["--tmg-ripup" in run for run in runs(folder)] == [False, *(True for _ in asked), False]


def test_router_tries_again(congested, folder):
    """With more effort, until a try meets the clocks; else the best one counts."""
    board, tools = congested
    script = Path(tools.nextpnr.command[0])
    plain = script.read_text()

    def reach(cases, otherwise):
        script.write_text(plain.replace(
            "cp $lpf $config",
            f"cp $lpf $config; case $(cat $lpf) in {cases} *) mhz={otherwise};; esac"
            ).replace('"achieved": 82', '"achieved": \'$mhz\''))

    # 81 MHz would do, but not by much.
    reach("*81.6*) mhz=81;;", 82)
    assert route(board, folder, tools, congested=True).clocks["clk"]["achieved"] == 82
    assert "83.2 MHZ" in (folder / "route-1.config").read_text() and len(runs(folder)) == 3
    reach("*81.6*) mhz=78;;", 77)
    with pytest.raises(TimingMissed, match="clk reaches 78 of 80 MHz"):
        route(board, folder, tools, congested=True, force=True)
    # Clocks slower than those are not asked for: it came to an end with faster ones.
    assert len(runs(folder)) == 3 + 1 + 3


@pytest.mark.parametrize(("lines", "hopeless"), [
    # Too slow for too long; many wires for 16 passes, or slowly fewer of them.
    ([(150, 0, 3)], False), ([(151, 0, 3)], True), ([(500, 1, 0)], False),
    ([(10, 900, 0), (26, 901, 0)], True), ([(10, 900, 0), (26, 899, 0)], False),
    # Few wires may stay for longer.
    ([(40, 5, 0), (240, 5, 0)], False), ([(40, 5, 0), (241, 6, 0)], True)])
def test_router_that_is_given_up(lines, hopeless):
    watch = Watch()
    with pytest.raises(Hopeless) if hopeless else nullcontext():
        for line in lines:
            watch(ITERATION.format(*line))
            watch("Info: Routing..")


def test_draft_does_not_fit(fake, folder):
    """What has no room is named by the first run of nextpnr already."""
    tools = fake()
    Path(tools.nextpnr.command[0]).write_text(
        '#!/bin/sh\necho "Info: TRELLIS_COMB: 90000/ 83640 107%"\nexit 1\n')
    with pytest.raises(DoesNotFit, match="TRELLIS_COMB of ulx3s-85f: 90000 needed, 83640"):
        route(find_board("ulx3s-85f"), folder, tools, congested=True)
