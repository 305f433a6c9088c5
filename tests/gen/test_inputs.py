"""Pictures become what the network was evaluated on."""

import argparse
from dataclasses import replace

import numpy as np
from PIL import Image
import pytest

from gen.inputs import add_network_options, load_images, load_network
from model import zoo
from model.error import InputError
from model.families.spec import MODELS


T = MODELS["qsdt_t"]


class Shape:
    """What load_images asks of a network."""

    def __init__(self, spec):
        self.spec = spec.to_dict()
        self.info = None
        self.input_shape, self.time_steps = spec.input_shape, spec.time_steps


def photograph(width, height):
    """Smooth in both directions, another slope for each colour."""
    y, x = np.mgrid[:height, :width]
    return np.stack([255 * x / (width - 1), 255 * y / (height - 1),
                     255 * (x + y) / (width + height - 2)], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("size, suffix", [((300, 400), "png"), ((640, 256), "png"),
                                          ((1000, 700), "jpg"), ((100, 100), "bmp")])
def test_photograph_is_resized_cropped_and_normalised(tmp_path, size, suffix):
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(photograph(*size)).save(path)
    found = load_images(str(path), Shape(T))
    images, labels = found.image_q, found.labels
    assert found.files == (path.name,)
    assert images.shape == (1, 3, 224, 224) and images.dtype == np.int8 and labels is None
    # The square in the middle: 7/8 of the shorter side. So the red ramp goes over that part of
    # the width, in units of 1/48 of (pixel/255 - mean) / std.
    width, height = size
    share = 0.875 * min(size) / width
    ends = np.array([0.5 - share / 2, 0.5 + share / 2])
    wanted = 48 * (ends - T.norm_mean[0]) / T.norm_std[0]
    np.testing.assert_allclose(images[0, 0, 112, [0, 223]], wanted, atol=3)
    share = 0.875 * min(size) / height
    ends = np.array([0.5 - share / 2, 0.5 + share / 2])
    wanted = 48 * (ends - T.norm_mean[1]) / T.norm_std[1]
    np.testing.assert_allclose(images[0, 1, [0, 223], 112], wanted, atol=3)


def test_right_size_is_taken_as_it_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    images = load_images(str(tmp_path), Shape(T)).image_q
    x = (pixels.transpose(2, 0, 1) / 255 - np.array(T.norm_mean)[:, None, None])
    x /= np.array(T.norm_std)[:, None, None]
    np.testing.assert_array_equal(images[0], np.floor(48 * x + 0.5))


def test_grey_picture_for_a_colour_network_and_the_other_way(tmp_path):
    Image.fromarray(photograph(300, 300)).convert("L").save(tmp_path / "grey.png")
    assert load_images(str(tmp_path), Shape(T)).image_q.shape == (1, 3, 224, 224)
    images = load_images(str(tmp_path), Shape(MODELS["qsdt_nano"])).image_q
    assert images.shape == (1, 1, 28, 28)
    # The whole picture, corner to corner.
    assert images[0, 0, 0, 0] < -30 and images[0, 0, -1, -1] > 80


def test_default_images_are_like_photographs():
    found = load_images(None, Shape(T), model="qsdt_t", count=2)
    images = found.image_q
    assert images.shape == (2, 3, 224, 224) and found.labels is None
    steps = np.abs(np.diff(images.astype(int), axis=-1)).mean()
    assert steps < images.std() < 100
    np.testing.assert_array_equal(images, load_images(None, Shape(T), count=2).image_q)


def test_not_a_picture(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="a.png"):
        load_images(str(tmp_path / "a.png"), Shape(T))


def test_network_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    parser = argparse.ArgumentParser()
    add_network_options(parser)
    name, network = load_network(parser.parse_args(["--model", "qsdt_t"]))
    assert name == "qsdt_t" and network.origin.startswith("synthetic")
    assert network.input_shape == (3, 224, 224)
    assert "nano" in parser.format_help() and "~/.cache/qsdt" in parser.format_help()
    assert load_network(parser.parse_args(["--model", "qsdt_nano"]))[1].origin == ""
    assert zoo.cache_folder() == tmp_path / "qsdt"


def test_samples_of_several_images(tmp_path):
    """Random images are different ones; of a picture all are the same."""
    nano = MODELS["qsdt_nano"]
    three = Shape(replace(nano, time_steps=3))
    images = load_images(None, three, count=2).image_q
    assert images.shape == (2, 3, 1, 28, 28) and (images[:, 0] != images[:, 1]).any()
    Image.fromarray(photograph(300, 300)).convert("L").save(tmp_path / "grey.png")
    single = load_images(str(tmp_path), Shape(nano)).image_q
    found = load_images(str(tmp_path), three).image_q
    np.testing.assert_array_equal(found, np.stack([single] * 3, axis=1))
    np.savez(tmp_path / "samples.npz", image_q=images)
    np.testing.assert_array_equal(load_images(tmp_path / "samples.npz", three).image_q, images)
    with pytest.raises(InputError, match=r"Images must be \(1, 28, 28\), not \(3, 1, 28, 28\)"):
        load_images(tmp_path / "samples.npz", Shape(nano))
