"""Integer model = ISS on random SDT-v3s, every tensor, and what only this family has is reached."""

from dataclasses import replace

import numpy as np
import pytest

from gen.check.compare import excerpt_cases, verify
from gen.compile.compiler import compile_network, compile_plan
from gen.compile.excerpt import excerpt
from gen.compile.group import PAIR
from gen.compile.maps import attention_bits
from gen.compile.wide import has_wide
from hw.config import CoreConfig
from hw.descriptor import UnitKind
from model.error import InputError
from model.families.sdt_v3 import SdtV3Spec
from model.families.spec import MODELS
from model.integer.export import export
from model.integer.graph import Attention, Depthwise, Fire, IntegerParams, Integrate, Pool, Scale
from model.integer.network import IntegerNetwork
from model.integer.random_network import random_network, random_state
from tests.gen.random_cases import compile_case, random_case, ties


SEEDS = 40


@pytest.mark.parametrize("half", [0, 1])
def test_iss_equals_integer_model(half):
    """In halves, so that two workers share them; each reaches every corner."""
    reached = {}
    for seed in range(half, SEEDS, 2):
        found, program = compile_case(seed, family=SdtV3Spec)
        if seed % 4 < 2:
            program = compile_plan(found.network, program.config, program.plan, beside=True)
        images = found.images(2, seed)
        result = verify(found.network, program, images, forms=("integer", "iss"))
        assert not result.differences, (seed, result.lines)
        fired = {op.name for op in found.network.ops if isinstance(op, Depthwise)
                 and isinstance(op.epilogue, Fire) and not has_wide(op)}
        assert {d.layer for d in program.descriptors if d.unit is UnitKind.DEPTHWISE} == fired
        counts = result.figures["stats"] | ties(found.network, images) | {
            "high": sum(tap.high for d in program.descriptors for tap in d.taps),
            "shared": sum(program.maps[op.key].used[0] > 0 for op in found.network.ops
                          if isinstance(op, Attention)),
            "beside": sum(group["apart"] == PAIR for group in
                          program.plan["residency"]["groups"])}
        for key, count in counts.items():
            reached[key] = reached.get(key, 0) + count
    for key in ("ktv_saturated", "qktv_saturated", "u_saturated", "zero_scale", "negative_scale",
                "threshold_clipped", "u", "attention", "high", "shared", "beside"):
        assert reached[key] > 0, (key, reached)


def test_means_that_are_half_way():
    """Membranes in front of the head that are the same everywhere, and half way between levels."""
    found, config = random_case(1, family=SdtV3Spec)
    ops, frac = list(found.network.ops), found.params.u_frac
    pool = next(op for op in ops if isinstance(op, Pool))
    at = next(k for k, op in enumerate(ops) if pool.source in op.outputs)
    count = len(ops[at].weight)
    halves = (2 * np.arange(count) - 3 << frac - 3) + np.arange(count) // 8
    scale = Scale(np.zeros(count, np.int64), halves, np.zeros(count, np.int64))
    ops[at] = replace(ops[at], epilogue=Integrate(scale, pool.source, half_even=True))
    network = IntegerNetwork(found.network.spec, found.params, ops, found.network.input_shape)
    images = found.images(1, 0)
    assert ties(network, images)["mean"] == 2    # 1/2 and 5/2
    result = verify(network, compile_network(network, config), images, forms=("integer", "iss"))
    assert not result.differences, result.lines


def test_samples_of_several_images():
    found, program = compile_case(2, family=SdtV3Spec, time_steps=2)
    result = verify(found.network, program, found.images(1, 0), forms=("integer", "iss"))
    assert not result.differences, result.lines


def folding_case(size, *dims):
    """(network, image): first maps with few channels."""
    spec = replace(MODELS["sdt_v3_t"], name="folding", in_channels=1, image_size=size, dims=dims,
                   conv_expansion=(4, 2, 1), depths=(1, 1, 1, 1, 1), heads=4, norm_mean=(0.5,),
                   norm_std=(0.25,))
    rng, params = np.random.default_rng(0), IntegerParams()
    state = random_state(rng, spec, params, ("negative", "u"))
    return (export(state, spec, params, input_shape=(1, size, size)),
            rng.integers(-128, 128, (1, 1, size, size)).astype(np.int8))


@pytest.fixture(scope="module")
def folding():
    """A network whose first maps have 16 and 32 channels, for 64 lanes, and an image."""
    return folding_case(64, 16, 32, 64, 64, 64)


@pytest.mark.parametrize("bank_words, in_memory", [(128, 14), (1024, 1)])
def test_folded_and_fused(folding, bank_words, in_memory):
    """Maps of 16 channels folded by 4 around a depthwise convolution of 32, which is not; the
    stride to a map folded by 2; groups that reach over a residual; rings."""
    network, image_q = folding
    config = CoreConfig(rows=64, load_rows=16, neuron_lanes=8, pool_banks=8, half_even=True,
                        pool_bank_words=bank_words, psum_words=128,
                        attention_bits=attention_bits(network.ops))
    program = compile_network(network, config, word_cycles=10)
    result = verify(network, program, image_q, forms=("integer", "iss"))
    assert not result.differences, result.lines
    maps = program.maps
    assert maps["ConvBlock1_1.0.Conv/u"].fold == maps["ConvBlock1_1.0.Conv.lif2"].fold == 4
    assert maps["ConvBlock1_1.0.Conv.lif3"].fold == 1 and maps["downsample1_2/u"].fold == 2
    strided = [d.fields for d in program.descriptors
               if d.layer == "downsample1_2.encode_conv" and d.unit is UnitKind.ARRAY]
    source = maps["downsample1_2.encode_lif"]
    assert {(f["stride"], f["row_stride"]) for f in strided} == {(1, 2 * source.row_words)}
    homes = [home for home, _ in program.homes.values()]
    assert homes.count("memory") - 2 >= in_memory
    if bank_words == 128:
        assert any(f["ring"] for f in strided)
    else:
        assert program.groups[0] == ["downsample1_1.encode_conv", *(
            f"ConvBlock1_1.0.Conv.{name}.0" for name in ("pwconv1", "dwconv", "pwconv2"))]


@pytest.mark.parametrize("bank_words", [128, 1024])
def test_three_words(bank_words):
    """12 and 24 channels on 16 lanes: four and two positions fill three words, which a
    convolution between them sees as four."""
    network, image_q = folding_case(32, 12, 24, 24, 24, 24)
    config = CoreConfig(rows=16, load_rows=4, neuron_lanes=4, pool_banks=8, half_even=True,
                        pool_bank_words=bank_words, psum_words=128,
                        attention_bits=attention_bits(network.ops))
    program = compile_network(network, config, word_cycles=10)
    assert program.stem["columns_first"] and program.stem["fold"] == 4
    maps = program.maps
    assert [(maps[name].fold, maps[name].groups) for name in (
        "ConvBlock1_1.0.Conv/u", "ConvBlock1_1.0.lif2", "downsample1_2/u")] == [
            (4, 3), (4, 12), (2, 3)]
    result = verify(network, program, image_q, forms=("integer", "iss"))
    assert not result.differences, result.lines
    program = compile_plan(network, config, program.plan, beside=True)
    assert compile_plan(network, config, program.plan).payload.tolist() == program.payload.tolist()
    result = verify(network, program, image_q, forms=("integer", "iss"))
    assert not result.differences, result.lines


def test_attention_by_itself():
    """q and k are given in the same positions."""
    found, program = compile_case(7, family=SdtV3Spec)
    layer = next(op for op in found.network.ops if isinstance(op, Attention))
    query, key = program.maps[layer.query], program.maps[layer.key]
    assert key.used[0] == query.used[-1] + 1 and key.row_words == query.row_words
    part = excerpt(found.network, program, layer.name)
    assert {*part.inputs} == {layer.query, layer.key, layer.value}
    result = verify(found.network, part.program, excerpt_cases(part, found.images(1)),
                    forms=("integer", "iss"))
    assert not result.differences, result.lines


def test_rounding_of_network_and_core():
    """They must agree, in one way of rounding for the whole network."""
    found, config = random_case(1, family=SdtV3Spec)
    with pytest.raises(InputError, match="rounded half to even, those of the core half up; leave "
                                         "core.half_even out"):
        compile_network(found.network, replace(config, half_even=False))
    other = random_network(1, max_dim=24, max_size=12)
    with pytest.raises(InputError, match="rounded half up, those of the core half to even"):
        compile_network(other.network, CoreConfig(half_even=True))
    ops = list(found.network.ops)
    at = max(k for k, op in enumerate(ops) if isinstance(getattr(op, "epilogue", None), Integrate)
             and op.epilogue.level)
    ops[at] = replace(ops[at], epilogue=replace(ops[at].epilogue, half_even=False))
    mixed = IntegerNetwork(found.network.spec, found.params, ops, found.network.input_shape)
    with pytest.raises(InputError, match="neurons of which some round half up and some half to ev"):
        compile_network(mixed, config)
