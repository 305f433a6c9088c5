import random

from amaranth import Module, Signal, signed
import pytest

from hw.neuron.sum_tree import sum_tree
from sim.drive.ports import simulate


@pytest.mark.parametrize("shape", [1, 3, signed(4)])
@pytest.mark.parametrize(("count", "stages"), [
    (1, 1), (2, 1), (4, 1), (5, 2), (8, 2), (16, 2), (17, 3), (64, 3)])
def test_sum(count, stages, shape):
    """The sum of terms, and its valid, a cycle later for each factor of four of their number."""
    rng = random.Random(count)
    m = Module()
    terms, valid = [Signal(shape, name=f"term_{k}") for k in range(count)], Signal()
    low, high = terms[0].shape().signed and -8, (1 << len(terms[0])) - 1
    high = 7 if terms[0].shape().signed else high
    total, total_valid = sum_tree(m, "sum", terms, valid)
    given = []

    async def testbench(ctx):
        for cycle in range(60):
            values = [rng.choice([low, high, rng.randint(low, high)]) for _ in terms]
            if cycle < 4:
                values = [(low, high)[cycle % 2]] * count
            for term, value in zip(terms, values, strict=True):
                ctx.set(term, value)
            given.append((sum(values), rng.randrange(2)))
            ctx.set(valid, given[-1][1])
            if cycle >= stages:
                assert (ctx.get(total), ctx.get(total_valid)) == given[cycle - stages]
            await ctx.tick()

    simulate(m, testbench)
