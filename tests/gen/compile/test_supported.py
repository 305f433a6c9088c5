"""gen.compile.supported: what the core cannot compute is named in a line, before anything else."""

from dataclasses import replace

import numpy as np
import pytest

from boards import find_board
from gen.compile.compiler import compile_network, least_memory
from gen.compile.supported import check_supported, unsupported
from gen.config.derive import derive
from hw.config import CoreConfig
from model.error import InputError
from model.families.sdt_v3 import SdtV3Spec
from model.families.sdt_v3_large import SdtV3LargeSpec
from model.integer.export import export
from model.integer.graph import Attention, RepConv
from model.integer.network import IntegerNetwork
from model.integer.random_network import random_network, with_heads


def test_published_networks_are_supported():
    assert unsupported(random_network(1, max_dim=24, max_size=12).network) == []


@pytest.mark.parametrize("compiled", [compile_network, least_memory])
def test_an_sdt_v3_is_refused_with_all_reasons(compiled):
    made = random_network(3, family=SdtV3Spec, max_dim=24, max_size=12)
    network = export(made.state, replace(made.spec, levels=5), made.params,
                     input_shape=made.network.input_shape)
    with pytest.raises(InputError) as caught:
        compiled(network, CoreConfig())
    text = str(caught.value)
    assert text.startswith("random3: the core does not support yet: ") and "\n" not in text
    assert "runs in software only (qsdt evaluate --form integer)" in text
    assert "levels of 0..5, more than 4 thresholds" in text


def test_a_large_sdt_v3_is_refused_with_all_reasons():
    network = random_network(3, family=SdtV3LargeSpec, max_dim=24, max_size=12).network
    with pytest.raises(InputError) as caught:
        compile_network(network, CoreConfig())
    assert "a head that reads the mean membrane, without a neuron" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_is_searched_for_what_no_core_computes(caplog):
    made = random_network(3, family=SdtV3Spec, max_dim=24, max_size=12)
    network = export(made.state, replace(made.spec, levels=5), made.params,
                     input_shape=made.network.input_shape)
    with pytest.raises(InputError, match="random3: the core does not support yet"):
        derive(find_board("ulx3s"), network)
    assert not caplog.records


@pytest.mark.parametrize("largest, found", [
    (119, []), (120, ["weights that are not in -136..119"])])
def test_widths_of_weights(largest, found):
    """8 bits, as two halves of 4: -128..119."""
    network = random_network(3, family=SdtV3Spec, max_dim=24, max_size=12).network
    ops = list(network.ops)
    weight = np.full_like(ops[2].weight, -128)
    weight.flat[0] = largest
    ops[2] = replace(ops[2], weight=weight)
    assert unsupported(IntegerNetwork(network.spec, network.params, ops,
                                      network.input_shape)) == found


def test_heads():
    """Maps and membranes as outputs, and a pyramid's additions, are computed."""
    made = random_network(3, min_size=20, max_size=24)
    assert unsupported(with_heads(made, 3).network) == []


def test_wide_weights_inside_a_rep_conv():
    network = random_network(1, max_dim=24, max_size=12).network
    ops = list(network.ops)
    at = next(k for k, op in enumerate(ops) if isinstance(op, RepConv))
    weight = ops[at].pointwise.copy()
    weight[0, 0] = 8
    ops[at] = replace(ops[at], pointwise=weight)
    assert unsupported(IntegerNetwork(network.spec, network.params, ops, network.input_shape)) == [
        "weights of more than 4 bits inside a RepConv"]


def test_thresholds_of_attention():
    """Any that the widest entries of K^T V reach."""
    network = random_network(1, max_dim=24, max_size=12).network

    def with_thresholds(*thresholds):
        return IntegerNetwork(network.spec, network.params, [
            replace(op, thresholds=thresholds) if isinstance(op, Attention) else op
            for op in network.ops], network.input_shape)

    assert unsupported(with_thresholds(1, 2, 3, 3584)) == []
    assert unsupported(with_thresholds(1, 2, 3, 3585)) == [
        "attention thresholds of more than 3584"]


@pytest.mark.parametrize("family", [SdtV3Spec, SdtV3LargeSpec])
def test_levels_of_0_to_8_have_more_thresholds_than_there_are(family):
    made = random_network(1, family=family, max_dim=24, max_size=12)
    network = export(made.state, replace(made.spec, levels=8), made.params,
                     input_shape=made.network.input_shape)
    with pytest.raises(InputError) as caught:
        compile_network(network, CoreConfig())
    assert "levels of 0..8, more than 4 thresholds" in str(caught.value)
    assert "\n" not in str(caught.value) and "attention thresholds" not in str(caught.value)


def test_other_levels_are_named_without_what_follows_from_them():
    made = random_network(1, max_dim=24, max_size=12)
    networks = [export(made.state, replace(made.spec, levels=levels), made.params,
                       input_shape=made.network.input_shape) for levels in (1, 2, 3, 4, 5)]
    assert [unsupported(network) for network in networks] == [
        [], [], [], [], ["levels of 0..5, more than 4 thresholds"]]
    assert [replace(made.spec, levels=levels).software_only for levels in (1, 2, 3, 4, 5)] == [
        False, False, False, False, True]
    with pytest.raises(InputError, match="random1: the core does not support yet: levels of 0..5"):
        check_supported(networks[-1])
