"""Training of heads for boxes and pixels by the trainer of all networks."""

from dataclasses import replace
import json
import re

import numpy as np
import pytest
import torch

from model import evaluate, zoo
from model import train as program
from model.data import object_options
from model.data.dataset import DataInfo
from model.dense_evaluation import check_classes, measured, said
from model.families.make import make_network
from model.integer import qsd_file
from model.training import session
from model.training.checkpoint import read
from model.training.start import adopt
from model.training.task import ClassTask, DenseTask, task_for
from model.training.trainer import Trainer
from tests.model import tiny
from tests.model.dense_nets import squares, TOY, toy_data, TOY_RECIPE, with_heads


torch.set_num_threads(1)

DATA = toy_data(384, 40)


@pytest.fixture(scope="module")
def trained():
    """A detector and segmenter after half a minute of training, and its log. After half as many
    epochs it is so uncertain that one box more or less of the integer form counts as 4 points."""
    trainer = Trainer(TOY, TOY_RECIPE, DATA)
    before = trainer.task.measure(trainer.model, "val")
    while trainer.epoch < TOY_RECIPE.epochs:
        trainer.run_epoch()
    return trainer, before


def test_training_learns(trained):
    """The loss sinks, mAP and mIoU rise over those of background alone."""
    trainer, before = trained
    first, last = trainer.log[0], trainer.log[-1]
    assert last["train_loss"] < 0.6 * first["train_loss"]
    assert {"train_class", "train_box", "train_middle", "train_pixels"} <= set(last)
    assert before["map50"] < 0.1 and before["miou"] < 0.34
    best = trainer.best
    assert best["val_map50"] > 0.8 and best["val_miou"] > 0.8
    assert best["val_mean"] == pytest.approx((best["val_map50"] + best["val_miou"]) / 2)
    assert trainer.score == "val_mean"


def test_integer_form_is_near_the_float_one(trained, tmp_path):
    """Detection check (j): mAP@0.5 within 1.0 point, mIoU within 0.5 point, of the same file."""
    trainer, _ = trained
    state = {key: value.numpy() for key, value in trainer.best["model"].items()}
    path = tmp_path / "toy.qsd"
    qsd_file.save(path, state, TOY)
    found = zoo.read(weights=path)
    samples = squares(150, 7)
    real, whole, wide = (measured(found, samples, form).figures()
                         for form in ("float", "integer", "wide"))
    assert real["map50"] > 0.8 and real["miou"] > 0.8
    assert abs(real["map50"] - whole["map50"]) <= 0.010
    assert abs(real["miou"] - whole["miou"]) <= 0.005
    assert wide == pytest.approx(real, nan_ok=True)


def test_resume_equals_an_uninterrupted_run(tmp_path):
    small = toy_data(32)
    recipe = replace(TOY_RECIPE, epochs=2)
    whole = Trainer(TOY, recipe, small)
    whole.run_epoch()
    session.save(whole.state(), tmp_path / "half.pth")
    whole.run_epoch()
    rest = Trainer(TOY, recipe, small)
    rest.restore(torch.load(tmp_path / "half.pth", weights_only=True))
    rest.run_epoch()
    for key in ("model", "average"):
        for name, value in whole.state()[key].items():
            assert torch.equal(value, rest.state()[key][name]), name


def test_a_loss_that_is_not_finite_stops():
    trainer = Trainer(TOY, replace(TOY_RECIPE, epochs=1), toy_data(32))
    with torch.no_grad():
        trainer.model.get_submodule("neck.lateral8_bn").weight.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"is nan in epoch 1, step 1; first not finite: the "
                                         r"weights neck\.lateral8_bn\.weight"):
        trainer.run_epoch()


@pytest.mark.parametrize("spec", [
    TOY.twin(), with_heads(TOY, binary_neck="always"),
    with_heads(TOY, detector=None), with_heads(TOY, segmenter=None, taps=["1_2", "4"])],
    ids=["twin", "binary", "pixels", "boxes"])
def test_variants_take_steps(spec):
    trainer = Trainer(spec, replace(TOY_RECIPE, epochs=1), toy_data(16))
    record = trainer.run_epoch()
    assert np.isfinite(record["train_loss"])
    assert trainer.score == {"twin": "val_mean"}.get(spec.name[4:], trainer.score)
    assert trainer.score.removeprefix("val_") in ("mean", "miou", "map50")


def test_start_from_a_backbone():
    """A classification network of the same shape gives all but neck and heads, and back."""
    torch.manual_seed(1)
    plain = replace(TOY, dense_heads=None, classes=5)
    source, model = make_network(plain), make_network(TOY)
    assert adopt(model, source.state_dict()) == ["detector", "neck", "segmenter"]
    for key, value in source.state_dict().items():
        if not key.startswith("head."):
            assert torch.equal(model.state_dict()[key], value), key
    assert adopt(make_network(plain), model.state_dict()) == ["head"]
    other = make_network(with_heads(TOY, detector={"classes": 4, "taps": ["1_2", "4"],
                                                   "tower": 1}))
    assert adopt(other, model.state_dict()) == ["detector"]
    assert torch.equal(other.state_dict()["segmenter.head.weight"],
                       model.state_dict()["segmenter.head.weight"])


@pytest.fixture
def toy_program(monkeypatch, tmp_path):
    """Command lines with `squares` in place of the scenes, and the toy as a file."""
    monkeypatch.setattr(object_options, "fashion_objects", lambda folder: toy_data(32))
    heads = json.dumps(TOY.to_dict()["dense_heads"])
    (tmp_path / "toy.yaml").write_text("version: 1\nfamily: qsdt\n" + "".join(
        f"{name}: {json.dumps(value)}\n" for name, value in TOY.to_dict().items()
        if name not in ("name", "family", "dense_heads", "classes")) + f"dense_heads: {heads}\n")
    return tmp_path


def test_commands(toy_program, capsys):
    """Train, evaluate float and integer, write what was found."""
    out = toy_program / "run"
    words = ["--model", str(toy_program / "toy.yaml"), "--out", str(out), "--epochs", "1",
             "--batch", "16", "--precision", "fp32"]
    assert program.cli(words) == 0
    text = capsys.readouterr().out
    assert re.search(r"test mAP@0\.5 0\.\d{4}, .*mIoU 0\.\d{4}, pixel accuracy", text)
    *epochs, last = map(json.loads, (out / "log.jsonl").read_text().splitlines())
    assert {"val_map50", "val_miou", "val_map50_ema"} <= set(epochs[0])
    assert {"test_map50", "test_miou"} <= set(last) and last["chosen"]["epoch"] == 1
    assert (out / "curve.png").read_bytes().startswith(b"\x89PNG")
    info = read(out / "model.pth").info
    assert info.classes == ("bright", "dark")
    assert program.cli([*words, "--resume"]) == 0    # finished: the test is not made again
    capsys.readouterr()
    boxes = toy_program / "boxes.json"
    assert evaluate.cli(["--weights", str(out / "model.pth"), "--data", "fashion_scenes", "--form",
                         "integer", "--against", "float", "--count", "4", "--out", str(boxes),
                         "--pictures", str(toy_program / "seen"), "--drawn", "2"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"integer: mAP@0\.5 .*\n  mAP@0\.5: bright .*\n  IoU: background .*\nfloat: ",
                     text)
    assert isinstance(json.loads(boxes.read_text()), list)
    assert f"{toy_program / 'seen' / 'index.html'}: pictures\n" in text
    files = {path.name for path in (toy_program / "seen").iterdir()}
    assert {"first-01.png", "first-02.png", "worst-01.png", "index.html"} <= files


@pytest.mark.parametrize("words, message", [
    (["--recipe", "nano"], "label_smoothing must be 0.0 for boxes|crop must be none for boxes"),
    (["--data", "fashion_mnist"], "data with boxes or masks must be one of fashion_scenes"),
    (["--data", "coco:nothing"], "nothing: is not a folder"),
    (["--fit", "crop"], "--fit is for classes of images"),
    (["--fgd", "1"], "fgd and distil are for classes of images|name it with --teacher"),
    (["--batch", "64"], "batch must be at most 32, not 64"),
])
def test_command_lines_that_do_not_fit(toy_program, capsys, words, message):
    given = ["--model", str(toy_program / "toy.yaml"), "--out", str(toy_program / "x"), *words]
    assert program.cli(given) != 0
    err = capsys.readouterr().err
    assert re.search(message, err) and "Traceback" not in err


@pytest.mark.parametrize("words, message", [
    (["--data", "fashion_scenes", "--out", "y.npz"], "--out takes the boxes that a detector found"),
    (["--data", "fashion_scenes", "--confusion"], "--confusion is for classes of images"),
    (["--data", "fashion_scenes", "--pictures", __file__], "is a file; name a folder"),
    (["--data", "fashion_scenes", "--pictures", "/proc/x"], "/proc: "),
    (["--model", "qsdt_nano", "--data", "fashion_mnist", "--pictures", "x"],
     "--pictures is for boxes and pixels; qsdt_nano tells classes of images"),
    (["--data", "fashion_scenes", "--drawn", "0"], "--drawn must be at least 1, not 0"),
    (["--images", "x.npz"], "--images are for classes of images"),
    (["--data", "fashion_mnist"], "data with boxes or masks must be one of"),
])
def test_evaluations_that_do_not_fit(toy_program, capsys, words, message, caplog):
    given = ["--model", str(toy_program / "toy.yaml"), *words]
    assert evaluate.cli(given) != 0
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err


def test_other_classes_are_named():
    for heads, message in (
            ({"detector": {"classes": 3, "taps": ["4"]}}, "the data has 2 classes of boxes, toy 3"),
            ({"segmenter": {"classes": 4}}, "the data has 3 classes of pixels, toy 4")):
        with pytest.raises(ValueError, match=message):
            task_for(with_heads(TOY, **heads), TOY_RECIPE, DATA)
    with pytest.raises(ValueError, match="toy has no heads for boxes or pixels"):
        DenseTask(replace(TOY, dense_heads=None), TOY_RECIPE, DATA)
    with pytest.raises(ValueError, match="toy is for boxes or pixels: name data with --data"):
        task_for(TOY, TOY_RECIPE, tiny.DATA)
    assert isinstance(task_for(tiny.TINY, tiny.RECIPE, tiny.DATA), ClassTask)


def test_data_must_have_the_classes_of_the_network():
    """As many, of the names it was trained on, in their order, where it keeps names."""
    data = DATA.test
    check_classes(TOY, None, data, "data")
    check_classes(TOY, DataInfo(classes=data.classes), data, "data")
    other = with_heads(TOY, segmenter=None)
    for spec, names, message in (
            (TOY, ("dark", "bright"), "class 0 of boxes is bright, the network's is dark: take "
                                      "data with the classes it was trained on, in their order"),
            (with_heads(TOY, detector=None), ("sky", "bright", "dark"),
             "class 0 of pixels is background, the network's is sky"),
            (with_heads(other, detector={"classes": 3, "taps": ["4"]}), (),
             "has 2 classes of boxes, the network 3: take data")):
        info = DataInfo(classes=names) if names else None
        with pytest.raises(ValueError, match=re.escape(f"data: {message}")):
            check_classes(spec, info, data, "data")


def test_figures_in_words(trained):
    trainer, _ = trained
    found = zoo.Weights(TOY, None, {k: v.numpy() for k, v in trainer.best["model"].items()})
    head, boxes, pixels = said(measured(found, squares(6, 9), "integer"))
    assert head.startswith("mAP@0.5 ") and "nan" in head    # no object of medium size
    assert "bright" in boxes and "background" in pixels


def test_commands_that_classify(toy_program, capsys):
    """Export names the outputs; what chooses by classes refuses heads in one line."""
    from model import convert, export, pretrain

    file = str(toy_program / "toy.yaml")
    assert convert.cli(["--model", file, "--data", "fashion_mnist", "--out",
                        str(toy_program / "t.qsd")]) != 0
    assert "widths of z are chosen by probabilities of classes" in capsys.readouterr().err
    assert pretrain.cli(["--model", file, "--data", "fashion_mnist", "--out",
                         str(toy_program / "p")]) != 0
    assert "toy is for boxes or pixels: pretrain its backbone" in capsys.readouterr().err
    assert convert.cli(["--model", file, "--out", str(toy_program / "t.qsd")]) == 0
    assert "z: 12 bits in every layer\n" in capsys.readouterr().out
    assert export.cli(["--weights", str(toy_program / "t.qsd"), "--check", "1", "--onnx",
                       str(toy_program / "t.onnx")]) == 0
    text = capsys.readouterr().out
    assert "outputs cls4, reg4, cls8, reg8, seg" in text and "every output" in text
