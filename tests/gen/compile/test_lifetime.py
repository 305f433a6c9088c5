import numpy as np
import pytest

from gen.compile.lifetime import Lifetimes
from gen.compile.maps import make_maps
from model.integer.graph import Attention, Conv, Integrate
from tests.gen.random_cases import folding_network, random_case


@pytest.fixture(scope="module", params=range(4))
def life(request):
    random = request.param < 3
    network = random_case(request.param)[0].network if random else folding_network(16, 2)
    _, config = random_case(0)
    return Lifetimes(network.ops, make_maps(network, config, 1).maps)


def test_users_and_makers(life):
    """Replay: a tensor is there when an operator reads it, and is read for the last time where
    ``last_use`` says."""
    made, read = {"image": -1}, {}
    for number, op in enumerate(life.ops):
        for name in op.inputs:
            assert name in made
            read.setdefault(name, []).append(number)
        made |= dict.fromkeys(op.outputs, number)
    made.pop("image")
    for name, maker in made.items():
        users = read.get(name, [])
        assert life.users[name] == users
        if name in life.dead:
            assert not users and name not in life.maker and name not in life.last_use
        else:
            assert life.maker[name] == maker
            assert life.last_use[name] == (users[-1] if users else maker)
    # Only the membrane of an operator that fires as well needs not be written.
    for op in life.ops:
        for name, kind in op.outputs.items():
            if name in life.dead:
                assert kind == "u" and len(op.outputs) == 2
    assert life.dead


def test_inside_groups(life):
    """What is made and used between two cuts, and nowhere else; but for what attention writes over,
    since that goes on as what it makes."""
    count = len(life.ops)
    over = {op.value for number, op in enumerate(life.ops)
            if isinstance(op, Attention) and life.in_place(number)[0] == op.value}
    for cuts in ((0, count), tuple(range(count + 1)), (0, count // 3, count // 2, count)):
        found = life.inside(cuts)
        for name in life.maker:
            group = [sum(cut <= number for cut in cuts) for number in
                     (life.maker[name], *life.users[name])]
            assert (name in found) == (len(set(group)) == 1 and name not in over | {"logits_acc"})
    assert life.names(range(count)) == {name for op in life.ops
                                        for name in (*op.inputs, *op.outputs)}


def test_in_place(life):
    """An old map is overwritten only by the one operator that reads it."""
    some = 0
    keys = {(op.query, op.key) for op in life.ops if isinstance(op, Attention)}
    for number, op in enumerate(life.ops):
        old, new = life.in_place(number)
        if isinstance(op, Attention):
            assert (old, new) == (op.value, op.level) and life.users[old] == [number]
            assert life.maps[old].row_words == life.maps[new].row_words
            continue
        if (old, new) in keys:    # in words that q leaves
            query, key = life.maps[old], life.maps[new]
            assert query.row_words == key.row_words and not {*query.used} & {*key.used}
            assert life.users[old] == life.users[new]
            continue
        integrates = isinstance(getattr(op, "epilogue", None), Integrate)
        if old is None:
            assert new is None
            assert not (integrates and op.epilogue.u_in is not None
                        and op.epilogue.u_out not in life.dead
                        and all(k <= number for k in life.users[op.epilogue.u_in])
                        and len(life.users[op.epilogue.u_in]) == 1)
            continue
        some += 1
        assert (old, new) == (op.epilogue.u_in, op.epilogue.u_out)
        assert [k for k, other in enumerate(life.ops) if old in other.inputs] == [number]
        assert new in life.maker
    assert some


def step(number, source, **integrate):
    """An operator that reads ``source`` and integrates; its weights do not matter."""
    return Conv(f"op{number}", source, np.ones((1, 1, 1, 1), np.int8), 1, 0,
                Integrate(None, **integrate))


def test_a_membrane_that_two_operators_read():
    """It must not be overwritten; one that nobody reads is dead only where it was fired."""
    ops = [step(0, "image", u_out="u0", level="x0"),
           step(1, "x0", u_in="u0", u_out="u1", level="x1"),
           step(2, "x1", u_in="u0", u_out="u2"),
           step(3, "x1", u_in="u1", u_out="u3", level="x3")]
    names = ["image", *(name for op in ops for name in op.outputs)]
    life = Lifetimes(ops, dict.fromkeys(names))
    assert life.dead == {"u3"}
    assert life.last_use == {"u0": 2, "x0": 1, "u1": 3, "x1": 3, "u2": 2, "x3": 3}
    assert [life.in_place(number) for number in range(4)] == [(None, None)] * 4
    life = Lifetimes(ops[:2] + [step(2, "u1", u_out="u2")], dict.fromkeys(names))
    assert life.in_place(1) == ("u0", "u1")
