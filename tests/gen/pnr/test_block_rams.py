from itertools import pairwise

import numpy as np
import pytest
from scipy import sparse

from gen.pnr import block_rams as floorplan
from gen.pnr.block_rams import _anneal, _solve, _Springs, place_block_rams
from gen.pnr.ecp5 import BLOCK_RAM_SITES


SITES_85 = BLOCK_RAM_SITES["--85k"]
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
