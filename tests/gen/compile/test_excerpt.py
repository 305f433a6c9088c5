"""Layers cut out of a program compute in the ISS what they compute in the whole of it."""

import numpy as np
import pytest

from gen.check.compare import excerpt_cases, verify
from gen.check.trace import iss_trace
from gen.compile.excerpt import excerpt, pattern, PATTERNS
from hw.descriptor import planes_of, UnitKind
from model.error import InputError
from model.integer.epilogue import IntegerParams
from model.integer.graph import Conv
from tests.gen.random_cases import compile_case


@pytest.mark.parametrize("seed", range(6))
def test_every_module(seed):
    found, program = compile_case(seed)
    network, images = found.network, found.images(1)
    whole = iss_trace(program, images[0])
    signatures = {}
    for descriptor, sig in zip(program.descriptors, whole.sigs, strict=True):
        signatures.setdefault(descriptor.layer, []).append(sig)
    modules = dict.fromkeys(op.name.split(".")[0] for op in network.ops)
    for name in [*modules, network.ops[len(network.ops) // 2].name]:
        part = excerpt(network, program, name)
        cases = excerpt_cases(part, images)
        result = verify(network, part.program, cases, forms=("integer", "iss"))
        assert not result.differences, (name, result.lines)
        # The same descriptors give the same signatures, loads and stores included.
        trace = iss_trace(part.program, cases[0].image, cases[0].presets)
        found_signatures = {}
        for descriptor, sig in zip(part.program.descriptors, trace.sigs, strict=True):
            found_signatures.setdefault(descriptor.layer, []).append(sig)
        found_signatures.pop("inputs", None)
        assert found_signatures == {layer: signatures[layer] for layer in found_signatures}
        assert set(found_signatures) >= {op.name for op in network.ops
                                         if op.name.split(".")[0] == name}


def test_planes_of_a_loaded_map_are_all_read():
    """Nobody has counted those that repeat the sign."""
    found, program = compile_case(1)
    assert program.config.plane_skip
    layer = next(op.name for op in found.network.ops
                 if isinstance(op, Conv) and program.maps[op.source].kind == "z")

    def skips(descriptors):
        return {planes_of(d.fields)[1] for d in descriptors
                if d.unit is UnitKind.ARRAY and d.layer == layer}

    part = excerpt(found.network, program, layer)
    assert skips(program.descriptors) == {True} and skips(part.program.descriptors) == {False}
    result = verify(found.network, part.program, excerpt_cases(part, found.images(1)),
                    forms=("integer", "iss"))
    assert not result.differences, result.lines


def test_waits_are_met_in_program_order():
    """Nothing waits for what comes later: with every unit in order, no excerpt can block."""
    found, program = compile_case(2)
    for name in ("downsample1_1", "block3.0", "block4.0", "head"):
        done = [0] * (len(UnitKind) - 1)
        part = excerpt(found.network, program, name).program
        loads = sum(d.layer == "inputs" for d in part.descriptors)
        for descriptor in part.descriptors:
            assert all(wait <= count for wait, count in zip(descriptor.waits, done, strict=True))
            if descriptor.layer != "inputs":
                assert descriptor.waits[UnitKind.LOAD.value] >= loads
            done[descriptor.unit.value] += 1


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns(name):
    found, program = compile_case(3)
    for module in ("downsample1_1", "block3.0", "lif"):
        part = excerpt(found.network, program, module)
        result = verify(found.network, part.program, excerpt_cases(part, None, [name]),
                        forms=("integer", "iss"))
        assert not result.differences, (module, result.lines)


def test_pattern_values():
    params = IntegerParams(z_bits=8)
    assert np.unique(pattern("alternating", "level", (2, 3, 3), params)).tolist() == [0, 4]
    assert pattern("alternating", "image", (1, 2, 2), params).tolist() == [[[-128, 127],
                                                                            [127, -128]]]
    assert (pattern("low", "u", (1, 1, 1), params) == -32768).all()
    assert (pattern("high", "z", (1, 1, 1), params) == 127).all()
    noise = pattern("random", "level", (8, 8, 8), params)
    assert np.unique(noise).tolist() == [0, 1, 2, 3, 4]
    assert (noise != pattern("random", "level", (8, 8, 8), params, seed=1)).any()


def test_unknown_layer():
    found, program = compile_case(1)
    with pytest.raises(InputError, match=r"Unknown layer 'block9': known are .*block3\.0.*and "
                                         r"what is inside them: .*block3\.0\.attn\.q_conv"):
        excerpt(found.network, program, "block9")
