"""The figures of a program for its report, against the PyTorch network and the program itself."""

import pytest
import torch

from gen import api
from gen.flow.layers import layer_rows, totals
from model.families.lsq import LsqConv1d, LsqConv2d, LsqLinear
from model.families.network import QsdTransformer
from model.families.spec import MODELS
from model.integer.graph import Attention


MODEL = "qsdt_nano"


@pytest.fixture(scope="module")
def design():
    return api.configure(api.load(MODEL), board="ulx3s", name=MODEL)


def rows_of(design, record=None):
    return {row["name"]: row for row in layer_rows(
        design.config, design.network, design.program, design.prediction, record)}


def torch_macs():
    """MACs of all convolutions and linear layers for an image, from the shapes in PyTorch."""
    network = QsdTransformer(MODELS[MODEL]).eval()
    total = 0

    def count(module, inputs, output):
        nonlocal total
        weight = module.weight
        total += output.numel() * weight[0].numel()

    for module in network.modules():
        if isinstance(module, LsqConv2d | LsqConv1d | LsqLinear):
            module.register_forward_hook(count)
    spec = MODELS[MODEL]
    with torch.no_grad():
        network(torch.zeros(1, spec.in_channels, spec.image_size, spec.image_size))
    return total


def test_macs(design):
    rows = rows_of(design)
    attention = {op.name for op in design.network.ops if isinstance(op, Attention)}
    assert attention
    assert sum(row["MAC"]["value"] for name, row in rows.items() if name not in attention) == (
        torch_macs())
    # K^T V and Q (K^T V), head by head: each a MAC for a token and a pair of channels.
    tensors = design.network.tensors()
    for op in design.network.ops:
        if op.name in attention:
            _, channels, height, width = tensors[op.query]
            assert rows[op.name]["MAC"]["value"] == (
                2 * op.heads * height * width * (channels // op.heads) ** 2)


def test_array_never_beats_its_lanes(design):
    """No layer of this network, which has no tile of zeros alone, takes fewer cycles of the array
    than its operations need with every lane at work; some take hardly more."""
    rows = rows_of(design)
    for name, row in rows.items():
        assert row["full lanes"]["value"] <= row["array"]["value"], name
    assert any(row["full lanes"]["value"] > 0.9 * row["array"]["value"] for row in rows.values())


def test_rows_add_up(design):
    """Weights that layers read are those of the program; each layer is there once, in order."""
    rows, program = rows_of(design), design.program
    assert list(rows) == list(dict.fromkeys(d.layer for d in program.descriptors))
    figures = totals(design.config, program, design.prediction)
    assert {figure["tag"] for figure in figures.values()} == {"cost-model"}
    figures = {name: figure["value"] for name, figure in figures.items()}
    assert figures["descriptors"] == len(program.descriptors)
    assert figures["program_image_bytes"] == 8 * len(program.payload)
    assert figures["weight_bytes"] == sum(row["weights B"]["value"] for row in rows.values())
    assert figures["bytes_in"] == sum(row["weights B"]["value"] + row["maps in B"]["value"]
                                      for row in rows.values())
    assert figures["bytes_out"] == sum(row["out B"]["value"] for row in rows.values())


def test_homes(design):
    """What each layer makes, and where: the image's class comes out in memory."""
    rows = rows_of(design)
    for op in design.network.ops:
        homes = rows[op.name]["made in"].split(", ")
        assert len(homes) == len(op.outputs)
        for (name, kind), home in zip(op.outputs.items(), homes, strict=True):
            assert home.split()[0] == ("u" if kind == "raw" else kind)
            place = design.program.homes.get(name)
            assert home.split()[1] == {
                None: "unused", "memory": design.config.timing.name}.get(
                    place and place[0], place and place[0])


def test_simulated_cycles_stand_beside(design):
    """Only of layers that were simulated."""
    name = next(iter(rows_of(design)))
    rows = rows_of(design, {"figures": {"layer_cycles": {name: 1234}}})
    assert rows[name]["cycles in RTL"] == {"value": 1234, "tag": "rtl-sim"}
    assert not any("cycles in RTL" in row for other, row in rows.items() if other != name)
