"""Events that the units count, against the integer model's maps: synaptic operations of qsdt_nano.

The counts of RTL come from the record of the verification, whose images are here, too.
"""

from collections import defaultdict
import json
from pathlib import Path

import numpy as np
import pytest

from gen import api
from gen.inputs import load_images
from gen.machine.iss import Iss
from hw.config import level_planes
from hw.descriptor import UnitKind
from model.families.spec import spec
from model.families.work import work
from model.integer.graph import Conv, Depthwise, RepConv


RECORD = Path(__file__).parents[3] / "docs" / "results" / "verify-nano.json"


@pytest.fixture(scope="module")
def nano():
    """The compiled network, its 16 shipped images, and its integer form."""
    network = api.load("qsdt_nano")
    images = load_images(None, network, model="qsdt_nano", count=16).image_q
    return api.configure(network, board="ulx3s-85f").program, images, network


def by_layer(program, outcomes, unit):
    """{layer: events that its descriptors of a unit count}."""
    found = defaultdict(int)
    for descriptor, outcome in zip(program.descriptors, outcomes, strict=True):
        if descriptor.unit is unit:
            found[descriptor.layer] += outcome.events
    return found


def set_bits(network, name, values):
    """Set bits of a map (C, H, W), by position; values are in two's complement where signed."""
    kind = network.tensors()[name][0]
    bits = {"image": 8, "level": level_planes(network.levels)}.get(kind) or network.z_widths()[name]
    return np.bitwise_count(values.astype(np.int64) & (1 << bits) - 1).astype(np.int64)


def looked_up(counts, kernel, stride=1):
    """Sum over all positions and taps (height, width) of a "same" convolution inside the map of
    `counts` (H, W)."""
    framed = np.pad(counts, [(side // 2, side // 2) for side in kernel])
    high, wide = (side - taps + 1 for side, taps in zip(framed.shape, kernel, strict=True))
    return sum(int(framed[dy:dy + high:stride, dx:dx + wide:stride].sum())
               for dy in range(kernel[0]) for dx in range(kernel[1]))


def test_operations_of_every_layer_are_the_models(nano):
    """ARRAY: a set bit for each tap and group of output channels; NEURON: levels."""
    program, images, network = nano
    rows = program.config.rows
    tensors = network.run(images[:1]) | {"image": images[:1]}
    outcomes = Iss(program).run(images[0])[2]
    arrays, depthwise = (by_layer(program, outcomes, unit)
                         for unit in (UnitKind.ARRAY, UnitKind.DEPTHWISE))
    for op in network.ops:
        if not isinstance(op, (Conv, RepConv, Depthwise)):
            continue
        source = op.inputs[0]
        counts = set_bits(network, source, tensors[source][0])
        if isinstance(op, Depthwise):
            # A row is read once for each row of the output, for all taps of it.
            assert depthwise[op.name] == looked_up(counts.sum(0), (op.weight.shape[-2], 1)), op.name
            continue
        weight = op.weight if isinstance(op, Conv) else op.pointwise
        kernel = weight.shape[2:] or (1, 1)
        groups = -(-len(weight) // rows)
        assert arrays[op.name] == groups * looked_up(
            counts.sum(0), kernel, op.stride if isinstance(op, Conv) else 1), op.name


def test_operations_by_the_papers_formula_are_those_of_the_counters(nano):
    """Eq. 28: MACs times the mean level, which the neurons' events tell."""
    program, images, network = nano
    tensors = network.run(images[:1])
    outcomes = Iss(program).run(images[0])[2]
    counted = defaultdict(int)
    for descriptor, outcome in zip(program.descriptors, outcomes, strict=True):
        levels = [x.tensor for x in descriptor.outputs if network.tensors().get(
            x.tensor, ("",))[0] == "level"]
        if descriptor.unit is UnitKind.NEURON and levels:
            counted[levels[0]] += outcome.events
    layers = [w for w in work(spec("qsdt_nano")) if w.neuron in counted]
    assert {w.neuron for w in work(spec("qsdt_nano"))} - set(counted) <= {""}
    for layer in layers:
        level = tensors[layer.neuron][0]
        assert layer.macs * counted[layer.neuron] == layer.macs * int(level.sum())
        assert counted[layer.neuron] / level.size == pytest.approx(level.mean())


def test_counters_of_rtl_are_the_models(nano):
    """All 16 images of the record: SPIKE_EVENTS; all units' events of the last."""
    program, images, network = nano
    record = json.loads(RECORD.read_text())
    assert record["network_digest"] == network.digest()
    iss, found = Iss(program), []
    for image in images:
        outcomes = iss.run(image)[2]
        found.append(sum(by_layer(program, outcomes, UnitKind.ARRAY).values()))
    assert record["figures"]["spike_events"] == found
    counters = record["figures"]["counters"]
    for unit in (UnitKind.DEPTHWISE, UnitKind.ATTENTION, UnitKind.NEURON):
        assert counters[f"EVENTS_{unit.name}"] == sum(
            by_layer(program, outcomes, unit).values())
