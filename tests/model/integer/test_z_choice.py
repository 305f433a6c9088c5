"""Width of z by layer: what each bit is worth, the order in which bits go, and where it ends."""

from dataclasses import replace

import numpy as np
import pytest

from hw.config import Z_BITS_MIN
from model.integer.epilogue import IntegerParams, Integrate, WIDE
from model.integer.export import build, fold
from model.integer.random_network import random_network
from model.integer.z_choice import (
    BITS_MIN,
    choose,
    FRACTIONS,
    ladder,
    Option,
    reader_macs,
    sensitivity,
    with_z,
)


def options_of(**shares):
    """Options of layers from lists of shares, for BITS_MIN bits and upwards."""
    return {name: {BITS_MIN + k: Option(frac=k, share=share) for k, share in enumerate(values)}
            for name, values in shares.items()}


def test_the_hardware_computes_with_what_is_tried():
    assert BITS_MIN >= Z_BITS_MIN


def test_bits_go_where_they_are_worth_least():
    options = options_of(a=[0.5, 0.1, 0.0], b=[0.3, 0.2, 0.1])
    rungs = ladder(options, {"a": 10, "b": 1})
    # Prices of the bits of a: 0.01, then 0.04; of b 0.1 and 0.1.
    assert rungs == [{"a": 6, "b": 6}, {"a": 5, "b": 6}, {"a": 4, "b": 6}, {"a": 4, "b": 5},
                     {"a": 4, "b": 4}]
    assert ladder(options, {"a": 1, "b": 10})[1:3] == [{"a": 6, "b": 5}, {"a": 6, "b": 4}]


PICTURES = 2000


def logits_of(hits, sure):
    """Scores of two classes for pictures of class 0: so many right, and the probability of the
    right class in the mean ``sure``."""
    right = np.where(np.arange(PICTURES) < hits, 0.5 + 1e-9, 0.5 - 1e-9)
    right[: PICTURES // 2] += 2 * (sure - right.mean())
    return np.log(np.stack([right, 1 - right], axis=1))


@pytest.mark.parametrize("hits, sure, taken", [
    # of five rungs, the widest first; the widths to compare with have 1500 and 0.6
    ([1500] * 5, [600, 600, 600, 600, 600], 4),
    ([1500] * 5, [600, 600, 599.6, 599, 599], 2),
    ([1500, 1502, 1600, 1500, 1500], [599, 599, 599.6, 598, 598], 2),
    # a rung with too few right answers is not taken, but what lies below it is tried
    ([1500, 1500, 1499, 1498, 1500], [600, 600, 600, 600, 600], 4),
    ([1500, 1500, 1499, 1498, 1490], [600, 600, 600, 600, 600], 2),
    ([1499, 1498, 1490, 1490, 1490], [600, 599, 599, 599, 599], 0),
    ([1500] * 5, [599, 599, 599, 599, 599], None),
    ([1498] * 5, [600, 600, 600, 600, 600], None),
])
def test_the_narrowest_that_is_good_enough(hits, sure, taken):
    """0.05 points of 2,000 pictures are one."""
    options, macs = options_of(a=[0.4, 0.1, 0], b=[0.3, 0.2, 0.1]), {"a": 10, "b": 1}
    params = IntegerParams(z_bits=6)
    networks = [with_z(params, options, bits) for bits in ladder(options, macs)]

    def logits(tried):
        if tried == params:
            return logits_of(1500, 0.6)
        return logits_of(hits[networks.index(tried)], sure[networks.index(tried)] / 1000)

    found = choose(options, macs, params, logits, np.zeros(PICTURES, int), points=0.05)
    assert (found.hits, found.count) == (1500, 2000) and found.sure == pytest.approx(0.6)
    if taken is None:
        assert found.taken is None and found.params == params and found.mean_bits == 6
    else:
        assert found.params == networks[taken] and found.taken in found.tried
        assert found.taken.hits == hits[taken]
        assert found.taken.sure == pytest.approx(sure[taken] / 1000)
        assert found.taken.won == max(0, hits[taken] - 1500)
        assert found.taken.lost == max(0, 1500 - hits[taken])
        bits = found.taken.bits
        assert found.mean_bits == (10 * bits["a"] + bits["b"]) / 11
    assert len(found.tried) <= 3


@pytest.fixture(scope="module")
def made():
    params = IntegerParams(z_bits=9, z_frac=4, u_frac=8, u_bits=12, acc_bits=26)
    return random_network(3, max_dim=32, max_size=10, extremes=(), params=params)


def test_sensitivity_is_the_share_of_levels(made):
    """Against whole networks that run from equal inputs: the exact form, and one of each width."""
    spec, params, network = made.spec, made.params, made.network
    layers, image_q = fold(made.state, spec), made.images(5)
    done = []
    options = sensitivity(layers, spec, params, image_q, batch=2, progress=done.append)
    assert done == [2, 2, 1] * 2
    assert set(options) == {name.removesuffix("/z") for name in network.z_widths()}
    shape = network.input_shape
    base = network.run(image_q)
    base.pop("logits")
    inputs = {name: value for name, value in base.items() if not name.endswith("/z")}
    shift = WIDE.u_frac - params.u_frac
    raised = {name: value.astype(np.int64) << shift if name.endswith("/u") else value
              for name, value in inputs.items()}
    exact = build(layers, spec, form="wide", input_shape=shape).run(image_q, force=raised)
    behind = {op.source.removesuffix("/z"): op.epilogue.level for op in network.ops
              if op.inputs[0] in network.z_widths()}
    kinds = {type(op.epilogue) for op in network.ops if op.inputs[0] in network.z_widths()}
    assert Integrate in kinds and len(kinds) == 2
    largest = {name: int(np.frexp(np.abs(exact[f"{name}/z"]).max() / 2.0**WIDE.z_frac)[1])
               for name in behind}
    assert all(set(known) == set(range(BITS_MIN, 10)) for known in options.values())
    for bits in (4, 7):
        shares = {name: {} for name in behind}
        for finer in range(FRACTIONS):
            fracs = {name: max(0, bits - 1 - size) + finer for name, size in largest.items()}
            widths = replace(params, z_bits=bits, z_frac_of=tuple(fracs.items()))
            found = build(layers, spec, widths, input_shape=shape).run(image_q, force=inputs)
            for name, level in behind.items():
                shares[name][fracs[name]] = np.mean(found[level] != exact[level])
        for name, known in shares.items():
            option = options[name][bits]
            assert option.share == pytest.approx(min(known.values()), abs=1e-12), name
            assert known[option.frac] == min(known.values())
    for known in options.values():
        assert known[9].share <= known[4].share


def test_macs_of_what_reads_a_z(made):
    macs = reader_macs(made.network)
    tensors = made.network.tensors()
    for op in made.network.ops:
        if op.inputs[0] in made.network.z_widths():
            _, channels, height, width = tensors[next(iter(op.outputs))]
            assert macs[op.source.removesuffix("/z")] == (
                channels * op.weight.shape[1] * height * width)
    assert len(macs) == len(made.network.z_widths())
