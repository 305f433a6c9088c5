"""model.data.recordings: CIFAR10-DVS as published, and folders of recordings."""

from dataclasses import replace
import json

import numpy as np
import pytest

from model import train as program
from model.data import on_demand, recordings
from model.data.cifar import CIFAR10_CLASSES
from model.data.events import check_counts, RecordingError
from model.data.on_demand import OnDemand
from model.data.options import read_dataset, read_split
from model.families.spec import spec
from model.families.spec_file import read_spec
from model.training.recipe import read_preset
from tests.model.data.recorded import aedat2, aedat3, aedat4, events4, packet3, random_rows


SPEC = replace(read_spec("small_events.yaml"), image_size=128, time_steps=10)


@pytest.fixture
def dvs(tmp_path, monkeypatch):
    """Ten classes of 12 recordings in the place of 1,000."""
    monkeypatch.setattr(recordings, "PER_CLASS", 12)
    monkeypatch.setattr(recordings, "TEST_PER_CLASS", 3)
    monkeypatch.setattr(recordings, "VALIDATION_PER_CLASS", 2)
    for label, name in enumerate(CIFAR10_CLASSES):
        (tmp_path / name).mkdir()
        for number in range(12):
            rows = random_rows(20 + number, seed=100 * label + number)
            (tmp_path / name / f"cifar10_{name}_{number}.aedat").write_bytes(aedat2(rows))
    return tmp_path


def as_published(content: bytes, steps: int) -> np.ndarray:
    """SpikingJelly's reading of CIFAR10-DVS in words, from the bytes: x = 127 - address's y,
    y = 127 - address's x, p = 1 - address's lowest bit; equal numbers of events a frame."""
    data = content[content.rindex(b"\r\n") + 2:]
    address = [int.from_bytes(data[k:k + 4], "big") for k in range(0, len(data), 8)]
    events = [(127 - (a >> 8 & 127), 127 - (a >> 1 & 127), 1 - (a & 1)) for a in address]
    frames = np.zeros((steps, 2, 128, 128), int)
    each = len(events) // steps
    for k in range(steps):
        for x, y, p in events[k * each:(k + 1) * each if k < steps - 1 else len(events)]:
            frames[k, p, y, x] += 1
    return frames


def test_counts_as_published(dvs):
    split = read_split("cifar10_dvs", "test", SPEC, data_dir=dvs)
    assert split.images.shape == (30, 10, 2, 128, 128)
    for image, file, label in zip(split.images, split.files, split.labels, strict=True):
        np.testing.assert_array_equal(image, as_published((dvs / file).read_bytes(), 10))
        assert CIFAR10_CLASSES[label] == file.partition("/")[0]
    colours = replace(SPEC, in_channels=3, norm_mean=(0.0,) * 3, norm_std=(1 / 255,) * 3)
    three = read_split("cifar10_dvs", "test", colours, data_dir=dvs, count=1).images
    np.testing.assert_array_equal(three[:, :, :2], split.images[:1])
    np.testing.assert_array_equal(three[:, :, 2], split.images[:1].sum(2))


def test_split_as_published(dvs):
    """The last of each class in plain order of the names; the rest is for training."""
    data = read_dataset("cifar10_dvs", SPEC, data_dir=dvs)
    names = sorted(f"cifar10_cat_{n}.aedat" for n in range(12))
    assert names[:4] == [f"cifar10_cat_{n}.aedat" for n in ("0", "1", "10", "11")]
    cats = {part: [file.partition("/")[2] for file in getattr(data, part).files
                   if file.startswith("cat/")] for part in ("train", "val", "test")}
    assert cats["test"] == names[-3:] and len(cats["val"]) == 2
    assert sorted(cats["train"] + cats["val"]) == names[:-3]
    assert set(data.train.labels[:10]) == set(range(10)) and data.info.classes == CIFAR10_CLASSES


def test_the_published_sizes():
    sizes = recordings.PER_CLASS, recordings.TEST_PER_CLASS, recordings.VALIDATION_PER_CLASS
    assert sizes == (1000, 100, 90)


def test_what_is_missing(dvs, tmp_path):
    with pytest.raises(ValueError, match="cifar10_dvs comes with no package: name its folder"):
        read_split("cifar10_dvs", "test", SPEC)
    (dvs / "dog" / "cifar10_dog_3.aedat").rename(tmp_path / "kept")
    with pytest.raises(ValueError, match="dog: has 11 recordings of CIFAR10-DVS, not 12; unp"):
        read_dataset("cifar10_dvs", SPEC, data_dir=dvs)
    with pytest.raises(ValueError, match=r"airplane: a class .* is not there; unpack airpl"):
        read_dataset("cifar10_dvs", SPEC, data_dir=dvs / "dog")
    (tmp_path / "kept").rename(dvs / "dog" / "cifar10_dog_3.aedat")
    (dvs / "cat" / "cifar10_cat_9.aedat").write_bytes(b"#!AER-DAT2.0\r\nabc")
    with pytest.raises(RecordingError, match="cifar10_cat_9.aedat: ends within an event; copy it"):
        read_split("cifar10_dvs", "test", SPEC, data_dir=dvs)


def test_too_many_for_memory(dvs, monkeypatch, caplog):
    """The same samples, read when they are asked for; clipped counts are looked for in some."""
    whole = read_dataset("cifar10_dvs", SPEC, data_dir=dvs)
    caplog.set_level("INFO")
    file = dvs / whole.train.files[0]
    file.write_bytes(aedat2([(5, 6, 1)] * 2000))
    monkeypatch.setattr(on_demand, "BYTES_MAX", 22_000_000)
    data = read_dataset("cifar10_dvs", SPEC, data_dir=dvs)
    assert isinstance(data.train.images, OnDemand)
    places = np.array([69, 1, 30])
    np.testing.assert_array_equal(data.train.images[places], whole.train.images[places])
    assert "70 images are made anew in every epoch" in caplog.text
    assert "train, the first 64: 10 of 20971520 counts of events are above 127" in caplog.text


def put(folder, name: str, content: bytes) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def test_a_folder_of_recordings(tmp_path):
    """All three formats, as they are: columns from the left, rows from the top, OFF before ON."""
    rows = random_rows(95, seed=3)
    for part in ("train", "val", "test"):
        put(tmp_path, f"{part}/left/1.aedat", aedat2(rows))
        put(tmp_path, f"{part}/left/2.aedat", aedat3(packet3(rows)))
        put(tmp_path, f"{part}/right/3.aedat4", aedat4((1, events4(rows))))
    spec = replace(SPEC, classes=2)
    data = read_dataset(f"folder:{tmp_path}", spec)
    wanted = np.zeros((10, 2, 128, 128), int)
    for number, (x, y, on) in enumerate(rows):
        wanted[min(number // 9, 9), on, y, x] += 1
    assert data.val.files == ("left/1.aedat", "left/2.aedat", "right/3.aedat4")
    assert data.val.labels.tolist() == [0, 0, 1] and data.info.classes == ("left", "right")
    for image in data.val.images:
        np.testing.assert_array_equal(image, wanted)
    smaller = read_split(f"folder:{tmp_path}", "test", replace(spec, image_size=64, time_steps=1))
    np.testing.assert_array_equal(
        smaller.images[0, 0], wanted.sum(0).reshape(2, 64, 2, 64, 2).sum((2, 4)))


def test_folders_that_do_not_fit(tmp_path):
    spec = replace(SPEC, classes=2)
    put(tmp_path, "a/1.aedat", aedat2([]))
    put(tmp_path, "b/1.aedat", aedat2([]))
    with pytest.raises(ValueError, match="folder:.*: events have 2 channels, or 3"):
        read_dataset(f"folder:{tmp_path}", replace(spec, in_channels=1, norm_mean=(0.0,),
                                                   norm_std=(1.0,)))
    put(tmp_path, "b/2.png", b"")
    with pytest.raises(ValueError, match="holds pictures and recordings; keep them in folders"):
        read_dataset(f"folder:{tmp_path}", spec)
    (tmp_path / "b" / "2.png").unlink()
    larger = replace(spec, image_size=256)
    put(tmp_path, "test/a/1.aedat", aedat2([]))
    put(tmp_path, "test/b/1.aedat", aedat2([]))
    with pytest.raises(RecordingError, match="1.aedat: the sensor has 128x128 pixels, fewer than"):
        read_split(f"folder:{tmp_path}", "test", larger)


def test_training_on_recordings(tmp_path, capsys):
    """From the command line, with the class names in the network's file."""
    import torch

    for part in ("train", "val", "test"):
        for label, name in enumerate(("left", "right")):
            for number in range(8):
                rows = [(x // 2 + 64 * label, y, on) for x, y, on
                        in random_rows(300, seed=10 * number + label)]
                put(tmp_path / "data", f"{part}/{name}/{number}.aedat", aedat2(rows))
    (tmp_path / "two.yaml").write_text(
        "version: 1\nfamily: qsdt\nin_channels: 2\nimage_size: 16\ntime_steps: 2\nclasses: 2\n"
        "dims: [4, 4, 4, 4, 4]\nstrides: [2, 2, 2, 1, 1]\ndepths: [1, 1, 1, 1, 1]\n"
        "stem_kernel: 3\nconv_expansion: [1, 1, 1]\nmlp_ratio: 1\nheads: 2\n")
    out = tmp_path / "out"
    assert program.cli(["--model", str(tmp_path / "two.yaml"), "--data",
                        f"folder:{tmp_path / 'data'}", "--epochs", "1", "--batch", "8",
                        "--precision", "fp32", "--out", str(out)]) == 0
    saved = torch.load(out / "model.pth", weights_only=True)
    assert saved["data"]["classes"] == ["left", "right"]
    assert json.loads((out / "log.jsonl").read_text().splitlines()[0])["epoch"] == 1


def test_spec_and_recipe_as_published():
    """Three channels, so that weights of ImageNet fit; counts go in as they are."""
    found = read_spec("qsdt_t_cifar10_dvs.yaml")
    check_counts("cifar10_dvs", found)
    assert found == replace(spec("qsdt_t"), name=found.name, image_size=128, classes=10,
                            time_steps=10, norm_mean=(0,) * 3, norm_std=(1 / 255,) * 3,
                            image_scale=1)
    recipe = read_preset("cifar10_dvs").recipe
    assert (recipe.lr, recipe.lr * recipe.final_lr, recipe.epochs) == (4e-5, 1e-5, 100)
    assert recipe.crop == "nda" and recipe.flip and not recipe.mixup
