"""The command line that runs a network in its three forms."""

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch

from model import evaluate
from model.data import dataset as data
from model.data import options
from model.integer import qsd_file
from model.integer.epilogue import IntegerParams
from model.integer.random_network import random_network
from model.integer.widths import add_widths, widths
from model.training import checkpoint


torch.set_num_threads(1)

SMALL = Path(__file__).parents[2] / "tests" / "data" / "official_small.npz"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A checkpoint in the published format and its image, from the golden vectors."""
    folder = tmp_path_factory.mktemp("published")
    _, state = checkpoint.load_vectors(SMALL)
    tensors = {key: torch.from_numpy(np.array(value)) for key, value in state.items()}
    torch.save({"model": tensors, "epoch": 1}, folder / "net.pth")
    with np.load(SMALL) as vectors:
        label = vectors["logits"].argmax(1)
        np.savez(folder / "x.npz", image_q=vectors["image_q"], labels=label)
    return folder


@pytest.mark.parametrize("form", ["wide", "float"])
def test_exact_forms_equal_the_published_network(published, tmp_path, capsys, form):
    out = tmp_path / "y.npz"
    status = evaluate.cli(
        ["--weights", str(published / "net.pth"), "--heads", "4", "--form", form, "--tensors"]
        + ["--images", str(published / "x.npz"), "--out", str(out)]
    )
    assert status == 0
    assert f"{form}: accuracy 1.0000 (1 of 1)" in capsys.readouterr().out
    with np.load(out) as made, np.load(SMALL) as vectors:
        names = [f"levels/{name}" for name in vectors["levels_order"]]
        assert made.files == ["logits", *names]
        assert made["logits"].dtype == np.float64
        np.testing.assert_allclose(made["logits"], vectors["logits"], rtol=0, atol=1e-9)
        for name in names:
            assert made[name].dtype == np.uint8
            np.testing.assert_array_equal(made[name], vectors[name], err_msg=name)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A random network's .qsd file, images without labels, and the network."""
    folder, made = tmp_path_factory.mktemp("random"), random_network(6, max_dim=24)
    qsd_file.save(folder / "net.qsd", made.state, made.spec, made.params)
    np.savez(folder / "x.npz", image_q=made.images(5))
    return folder, made


def test_integer_form_of_a_portable_file(small, tmp_path, capsys):
    folder, made = small
    out = tmp_path / "y.npz"
    command = ["--weights", str(folder / "net.qsd"), "--images", str(folder / "x.npz")]
    options = ["--count", "3", "--batch", "2", "--against", "wide", "--out", str(out)]
    assert evaluate.cli([*command, *options]) == 0
    printed = capsys.readouterr().out
    assert "integer: 3 images, no labels" in printed
    assert "integer = wide in the top class: " in printed
    with np.load(out) as result:
        assert result.files == ["logits"]
        expected = made.network.classify(made.images(5)[:3])
        np.testing.assert_array_equal(result["logits"], expected)
    # Other widths than the file's are another network.
    assert evaluate.cli([*command, "--u-frac", "4", "--out", str(out)]) == 0
    with np.load(out) as result:
        assert not np.array_equal(result["logits"][:3], expected)


@pytest.mark.parametrize("words, bits, frac", [
    ([], (8, 12, 12), (3, 6, 5)),
    (["--z-bits", "10"], (10, 10, 10), (3, 6, 5)),
    (["--z-bits", "10", "--z-bits-of", "attn.k_conv=9"], (10, 9, 10), (3, 6, 5)),
    (["--z-bits-of", "conv=5", "--z-frac-of", "k_conv=1"], (8, 12, 12), (3, 1, 5)),
    (["--z-frac", "2"], (8, 12, 12), (2, 2, 2)),
])
def test_widths_of_the_command_line(words, bits, frac):
    """A width for every z replaces those of the file by layer; one for a layer comes on top."""
    base = IntegerParams(z_bits_of=(("q_conv", 8),), z_frac_of=(("q_conv", 3), ("proj_conv", 5)))
    parser = argparse.ArgumentParser()
    add_widths(parser)
    params = widths(parser.parse_args(words), base)
    layers = [f"block3.0.attn.{name}_conv" for name in ("q", "k", "proj")]
    assert tuple(map(params.z_bits_for, layers)) == bits
    assert tuple(map(params.z_frac_for, layers)) == frac


def test_data_set(small, monkeypatch, capsys):
    folder, made = small
    shape = (7, 16, 16)
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    split = data.Split(images=images, labels=np.arange(7) % made.spec.classes)
    fake = data.Dataset(train=split, val=split, test=split)
    monkeypatch.setitem(options.DATASETS, "fashion_mnist", lambda folder, spec: fake)
    assert made.spec.in_channels == 1
    status = evaluate.cli(
        ["--weights", str(folder / "net.qsd"), "--data", "fashion_mnist", "--count", "4"]
    )
    assert status == 0
    top = made_top(made, data.to_image_q(images[:4], made.spec))
    hits = (top == split.labels[:4]).sum()
    assert f"integer: accuracy {hits / 4:.4f} ({hits} of 4)" in capsys.readouterr().out


def made_top(made, image_q):
    from model.integer.export import export

    network = export(made.state, made.spec, made.params, input_shape=image_q.shape[1:])
    return network.classify(image_q).argmax(1)


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"x": np.zeros(1)}, "image_q"),
        ({"image_q": np.zeros((1, 1, 8, 8))}, "image_q must be int8"),
        ({"image_q": np.zeros((1, 2, 8, 8), np.int8)}, "image_q must be int8"),
        ({"image_q": np.zeros((0, 1, 8, 8), np.int8)}, "must not be empty"),
        ({"image_q": np.zeros((2, 1, 8, 8), np.int8), "labels": np.zeros(3, int)}, "labels must"),
        ({"image_q": np.array([{}], dtype=object)}, "allow_pickle"),
        (None, "bad.npz"),
    ],
)
def test_bad_images_are_refused_and_nothing_written(small, tmp_path, capsys, arrays, message):
    folder, _ = small
    path, out = tmp_path / "bad.npz", tmp_path / "y.npz"
    if arrays is None:
        path.write_bytes((folder / "x.npz").read_bytes()[:200])
    else:
        np.savez(path, **arrays)
    status = evaluate.cli(
        ["--weights", str(folder / "net.qsd"), "--images", str(path), "--out", str(out)]
    )
    error = capsys.readouterr().err
    assert status == 1 and error.startswith("error: ") and message in error
    assert error.count("\n") == 1 and not out.exists()


@pytest.mark.parametrize(
    "command, message",
    [
        (["--model", "nope", "--data", "fashion_mnist"], "model must be one of"),
        (["--model", "qsdt_t", "--data", "fashion_mnist"], "images must be (N, 3, H, W)"),
        (["--weights", "nowhere.qsd", "--data", "fashion_mnist"], "nowhere.qsd"),
        (["--weights", "NET", "--images", "nowhere.npz"], "nowhere.npz"),
        (["--weights", "NET", "--images", "X", "--tensors"], "--tensors needs --out"),
        (["--weights", "NET", "--images", "X", "--count", "0"], "--count must be at least 1"),
        (["--weights", "NET", "--heads", "99", "--images", "X"], "heads is"),
        (["--weights", "NET"], "one of the arguments --data --images is required"),
    ],
)
def test_bad_commands_end_with_status_1(small, capsys, command, message):
    folder, _ = small
    places = {"NET": str(folder / "net.qsd"), "X": str(folder / "x.npz")}
    try:
        status = evaluate.cli([places.get(word, word) for word in command])
    except SystemExit as end:
        status = end.code
    error = capsys.readouterr().err.splitlines()[-1]
    assert status == 1 and error.startswith("error: ") and message in error


def test_interruption_ends_with_status_130(small, monkeypatch, tmp_path):
    folder, _ = small

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate, "run", interrupt)
    out = tmp_path / "y.npz"
    command = ["--weights", str(folder / "net.qsd"), "--images", str(folder / "x.npz")]
    assert evaluate.cli([*command, "--out", str(out)]) == 130
    assert not out.exists()
