"""Weights of more than 4 bits."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from gen.compile.compiler import compile_network
from gen.compile.maps import check, make_maps
from gen.compile.wide import halves_bound, has_wide, lowered, split
from model.error import DoesNotFit, InputError
from model.families.sdt_v3 import SdtV3Spec
from model.integer.graph import Conv, Depthwise
from tests.gen.random_cases import random_case


def test_split():
    """Every weight that there is, and none of 4 bits with an upper half."""
    weight = np.arange(-136, 120)
    high, low = split(weight)
    np.testing.assert_array_equal(16 * high + low, weight)
    for half in (high, low):
        assert (half.min(), half.max()) == (-8, 7)
    assert set(weight[high == 0]) == set(range(-8, 8))


@pytest.fixture(scope="module")
def wide():
    """A small network of 8 bits, and a core for it."""
    return random_case(3, family=SdtV3Spec)


def test_lowered(wide):
    """Depthwise convolutions become dense ones that compute the same."""
    network, images = wide[0].network, wide[0].images(1)
    other = lowered(network)
    assert {type(op) for op in network.ops} - {type(op) for op in other.ops} == {Depthwise}
    made, expected = other.run(images), network.run(images)
    assert made.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(made[name], values)
    found, _ = random_case(1, family=SdtV3Spec)
    assert lowered(found.network) is found.network
    assert not any(map(has_wide, found.network.ops))


def test_a_core_without_wide_weights(wide):
    found, config = wide
    assert config.wide_weights
    with pytest.raises(InputError, match="has weights of more than 4 bits, which the core does "
                                         "not multiply with; leave core.wide_weights out"):
        compile_network(found.network, replace(config, wide_weights=False))


def test_sums_of_halves(wide):
    """They are larger than those of the weights, and the core must hold them as well."""
    found, config = wide
    network = found.network
    for op in lowered(network).ops:
        if isinstance(op, Conv):
            bound, = network.acc_bounds(op)
            assert (halves_bound(network, op)[0] >= bound).all()
    layout = make_maps(lowered(network), config, 1)
    op = replace(next(op for op in network.ops if isinstance(op, Conv) and op.source != "image"),
                 weight=np.full((1, 1000, 5, 5), 8))    # 16 - 8: 24 for 8
    assert network.acc_bound(op) == 800_000 and halves_bound(network, op)[0].max() == 2_400_000
    other = SimpleNamespace(params=replace(network.params, acc_bits=21), levels=4, ops=[op],
                            z_widths=dict, acc_bounds=network.acc_bounds)
    with pytest.raises(DoesNotFit, match=f"largest accumulator of {op.name}, in halves") as error:
        check(other, replace(config, acc_bits=21), layout.maps)
    assert (error.value.needed, error.value.available) == (2_400_000, (1 << 20) - 1)
