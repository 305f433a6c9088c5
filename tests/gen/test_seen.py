"""gen.seen, gen.run: boxes and pixels that a board finds: lines, pictures, masks, COCO results."""

from dataclasses import replace
import json

import numpy as np
from PIL import Image
import pytest

from gen import api, run
from gen.api import ISS
from gen.inputs import load_images
from gen.seen import _names
from model.data.dataset import DataInfo
from model.data.objects import to_bbox
from model.data.pipeline import object_batches, steps_for
from model.integer import qsd_file
from model.integer.synthetic import synthetic_state
from tests.model.data import coco_files
from tests.model.dense_nets import squares, TOY, with_heads
from tests.model.metrics.test_dense import outputs_for


SAMPLES = squares(3, 0)
NAMES = ("bright", "dark")


def weights_file(folder, spec=TOY, names=NAMES):
    path = folder / "toy.qsd"
    path.write_bytes(qsd_file.to_bytes(synthetic_state(spec), spec, info=DataInfo(classes=names)))
    return str(path)


@pytest.fixture
def pictures(tmp_path):
    """The squares, twice as large, one of them with 20 more rows below."""
    folder = tmp_path / "own"
    folder.mkdir()
    for index, image in enumerate(SAMPLES.images):
        pixels = np.kron(image, np.ones((2, 2), np.uint8))
        Image.fromarray(pixels[:40] if index == 2 else pixels).save(folder / f"{index}.png")
    return folder


@pytest.fixture
def board(monkeypatch):
    """The instruction-set simulator in place of the virtual board, whose outputs tell the truth."""
    batch = next(object_batches(SAMPLES, TOY, steps_for(32, train=False), batch=len(SAMPLES)))
    truth = outputs_for(batch, (4, 8), 2)

    def on_iss(design, images, **options):
        result = api.run(design, images, device=ISS)
        assert {*result.outputs} <= {*truth}
        for name, values in result.outputs.items():    # what is to be decoded has these shapes
            assert name == "seg" or values.shape == truth[name][:len(images)].shape
        return replace(result, counters=dict.fromkeys(("CYCLES", "SPIKE_EVENTS"), 1),
                       outputs={name: truth[name][:len(images)] for name in result.outputs})

    monkeypatch.setattr(run, "run", on_iss)
    monkeypatch.setattr(run, "check_way", lambda *args: None)


def test_own_pictures(board, pictures, tmp_path, capsys):
    """Boxes, masks and drawings in the pixels of the pictures, which are not the network's."""
    out, seen = tmp_path / "boxes.json", tmp_path / "seen"
    assert run.cli(["--board", "virtual", "--weights", weights_file(tmp_path), "--images",
                    str(pictures), "--out", str(out), "--pictures", str(seen)]) == 0
    text = capsys.readouterr().out
    assert "agreement with the integer model: 3 of 3 images" in text
    for index in range(3):
        one = SAMPLES.sample(index)
        line = next(line for line in text.splitlines() if line.startswith(f"image {index} "))
        count = len(one.objects)
        assert line.startswith(f"image {index} {index}.png: {count} box{'es' * (count > 1)}: ")
        assert all(f"{NAMES[kind]} 1.00" in line for kind in one.objects.classes)
        with Image.open(seen / "masks" / f"{index}.png") as mask:
            pixels = np.asarray(mask)
        wide = np.kron(one.mask, np.ones((2, 2), np.uint8))
        assert pixels.shape == ((40, 64) if index == 2 else (64, 64))
        assert (pixels == wide[:len(pixels)]).mean() > 0.97    # sides are between two pixels
        for kind in np.unique(pixels[pixels > 0]):
            assert f"{NAMES[kind - 1]} {100 * (pixels == kind).mean():.1f} %" in line
        with Image.open(seen / f"{index}.png") as drawn:
            assert drawn.width > 256 and drawn.height >= 160
    results = json.loads(out.read_text())
    assert {one["image_id"] for one in results} == {1, 2, 3}
    for number in (1, 2):
        boxes = sorted(one["bbox"] for one in results if one["image_id"] == number)
        wanted = sorted(to_bbox(2 * SAMPLES.objects[number - 1].boxes).tolist())
        np.testing.assert_allclose(boxes, wanted, atol=1e-6)
    assert {one["category_id"] for one in results} <= {1, 2}


def test_data_with_annotations(board, tmp_path, capsys):
    """The file's own ids, from a folder in COCO's layout."""
    told = coco_files.content([coco_files.annotation(1, 1, 3, [2, 2, 4, 4])])
    for part in ("train", "val", "test"):
        coco_files.write(tmp_path / "coco", told, part)
    spec = with_heads(TOY, segmenter=None, taps=["1_2", "4"])
    out = tmp_path / "boxes.json"
    assert run.cli(["--board", "virtual", "--weights", weights_file(tmp_path, spec, ("dog", "cat")),
                    "--data", f"coco:{tmp_path / 'coco'}", "--count", "2", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "image 0 001.png: " in text and ("cat 1.00" in text or "dog 1.00" in text)
    assert {one["category_id"] for one in json.loads(out.read_text())} <= {3, 7}


def test_images_are_whole(pictures, tmp_path):
    """As training and evaluation fit them: in proportion, with bars below."""
    network = api.load(weights=weights_file(tmp_path))
    found = load_images(pictures, network, count=3)
    assert found.files == ("0.png", "1.png", "2.png")
    assert found.image_q.shape == (3, 1, 32, 32) and len(found.first(2).placed) == 2
    far = found.placed[0].sample.image - SAMPLES.images[0].astype(float)
    assert abs(far).mean() < 15    # noise is made smooth on the way back
    assert not found.image_q[2, :, 20:].any()    # the mean pixel


def test_names():
    assert _names(["a.png", "a.jpg", "b/a.png", "", ""], [4, 5, 6, 7, 8]) == [
        "a", "a-5", "b_a", "000007", "000008"]


@pytest.mark.parametrize("words, message", [
    (["--model", "qsdt_nano", "--pictures", "x"],
     "--pictures is for networks with heads for boxes or pixels"),
    (["--model", "qsdt_nano", "--out", "x.json"], "--out is for networks with heads"),
    (["--weights", "TOY", "--pictures", "x"], "--pictures needs pictures: name them with --images"),
    (["--weights", "TOY", "--images", "x.npz", "--out", "x.json"], "--out needs pictures"),
    (["--weights", "TOY", "--images", "OWN", "--out", "x.npz"], "a file that ends in .json"),
    (["--weights", "TOY", "--images", "OWN", "--pictures", "TOY"], "is a file; name a folder"),
    (["--weights", "TOY", "--images", "OWN", "--pictures", "/proc/x"], "/proc: "),
    (["--weights", "TOY", "--images", "BAD"], "bad.png: is not a picture"),
    (["--weights", "TOY", "--images", "OWN", "--fit", "crop"], "--fit is for classes of images"),
    (["--weights", "TOY", "--data", "mnist"], "data with boxes or masks must be one of"),
    (["--weights", "TOY", "--data", "coco:OWN"], "has no part for training"),
])
def test_bad_input(board, pictures, tmp_path, capsys, words, message):
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    places = {"TOY": weights_file(tmp_path), "OWN": str(pictures), "BAD": str(bad),
              "coco:OWN": f"coco:{pictures}"}
    given = [places.get(word, word) for word in words]
    assert run.cli(["--board", "virtual", *given]) == 1
    err = capsys.readouterr().err
    assert message in err and len(err.strip().splitlines()) == 1
