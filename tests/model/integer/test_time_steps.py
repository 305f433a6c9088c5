"""Samples of T images: the accumulators of the head are added up, exactly, and one result comes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from model import convert, evaluate, zoo
from model.families.network import QsdTransformer
from model.integer import qsd_file
from model.integer.epilogue import IntegerParams, Raw
from model.integer.export import export
from model.integer.graph import Conv
from model.integer.network import IntegerNetwork
from model.integer.random_network import random_network


def single(found):
    """The network of the same weights for one image."""
    return export(found.state, found.spec, found.params, input_shape=found.network.input_shape[1:])


@pytest.mark.parametrize("steps, seed", [(2, 0), (3, 1), (3, 2)])
def test_accumulators_are_added_up(steps, seed):
    found = random_network(seed, time_steps=steps, max_dim=32, max_size=12)
    one, images = single(found), found.images(3)
    assert found.network.time_steps == steps and one.time_steps == 1
    assert images.shape == (3, steps, *one.input_shape)
    stats, alone_stats = {}, {}
    made = found.network.run(images, stats=stats)
    alone = one.run(images.reshape(-1, *one.input_shape), stats=alone_stats)
    for name in alone.keys() - {"logits", "logits_acc"}:
        np.testing.assert_array_equal(made[name].reshape(alone[name].shape), alone[name], name)
        assert made[name].shape[:2] == (3, steps)
    total = alone["logits_acc"].reshape(3, steps, -1, 1, 1).sum(1)
    np.testing.assert_array_equal(made["logits_acc"], total)
    np.testing.assert_allclose(made["logits"], alone["logits"].reshape(3, steps, -1).mean(1),
                               rtol=0, atol=1e-12)
    assert stats == alone_stats
    assert found.network.tensors() == one.tensors()
    kept = found.network.run_batched(images, batch=2, keep=("logits_acc", "lif"))
    np.testing.assert_array_equal(kept["logits_acc"], made["logits_acc"])
    np.testing.assert_array_equal(kept["lif"], made["lif"])
    forced = found.network.run(images, force={"lif": np.zeros_like(made["lif"])})
    assert not forced["logits_acc"].any()


@pytest.mark.parametrize("steps", [2, 3])
def test_equal_images_count_t_times(steps):
    found = random_network(4, time_steps=steps, max_dim=32, max_size=12)
    one = single(found)
    images = np.random.default_rng(0).integers(-128, 128, (2, *one.input_shape), np.int8)
    made = found.network.run(np.repeat(images[:, None], steps, axis=1))
    np.testing.assert_array_equal(made["logits_acc"], steps * one.run(images)["logits_acc"])
    np.testing.assert_allclose(made["logits"], one.classify(images), rtol=0, atol=1e-12)


@pytest.mark.parametrize("steps", [2, 3])
def test_wide_form_equals_the_float_network(steps):
    """Model check 7.11 for several images: every level, logits to 1e-9."""
    found = random_network(7, extremes=(), time_steps=steps, max_dim=24, max_size=10)
    weights = zoo.Weights(found.spec, None, found.state)
    images = found.images(3)
    wide, real = (evaluate.run(weights, images, form, tensors=True) for form in ("wide", "float"))
    assert list(wide) == list(real)
    for name in wide.keys() - {"logits"}:
        np.testing.assert_array_equal(wide[name], real[name], name)
    np.testing.assert_allclose(wide["logits"], real["logits"], rtol=0, atol=1e-9)
    # The same logits of the network itself, which takes the time steps first.
    network = QsdTransformer(found.spec).double().eval()
    network.load_state_dict({k: torch.from_numpy(v) for k, v in found.state.items()}, strict=False)
    x = torch.from_numpy(images).double().transpose(0, 1) / 48
    with torch.inference_mode():
        np.testing.assert_allclose(wide["logits"], network(x).numpy(), rtol=0, atol=1e-9)
    # A single image is T equal ones.
    first = evaluate.run(weights, images[:, 0], "wide")["logits"]
    np.testing.assert_allclose(evaluate.run(weights, images[:, 0], "float")["logits"], first,
                               rtol=0, atol=1e-9)


def test_bounds_count_every_image():
    found = random_network(5, time_steps=3, max_dim=32)
    for op, twin in zip(found.network.ops, single(found).ops, strict=True):
        factor = 3 if isinstance(getattr(op, "epilogue", None), Raw) else 1
        assert found.network.acc_bound(op) == factor * single(found).acc_bound(twin), op.name
    # Levels of 4 and weights at their ends reach the bound, and no sample goes beyond it.
    head = found.network.ops[-1]
    top = np.where(head.weight[:1] < 0, 0, 4).astype(np.uint8)[..., 0, 0][:, None, :, None, None]
    low = np.where(head.weight[:1] < 0, 4, 0).astype(np.uint8)[..., 0, 0][:, None, :, None, None]
    ends = [found.network.run(found.images(1), force={"lif": np.repeat(x, 3, axis=1)})
            ["logits_acc"][0, 0, 0, 0] for x in (top, low)]
    bound = found.network.acc_bounds(head)[0]
    assert ends[0] - ends[1] == bound[0]


def test_a_sum_that_accumulators_do_not_hold_is_refused():
    def network(steps, acc_bits):
        raw = Raw(np.ones(1), np.zeros(1), steps)
        head = Conv("head", "image", np.ones((1, 1, 1, 1), np.int8), 1, 0, raw)
        shape = (1, 1, 1) if steps == 1 else (steps, 1, 1, 1)
        return IntegerNetwork({}, IntegerParams(acc_bits=acc_bits), [head], shape)

    network(1, 9)
    with pytest.raises(ValueError, match="head: accumulator needs 10 bits, acc_bits is 9"):
        network(3, 9)
    made = network(3, 10).run(np.full((1, 3, 1, 1, 1), -128, np.int8))
    assert made["logits_acc"].tolist() == [[[[-384]]]]


def test_shapes_are_checked():
    found = random_network(6, time_steps=2, max_dim=16, max_size=9)
    network, (steps, *image) = found.network, found.network.input_shape
    for shape in ((1, *image), (1, 3, *image), (2, 1, steps, *image)):
        with pytest.raises(ValueError, match=r"images must be int8 \(N, 2, "):
            network.run(np.zeros(shape, np.int8))
    with pytest.raises(ValueError, match="images must have 2 time steps for random6, not 3"):
        export(found.state, found.spec, found.params, input_shape=(3, *image))
    with pytest.raises(ValueError, match="head: adds up 2 time steps, images have 1"):
        IntegerNetwork({}, network.params, network.ops, tuple(image))
    with pytest.raises(ValueError, match=r"input_shape must be \(C, H, W\) or \(T, C, H, W\), not"):
        IntegerNetwork({}, network.params, network.ops, (8, 8))


def test_digests_tell_them_apart():
    digests = {random_network(6, time_steps=t, max_dim=16, max_size=9).network.digest()
               for t in (1, 2, 3)}
    assert len(digests) == 3


@pytest.mark.parametrize("changes", [{"leak": 0.5}, {"neuron": "lif", "levels": 1}])
def test_membranes_that_last_are_refused(changes):
    found = random_network(6, time_steps=2, max_dim=16)
    with pytest.raises(ValueError, match="random6 has no integer form: its (membranes|neuron) "):
        export(found.state, replace(found.spec, **changes), found.params)


def test_files_keep_the_time_steps(tmp_path, capsys):
    found = random_network(6, max_dim=16, params=IntegerParams())
    path, out = tmp_path / "one.qsd", tmp_path / "two.qsd"
    qsd_file.save(path, found.state, found.spec, found.params)
    assert convert.cli(["--weights", str(path), "--time-steps", "2", "--out", str(out)]) == 0
    assert "2 images a result" in capsys.readouterr().out
    assert b'"version":1' not in out.read_bytes().replace(b"\\", b"")
    network = zoo.load(weights=out)
    assert network.input_shape[0] == network.time_steps == 2
    assert network.ops[-1].epilogue.steps == 2
    back = tmp_path / "back.qsd"
    assert convert.cli(["--weights", str(out), "--time-steps", "1", "--out", str(back)]) == 0
    assert back.read_bytes() == path.read_bytes()
    assert convert.cli(["--weights", str(path), "--time-steps", "65", "--out", str(back)]) == 1
    assert "time_steps must be at most 64, not 65" in capsys.readouterr().err
