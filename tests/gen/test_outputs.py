"""Networks with several outputs through the commands: by name, and every accumulator compared."""

from dataclasses import replace
import json
from types import SimpleNamespace

import numpy as np
import pytest

from gen import api, build, run, verify
from gen.accelerator import Accelerator
from gen.api import ISS
from gen.compile.results import classes_of, named, outputs_of, place_of, raw_in, raw_of
from model.error import InputError
from model.families.spec import MODELS
from model.integer import qsd_file
from model.integer.epilogue import IntegerParams
from model.integer.export import export
from model.integer.random_network import random_state, RandomNetwork, with_heads
from model.integer.synthetic import synthetic_state
from tests.faults.known_board import board_of, known_results, session_on


BOARD = "ulx3s"


def network_of(*, logits):
    """A small network of the size of qsdt_nano with heads, as `model.integer.random_network` draws
    them."""
    spec = replace(MODELS["qsdt_nano"], dims=(16, 16, 16, 16, 16), image_size=32)
    params = IntegerParams()
    state = random_state(np.random.default_rng(0), spec, params)
    made = RandomNetwork(spec, params, state, export(state, spec, params))
    return with_heads(made, 1, channels=16, logits=logits).network


@pytest.fixture(scope="module", params=[True, False], ids=["classes", "maps alone"])
def design(request):
    return api.configure(network_of(logits=request.param), board=BOARD, name="heads")


@pytest.fixture(scope="module")
def images(design):
    return np.random.default_rng(1).integers(-128, 128, (2, *design.network.input_shape), np.int8)


def test_by_name(design, images):
    network = design.network
    with Accelerator(design, device=ISS) as found:
        result = found.run(images)
    wanted = network.results(images)
    assert [*result.outputs] == [*network.outputs]
    assert {*wanted} == {*network.outputs}
    for name, values in result.outputs.items():
        np.testing.assert_array_equal(values, wanted[name])
        assert values.dtype == (np.int64 if name == "fpn0/u" else np.float64)
    np.testing.assert_array_equal(result.acc, raw_of(network, images))
    if "logits" in network.outputs:
        np.testing.assert_array_equal(result.classes, wanted["logits"].argmax(axis=1))
    else:
        with pytest.raises(InputError, match="no class scores; its outputs are cls0, .*seg"):
            _ = result.classes


def test_over_the_link(design, images):
    """Session and link carry all outputs of an image in one piece."""
    network, program = design.network, design.program
    case = network, program, images, known_results(program, images)
    session = session_on(board_of(case)[0], case)
    acc, values, _ = session.run(images[:1], timeout=9)
    np.testing.assert_array_equal(acc, raw_of(network, images[:1]))
    wanted = network.results(images[:1])
    for name, found in outputs_of(program, acc, values).items():
        np.testing.assert_array_equal(found, wanted[name])


def test_flat_results(design, images):
    program, network = design.program, design.network
    made = network.run(images)
    flat = raw_in(network, made)
    for name, values in named(program, flat).items():
        np.testing.assert_array_equal(
            values.reshape(2, -1), made[network.outputs[name]].reshape(2, -1))
    # Every place is called by what it is.
    at = 0
    for result in program.results:
        shape = result.shape(program.maps)
        first = "class 0" if result.name == "logits" else "channel 0, position (0, 0)"
        assert place_of(program, at) == f"{result.name}, {first}"
        at += int(np.prod(shape))
    assert at == flat.shape[1]
    with pytest.raises(IndexError):
        place_of(program, at)
    classes = classes_of(program, flat)
    assert (classes >= 0).all() if "logits" in network.outputs else (classes == -1).all()


def test_report(design, tmp_path):
    report, path = api.build(design, folder=tmp_path, until="config")
    rows = {row["name"]: row for row in report["outputs"]}
    assert [*rows] == [*design.network.outputs]
    assert rows["seg"]["reads"] == "levels, of which the host computes accumulators"
    assert rows["cls0"]["reads"] == "accumulators" and rows["fpn0/u"]["reads"] == "membranes"
    shape = design.network.run(np.zeros((1, *design.network.input_shape), np.int8))["cls0"].shape
    assert rows["cls0"]["shape"] == list(shape[1:])
    assert sum(row["bytes"] for row in rows.values() if row["name"] != "seg") <= (
        8 * design.program.result_words)
    layers = {row["name"]: row["cycles"]["value"] for row in report["layers"]}
    heads = report["cycles.heads"]["value"]
    backbone = ("downsample", "ConvBlock", "block")
    assert heads == sum(cycles for name, cycles in layers.items() if not name.startswith(backbone))
    assert 0 < heads < report["predicted_cycles"]["value"]
    assert report["cycles.fpn0"]["value"] == layers["fpn0"]
    text = path.read_text()
    assert "## Outputs" in text and "| seg | 21 x " in text and "cycles.heads" in text
    assert json.loads((tmp_path / "report.json").read_text())["outputs"] == report["outputs"]


@pytest.fixture
def loaded(design, monkeypatch):
    """The commands' network and configuration are the design's."""
    for command in (run, verify):
        monkeypatch.setattr(command, "load_network", lambda arguments: ("heads", design.network))
        monkeypatch.setattr(command, "configure", lambda *args, **options: design)
    return design


def test_verify(loaded, tmp_path, capsys):
    report = tmp_path / "verify.json"
    assert verify.cli(["--board", BOARD, "--weights", "heads.qsd", "--forms", "integer,iss",
                       "--count", "1", "--report", str(report)]) == 0
    out = capsys.readouterr().out
    names = [name for name in loaded.network.outputs if name not in ("seg", "fpn0/u")]
    assert f"membranes, {', '.join(names)})" in out
    assert json.loads(report.read_text())["equal"] is True


def test_a_detector_and_segmenter_from_a_file(tmp_path, capsys):
    """QSD-Det and QSD-Seg as a `.qsd`, by the commands alone."""
    spec = replace(
        MODELS["qsdt_nano"], name="both", image_size=32, dims=(16,) * 5, strides=(1, 2, 2, 2, 1),
        dense_heads={"taps": ["1_2", "2", "4"], "channels": 8,
                     "detector": {"classes": 3, "taps": ["2", "4"]},
                     "segmenter": {"classes": 4}})
    path = tmp_path / "both.qsd"
    path.write_bytes(qsd_file.to_bytes(synthetic_state(spec), spec))
    words = ["--board", BOARD, "--weights", str(path)]
    assert verify.cli([*words, "--forms", "integer,iss", "--count", "1"]) == 0
    strides = [tap.stride for tap in spec.dense_heads.maps(spec)]
    names = [f"{name}{stride}" for stride in strides for name in ("cls", "reg")]
    out = capsys.readouterr().out
    assert f"membranes, {', '.join([*names, 'seg'])})" in out
    assert build.cli([*words, "--until", "config", "--out", str(tmp_path / "build")]) == 0
    report = json.loads((tmp_path / "build" / "report.json").read_text())
    assert [row["name"] for row in report["outputs"]] == [*names, "seg"]
    parts = [report[f"cycles.{name}"]["value"] for name in ("neck", "detector", "segmenter")]
    assert report["cycles.heads"]["value"] == sum(parts)


def device_of(monkeypatch, change=lambda acc: acc):
    """gen.run on the instruction-set simulator in place of the virtual board."""
    def on_iss(design, images, **options):
        result = api.run(design, images, device=ISS)
        counters = dict.fromkeys(("CYCLES", "SPIKE_EVENTS"), 1)
        return replace(result, acc=change(result.acc), counters=counters)

    monkeypatch.setattr(run, "run", on_iss)
    monkeypatch.setattr(run, "check_way", lambda *args: None)


def test_run(loaded, monkeypatch, tmp_path, capsys):
    device_of(monkeypatch)
    path = tmp_path / "maps.npz"
    assert run.cli(["--board", "virtual", "--weights", "heads.qsd", "--count", "1",
                    "--outputs", str(path)]) == 0
    out = capsys.readouterr().out
    assert "agreement with the integer model: 1 of 1 images" in out
    assert "seg (21, " in out and f"{path}: " in out
    assert ("image 0: class " if "logits" in loaded.network.outputs else
            "image 0: all outputs as in the integer model\n") in out
    image = run.load_images(None, loaded.network, count=1).image_q
    wanted = loaded.network.results(image)
    with np.load(path) as found:
        assert {*found} == {*wanted}
        for name in wanted:
            np.testing.assert_array_equal(found[name], wanted[name])


def test_run_names_the_first_difference(loaded, monkeypatch, capsys):
    def change(acc):
        acc = acc.copy()
        acc[0, -1] += 1
        return acc

    device_of(monkeypatch, change)
    assert run.cli(["--board", "virtual", "--weights", "heads.qsd", "--count", "1"]) == 1
    out = capsys.readouterr().out
    last = loaded.program.results[-1]
    assert f"DIFFERENT RESULT: {last.name}, channel " in out
    assert "agreement with the integer model: 0 of 1 images" in out


def test_outputs_path(loaded, tmp_path, capsys):
    assert run.cli(["--board", "virtual", "--weights", "heads.qsd", "--outputs",
                    str(tmp_path / "none" / "x.npz")]) == 1
    assert "none: no such file or directory" in capsys.readouterr().err


def test_classifiers_have_none():
    """Of a network that only classifies, reports say what they said."""
    from gen.flow.layers import head_cycles

    network = SimpleNamespace(outputs={"logits": "logits_acc"})
    assert head_cycles(network, None) == {}
