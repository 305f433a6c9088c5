"""model.families.work, model.training.energy and the command: the paper's numbers and formula."""

from dataclasses import replace
import json

import pytest
import torch

from model import energy as program
from model.data import dataset as data
from model.data import options
from model.families.lsq import LsqLayer
from model.families.make import make_network
from model.families.network import capture_levels, QsdTransformer
from model.families.spec import MODELS, spec
from model.families.work import work
from model.training.energy import attention_energy, E_AC, E_MAC, energy, mean_levels
from model.training.measures import to_input
from model.training.session import save_model
from model.training.trainer import build, Trainer
from tests.model.tiny import DATA, RECIPE, TINY


torch.set_num_threads(1)

MACS = {
    "qsdt_t": (6_472_781_760, 59_006_976, 5_751_633_472, 630_172_928, 31_968_384),
    "qsdt_m": (14_016_894_720, 88_510_464, 12_553_310_976, 1_309_142_016, 65_931_264),
    "qsdt_l": (24_816_686_080, 118_013_952, 22_264_333_312, 2_317_127_680, 117_211_136),
}
"""All, and on the image, levels, multi-bit maps and in the attention, as the published code has."""


@pytest.mark.parametrize("name", MACS)
def test_macs_of_the_published_networks(name):
    """Model check 7.4."""
    parts = {reads: sum(w.macs for w in work(spec(name)) if w.reads == reads)
             for reads in ("image", "level", "raw", "attention")}
    assert (sum(parts.values()), *parts.values()) == MACS[name]


@pytest.mark.parametrize("name", [*MODELS, "tiny"])
def test_every_layer_and_neuron_is_there_in_order(name):
    network = TINY if name == "tiny" else spec(name)
    with torch.device("meta"):
        model = make_network(network)
    layers = [n for n, module in model.named_modules() if isinstance(module, LsqLayer)]
    found = work(network)
    assert sorted(w.layer for w in found if w.reads != "attention") == sorted(layers)
    modules = dict(model.named_modules())
    assert all(hasattr(modules[w.neuron], "levels") for w in found if w.neuron)
    assert [w.layer for w in found if not w.neuron] == [
        "downsample1_1.encode_conv", *([] if network.head_fires else ["head"])]


def test_macs_are_those_of_a_pass():
    model, seen = QsdTransformer(TINY), {}

    def count(name):
        def hook(module, args, output):
            seen[name] = output.numel() * module.weight[0].numel()
        return hook

    for name, module in model.named_modules():
        if isinstance(module, LsqLayer):
            module.register_forward_hook(count(name))
    with torch.no_grad():
        model(torch.zeros(1, 1, 16, 16))
    # The depthwise 3x3 of a RepConv computes on a border too, which is cut off.
    assert {w.layer: w.macs for w in work(TINY) if w.reads != "attention"} == seen


@pytest.mark.parametrize("name, millijoules", [
    ("qsdt_t", 0.27143), ("qsdt_m", 0.40715), ("qsdt_l", 0.54286)])
def test_first_layer_and_levels_of_one(name, millijoules):
    """Model check 7.16: E_MAC * FL of the first layer; levels of 1 give SOPs = MACs."""
    network = spec(name)
    rows = energy(network, {w.neuron: 1.0 for w in work(network) if w.neuron})
    assert 1e3 * rows[0].joules == pytest.approx(millijoules, abs=5e-6)
    assert rows[0].joules == MACS[name][1] * E_MAC
    assert all(row.sops == row.macs for row in rows[1:]) and rows[0].sops == 0
    assert sum(row.joules for row in rows[1:]) == pytest.approx(
        E_AC * (MACS[name][0] - MACS[name][1]))
    for row in rows:
        assert row.joules_quantised == row.joules * (1 if row.reads == "attention" else 1 / 8)


@pytest.mark.parametrize("bits, factor", [(2, 1 / 32), (3, 1 / 16), (4, 1 / 8), (32, 1)])
def test_factors_of_the_bits(bits, factor):
    network = replace(TINY, weight_bits=bits)
    row = energy(network, {w.neuron: 0.5 for w in work(network) if w.neuron})[1]
    assert row.joules_quantised == factor * row.joules


def test_time_steps_count():
    levels = {w.neuron: 0.5 for w in work(TINY) if w.neuron}
    one, four = (energy(replace(TINY, time_steps=t), levels) for t in (1, 4))
    assert [4 * row.sops for row in one] == [row.sops for row in four]
    with pytest.raises(ValueError, match="tiny-ann does not spike"):
        energy(TINY.twin(), levels)


def test_attention_against_that_of_an_ann():
    """Table 7 for qsdt_t's first block: N = 196, D = 256, 8 heads; levels of 1/2."""
    network = spec("qsdt_t")
    rows = energy(network, {w.neuron: 0.5 for w in work(network) if w.neuron})
    found = attention_energy(network, rows)
    assert [b.block for b in found] == [f"{name}.attn" for name, _ in network.transformer_blocks]
    first, n, d = found[0], 196, 256
    assert (first.tokens, first.channels) == (n, d)
    assert first.mhsa_qkv == pytest.approx(3 * 4.6e-12 * n * d**2)
    assert first.mhsa_products == pytest.approx(2 * 4.6e-12 * n**2 * d)
    assert first.mhsa_softmax == pytest.approx(n**2 * (3.7e-12 + 2 * 4.6e-12))
    assert first.mhsa_projection == pytest.approx(4.6e-12 * n * d**2)
    rep_conv = n * (2 * d**2 + 9 * d)
    assert first.sdsa_qkv == pytest.approx(3 * 0.5 * 0.9e-12 * rep_conv)
    assert first.sdsa_projection == pytest.approx(0.5 * 0.9e-12 * rep_conv)
    assert first.sdsa_products == pytest.approx(2 * 0.5 * 0.9e-12 * n * d**2 / 8)
    assert first.mhsa == pytest.approx(sum((first.mhsa_qkv, first.mhsa_products, first.mhsa_softmax,
                                            first.mhsa_projection)))
    assert sum(b.sdsa for b in found) == pytest.approx(
        sum(row.joules for row in rows if ".attn." in row.layer))


def test_mean_levels_are_those_of_all_images():
    model = build(TINY, RECIPE).eval()
    found = mean_levels(model, DATA.val, batch=5)
    image_q, _ = next(data.batches(DATA.val, TINY, batch=len(DATA.val)))
    with torch.no_grad(), capture_levels(model) as levels:
        model(to_input(image_q, TINY))
    assert found == pytest.approx({k: v.double().mean().item() for k, v in levels.items()})
    assert {w.neuron for w in work(TINY) if w.neuron} <= set(found)


def test_command_prints_layers_and_sums(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(options.DATASETS, "halves", lambda folder, spec: DATA)
    trainer = Trainer(TINY, RECIPE, DATA)
    trainer.run_epoch()
    save_model(trainer, tmp_path / "model.pth")
    words = ["--weights", str(tmp_path / "model.pth"), "--data", "halves"]
    assert program.cli([*words, "--out", str(tmp_path / "energy.json")]) == 0
    captured = capsys.readouterr()
    record = json.loads((tmp_path / "energy.json").read_text())
    rows, blocks = record["layers"], record["attention"]
    layers, attention = (part.splitlines() for part in captured.out.split("\n\n"))
    assert len(layers) == len(rows) + 2 == len(work(TINY)) + 2
    assert f"{sum(row['macs'] for row in rows):,}" in layers[-1] and "next: " in captured.err
    assert len(attention) == len(blocks) + 2 == len(TINY.transformer_blocks) + 2
    assert all(line.startswith(b["block"]) for line, b in zip(attention[2:], blocks, strict=True))
    assert program.cli(["--weights", "nowhere.qsd", "--data", "halves"]) == 1
    assert "nowhere.qsd" in capsys.readouterr().err
