"""Integer model = ISS on random networks, every tensor, and every corner reached."""

from dataclasses import replace

import numpy as np
import pytest

from gen.check.compare import verify
from gen.compile.compiler import compile_network, least_memory
from gen.compile.maps import attention_bits
from gen.machine.cost import predict
from hw.config import CoreConfig
from hw.descriptor import planes_of, UnitKind
from model.error import DoesNotFit, InputError
from model.families.spec import MODELS
from model.integer.export import export
from model.integer.graph import Attention, IntegerParams
from model.integer.network import IntegerNetwork
from model.integer.random_network import random_network, random_state
from tests.gen.random_cases import compile_case, random_case, with_wide_values


NETWORKS = 50


@pytest.mark.parametrize("half", [0, 1])
def test_iss_equals_integer_model_on_random_networks(half):
    """In halves, so that two workers share them; each reaches every corner."""
    reached, strips = {}, 0
    for seed in range(half, NETWORKS, 2):
        found, program = compile_case(seed)
        result = verify(found.network, program, found.images(2, seed), forms=("integer", "iss"))
        assert not result.differences, (seed, result.lines)
        assert least_memory(found.network, program.config) <= program.memory_words, seed
        for key, count in result.figures["stats"].items():
            reached[key] = reached.get(key, 0) + count
        spilled = sum(home == "memory" for home, _ in program.homes.values()) - 2
        reached["spilled"] = reached.get("spilled", 0) + spilled
        kept = sum(d.fields.get("keep", 0) for d in program.descriptors)
        reached["kept"] = reached.get("kept", 0) + kept
        strips = max(strips, *program.strips.values())
    for key in ("ktv_saturated", "qktv_saturated", "z_saturated", "u_saturated", "zero_scale",
                "negative_scale", "threshold_clipped", "spilled", "kept"):
        assert reached[key] > 0, (key, reached)
    assert strips >= 3


@pytest.fixture(scope="module")
def narrow():
    """A network whose first maps fold (32 of 64 lanes), with strides, and an image for it."""
    spec = replace(MODELS["qsdt_nano"], dims=(32, 64, 64, 64, 64), strides=(2, 2, 2, 1, 1),
                   conv_expansion=(2, 1, 1), image_size=48)
    rng, params = np.random.default_rng(0), IntegerParams()
    state = random_state(rng, spec, params, ("negative", "u", "z"))
    shape = (1, 46, 48)
    return (export(state, spec, params, input_shape=shape),
            rng.integers(-128, 128, (1, *shape)).astype(np.int8))


@pytest.mark.parametrize("bank_words, wrapped, in_memory", [
    (128, {"ARRAY", "DEPTHWISE"}, 15), (256, {"ARRAY", "DEPTHWISE"}, 6), (512, {"ARRAY"}, 3),
    (1024, set(), 0)])
def test_fused_groups(narrow, bank_words, wrapped, in_memory):
    """Groups of several sizes, rings that wrap, strides and odd heights in a group, tensors that
    go through memory: the smaller the pool, the more."""
    network, image_q = narrow
    config = CoreConfig(rows=64, load_rows=16, neuron_lanes=8, pool_banks=8,
                        pool_bank_words=bank_words, psum_words=128)
    program = compile_network(network, config, word_cycles=10)
    result = verify(network, program, image_q, forms=("integer", "iss"))
    assert not result.differences, result.lines
    assert max(tensor.fold for tensor in program.maps.values()) == 2
    assert {d.unit.name for d in program.descriptors if d.fields.get("ring")} >= wrapped
    homes = [home for home, _ in program.homes.values()]
    assert homes.count("memory") - 2 >= in_memory
    assert "rolling" in homes
    # Strips of several operators take turns.
    layers = [d.layer for d in program.descriptors]
    ends = {layer: index for index, layer in enumerate(layers)}
    assert any(layers.index(group[-1]) < ends[group[0]] for group in program.groups)


def test_fold_is_an_option(narrow):
    network, image_q = narrow
    config = CoreConfig(rows=64, load_rows=16, neuron_lanes=8, pool_banks=8,
                        pool_bank_words=512, psum_words=128)
    folded, plain = (compile_network(network, config, fold=fold) for fold in (2, 1))
    assert max(tensor.fold for tensor in plain.maps.values()) == 1
    result = verify(network, plain, image_q, forms=("integer", "iss"))
    assert not result.differences, result.lines
    assert predict(folded).cycles < predict(plain).cycles
    with pytest.raises(InputError, match=r"Fold must be 1\.\.64, not 0"):
        compile_network(network, config, fold=0)


def test_more_tiles_than_a_descriptor_holds():
    spec = replace(MODELS["qsdt_nano"], dims=(8, 8, 8, 8, 64), mlp_ratio=33, image_size=16)
    params, rng = IntegerParams(), np.random.default_rng(0)
    network = export(random_state(rng, spec, params), spec, params, input_shape=(1, 16, 16))
    program = compile_network(network, CoreConfig(rows=16, load_rows=4, pool_banks=8))
    assert any(d.fields.get("accumulate") for d in program.descriptors)
    image_q = rng.integers(-128, 128, (1, 1, 16, 16)).astype(np.int8)
    result = verify(network, program, image_q, forms=("integer", "iss"))
    assert not result.differences, result.lines


@pytest.mark.parametrize("seed", range(10))
def test_z_of_several_widths(seed):
    """Integer model = ISS where layers differ in the width of z: saturated at both ends, too, and
    with no plane more than that."""
    found, program = compile_case(seed, mixed=True)
    widths = found.network.z_widths()
    assert min(widths.values()) == 4 and len({*widths.values()}) > 1
    result = verify(found.network, program, found.images(2), forms=("integer", "iss"))
    assert not result.differences, result.lines
    assert result.figures["stats"]["z_saturated"] > 0
    made = found.network.run(found.images(2))
    for name, bits in widths.items():
        limit = 1 << bits - 1
        assert -limit <= made[name].min() and made[name].max() < limit
        assert program.maps[name].planes == bits
    narrow = min(widths, key=widths.get)
    assert {made[narrow].min(), made[narrow].max()} == {-8, 7}
    ops = {op.name: op for op in found.network.ops}
    for descriptor in program.descriptors:
        op, fields = ops[descriptor.layer], descriptor.fields
        if descriptor.unit is UnitKind.NEURON and fields.get("write_planes"):
            assert fields["planes"] == widths[op.epilogue.z]
        if descriptor.unit is UnitKind.ARRAY and op.source in widths:
            # Counts of repeated planes are kept of words of 8 planes and more.
            planes, skips = planes_of(fields)
            assert planes == widths[op.source]
            assert not skips or planes >= 8


@pytest.mark.parametrize("thresholds, bits", [
    ((32, 96, 160, 224), 8), ((32, 96, 160, 225), 9), ((79, 236, 392, 549), 10),
    ((108, 322, 537, 752), 10), ((1, 2, 3, 1792), 11)])
def test_attention_of_other_thresholds(thresholds, bits):
    """They are constants; the core needs entries of K^T V that reach the last of them."""
    found, config = random_case(3)
    ops = [replace(op, thresholds=thresholds, cap=thresholds[-1]) if isinstance(op, Attention)
           else op for op in found.network.ops]
    network = IntegerNetwork(found.network.spec, found.params, ops, found.network.input_shape)
    assert attention_bits(network.ops) == bits
    if bits > 8:
        with pytest.raises(DoesNotFit, match="attention bits for") as error:
            compile_network(network, replace(config, attention_bits=bits - 1))
        assert (error.value.needed, error.value.available) == (bits, bits - 1)
    program = compile_network(network, replace(config, attention_bits=bits))
    result = verify(network, program, found.images(1, 0), forms=("integer", "iss"))
    assert not result.differences, result.lines


@pytest.mark.parametrize("seed, factor", [(0, 4), (1, 2), (2, 4), (3, 4), (7, 3), (8, 2)])
def test_heads_that_are_wider_in_v(seed, factor):
    """d channels of q and k and more of v in a head, in words of their own."""
    found, program = compile_case(seed)
    network = with_wide_values(found.network, factor)
    assert network.digest() != found.network.digest()
    program = compile_network(network, replace(program.config, pool_bank_words=4096))
    result = verify(network, program, found.images(1, 0), forms=("integer", "iss"))
    assert not result.differences, result.lines


def test_z_that_is_too_narrow():
    found = random_network(0, params=replace(IntegerParams(), z_bits_of=(("q_conv", 3),)))
    with pytest.raises(InputError, match=r"q_conv/z has 3 bits, the core computes with 4 at least"):
        compile_network(found.network, CoreConfig())


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
    ({"z_bits": 5, "plane_skip": False}, "Width of z"),
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
            config, rows=16, load_rows=4, head_words=1, membrane_frac=params.u_frac,
            z_bits=params.z_bits))
