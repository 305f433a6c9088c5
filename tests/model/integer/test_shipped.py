"""The integer form of a trained network that ships, against its float64 form, on real images."""

import numpy as np
import pytest
import torch

from model import zoo
from model.data.dataset import to_image_q
from model.data.mnist import fashion_mnist
from model.families.network import capture_levels
from model.integer.epilogue import IntegerParams, Integrate


torch.set_num_threads(1)


@pytest.fixture(scope="module")
def nano():
    return zoo.read("qsdt_nano")


@pytest.fixture(scope="module")
def images(nano):
    """400 validation images as the network takes them, and their labels."""
    val = fashion_mnist().val
    return to_image_q(val.images[:400], nano.spec), val.labels[:400]


@pytest.fixture(scope="module")
def exact(nano, images):
    """Every tensor of the wide form for 16 images."""
    return zoo.network(nano, form="wide").run(images[0][:16])


def test_every_level_of_the_float_network(nano, images, exact):
    """Model check 7.11 on a trained network: float64 and wide form agree on every level."""
    network = zoo.float_network(nano).double()
    with torch.inference_mode(), capture_levels(network) as levels:
        logits = network(torch.from_numpy(images[0][:16] / 48)).numpy()
    for name, level in levels.items():
        np.testing.assert_array_equal(level.numpy().reshape(exact[name].shape), exact[name])
    np.testing.assert_allclose(exact["logits"], logits, rtol=0, atol=1e-9)


@pytest.mark.parametrize("z_frac, share, near", [(8, 1e-3, 0.1), (12, 1e-4, 0.01)])
def test_levels_from_equal_inputs(nano, images, exact, z_frac, share, near):
    """Model check 7.12: few levels differ, by 1, at a threshold; none in front of no rounding."""
    params = IntegerParams(u_frac=12, u_bits=18, z_frac=z_frac, z_bits=z_frac + 8, acc_bits=32)
    network = zoo.network(nano, params=params)
    levels = [name for name, (kind, *_) in network.tensors().items() if kind == "level"]
    made = network.run(images[0][:16], force={name: exact[name] for name in levels})
    differing = total = 0
    for name in levels:
        off = made[name] != exact[name]
        differing, total = differing + np.count_nonzero(off), total + off.size
        if name.endswith((".lif2", ".fc2_lif", ".attn_lif")):
            assert not off.any(), name
        assert np.abs(made[name].astype(int) - exact[name]).max() <= 1, name
    assert 0 < differing <= share * total
    for op in network.ops:
        epilogue = getattr(op, "epilogue", None)
        if isinstance(epilogue, Integrate) and epilogue.level:
            off = made[epilogue.level] != exact[epilogue.level]
            distance = 4 * exact[epilogue.u_out][off] / 2.0**28 - 0.5
            assert (np.abs(distance - np.rint(distance)) < near).all()


def test_accuracy_is_within_a_point(nano, images):
    """Model check 7.13 on a trained network: default widths against the exact form."""
    image_q, labels = images
    wide, integer = (zoo.network(nano, form=form).classify(image_q).argmax(1)
                     for form in ("wide", "integer"))
    assert abs(int((wide == labels).sum()) - int((integer == labels).sum())) <= 4
