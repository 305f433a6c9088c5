"""T frames a sample: batches, training, evaluation, and the command line on simulated events."""

from dataclasses import replace
import json

import numpy as np
import pytest
import torch

from gen.inputs import load_images
from model import convert, energy, evaluate, information, zoo
from model import train as program
from model.data import mnist
from model.data.augment import Augmentation, shift_and_flip
from model.data.dataset import batches, Dataset, Split, to_image_q
from model.data.events import check_counts
from model.data.options import DATASETS, read_dataset, read_split
from model.families.network import QsdTransformer
from model.training.measures import activity, to_input
from model.training.measures import evaluate as accuracy
from model.training.recipe import Recipe
from model.training.session import save, save_model
from model.training.trainer import build, Trainer
from tests.model.tiny import RECIPE, TINY


torch.set_num_threads(1)

SPEC = replace(TINY, name="frames", in_channels=2, time_steps=3, image_scale=1,
               norm_mean=(0.0, 0.0), norm_std=(1 / 255,) * 2)


needs_fashion_mnist = pytest.mark.skipif(
    not mnist.DEBIAN_FOLDER.is_dir(), reason=f"needs the Debian package {mnist.DEBIAN_PACKAGE}")


def moving(count: int, seed: int) -> Split:
    """A bar that goes down, of falling (label 0) or of rising events (label 1)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    images = rng.integers(0, 2, (count, 3, 2, 16, 16)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        for step in range(3):
            image[step, label, 4 * step:4 * step + 6] += 6
    return Split(images=images, labels=labels, source="bars")


DATA = Dataset(train=moving(64, 1), val=moving(32, 2), test=moving(32, 3))


def test_input_is_time_first_and_exact():
    check_counts("bars", SPEC)
    image_q, labels = next(batches(DATA.train, SPEC, batch=5))
    np.testing.assert_array_equal(image_q, DATA.train.images[:5])
    x = to_input(image_q, SPEC)
    assert x.shape == (3, 5, 2, 16, 16)
    for step in range(3):
        np.testing.assert_array_equal(x[step].numpy(), DATA.train.images[:5, step])
    assert x.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_all_frames_of_a_sample_are_moved_alike():
    images = DATA.train.images[:20]
    rng, part = np.random.default_rng(3), slice(1, None, 2)
    made = Augmentation(crop="shift", flip=True)(images, rng, part)
    for step in range(3):
        for channel in range(2):
            one = shift_and_flip(images[:, step, channel], np.random.default_rng(3))
            np.testing.assert_array_equal(made[:, step, channel], one[1::2])


def test_logits_are_the_mean_over_frames():
    """Without state the network on T frames is T networks on one."""
    model = build(SPEC, RECIPE).double()
    one = QsdTransformer(replace(SPEC, time_steps=1)).double().eval()
    x = to_input(to_image_q(DATA.val.images, SPEC), SPEC).double()
    with torch.no_grad():
        for _ in range(20):    # statistics with which it fires
            model(x)
        one.load_state_dict(model.eval().state_dict())
        torch.testing.assert_close(model(x), torch.stack([one(frame) for frame in x]).mean(0))
        assert not torch.equal(model(x), one(x[0]))


def test_training_learns_and_is_stored(tmp_path):
    trainer = Trainer(SPEC, replace(RECIPE, epochs=8), DATA)
    losses = [trainer.run_epoch()["train_loss"] for _ in range(8)]
    assert losses[-1] < 0.6 * losses[0] and trainer.best["val_acc"] > 0.9
    assert activity(trainer.model, trainer.task.some(500))["mean_level"] > 0
    save_model(trainer, tmp_path / "model.pth")
    saved = torch.load(tmp_path / "model.pth", weights_only=True)
    assert saved["source"] == "bars" and saved["spec"]["image_scale"] == 1
    found = zoo.read(None, tmp_path / "model.pth")
    assert found.spec == SPEC
    image_q = to_image_q(DATA.test.images, SPEC)
    results = {form: evaluate.run(found, image_q, form, tensors=True, batch=7)
               for form in ("float", "wide", "integer")}
    for result in results.values():
        hits = (result["logits"].argmax(1) == DATA.test.labels).mean()
        assert result["logits"].shape == (32, 2) and hits > 0.85
    # The exact integer form fires what float64 fires, in every frame.
    one, two = results["float"], results["wide"]
    assert one.keys() == two.keys()
    np.testing.assert_allclose(one["logits"], two["logits"], atol=1e-9)
    for name, level in one.items():
        assert level.shape[:2] == (32, 3) or name == "logits"
        if name != "logits":
            np.testing.assert_array_equal(level, two[name], err_msg=name)
    best = QsdTransformer(SPEC)
    best.load_state_dict(saved["model"])
    assert accuracy(best, DATA.test) == pytest.approx(
        (results["float"]["logits"].argmax(1) == DATA.test.labels).mean(), abs=0.04)


def test_one_frame_is_one_image():
    spec = replace(SPEC, time_steps=1)
    model = build(spec, RECIPE).double().eval()
    image_q = to_image_q(DATA.val.images[:4].sum(1, dtype=np.uint8, keepdims=True), spec)
    with torch.no_grad():
        assert torch.equal(model(to_input(image_q, spec).double()),
                           model(to_input(image_q[:, 0], spec).double()))


@pytest.mark.parametrize("changes", [{"mixup": 0.5}, {"cutmix": 1.0}, {"erase": 1.0}])
def test_mixing_treats_all_frames_alike(changes):
    """A sample of three equal frames stays three equal frames."""
    equal = Split(images=DATA.train.images[:, :1].repeat(3, 1), labels=DATA.train.labels)
    trainer = Trainer(SPEC, replace(RECIPE, **changes), replace(DATA, train=equal))
    x = to_input(to_image_q(equal.images[:8], SPEC), SPEC)
    mixed, _ = trainer._mixed(x, torch.from_numpy(equal.labels[:8]))
    assert mixed.shape == x.shape and not torch.equal(mixed, x)
    if "erase" not in changes:    # which draws noise for every channel
        assert torch.equal(mixed[0], mixed[1]) and torch.equal(mixed[0], mixed[2])
    else:
        kept = (mixed == x).all(2)
        assert torch.equal(kept[0], kept[1]) and torch.equal(kept[0], kept[2])


def test_a_teacher_sees_all_events_in_one_frame():
    """FGD and logits from the ANN twin; the teacher's input is the sum of the frames."""
    twin = build(SPEC.twin(), RECIPE).eval().requires_grad_(False)
    seen = []
    twin.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    trainer = Trainer(SPEC, replace(RECIPE, fgd=1.0, distil=1.0), DATA, teacher=twin)
    record = trainer.run_epoch()
    assert record["train_fgd"] > 0 and record["train_distil"] > 0
    assert seen[0].shape == (8, 2, 16, 16) and seen[0].max() > 6


@pytest.mark.parametrize("spec, recipe, message", [
    (replace(SPEC, time_steps=2), {}, "images must have 2 time steps for frames, not 3"),
    (SPEC, {"crop": "resized"}, "rand_augment and resized crops are for pictures, not for frames"),
])
def test_what_does_not_fit(spec, recipe, message):
    with pytest.raises(ValueError, match=message):
        Trainer(spec, replace(RECIPE, **recipe), DATA).run_epoch()


@needs_fashion_mnist
def test_simulated_events_from_the_command_line(tmp_path, capsys):
    """Two epochs in one go, and as one that is resumed: the same log."""
    words = ["--model", "small_events.yaml", "--data", "simulated_events", "--limit", "48",
             "--batch", "16", "--precision", "fp32"]
    assert program.cli([*words, "--epochs", "2", "--out", str(tmp_path / "whole")]) == 0
    said = capsys.readouterr()
    assert "on simulated events of Fashion-MNIST with the" in said.out
    state = torch.load(tmp_path / "whole" / "checkpoint.pth", weights_only=True)
    (tmp_path / "half").mkdir()
    spec = zoo.spec_of("small_events.yaml")
    trainer = Trainer(spec, Recipe.from_dict(state["recipe"]),
                      read_dataset("simulated_events", spec, count=48))
    trainer.run_epoch()
    save(trainer.state(), tmp_path / "half" / "checkpoint.pth")
    assert program.cli([*words, "--resume", "--out", str(tmp_path / "half")]) == 0
    one, two = ([json.loads(line) for line in
                 (tmp_path / name / "log.jsonl").read_text().splitlines()]
                for name in ("whole", "half"))
    timed = {"seconds", "images_per_cpu_second", "cpu_seconds"}
    assert [{k: v for k, v in r.items() if k not in timed} for r in one] == [
        {k: v for k, v in r.items() if k not in timed} for r in two]
    assert one[-1]["data"] == "simulated events of Fashion-MNIST"
    capsys.readouterr()
    assert evaluate.cli(["--weights", str(tmp_path / "whole" / "model.pth"), "--count", "8",
                         "--data", "simulated_events"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("on simulated events of Fashion-MNIST:\ninteger: accuracy ")


def test_reports_name_the_data(tmp_path, capsys, monkeypatch):
    """Energy and information of a network on frames, and that the data are not forgotten."""
    monkeypatch.setitem(DATASETS, "bars", lambda folder, spec: DATA)
    save_model(_trained(), tmp_path / "model.pth")
    words = ["--weights", str(tmp_path / "model.pth"), "--data", "bars", "--count", "8"]
    assert energy.cli(words) == 0
    assert capsys.readouterr().out.startswith("on bars:\nlayer ")
    assert information.cli([*words, "--out", str(tmp_path)]) == 0
    assert "Measured on bars." in (tmp_path / "information.md").read_text()
    assert json.loads((tmp_path / "information.json").read_text())[0]["data"] == "bars"


def _trained() -> Trainer:
    trainer = Trainer(SPEC, replace(RECIPE, epochs=1), DATA)
    trainer.run_epoch()
    return trainer


def test_widths_of_z_from_frames(tmp_path, capsys, monkeypatch):
    """Every frame tells what a bit is worth; accuracy is that of the mean over frames."""
    monkeypatch.setitem(DATASETS, "bars", lambda folder, spec: DATA)
    trainer = _trained()
    save_model(trainer, tmp_path / "model.pth")
    assert convert.cli(["--checkpoint", str(tmp_path / "model.pth"), "--data", "bars",
                        "--calibrate", "4", "--out", str(tmp_path / "model.qsd"),
                        "--report", str(tmp_path / "z.json")]) == 0
    report = json.loads((tmp_path / "z.json").read_text())
    found = zoo.read(None, tmp_path / "model.pth")
    logits = evaluate.run(found, to_image_q(DATA.val.images, SPEC), "integer")["logits"]
    assert report["validate"] == 32
    assert report["hits"] == (logits.argmax(1) == DATA.val.labels).sum()


@needs_fashion_mnist
def test_hardware_takes_samples():
    """The frames of the data set, and a network that makes one result of them."""
    found = zoo.read("small_events.yaml")
    network = zoo.network(found)
    images = load_images(None, network, dataset="simulated_events", count=2)
    split = read_split("simulated_events", "test", found.spec, count=2)
    assert network.time_steps == 4 and images.image_q.shape == (2, *network.input_shape)
    np.testing.assert_array_equal(images.image_q, split.images.clip(max=127))
    np.testing.assert_array_equal(images.labels, split.labels)
    logits = evaluate.run(found, images.image_q, "integer")["logits"]
    np.testing.assert_array_equal(network.classify(images.image_q), logits)


def test_networks_for_pictures_are_refused(capsys):
    assert program.cli(["--data", "simulated_events", "--out", "nowhere"]) == 1
    assert capsys.readouterr().err == (
        "error: simulated_events: events have 2 channels, or 3 with their sum, but qsdt_nano takes "
        "1: name a network for events, such as --model small_events.yaml\n")
