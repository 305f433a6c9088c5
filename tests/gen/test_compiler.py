"""Integer model = ISS on random networks, every tensor, and every corner reached."""

from dataclasses import replace

import numpy as np
import pytest

from gen.compiler import compile_network
from gen.error import DoesNotFit
from gen.verify import verify
from hw.descriptor import UnitKind
from model.integer_random import random_network
from tests.gen.random_cases import compile_case, random_case


NETWORKS = 50


def test_iss_equals_integer_model_on_random_networks():
    reached, strips = {}, 0
    for seed in range(NETWORKS):
        found, program = compile_case(seed)
        result = verify(found.network, program, found.images(2, seed), forms=("integer", "iss"))
        assert not result.differences, (seed, result.lines)
        for key, count in result.figures["stats"].items():
            reached[key] = reached.get(key, 0) + count
        spilled = sum(home == "memory" for home, _ in program.homes.values()) - 2
        reached["spilled"] = reached.get("spilled", 0) + spilled
        strips = max(strips, *program.strips.values())
    for key in ("ktv_saturated", "qktv_saturated", "z_saturated", "u_saturated", "zero_scale",
                "negative_scale", "threshold_clipped", "spilled"):
        assert reached[key] > 0, (key, reached)
    assert strips >= 3


def test_deterministic():
    found, config = random_case(3)
    a, b = (compile_network(found.network, config) for _ in range(2))
    np.testing.assert_array_equal(a.payload, b.payload)


def test_waits_name_only_earlier_descriptors():
    found, config = random_case(5)
    counts = [0] * 6
    for descriptor in compile_network(found.network, config).descriptors:
        assert all(w <= c for w, c in zip(descriptor.waits, counts, strict=True))
        assert descriptor.unit is not UnitKind.END
        counts[descriptor.unit.value] += 1


@pytest.mark.parametrize("change, text", [
    ({"z_bits": 7}, "Width of z"),
    ({"membrane_frac": 14}, "Membrane fraction"),
    ({"psum_words": 1}, "partial sums for one row"),
    ({"pool_bank_words": 8}, "pool words for the smallest strip"),
])
def test_does_not_fit(change, text):
    found, config = random_case(3)
    with pytest.raises(DoesNotFit, match=text) as error:
        compile_network(found.network, replace(config, **change))
    assert error.value.needed and error.value.available


def test_memory_too_small():
    found, config = random_case(3)
    with pytest.raises(DoesNotFit, match="memory words.*weights and constants"):
        compile_network(found.network, config, memory_words=1000)


def test_head_too_wide():
    found = random_network(0, head_size=80)
    _, config = random_case(0)
    params = found.params
    with pytest.raises(DoesNotFit):
        compile_network(found.network, replace(
            config, rows=16, load_columns=4, head_words=1, membrane_frac=params.u_frac,
            z_bits=params.z_bits))
