"""Networks with levels other than 0..4: integer model = ISS on every tensor, and refusals."""

from dataclasses import replace

import pytest

from gen.check.compare import verify
from gen.compile.compiler import compile_network
from hw.config import CoreConfig
from model.error import InputError
from model.families.qsdt import QsdtSpec
from model.families.sdt_v3 import SdtV3Spec
from model.integer.random_network import random_network
from tests.gen.random_cases import at_the_top, compile_case, ties


SEEDS = 12


def check(family, levels, seeds):
    """Compare random networks; returns what they reached: counts by name."""
    reached = {}
    for seed in seeds:
        found, program = compile_case(seed, family=family, levels=levels, max_size=16)
        assert {tensor.planes for tensor in program.maps.values() if tensor.kind == "level"} == {
            program.config.level_planes}
        images = found.images(2, seed)
        result = verify(found.network, program, images, forms=("integer", "iss"))
        assert not result.differences, (seed, result.lines)
        top = {f"top of {key}": count for key, count in at_the_top(found.network, images).items()}
        for key, count in (result.figures["stats"] | ties(found.network, images) | top).items():
            reached[key] = reached.get(key, 0) + count
    return reached


@pytest.mark.parametrize("family", [QsdtSpec, SdtV3Spec])
@pytest.mark.parametrize("half", [0, 1])
def test_iss_equals_integer_model(family, half):
    """Levels of 0..3, whose saturation is met everywhere; in halves, for two workers."""
    reached = check(family, 3, range(half, SEEDS, 2))
    for key in ("top of u", "top of fire", "top of attention", "ktv_saturated", "qktv_saturated",
                "u_saturated", "zero_scale", "negative_scale"):
        assert reached[key] > 0, (key, reached)
    if family is SdtV3Spec and not half:
        # Ties; of membranes, three of which are half way at 3/2 alone, none goes elsewhere.
        assert reached["attention"] > 0 and not reached["u"], reached


@pytest.mark.parametrize("family", [QsdtSpec, SdtV3Spec])
@pytest.mark.parametrize("levels", [1, 2])
def test_fewer_levels(family, levels):
    """Two planes, of which levels of 0 and 1 leave one empty."""
    reached = check(family, levels, range(1, 4))
    assert reached["top of u"] and reached["top of fire"], reached


def test_samples_of_several_images():
    found, program = compile_case(2, levels=3, time_steps=2)
    result = verify(found.network, program, found.images(1, 0), forms=("integer", "iss"))
    assert not result.differences, result.lines


def test_levels_of_network_and_core():
    network = random_network(1, max_dim=24, max_size=12, levels=3).network
    with pytest.raises(InputError, match=r"^Levels: the network's are 0\.\.3, those of the core "
                                         r"0\.\.4; leave core\.levels out$"):
        compile_network(network, CoreConfig())
    other = random_network(1, max_dim=24, max_size=12).network
    with pytest.raises(InputError, match=r"are 0\.\.4, those of the core 0\.\.3"):
        compile_network(other, replace(CoreConfig(), levels=3))
