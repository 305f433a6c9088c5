from itertools import pairwise

import numpy as np
import pytest
from scipy import sparse

from gen import floorplan
from gen.floorplan import _anneal, _solve, _Springs, place_block_rams, SITES, thin_out


SITES_85 = SITES["--85k"]
BANKS, BLOCKS = 6, 8


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(floorplan, "_STEPS", 10_000)


def banks_netlist():
    """Banks of block RAMs with common addresses; each bank's outputs go to a chain of tables, and
    the chains hang together in a row."""
    cells, net = {}, iter(range(2, 10_000))

    def add(name, kind, **pins):
        cells[name] = {"type": kind, "attributes": {}, "connections": pins}

    chains = []
    for bank in range(BANKS):
        addresses = [next(net) for _ in range(12)]
        outputs = [next(net) for _ in range(BLOCKS)]
        add(f"source_{bank}", "LUT4", Z=addresses)
        for block, output in enumerate(outputs):
            add(f"bank_{bank}_{block}", "DP16KD", ADA=addresses, DOA=[output], CLKA=[1])
        links = [next(net) for _ in range(BLOCKS + 1)]
        for block, (output, (before, after)) in enumerate(zip(outputs, pairwise(links),
                                                              strict=True)):
            add(f"table_{bank}_{block}", "LUT4", A=[output], B=[before], C=["0"], Z=[after])
        chains.append(links)
    for (bank, left), (_, right) in pairwise(enumerate(chains)):
        add(f"joint_{bank}", "LUT4", A=[left[-1]], Z=[right[0]])
    return {"modules": {"top": {"cells": cells}, "$model": {"cells": {}}}}


def test_banks_lie_together():
    netlist = banks_netlist()
    assert place_block_rams(netlist, SITES_85) == BANKS * BLOCKS
    where = {name: (x, y) for x, y, name in SITES_85}
    cells = netlist["modules"]["top"]["cells"]
    used = [cells[f"bank_{bank}_{block}"]["attributes"]["BEL"]
            for bank in range(BANKS) for block in range(BLOCKS)]
    assert len(set(used)) == len(used)
    spread = np.ptp(np.array([where[site] for site in used]).reshape(BANKS, BLOCKS, 2), axis=1)
    # Eight neighbours take 17 columns of a row; random sites span 90 columns and all rows.
    assert spread.sum(axis=1).max() <= 45
    assert not any("BEL" in cell["attributes"] for cell in cells.values()
                   if cell["type"] != "DP16KD")


def test_repeatable():
    one, other = banks_netlist(), banks_netlist()
    place_block_rams(one, SITES_85)
    place_block_rams(other, SITES_85)
    assert one == other


def test_more_blocks_than_sites():
    """Nothing is placed: the step that counts resources says what is missing."""
    netlist = banks_netlist()
    assert place_block_rams(netlist, SITES_85[:BANKS * BLOCKS - 1]) == 0
    assert netlist == banks_netlist()


def test_nothing_to_place():
    netlist = {"modules": {"top": {"cells": {"a": {
        "type": "DP16KD", "attributes": {}, "connections": {}}}}}}
    assert place_block_rams(netlist, SITES_85) == 0
    assert netlist["modules"]["top"]["cells"]["a"]["attributes"] == {}


def test_sites():
    """208 block RAMs of the LFE5U-85F, each with a name of its own."""
    assert len({name for _, _, name in SITES_85}) == 208


def test_quadratic_form():
    """S gives the energy of all springs where the rest has settled."""
    cells = banks_netlist()["modules"]["top"]["cells"]
    blocks = [name for name, cell in cells.items() if cell["type"] == "DP16KD"]
    springs = _Springs(cells, blocks)
    schur, settle = springs.reduce(springs.strength)
    places = np.random.default_rng(0).uniform(0, 100, (len(blocks), 2))
    everything = settle(places)
    stretched = everything[springs._heads] - everything[springs._tails]
    energy = (springs.strength[:, None] * stretched**2).sum()
    assert (places * (schur @ places)).sum() == pytest.approx(energy, rel=2e-2)


def test_solver():
    rng = np.random.default_rng(1)
    half = rng.normal(size=(30, 30))
    matrix = half @ half.T + 30 * np.eye(30)
    right = rng.normal(size=(30, 3))

    found = _solve(sparse.csr_matrix(matrix), right, tolerance=1e-9)
    np.testing.assert_allclose(matrix @ found, right, atol=1e-6)


def test_annealing_keeps_sites_apart():
    """Two blocks that pull each other, among four sites: they end next to each other."""
    places = np.array([(0, 0), (30, 0), (50, 0), (52, 0)], float)
    schur = np.array([[1.0, -1.0], [-1.0, 1.0]])
    chosen = _anneal(schur, places, [0, 3], 2000, 1000.0, 0.01, np.random.default_rng(0))
    assert sorted(chosen) == [2, 3]


def crowded_placement():
    """Tables everywhere; 30 wires from each tile of a square to its opposite one."""
    cells = {f"t_{x}_{y}": {"type": "TRELLIS_COMB", "connections": {},
                            "attributes": {"NEXTPNR_BEL": f"X{x}/Y{y}/SLICEA.K0"}}
             for x in range(2, 90) for y in range(2, 70)}
    net = 0
    for x in range(30, 50):
        for y in range(20, 40):
            nets = list(range(net, net := net + 30))
            cells[f"t_{x}_{y}"]["connections"]["F"] = nets
            cells[f"t_{79 - x}_{59 - y}"]["connections"].setdefault("A", []).extend(nets)
    return {"modules": {"top": {"cells": cells}}}


def test_thin_out():
    netlist = {"modules": {"top": {"cells": {}}}}
    count = thin_out(netlist, crowded_placement())
    cells = netlist["modules"]["top"]["cells"]
    assert count == len(cells) > 0
    bels = [cell["attributes"]["BEL"] for cell in cells.values()]
    assert len(set(bels)) == count
    tiles = np.array([[int(part[1:]) for part in bel.split("/")[:2]] for bel in bels])
    # Most of them in the middle of the square, none far from it.
    assert abs(tiles.mean(axis=0) - (39.5, 29.5)).max() < 1
    assert tiles.min(axis=0).min() > 15 and tiles.max(axis=0).max() < 55
    assert np.unique(tiles, axis=0, return_counts=True)[1].max() == 3
    again = {"modules": {"top": {"cells": {}}}}
    thin_out(again, crowded_placement())
    assert again == netlist


def test_thin_out_with_room():
    """Nothing is added where wires have room."""
    placed = crowded_placement()
    for cell in placed["modules"]["top"]["cells"].values():
        cell["connections"] = {pin: nets[::30] for pin, nets in cell["connections"].items()}
    netlist = {"modules": {"top": {"cells": {}}}}
    assert thin_out(netlist, placed) == 0 and not netlist["modules"]["top"]["cells"]
