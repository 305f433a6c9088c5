"""qsdt_nano end to end in RTL, on its own configuration and on one far too small for it."""

from pathlib import Path

import pytest

from boards import find_board
from gen.check.compare import verify
from gen.check.simulate import simulate
from gen.check.trace import rtl_trace, rtl_writes
from gen.config.derive import derive
from gen.config.spec import read_overrides, TwinSpec
from gen.inputs import load_images
from gen.machine.cost import layer_cycles, predict, spans
from gen.machine.iss import Iss
from hw.descriptor import Destination
from model import zoo
from sim.rtl.core import NOTHING, RtlCore, twin_memory


pytestmark = pytest.mark.rtl

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture(scope="module")
def network():
    return zoo.load("qsdt_nano")


@pytest.fixture(scope="module")
def images(network):
    return load_images(None, network, model="qsdt_nano").image_q


def test_all_forms_equal(network, images, request):
    """Model check 7.20 on a whole trained network: every tensor."""
    _, program = derive(find_board("ulx3s"), network)
    result = verify(network, program, images[:3], forms=("integer", "iss", "rtl"),
                    cache=request.config.cache.mkdir("rtl"))
    assert not result.differences, result.lines


def test_cost_model_within_ten_percent(network, images, request):
    _, program = derive(find_board("ulx3s"), network)
    prediction = predict(program)
    with RtlCore(program.config, memory=twin_memory(program.memory_words, **vars(TwinSpec())),
                 cache=request.config.cache.mkdir("rtl")) as core:
        writes = [(0, program.payload), *rtl_writes(program, images[0])]
        run = simulate(core, program, writes, limit=5_000_000, trace=NOTHING)
        _, records = rtl_trace(program, core, run)
    assert abs(prediction.cycles / run.cycles - 1) < 0.10, (prediction.cycles, run.cycles)
    measured = layer_cycles(program, spans(records))
    for name, layer in measured.items():
        # Small layers feel what is not modelled: two units at one pool bank, and the spikes of
        # q and k, on which attention's time depends.
        if layer.cycles > run.cycles / 50:
            predicted = prediction.layers[name].cycles
            assert abs(predicted / layer.cycles - 1) < 0.10, (name, predicted, layer.cycles)


@pytest.mark.slow
def test_shrunken_configuration(network, images, request):
    overrides = read_overrides(CONFIGS / "shrunken.yaml")
    _, program = derive(find_board("ulx3s"), network, overrides)
    config = program.config
    assert config.rows <= 32
    largest = max((m for name, m in program.maps.items() if name != "image"),
                  key=lambda m: m.words)
    assert largest.words > config.pool_words
    assert program.homes[largest.name][0] == "rolling"
    assert {home for home, _ in program.homes.values()} == {"pool", "rolling", "memory"}
    maps = [name for name, strips in program.strips.items() if strips < 3]
    # Attention and pooling take whole maps; the head is a single position.
    assert all(name.endswith(("attn_lif", "lif", "head")) for name in maps), maps
    layers = {}
    for d in program.descriptors:
        if d.fields.get("destination") is Destination.WEIGHT:
            layers.setdefault(d.layer, []).append(d.fields["length"])
    assert all(sum(words) // program.strips[name] > config.weight_fifo_words
               for name, words in layers.items())
    result = verify(network, program, images[:2], forms=("integer", "iss", "rtl"),
                    twin=TwinSpec(**overrides["twin"]),
                    cache=request.config.cache.mkdir("rtl"))
    assert not result.differences, result.lines


def test_iss_finds_a_changed_weight(network, images):
    """The comparison notices: one flipped bit of a weight changes a named tensor."""
    _, program = derive(find_board("ulx3s"), network)
    iss = Iss(program)
    iss.memory[5] ^= 1
    _, _, completions = iss.run(images[0])
    clean = Iss(program).run(images[0])[2]
    assert any((a.words != b.words).any() for a, b in zip(completions, clean, strict=True))
