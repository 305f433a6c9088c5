"""The comparison names what differs: layer, tile, channel, position and both values."""

from dataclasses import replace
from importlib import resources
import json
import re

import numpy as np
import pytest

from gen import verify
from gen.check.trace import first_difference, integer_trace, iss_trace
from gen.compile.excerpt import PATTERNS
from tests.gen.random_cases import compile_case


@pytest.fixture(scope="module")
def traces():
    found, program = compile_case(6)
    image = found.images(1)
    tensors = found.network.run(image)
    return program, integer_trace(program, tensors, 0), iss_trace(program, image[0])


def test_equal(traces):
    program, integer, iss = traces
    assert first_difference(program, integer, iss) is None


@pytest.mark.parametrize("kind", ["level", "z", "u"])
def test_names_the_place(traces, kind):
    program, integer, iss = traces
    index, output, column = next(
        (i, o, sum(p.words for p in d.outputs[:k]))
        for i, d in enumerate(program.descriptors) for k, o in enumerate(d.outputs)
        if program.maps[o.tensor].kind == kind and o.count > 1)
    changed = [None if w is None else w.copy() for w in iss.words]
    per = sum(o.words for o in program.descriptors[index].outputs)
    changed[index][per + column] ^= np.uint64(1)       # lowest lane of the second position
    found = first_difference(program, integer, replace(iss, words=changed))
    assert found.index == index and found.traced
    text = found.text
    row, col = divmod(output.first + 1, program.maps[output.tensor].width)
    channel = program.maps[output.tensor].lanes[output.group * program.config.rows]
    assert re.search(rf"^layer {re.escape(program.descriptors[index].layer)}, {kind} "
                     rf"{re.escape(output.tensor)}, tile {output.group}, channel {channel} "
                     rf"\(lane 0\), position \({row}, {col}\): -?\d+ against -?\d+$", text), text


def test_logits_and_signatures(traces):
    program, integer, iss = traces
    acc = integer.acc.copy()
    acc[0] += 1
    found = first_difference(program, replace(integer, acc=acc), iss)
    assert found.text.startswith("logits, class 0:") and found.index is None
    sigs = list(iss.sigs)
    sigs[2] ^= 1
    found = first_difference(program, iss, replace(iss, sigs=sigs))
    assert found.text.startswith("signature of descriptor 2 (") and found.index == 2


def test_signatures_alone(traces):
    """Without words the difference is found by signature, and asks for the words."""
    program, integer, iss = traces
    index = [i for i, w in enumerate(iss.words) if w is not None][3]
    sigs = list(iss.sigs)
    sigs[index] ^= 1
    assert first_difference(program, integer, iss.signatures()) is None
    found = first_difference(program, integer, replace(iss.signatures(), sigs=sigs))
    assert found.index == index and not found.traced


def test_missing_words(traces):
    program, integer, iss = traces
    words = list(iss.words)
    index = next(i for i, w in enumerate(words) if w is not None)
    words[index] = words[index][:-1]
    found = first_difference(program, integer, replace(iss, words=words, addresses=None))
    assert "words against" in found.text and found.index == index


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


NANO = ["--model", "qsdt_nano", "--forms", "integer,iss", "-q"]


def test_layers_by_name(workplace, capsys):
    """Modules and layers of the shipped network, on an image and on every pattern."""
    layers = "block3.0,ConvBlock1_1.0.conv1,head"
    assert verify.cli([*NANO, "--count", "1", "--layers", layers, "--report", "images.json"]) == 0
    assert verify.cli([*NANO, "--patterns", "all", "--layers", layers,
                       "--report", "patterns.json"]) == 0
    for name, count in (("images", 1), ("patterns", len(PATTERNS))):
        record = json.loads((workplace / f"{name}.json").read_text())
        assert record["equal"] and list(record["layers"]) == layers.split(",")
        assert all(part["images"] == count for part in record["layers"].values())
    # Some layers are no verification of the network.
    assert not list(workplace.rglob("verified"))


def test_whole_network_on_patterns(workplace, capsys):
    assert verify.cli([*NANO, "--patterns", "high,low,alternating"]) == 0
    assert "integer = iss: equal on patterns: 3 (" in capsys.readouterr().out


def test_samples_of_several_images(workplace, capsys):
    """A spec with time steps, from the command line: images, patterns, and the head by itself."""
    text = (resources.files("model") / "specs" / "tiny_grey.yaml").read_text()
    (workplace / "two.yaml").write_text(f"{text}time_steps: 2\n")
    (workplace / "small.yaml").write_text("core: {rows: 16}\n")
    two = ["--model", "two.yaml", "--config", "small.yaml", "--forms", "integer,iss", "-q"]
    assert verify.cli([*two, "--count", "1"]) == 0
    assert verify.cli([*two, "--patterns", "alternating"]) == 0
    assert verify.cli([*two, "--count", "1", "--layers", "block3.0,lif,head"]) == 0
    lines = capsys.readouterr().out
    assert "integer = iss: equal on images: 1 (" in lines
    assert "integer = iss: equal on patterns: 1 (" in lines
    np.savez("three.npz", image_q=np.zeros((1, 3, 1, 8, 8), np.int8))
    assert verify.cli([*two, "--images", "three.npz"]) == 1
    assert "Images must be (2, 1, 8, 8), not (3, 1, 8, 8)" in capsys.readouterr().err


@pytest.mark.parametrize("arguments, text", [
    (["--layers", "block9"], "Unknown layer 'block9': known are downsample1_1.encode_conv, .*"
                             "block3.0, .*block3.0.attn.q_conv"),
    (["--patterns", "ones"], "Unknown pattern 'ones': known are high, low, zero"),
    (["--patterns", "all", "--data", "fashion_mnist"], "in place of --images and --data"),
    (["--checkpoint-cycles", "0"], "at least 1, not 0"),
    (["--fst", "x.fst"], "--fst: signals are those of the RTL; add rtl to --forms"),
    (["--cycles", "1:2"], "--cycles: name a file for the waveform"),
    (["--forms", "integer,rtl", "--vcd", "x", "--layers", "head,block3.0"], "name one layer"),
    (["--forms", "integer,rtl", "--vcd", "x", "--cycles", "7"], "--cycles 7: cycles are A:B"),
    (["--forms", "integer,rtl", "--vcd", "x", "--cycles", "7:7"], "--cycles 7:7: .* not 7:7"),
    (["--forms", "integer,rtl", "--vcd", "x", "--cycles", "a:"], "--cycles a:: invalid literal"),
    (["--forms", "integer,rtl", "--vcd", "none/x.vcd"], "none: no such file or directory"),
])
def test_bad_input(workplace, capsys, arguments, text):
    assert verify.cli([*NANO, *arguments]) == 1
    assert re.search(text, capsys.readouterr().err)
