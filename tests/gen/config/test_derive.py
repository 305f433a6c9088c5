from dataclasses import replace

import numpy as np
import pytest

from boards import find_board
from gen.compile.compiler import compile_network, compile_plan
from gen.config.derive import derive, weight_words
from gen.config.resources import block_rams
from gen.config.spec import AcceleratorConfig, read_overrides
from gen.machine.cost import ON_CHIP, predict, SDRAM_EFFICIENCY
from hw.config import CoreConfig
from model import zoo
from model.error import DoesNotFit, InputError
from model.families.sdt_v3 import SdtV3Spec
from model.families.spec import MODELS
from model.integer.epilogue import IntegerParams
from model.integer.export import export
from model.integer.graph import Attention
from model.integer.network import IntegerNetwork
from model.integer.random_network import random_network, with_heads
from model.integer.synthetic import synthetic_state


BOARD = find_board("ulx3s")


@pytest.fixture(scope="module")
def network():
    return zoo.load("qsdt_nano")


@pytest.fixture(scope="module")
def state():
    return synthetic_state(MODELS["qsdt_t"])


@pytest.fixture(scope="module")
def tiny(state):
    return export(state, MODELS["qsdt_t"])


def test_nano_on_ulx3s(network):
    config, program = derive(BOARD, network)
    assert config.core.lanes >= 1024
    assert config.memory == "onchip" and config.timing == ON_CHIP
    assert config.memory_words == config.onchip_words >= program.memory_words
    assert sum(block_rams(config.core, config.onchip_words).values()) <= BOARD.ebr
    # Everything but the image and the result stays on chip.
    assert {n for n, (home, _) in program.homes.items() if home == "memory"} == {
        "image", "logits_acc"}


OPTIONS = "half_even", "wide_weights", "depthwise_half"
"""What only some networks need of a core."""


def options(network):
    core = derive(BOARD, network)[0].core
    return {name for name in OPTIONS if getattr(core, name)}


def test_options(network):
    """Derived from the network; a core of QSD-Transformers has none of them."""
    assert options(network) == set()
    made = random_network(3, params=IntegerParams(), max_dim=24, max_size=12, family=SdtV3Spec)
    assert made.spec.weight_bits == 8
    # A depthwise convolution with wide weights is one of the array.
    assert options(made.network) == {"half_even", "wide_weights"}
    made = random_network(1, params=IntegerParams(), max_dim=24, max_size=12, family=SdtV3Spec)
    assert made.spec.weight_bits == 4
    assert options(made.network) == {"half_even", "depthwise_half"}


@pytest.mark.parametrize("levels, planes, bits", [(3, 2, 7), (2, 2, 6)])
def test_levels(levels, planes, bits):
    """Derived from the network, and with them the least entries of K^T V; not to be overridden."""
    made = random_network(1, params=IntegerParams(), max_dim=24, max_size=12, levels=levels)
    core = derive(BOARD, made.network)[0].core
    assert (core.levels, core.level_planes, core.attention_bits) == (levels, planes, bits)
    with pytest.raises(InputError, match="leave core.levels out"):
        derive(BOARD, made.network, {"core": {"levels": 4, "attention_bits": 8}})


def test_attention_bits(network):
    """As the thresholds need; what they cost, estimated before synthesis."""
    assert derive(BOARD, network)[0].core.attention_bits == 8
    ops = [replace(op, thresholds=(79, 236, 392, 549)) if isinstance(op, Attention) else op
           for op in network.ops]
    other = IntegerNetwork(network.spec, network.params, ops, network.input_shape)
    assert derive(BOARD, other)[0].core.attention_bits == 10
    blocks = [block_rams(CoreConfig(rows=64, load_rows=16, attention_bits=bits), 0)["attention"]
              for bits in (8, 10, 11)]
    assert blocks == [15, 18, 20]


def test_qsdt_t_on_ulx3s(tiny, plans):
    config, program = derive(BOARD, tiny, plans=plans)
    assert (config.memory, config.core.rows, config.core.pool_words) == ("sdram", 64, 32768)
    assert config.memory_words * 8 == BOARD.sdram.size_bytes == 32 << 20
    assert program.memory_words <= config.memory_words
    assert sum(block_rams(config.core, config.onchip_words).values()) <= BOARD.ebr
    assert config.timing.words_per_cycle == pytest.approx(
        BOARD.sdram.target_hz * 16 * SDRAM_EFFICIENCY / (64 * 80e6))
    prediction = predict(program, config.timing)
    assert prediction.cycles > program.payload.nbytes / 8 / config.timing.words_per_cycle
    assert {"array", "SDRAM", "attention"} <= {layer.bound for layer in prediction.layers.values()}


def test_overflow_of_qsdt_t_is_refused(state, tiny):
    """Sums of the exported weights decide, not of the usual ones: one bit less is too little."""
    bits = max(tiny.acc_bound(op) for op in tiny.ops).bit_length() + 1
    assert 20 < bits < tiny.params.acc_bits
    export(state, MODELS["qsdt_t"], replace(tiny.params, acc_bits=bits))
    with pytest.raises(ValueError, match=f"accumulator needs {bits} bits, acc_bits is {bits - 1}"):
        export(state, MODELS["qsdt_t"], replace(tiny.params, acc_bits=bits - 1))
    # A core narrower than the network says is refused as well.
    with pytest.raises(DoesNotFit, match="Accumulator width in bits"):
        compile_network(tiny, CoreConfig(rows=64, load_rows=16, acc_bits=bits - 1))


def test_beside_where_it_is_worth_it(monkeypatch):
    """Operators of resident maps run beside each other where the program is faster by that."""
    network = random_network(1, max_dim=24, max_size=12).network
    config, program = derive(BOARD, network)
    other = compile_plan(network, config.core, program.plan, beside=True)
    worth = predict(other, config.timing).cycles / predict(program, config.timing).cycles
    assert not program.plan["options"]["beside"] and other.groups != program.groups
    for share, beside in ((worth - 1e-4, False), (worth + 1e-4, True)):
        monkeypatch.setattr("gen.config.derive.WORTH", share)
        _, found = derive(BOARD, network)
        assert found.plan["options"]["beside"] == beside
        assert found.groups == (other if beside else program).groups


def test_small_board_takes_sdram(network):
    config, _ = derive(find_board("ulx3s-12f"), network)
    assert config.memory == "sdram" and config.core.rows == 16


def test_what_cannot_fit_is_not_compiled(network, caplog):
    """Descriptors alone are too many for the block RAMs that the weights leave."""
    with caplog.at_level("INFO"):
        derive(find_board("ulx3s-45f"), network)
    tried = [text for text in caplog.messages if text.startswith("trying")]
    assert len(tried) == 1 and "SDRAM" in tried[0]


def test_too_small_board(network):
    board = replace(find_board("ulx3s-12f"), sdram=None)
    with pytest.raises(DoesNotFit, match="block RAMs") as error:
        derive(board, network)
    assert error.value.needed > error.value.available == 56


def test_no_logic(network):
    with pytest.raises(DoesNotFit, match="LUTs"):
        derive(replace(BOARD, comb=1000), network)


@pytest.mark.parametrize("overrides, resource, nearest", [
    ({"memory": "onchip", "core": {"rows": 64}}, "block RAMs",
     "without core.rows: rows 32, .* words on chip"),
    ({"core": {"psum_words": 1024, "pool_bank_words": 8192, "rows": 64}}, "block RAMs",
     "without core.pool_bank_words: rows 64, pool 8 x 2048"),
    ({"memory": "sdram", "memory_words": 1000}, "SDRAM words.*MB too much: weights alone",
     "without memory_words: .*SDRAM of 33.6 MB at "),
])
def test_nearest_configuration_is_named(network, overrides, resource, nearest):
    with pytest.raises(DoesNotFit, match=f"{resource}.*; nearest that fits, {nearest}") as error:
        derive(BOARD, network, overrides)
    assert error.value.needed > error.value.available > 0


def test_weights_beyond_the_sdram(tiny, network):
    sdram = BOARD.sdram
    small = replace(BOARD, sdram=replace(sdram, rows=1024))  # 4 MB, one part has 8
    with pytest.raises(DoesNotFit, match=r"3\.3 MB too much: weights alone; boards with "
                       "AS4C32M16SB-7TCN hold it: memory_words: 1048576") as error:
        derive(small, tiny)
    assert error.value.available == 4 << 20 >> 3
    assert error.value.needed == weight_words(tiny) == 15_015_072 // 16
    # Weights fit, the rest does not; no part is large enough.
    small = replace(BOARD, sdram=replace(sdram, parts=sdram.parts[:1], rows=40))
    with pytest.raises(DoesNotFit, match="weights and constants .* MB, program .*; no memory of"
                       ) as error:
        derive(small, network, {"memory": "sdram"})
    assert error.value.needed > error.value.available == 40 * 512 > weight_words(network)


def test_sdram_clock_can_be_chosen(network):
    config, _ = derive(BOARD, network, {"memory": "sdram", "sdram_mhz": 100, "clock_mhz": 60})
    assert (config.sdram_clock_hz, config.clock_hz) == (100_000_000, 60_000_000)
    assert config.timing.words_per_cycle == pytest.approx(100 * 16 * SDRAM_EFFICIENCY / (64 * 60))
    assert config.to_dict()["memory"] == "sdram" and "SDRAM" in config.describe()
    with pytest.raises(InputError, match="SDRAM clock of ulx3s-85f must be one of .* not 91 MHz"):
        derive(BOARD, network, {"memory": "sdram", "sdram_mhz": 91})


@pytest.mark.parametrize("values", [
    {"memory": "flash"}, {"memory": "sdram"}, {"sdram_clock_hz": 1}, {"memory_words": 0}])
def test_config_is_checked(values):
    with pytest.raises(ValueError, match="emory"):
        AcceleratorConfig(**{"board": "b", "clock_hz": 1, "core": CoreConfig(),
                             "memory_words": 1, **values})


@pytest.mark.parametrize("text, message", [
    ("core: {rows: 33}", "Rows must be 16, 32 or 64"),
    ("core: {row: 32}", "core: unknown parameter 'row'; known are .*rows"),
    ("cores: {}", "unknown key 'cores'; known are core"),
    ("memory: flash", "memory must be one of onchip, sdram, not 'flash'"),
    ("- 1", "must hold a mapping"),
    ("a: [", "is not YAML"),
])
def test_bad_overrides(network, tmp_path, text, message):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        derive(BOARD, network, read_overrides(path))


def test_no_file(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_overrides(tmp_path / "none.yaml")


def test_same_choice_twice(network):
    (a, p), (b, q) = derive(BOARD, network), derive(BOARD, network)
    assert a == b
    np.testing.assert_array_equal(p.payload, q.payload)


def test_weights_in_common_count_once():
    """And those that the host computes with not at all."""
    made = with_heads(random_network(3, min_size=20, max_size=24), 3, channels=16)
    network = made.network
    ops = {op.name: op for op in network.ops}

    def words(**changes):
        return weight_words(IntegerNetwork(
            network.spec, network.params, [changes.get(op.name, op) for op in network.ops],
            network.input_shape, read_out=network.read_out))

    assert words() == weight_words(network)
    same = replace(ops["out1"], weight=ops["out0"].weight)
    assert weight_words(network) - words(out1=same) == ops["out1"].weight.size * 4 // 64
    assert ops["seg"].epilogue.on_host
    on_core = replace(ops["seg"], epilogue=replace(ops["seg"].epilogue, on_host=False))
    assert words(seg=on_core) > words()
