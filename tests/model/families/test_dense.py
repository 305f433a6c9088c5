"""Heads for dense prediction as data: layers, strides, shared weights, what is refused."""

from dataclasses import replace
from math import prod
import re

import pytest

from model.families.dense import DenseHeads
from model.families.layout import state_shapes
from model.families.spec import from_dict, MODELS
from model.families.spec_file import read_spec
from model.families.thermometer import level_units
from model.families.work import work
from tests.model.dense_nets import FAMILIES, HEADS, LARGE, QSDT, with_heads


S = replace(MODELS["qsdt_s"], dense_heads={
    "taps": ["2", "4"], "channels": 64, "detector": {"classes": 10}})


def test_weights_and_work_of_the_specification():
    """DETSEG.md 3.3: the detector on qsdt_s has 168,384 weights and 9.6 MMAC at 64x64."""
    own = [x for x in S.layers if x in S.dense_layers]
    assert sum({x.key: prod(x.shape) for x in own}.values()) == 168_384
    macs = sum(x.macs for x in work(S) if x.layer.startswith(("neck", "detector")))
    assert round(macs / 1e6, 1) == 9.6
    assert all(x.reads == "level" for x in work(S) if x.layer.startswith(("neck", "detector")))


def test_both_heads_share_the_neck():
    """DETSEG.md 3.4: the detector adds its tower and predictor, 74,688 weights, 6.0 MMAC."""
    both = replace(S, dense_heads={
        "taps": ["1_1", "1_2", "2", "4"], "channels": 64, "segmenter": {"classes": 11},
        "detector": {"classes": 10, "taps": ["2", "4"]}})
    alone = with_heads(both, detector=None)
    assert both.weight_count - alone.weight_count == 74_688
    macs = [sum(x.macs for x in work(spec)) for spec in (both, alone)]
    assert round((macs[0] - macs[1]) / 1e6, 1) == 6.0
    assert (both.classes, alone.classes) == (10, 11)


@pytest.mark.parametrize("spec", FAMILIES.values(), ids=FAMILIES)
def test_strides_are_derived(spec):
    outputs = {x.output: x.reduction for x in spec.dense_layers if x.output}
    assert outputs == {"cls8": 8, "reg8": 8, "cls16": 16, "reg16": 16, "seg": 2}
    if spec is not LARGE:
        finer = replace(with_heads(spec, taps=["1_1", "1_2", "2", "3"] if spec is LARGE else
                                   ["1_2", "2", "4"], segmenter=None, detector={"classes": 3}),
                        strides=(2, 1, 2, 2, 1))
        assert {x.output for x in finer.dense_layers if x.output} == {
            f"{kind}{stride}" for kind in ("cls", "reg") for stride in (2, 4, 8)}


def test_shared_weights_are_there_once():
    shapes = state_shapes(QSDT)
    assert shapes["detector.tower0_conv.weight"] == (12, 8, 3, 3)
    assert shapes["detector.tower1_conv.weight"] == (12, 12, 3, 3)
    assert shapes["detector.cls.weight"] == (3, 12, 1, 1) and shapes["detector.reg.bias"] == (5,)
    assert {"detector.tower0_bn8.weight", "detector.tower0_bn16.weight"} <= {*shapes}
    assert "head.weight" not in shapes
    assert QSDT.weight_count == sum(
        prod(shape) for key, shape in shapes.items() if f"{key.removesuffix('weight')}alpha" in
        shapes and key.endswith(".weight"))
    assert level_units(QSDT)["detector.tower0_conv"] == 0.25


def test_layers_of_zeros_have_no_weights():
    """The published head doubles maps in front of a 3x3; units are 1, 1, 2 and 3."""
    faithful = with_heads(QSDT, segmenter={"classes": 4, "kind": "faithful"})
    zeros = [x for x in faithful.dense_layers if x.zero]
    assert len(zeros) == 3
    assert not any(x.name in key for x in zeros for key in state_shapes(faithful))
    units = [x.name for x in faithful.dense_layers
             if x.name.startswith("segmenter.branch") and not x.zero]
    assert [sum(x.startswith(f"segmenter.branch{s}_") for x in units) for s in (2, 4, 8, 16)] == [
        1, 1, 2, 3]
    more = faithful.weight_count - QSDT.weight_count
    assert more == 3 * 9 * 8 * 8


def test_dictionaries_and_files(tmp_path):
    for spec in FAMILIES.values():
        assert from_dict(spec.to_dict()) == spec
        assert "attention_tokens" not in spec.to_dict()
    assert QSDT.to_dict()["dense_heads"] == {
        **HEADS, "detector": {"classes": 3, "taps": ["2", "4"], "channels": 12}}
    assert "dense_heads" not in MODELS["qsdt_s"].to_dict()
    tokens = replace(QSDT, attention_tokens=4)
    assert from_dict(tokens.to_dict()) == tokens
    file = tmp_path / "own.yaml"
    file.write_text("""version: 1
family: qsdt
dims: [8, 8, 8, 8, 8]
dense_heads:
  taps: ["2", "4"]
  channels: 16
  detector: {classes: 3}
""")
    assert read_spec(file).dense_heads == DenseHeads(taps=("2", "4"), channels=16,
                                                     detector={"classes": 3})
    assert read_spec(file).classes == 3


def test_twin_has_the_same_heads():
    twin = with_heads(QSDT, binary_neck="always").twin()
    assert twin.dense_heads == QSDT.dense_heads and not twin.spikes
    assert "neck hands on levels of 0 and 1" in with_heads(
        QSDT, binary_neck="evaluation").no_integer_form


@pytest.mark.parametrize("changes, message", [
    ({"taps": [1, 2]}, 'dense_heads.taps must be a list of stages in quotes, such as ["2", "4"], '
                       "not [1, 2]"),
    ({"taps": ["2", "5"]}, "dense_heads.taps: stage must be one of 1_1, 1_2, 2, 3, 4, not 5"),
    ({"taps": ["4", "2"]}, "dense_heads.taps: stages must be in the order of the network"),
    ({"taps": ["1_2", "2"]}, "dense_heads.taps must end with the network's last stage, 4"),
    ({"taps": ["1_1", "2", "4"]}, "stage 1_1 has 2 pixels and stage 2 8: leave one out"),
    ({"taps": ["2", "3", "4"]}, "stage 3 has 16 pixels and stage 4 16: leave one out"),
    ({"taps": []}, "dense_heads.taps must end with"),
    ({"channels": 0}, "dense_heads.channels must be 1 to 1023, not 0"),
    ({"channels": True}, "dense_heads.channels must be 1 to 1023, not True"),
    ({"detector": None, "segmenter": None}, "must have a detector, a segmenter or both"),
    ({"detector": {"classes": 0}}, "dense_heads.detector.classes must be 1 to 65536, not 0"),
    ({"detector": {"tower": 2}}, "dense_heads.detector: "),
    ({"detector": {"classes": 3, "taps": ["3"]}},
     "dense_heads.detector.taps must be some of 1_1, 1_2, 2, 4, not '3'"),
    ({"detector": {"classes": 3, "stride": 8}}, "dense_heads.detector: 'stride' is not known"),
    ({"detector": 3}, "dense_heads.detector must be a mapping of classes, taps, tower, channels"),
    ({"segmenter": {"classes": 256}}, "dense_heads.segmenter.classes must be 1 to 255, not 256"),
    ({"segmenter": {"classes": 4, "kind": "big"}},
     "dense_heads.segmenter.kind must be lite or faithful, not 'big'"),
    ({"segmenter": {"classes": 4, "on_host": 1}}, "on_host must be true or false, not 1"),
    ({"binary_neck": "yes"}, "dense_heads.binary_neck must be none, evaluation or always"),
    ({"strides": [8]}, "dense_heads: 'strides' is not known; known are taps, channels"),
])
def test_what_is_refused(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        with_heads(QSDT, **changes)


def test_fields_of_the_network_that_do_not_fit():
    with pytest.raises(ValueError, match="time_steps must be 1, not 2"):
        replace(QSDT, time_steps=2)
    with pytest.raises(ValueError, match="dense_heads must be a mapping of taps"):
        replace(QSDT, dense_heads=["2"])
    for value in (-1, 0.5, True, "196"):
        with pytest.raises(ValueError, match="attention_tokens must be 0 to 65536"):
            replace(QSDT, attention_tokens=value)
    with pytest.raises(ValueError, match="attention_tokens must be 0 unless the neuron is ielif"):
        replace(MODELS["qsdt_nano"], neuron="relu", attention_tokens=196)
