"""``model.convert --data``: the width of z of every layer, from pictures to the file."""

from functools import partial
import json

import numpy as np
import pytest

from model import convert, zoo
from model.data import dataset as data
from model.data import options
from model.data.dataset import to_image_q
from model.integer import qsd_file
from model.integer.epilogue import IntegerParams
from model.integer.random_network import random_network
from model.integer.z_choice import choose


PARAMS = IntegerParams(z_bits=10, z_frac=5, acc_bits=26)


@pytest.fixture(scope="module")
def made():
    return random_network(6, max_dim=32, extremes=(), params=PARAMS)


@pytest.fixture
def pictures(made, monkeypatch):
    """A data set whose labels are what the network says in its exact form."""
    channels, size = made.spec.in_channels, made.spec.image_size
    shape = (size, size) if channels == 1 else (channels, size, size)
    images = np.random.default_rng(0).integers(0, 256, (60, *shape)).astype(np.uint8)
    network = zoo.network(zoo.Weights(made.spec, None, made.state), form="wide",
                          input_shape=(channels, size, size))
    labels = network.classify(to_image_q(images, made.spec)).argmax(1)

    def part(where):
        return data.Split(images=images[where], labels=labels[where])

    found = data.Dataset(train=part(slice(20)), val=part(slice(20, 60)), test=part(slice(20, 60)))
    monkeypatch.setitem(options.DATASETS, "fashion_mnist", lambda folder, spec: found)
    return found


@pytest.fixture
def source(made, tmp_path):
    qsd_file.save(tmp_path / "net.qsd", made.state, made.spec, PARAMS)
    return tmp_path / "net.qsd"


def converted(source, *extra):
    """(status, file) of a choice by the pictures above."""
    out = source.parent / "out.qsd"
    command = ["--weights", source, "--data", "fashion_mnist", "--calibrate", "6", "--out", out]
    return convert.cli([*map(str, command), *extra]), out


def right(path, split, spec):
    """Pictures of a split that the network of a file gets right."""
    image_q = to_image_q(split.images, spec)
    network = zoo.load(weights=path, input_shape=image_q.shape[1:])
    return int((network.classify(image_q).argmax(1) == split.labels).sum()), network


def test_file_report_and_table_say_the_same(source, pictures, made, capsys):
    report = source.parent / "report.json"
    status, out = converted(source, "--points", "10", "--report", str(report))
    assert status == 0
    text = capsys.readouterr().out
    found = json.loads(report.read_text())
    hits, network = right(out, pictures.val, made.spec)
    taken = found["taken"]
    bits = taken["bits"]
    assert network.z_widths() == {f"{name}/z": count for name, count in bits.items()}
    assert found["validate"] == 40 and found["hits"] == right(source, pictures.val, made.spec)[0]
    assert found["hits"] - 4 <= hits == taken["hits"]
    assert taken in found["tried"] and 4 <= found["mean_bits"] < 10
    for name, count in bits.items():
        option = found["layers"][name]["options"][str(count)]
        assert network.params.z_frac_for(name) == option["frac"]
        row = next(line for line in text.splitlines() if line.startswith(f"{name} ")).split()
        assert row[1:4] == [str(count), str(option["frac"]), f"{option['share']:.3%}"]
    before = found["hits"]
    assert (f"validation: 10 bits in every layer {before / 40:.2%} ({before} of 40); these "
            f"{hits / 40:.2%} ({hits} of 40): {taken['won']} won, {taken['lost']} lost\n"
            f"mean probability of the right class: {found['sure']:.3%}; {taken['sure']:.3%}\n"
            f"mean width over the MACs: 10; {found['mean_bits']:.2f} bits\n") in text
    assert taken["hits"] - before == taken["won"] - taken["lost"]
    # Chosen anew from the file that was written, it is the same: the earlier choice does not count.
    again = source.parent / "again.json"
    content = out.read_bytes()
    status, out = converted(out, "--points", "10", "--report", str(again))
    assert status == 0 and out.read_bytes() == content and again.read_bytes() == report.read_bytes()


def test_nothing_narrower_is_accurate_enough(source, pictures, capsys, monkeypatch):
    """All layers keep the width that they had, and the file is the one without a choice."""
    monkeypatch.setattr("model.z_width.choose", partial(choose_from, {PARAMS: 1}))
    status, out = converted(source)
    assert status == 0 and out.read_bytes() == source.read_bytes()
    assert ("z: nothing narrower is as good as asked for: 10 bits in every layer 2.50% (1 of "
            "40)") in capsys.readouterr().out


def choose_from(hits, options, macs, params, measured, labels, *, points):
    """`choose`, where networks of some widths get so many right, others none."""
    def logits(tried):
        right = np.arange(len(labels)) < hits.get(tried, 0)
        return np.eye(labels.max() + 2)[np.where(right, labels, labels + 1)]

    return choose(options, macs, params, logits, labels, points=points)


def test_without_pictures(source, capsys):
    out = source.parent / "out.qsd"
    assert convert.cli(["--weights", str(source), "--out", str(out)]) == 0
    assert "z: 10 bits in every layer; --data NAME" in capsys.readouterr().out
    assert out.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("extra, message", [
    (["--data", "fashion_mnist", "--z-bits-of", "q_conv=5"], "--z-bits-of cannot go with --data"),
    (["--data", "fashion_mnist", "--calibrate", "0"], "--calibrate must be at least 1, not 0"),
    (["--data", "fashion_mnist", "--validate", "0"], "--validate must be at least 1, not 0"),
    (["--data", "fashion_mnist", "--points", "101"], "--points must be 0..100, not 101"),
    (["--data", "nope"], "data set must be one of"),
    (["--report", "r.json"], "--report goes with --data"),
    (["--fit", "crop"], "--fit goes with --data"),
    (["--z-bits-of", "q_conv=99"], "z_bits of q_conv must be an integer in 2..44, not 99"),
    (["--z-bits-of", "q_conv"], "must be LAYER=N, not q_conv"),
    (["--z-bits-of", "q=5"], "no layer with a z is called q; known are"),
])
def test_refused_in_one_line(source, pictures, capsys, extra, message):
    try:
        status = convert.cli(["--weights", str(source), "--out", str(source.parent / "x.qsd"),
                              *extra])
    except SystemExit as end:
        status = end.code
    error = capsys.readouterr().err.splitlines()[-1]
    assert status == 1 and error.startswith("error: ") and message in error
    assert not (source.parent / "x.qsd").exists()
