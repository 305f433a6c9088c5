"""gen.compile.supported: what the core cannot compute is named in a line, before anything else."""

from dataclasses import replace

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
from model.integer.graph import Attention
from model.integer.network import IntegerNetwork
from model.integer.random_network import random_network


def test_published_networks_are_supported():
    assert unsupported(random_network(1, max_dim=24, max_size=12).network) == []


@pytest.mark.parametrize("compiled", [compile_network, least_memory])
def test_an_sdt_v3_is_refused_with_all_reasons(compiled):
    made = random_network(3, family=SdtV3Spec, max_dim=24, max_size=12)
    network = export(made.state, replace(made.spec, levels=3), made.params,
                     input_shape=made.network.input_shape)
    with pytest.raises(InputError) as caught:
        compiled(network, CoreConfig())
    text = str(caught.value)
    assert text.startswith("random3: the core does not support yet: ") and "\n" not in text
    assert "runs in software only (qsdt evaluate --form integer)" in text
    assert "levels of 0..3; " in text
    assert "weights of more than 4 bits" in text


def test_a_large_sdt_v3_is_refused_with_all_reasons():
    network = random_network(3, family=SdtV3LargeSpec, max_dim=24, max_size=12).network
    with pytest.raises(InputError) as caught:
        compile_network(network, CoreConfig())
    assert "a head that reads the mean membrane, without a neuron" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_is_searched_for_what_no_core_computes(caplog):
    network = random_network(3, family=SdtV3Spec, max_dim=24, max_size=12).network
    with pytest.raises(InputError, match="random3: the core does not support yet"):
        derive(find_board("ulx3s"), network)
    assert not caplog.records


def test_widths_of_weights_are_looked_at():
    networks = [random_network(seed, family=SdtV3Spec, max_dim=24, max_size=12)
                for seed in range(12)]
    for made in networks:
        found = unsupported(made.network)
        assert ("weights of more than 4 bits" in found) == (made.spec.weight_bits == 8)
    assert len({made.spec.weight_bits == 8 for made in networks}) == 2


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
    network = export(made.state, replace(made.spec, levels=3), made.params,
                     input_shape=made.network.input_shape)
    assert unsupported(network) == ["levels of 0..3"]
    with pytest.raises(InputError, match="random1: the core does not support yet: levels of 0..3"):
        check_supported(network)
