"""Sites of the block RAMs, before anything else of a congested chip is placed.

nextpnr's electrostatic placer moves the block RAMs to their few rows late, by the shortest way,
when the logic around them has its place: that costs a third of the wire it had then, and leaves the
blocks of one memory, which share 24 address wires, all over the chip. Here the sites come first,
from the netlist alone:

1. Wires are springs: a net of two pins is one, a net of more a star. Everything but the block RAMs
   goes where the springs pull it, so the energy of a choice of sites is a quadratic form of their
   coordinates: ``x S x + y S y``, S the Schur complement of the netlist's Laplacian.
2. Simulated annealing makes it small.
3. Once more with springs divided by their lengths, so that the energy is about the wirelength.

Nothing else gets a site. Measured on the 64x64 core: docs/decisions/0007.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from scipy import sparse

from gen.pnr.ecp5 import CLOCK_PORTS
from gen.pnr.graph import main_module, pins


__all__ = ["place_block_rams"]


ADDRESS_PULL = 5.0
"""How much stronger the spring of an address or an enable is: the wire of a large memory's is a
tree, longer than its span, and a small one lies within the logic of its unit."""

SHARED_BY_ALL = 2000
"""Nets with more pins are everywhere: clocks, enables of the whole chip."""

_ADDRESSES = ("ADA", "ADB", "CEA", "CEB", "WEA", "WEB")

_STEPS = 1_000_000


def place_block_rams(netlist: dict, sites: Sequence[tuple[int, int, str]], *, seed: int = 1) -> int:
    """Give every DP16KD of the top module its site (attribute ``BEL``), in place.

    Parameters
    ----------
    netlist : dict
        yosys' JSON of one flat module.
    sites : sequence of (int, int, str)
        Column, row (tiles) and name of each.
    seed : int
        Of the annealing.

    Returns
    -------
    int
        Block RAMs placed. 0, and nothing is done, where there are fewer than two, or fewer sites
        than blocks.
    """
    cells = main_module(netlist)["cells"]
    blocks = [name for name, cell in cells.items() if cell["type"] == "DP16KD"]
    if not 2 <= len(blocks) <= len(sites):
        return 0
    springs = _Springs(cells, blocks)
    places = np.array([site[:2] for site in sites], float)
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(sites))[:len(blocks)]
    strength = springs.strength
    # Five per cent of energy are ten per cent of wire: many steps, and not too cold too soon.
    for start in (200, 2000):
        schur, settle = springs.reduce(strength)
        energy = abs((places[chosen] * (schur @ places[chosen])).sum())
        chosen = _anneal(schur, places, chosen, _STEPS, energy / start, energy / 5e5, rng)
        # Springs of the length that they have now: strength / length makes |d| of d**2.
        strength = springs.strength / (springs.spans(settle(places[chosen])) + 3.0)
    for name, site in zip(blocks, chosen, strict=True):
        cells[name]["attributes"]["BEL"] = sites[site][2]
    return len(blocks)


class _Springs:
    """The netlist as a graph: nodes are the cells, then the centres of the stars."""

    def __init__(self, cells, blocks):
        index = {name: number for number, name in enumerate(cells)}
        is_block = {index[name] for name in blocks}
        of_net = defaultdict(set)
        addresses = set()
        for name, cell in cells.items():
            for port, bit in pins(cell):
                if port not in CLOCK_PORTS:
                    of_net[bit].add(index[name])
                    if cell["type"] == "DP16KD" and port.startswith(_ADDRESSES):
                        addresses.add(bit)
        nets = [(bit, sorted(net)) for bit, net in of_net.items() if 2 <= len(net) <= SHARED_BY_ALL]
        heads, tails, owners, strength = [], [], [], []
        nodes = len(cells)
        for number, (bit, net) in enumerate(nets):
            if len(net) == 2:
                heads.append(net[0])
                tails.append(net[1])
                owners.append(number)
                strength.append(1.0)
                continue
            pull = len(net) / (len(net) - 1)
            if bit in addresses:
                pull *= ADDRESS_PULL
            heads += net
            tails += [nodes] * len(net)
            owners += [number] * len(net)
            strength += [pull] * len(net)
            nodes += 1
        self._heads, self._tails = np.array(heads), np.array(tails)
        self._owners, self._nets, self._nodes = np.array(owners), len(nets), nodes
        self._blocks = np.array(sorted(is_block))
        free = np.ones(nodes, bool)
        free[self._blocks] = False
        self._free = np.flatnonzero(free)
        self.strength = np.array(strength)

    def reduce(self, strength):
        """The quadratic form of the block RAMs' coordinates, and a function from those to the
        coordinates of all nodes."""
        graph = sparse.coo_matrix((strength, (self._heads, self._tails)),
                                  shape=(self._nodes, self._nodes))
        graph = (graph + graph.T).tocsr()
        # A little more on the diagonal holds what is connected to nothing.
        laplacian = (sparse.diags(np.asarray(graph.sum(axis=1)).ravel() + 1e-7) - graph).tocsr()
        inner = laplacian[self._free][:, self._free]
        border = laplacian[self._free][:, self._blocks]
        pulled = _solve(inner, -border.toarray(), tolerance=2e-3)
        schur = laplacian[self._blocks][:, self._blocks].toarray() + border.T @ pulled

        def settle(places):
            everything = np.zeros((self._nodes, 2))
            everything[self._blocks] = places
            everything[self._free] = _solve(inner, -(border @ places), tolerance=1e-4)
            return everything

        return (schur + schur.T) / 2, settle

    def spans(self, where):
        """Half the perimeter of the net, for every spring."""
        total = np.zeros(self._nets)
        for axis in range(2):
            low, high = np.full(self._nets, np.inf), np.full(self._nets, -np.inf)
            for ends in (self._heads, self._tails):
                np.minimum.at(low, self._owners, where[ends, axis])
                np.maximum.at(high, self._owners, where[ends, axis])
            total += high - low
        return total[self._owners]


def _solve(matrix, right, *, tolerance, most=400):
    """Conjugate gradients with a diagonal preconditioner, for all columns of ``right`` at once."""
    scale = 1 / matrix.diagonal()[:, None]
    found = np.zeros_like(right)
    rest = right.copy()
    steered = scale * rest
    direction = steered.copy()
    product = (rest * steered).sum(axis=0)
    size = np.sqrt((right * right).sum(axis=0)) + 1e-30
    for step in range(most):
        moved = matrix @ direction
        length = product / ((direction * moved).sum(axis=0) + 1e-30)
        found += length * direction
        rest -= length * moved
        if step % 20 == 19 and (np.sqrt((rest * rest).sum(axis=0)) / size).max() < tolerance:
            break
        steered = scale * rest
        following = (rest * steered).sum(axis=0)
        direction = steered + following / (product + 1e-30) * direction
        product = following
    return found


def _anneal(schur, places, chosen, steps, hot, cold, rng):
    """Sites for the blocks with little energy.

    A step draws a site for one block from all of them, by the energy that the move, or the swap
    with the block there, would have (heat bath).
    """
    chosen = np.array(chosen)
    nobody = len(chosen)
    owner = np.full(len(places), nobody)
    owner[chosen] = np.arange(nobody)
    # One more row for nobody, who pulls nothing.
    force = np.vstack([schur @ places[chosen], np.zeros(2)])
    padded = np.pad(schur, (0, 1))
    stiffness = padded.diagonal().copy()
    for step, block in enumerate(rng.integers(nobody, size=steps)):
        temperature = hot * (cold / hot) ** (step / steps)
        here = chosen[block]
        moves = places - places[here]
        change = (2 * (moves * (force[block] - force[owner])).sum(axis=1)
                  + (moves * moves).sum(axis=1)
                  * (stiffness[block] + stiffness[owner] - 2 * padded[block, owner]))
        change[here] = 0
        site = int(np.argmin(change - temperature * rng.gumbel(size=len(places))))
        if site == here:
            continue
        other = owner[site]
        force += np.outer(padded[:, block] - padded[:, other], moves[site])
        force[nobody] = 0
        chosen[block], owner[site], owner[here] = site, block, other
        if other != nobody:
            chosen[other] = here
    return chosen
