"""Random networks in RTL: integer model = ISS = RTL on every tensor, under random stalls."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from boards import find_board
from gen.check.compare import verify
from gen.compile.compiler import compile_network
from gen.config.memory import rtl_memory
from gen.config.spec import TwinSpec
from hw.config import attention_cap, CoreConfig
from model.families.qsdt import QsdtSpec
from model.families.sdt_v3 import SdtV3Spec
from model.integer.graph import Attention, IntegerParams
from model.integer.network import IntegerNetwork
from model.integer.random_network import EXTREMES, random_network
from tests.gen.random_cases import at_the_top, headed, mixed_z, ties, with_wide_values


pytestmark = pytest.mark.rtl

# Few cores, because each is compiled for minutes; several networks run on each.
CORES = {
    "narrow": (CoreConfig(rows=16, load_rows=4, neuron_lanes=8, acc_bits=25,
                          membrane_frac=7, z_bits=8, multiplier_bits=12, pool_banks=4,
                          pool_bank_words=2048, psum_words=128, weight_fifo_words=32,
                          const_fifo_words=32, depthwise_fifo_words=32, head_words=8,
                          queue_depth=2, plane_skip=True),
               IntegerParams(acc_bits=25, u_frac=7, z_bits=8, z_frac=3, mult_bits=12),
               TwinSpec(latency=20, stall=0.3, seed=3)),
    "wide": (CoreConfig(rows=32, load_rows=8, neuron_lanes=4, acc_bits=27, membrane_frac=11,
                        z_bits=14, multiplier_bits=18, pool_banks=8, pool_bank_words=1024,
                        psum_words=256, weight_fifo_words=64, const_fifo_words=64,
                        depthwise_fifo_words=64, head_words=4, attention_bits=10,
                        queue_depth=5),
             IntegerParams(acc_bits=27, u_frac=11, z_bits=14, z_frac=5, mult_bits=18),
             TwinSpec(latency=3, stall=0.1, seed=5)),
}

CASES = {
    # size of a head, seed, whether layers have z of several widths
    "narrow": [(5, 100, False), (9, 101, True), (45, 102, False), (80, 103, False),
               (None, 104, False), (None, 105, True)],
    "wide": [(5, 200, False), (9, 201, True), (45, 202, False), (80, 203, False),
             (None, 204, False), (None, 205, True)],
}


@pytest.mark.parametrize("core", CORES)
def test_rtl_equals_integer_model(core, request):
    config, params, twin = CORES[core]
    cache = request.config.cache.mkdir("rtl")
    reached, kept = {}, 0
    for head_size, seed, mixed in CASES[core]:
        widths = mixed_z(params, np.random.default_rng(seed)) if mixed else params
        found = random_network(seed, params=widths, head_size=head_size, max_size=14, max_dim=80,
                               extremes=EXTREMES if mixed else None)
        assert (len({*found.network.z_widths().values()}) > 1) == mixed
        program = compile_network(found.network, config)
        kept += sum(descriptor.fields.get("keep", 0) for descriptor in program.descriptors)
        result = verify(found.network, program, found.images(2, seed),
                        forms=("integer", "iss", "rtl"), twin=twin, cache=cache)
        assert not result.differences, (seed, result.lines)
        if mixed:
            assert result.figures["stats"]["z_saturated"] > 0
        for key, count in result.figures["stats"].items():
            reached[key] = reached.get(key, 0) + count
    for key in ("ktv_saturated", "qktv_saturated", "z_saturated", "u_saturated",
                "negative_scale", "zero_scale", "threshold_clipped"):
        assert reached[key] > 0, (key, reached)
    # The tokens of q come in pieces where there are more of them than half of the partial sums.
    assert (kept > 0) == (config.psum_words == 128)


@pytest.mark.parametrize("core, seed, factor", [("narrow", 102, 2), ("wide", 200, 4)])
def test_heads_that_are_wider_in_v(core, seed, factor, request):
    """And attention thresholds as other families have them, up to what the core's widths hold."""
    config, params, twin = CORES[core]
    found = random_network(seed, params=params, max_size=12, max_dim=32, head_size=5)
    network = with_wide_values(found.network, factor)
    top = attention_cap(config.attention_bits)
    network = IntegerNetwork(network.spec, params, [
        replace(op, thresholds=(top // 8, top // 4, top // 2 + 1, top), cap=top)
        if isinstance(op, Attention) else op for op in network.ops], network.input_shape)
    result = verify(network, compile_network(network, config), found.images(2, seed),
                    forms=("integer", "iss", "rtl"), twin=twin,
                    cache=request.config.cache.mkdir("rtl"))
    assert not result.differences, result.lines


SDT_V3_CASES = {"narrow": (300, 301, 302, 303), "wide": (400, 401, 402, 406)}
"""Seeds, some of them of networks with weights of 8 bits."""


@pytest.mark.parametrize("core", CORES)
def test_sdt_v3(core, request):
    """Random SDT-v3s, with ties that go to the even level and weights of 8 bits."""
    config, params, twin = CORES[core]
    config = replace(config, half_even=True, wide_weights=True, attention_bits=10,
                     depthwise_half=core == "wide")
    cache = request.config.cache.mkdir("rtl")
    reached, high, half = {}, 0, 0
    for seed in SDT_V3_CASES[core]:
        found = random_network(seed, params=params, max_size=12, max_dim=24, family=SdtV3Spec)
        program, images = compile_network(found.network, config), found.images(2, seed)
        high += sum(tap.high for descriptor in program.descriptors for tap in descriptor.taps)
        half += sum(descriptor.fields.get("half", 0) for descriptor in program.descriptors)
        result = verify(found.network, program, images, forms=("integer", "iss", "rtl"), twin=twin,
                        cache=cache)
        assert not result.differences, (seed, result.lines)
        for key, count in (result.figures["stats"] | ties(found.network, images)).items():
            reached[key] = reached.get(key, 0) + count
    assert high > 0 and (half > 0) == config.depthwise_half
    for key in ("ktv_saturated", "qktv_saturated", "u_saturated", "u", "attention"):
        assert reached[key] > 0, (key, reached)


@pytest.mark.parametrize("core, seed, channels, sdram", [
    ("narrow", 501, 20, False), ("wide", 506, 8, False),
    pytest.param("narrow", 504, 4, False, marks=pytest.mark.slow),
    pytest.param("wide", 503, 32, False, marks=pytest.mark.slow),
    pytest.param("narrow", 513, 16, False, marks=pytest.mark.slow),
    pytest.param("narrow", 514, 16, True, marks=pytest.mark.slow)])
def test_several_results(core, seed, channels, sdram, request):
    """Detection check (i): maps of several outputs, the host's part of one, and membranes that
    finer maps add, whose positions share words or take several. Behind a stalling twin and that of
    an SDRAM."""
    config, params, twin = CORES[core]
    memory = {"twin": twin}
    if sdram:
        _, memory = rtl_memory(find_board("ulx3s"), SimpleNamespace(
            memory="sdram", sdram_clock_hz=130_000_000, clock_hz=65_000_000))
    found = headed(random_network(seed, params=params, min_size=12, max_size=14, max_dim=24,
                                  head_size=5), seed, channels=channels)
    network, program = found.network, compile_network(found.network, config)
    assert len(network.outputs) > 3 and any(m.copies > 1 for m in program.maps.values())
    result = verify(network, program, found.images(2, seed), forms=("integer", "iss", "rtl"),
                    **memory, cache=request.config.cache.mkdir("rtl"))
    assert not result.differences, result.lines


LEVEL_CASES = {"narrow": (QsdtSpec, 7, (500, 501, 502)), "wide": (SdtV3Spec, 8, (600, 601, 603))}
"""Family, bits of attention, and seeds, which meet what is counted."""


@pytest.mark.parametrize("core", CORES)
def test_levels_of_0_to_3(core, request):
    """Two planes for a level, and saturation at 3 everywhere."""
    config, params, twin = CORES[core]
    family, bits, seeds = LEVEL_CASES[core]
    config = replace(config, levels=3, attention_bits=bits, half_even=family.half_even,
                     wide_weights=family is SdtV3Spec)
    cache = request.config.cache.mkdir("rtl")
    reached = {}
    for seed in seeds:
        found = random_network(seed, params=params, max_size=12, max_dim=24, family=family,
                               levels=3)
        program, images = compile_network(found.network, config), found.images(2, seed)
        result = verify(found.network, program, images, forms=("integer", "iss", "rtl"), twin=twin,
                        cache=cache)
        assert not result.differences, (seed, result.lines)
        top = {f"top of {key}": count for key, count in at_the_top(found.network, images).items()}
        for key, count in (result.figures["stats"] | top).items():
            reached[key] = reached.get(key, 0) + count
    for key in ("top of u", "top of fire", "top of attention", "ktv_saturated", "qktv_saturated",
                "u_saturated"):
        assert reached[key] > 0, (key, reached)


@pytest.mark.parametrize("core, steps, seed", [("narrow", 3, 105), ("wide", 2, 205)])
def test_samples_of_several_images(core, steps, seed, request):
    """One result of T images: every map of each, and the sum, under the same stalls."""
    config, params, twin = CORES[core]
    found = random_network(seed, params=params, max_size=12, max_dim=48, time_steps=steps)
    program = compile_network(found.network, config)
    result = verify(found.network, program, found.images(3, seed), forms=("integer", "iss", "rtl"),
                    twin=twin, cache=request.config.cache.mkdir("rtl"))
    assert not result.differences, result.lines
