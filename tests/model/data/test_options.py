"""Folders of classes as data sets, class names, specs as files."""

from dataclasses import replace
from functools import partial
import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image
import pytest

from model import evaluate, zoo
from model.data import mnist
from model.data.augment import shift_and_flip
from model.data.class_folder import ClassFolder
from model.data.dataset import DataInfo
from model.data.options import read_dataset, read_split
from model.data.pictures import Fitting, pictures_on_demand
from model.error import InputError
from model.families.spec import spec
from model.families.spec_file import read_spec, shipped_specs
from model.integer import qsd_file
from model.integer.random_network import random_network


NANO = spec("qsdt_nano")
FITTING = Fitting.of(NANO)

needs_fashion_mnist = pytest.mark.skipif(
    not mnist.DEBIAN_FOLDER.is_dir(), reason=f"needs the Debian package {mnist.DEBIAN_PACKAGE}"
)


def draw(folder: Path, count: int, grey: int = 0) -> None:
    folder.mkdir(parents=True)
    for index in range(count):
        Image.new("L", (28, 28), grey + index).save(folder / f"{index}.png")


@needs_fashion_mnist
def test_the_same_pixels_as_the_built_in_set(tmp_path):
    """40 PNG files of each class and part, by examples/fashion_png.py."""
    path = Path(__file__).parents[3] / "examples" / "fashion_png.py"
    module = importlib.util.spec_from_file_location("fashion_png", path)
    example = importlib.util.module_from_spec(module)
    module.loader.exec_module(example)
    assert example.write_pictures(tmp_path, count=40) == 1200
    own = read_dataset(f"folder:{tmp_path}", NANO)
    built_in = mnist.fashion_mnist()
    assert own.info.classes == example.CLASSES
    for part in ("train", "val", "test"):
        one, two = getattr(own, part), getattr(built_in, part)
        places = [int(Path(name).stem) for name in one.files]
        assert len(one) == 400 and places == sorted(places)
        np.testing.assert_array_equal(one.images, two.images[places])
        np.testing.assert_array_equal(one.labels, two.labels[places])


def test_split_by_hash_stays_when_files_come(tmp_path):
    for name in ("cat", "dog"):
        draw(tmp_path / name, 60)
    before = ClassFolder(tmp_path)._files
    assert {part: len(files) for part, files in before.items()} == {
        part: len(set(files)) for part, files in before.items()}
    assert sum(map(len, before.values())) == 120
    assert 70 < len(before["train"]) < 115 and before["val"] and before["test"]
    Image.new("L", (28, 28)).save(tmp_path / "cat" / "new.png")
    after = ClassFolder(tmp_path)._files
    for part, files in before.items():
        assert set(files) <= set(after[part])


def test_parts_that_are_missing(tmp_path, caplog):
    draw(tmp_path / "train" / "a", 40)
    draw(tmp_path / "train" / "b", 40)
    folder = ClassFolder(tmp_path)
    read = partial(pictures_on_demand, fitting=FITTING)
    assert folder.split("val", read).files and folder.split("test", read).files
    assert "no folder test; val is used" in caplog.text
    assert not set(folder._files["train"]) & set(folder._files["val"])


@pytest.mark.parametrize("make, message", [
    (lambda p: None, "must hold at least two folders of pictures"),
    (lambda p: draw(p / "a", 3), "must hold at least two folders of pictures or rec.* not 1"),
    (lambda p: (draw(p / "a", 3), (p / "b").mkdir()), "b: holds no pictures"),
    (lambda p: (draw(p / "train/a", 3), draw(p / "train/b", 3), draw(p / "val/c", 1)),
     "val/c: is a class that train lacks"),
])
def test_folders_that_are_no_data_set(tmp_path, make, message):
    make(tmp_path)
    with pytest.raises(ValueError, match=message):
        read_dataset(f"folder:{tmp_path}", NANO)


def test_labels_go_by_the_names_that_the_network_keeps(tmp_path):
    draw(tmp_path / "test" / "b", 2)
    draw(tmp_path / "test" / "c", 2)
    known = DataInfo(classes=("c", "a", "b"))
    split = read_split(f"folder:{tmp_path}", "test", NANO, known=known)
    assert split.files == ("b/0.png", "c/0.png", "b/1.png", "c/1.png")
    assert split.labels.tolist() == [2, 0, 2, 0]
    with pytest.raises(ValueError, match="the network has no class b; it knows c, a"):
        read_split(f"folder:{tmp_path}", "test", NANO, known=DataInfo(classes=("c", "a")))


def test_colour_is_augmented_as_grey_is():
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 12, 12)).astype(np.uint8)
    colour = shift_and_flip(images, np.random.default_rng(5))
    for channel in range(3):
        grey = shift_and_flip(images[:, channel], np.random.default_rng(5))
        np.testing.assert_array_equal(colour[:, channel], grey)


def test_names_stay_in_the_file_and_change_no_other_byte(tmp_path):
    made = random_network(2, max_dim=32)
    names = tuple(f"class {index}" for index in range(made.spec.classes))
    info = DataInfo(classes=names, fit="letterbox", background="white")
    content = qsd_file.to_bytes(made.state, made.spec, made.params, info=info)
    (tmp_path / "net.qsd").write_bytes(content)
    found = zoo.read(weights=tmp_path / "net.qsd")
    assert found.info == info and zoo.network(found).info == info
    assert qsd_file.to_bytes(found.state, found.spec, found.params) == qsd_file.to_bytes(
        made.state, made.spec, made.params)
    wrong = DataInfo(classes=(*names, "more"))
    (tmp_path / "net.qsd").write_bytes(
        qsd_file.to_bytes(made.state, made.spec, made.params, info=wrong))
    with pytest.raises(qsd_file.QsdError, match="class names for"):
        zoo.read(weights=tmp_path / "net.qsd")


@pytest.mark.parametrize("classes", [("a", "a"), ("a", ""), ("a", "\x1b[2J"), ("a", "x" * 101)])
def test_names_that_are_refused(classes):
    with pytest.raises(ValueError, match="class names must"):
        DataInfo(classes=classes)


def test_confusion(tmp_path, capsys):
    counts = evaluate.confusion(np.array([0, 1, 1, 2]), np.eye(3)[[0, 2, 1, 2]])
    assert counts.tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]
    for index in (0, 7):
        draw(tmp_path / "test" / f"{index}_class", 3, grey=50 * index)
    command = ["--model", "qsdt_nano", "--data", f"folder:{tmp_path}"]
    assert evaluate.cli([*command, "--confusion"]) == 0
    out = capsys.readouterr().out
    assert "integer: among the first 5 " in out
    table = [line.split() for line in out.splitlines() if line[:1].isdigit()]
    assert sum(int(number) for row in table for number in row[1:]) == 6
    assert evaluate.cli([*command, "--confusion", str(tmp_path / "c.csv")]) == 0
    rows = (tmp_path / "c.csv").read_text().splitlines()
    assert rows[0] == "label,0,1,2,3,4,5,6,7,8,9" and len(rows) == 11


def test_spec_of_a_file(tmp_path):
    small = read_spec("small_grey.yaml", classes=3)
    assert (small.name, small.classes, small.in_channels) == ("small_grey", 3, 1)
    assert (small.norm_mean, small.norm_std) == ((0.5,), (0.25,))
    found = zoo.read("small_grey.yaml")
    assert found.origin and found.spec.classes == 1000


@pytest.mark.parametrize("family, dims", [("sdt_v3", [4, 4, 4, 8, 8]),
                                          ("sdt_v3_large", [4, 4, 4, 8])])
def test_levels_and_stages_of_other_families(tmp_path, family, dims):
    path = tmp_path / "net.yaml"
    path.write_text(f"version: 1\nfamily: {family}\ndims: {dims}\nlevels: 8\n")
    spec = read_spec(path)
    assert (spec.family, spec.levels, list(spec.dims)) == (family, 8, dims)
    assert spec.software_only and not spec.no_integer_form


def test_specs_of_the_package_have_names_too(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in shipped_specs():
        assert zoo.spec_of(name, classes=10) == read_spec(f"{name}.yaml", classes=10)
    assert zoo.read("nano_scenes").origin
    with pytest.raises(ValueError, match=r"model must be one of .*nano_scenes, .*, not scenes"):
        zoo.spec_of("scenes")
    assert [zoo.spec_of(name, classes=7).classes for name in ("small_grey", "small_grey.yaml")
            ] == [7, 7]


def test_a_file_of_the_working_folder_does_not_stand_in_for_a_name(tmp_path, monkeypatch):
    wanted = zoo.spec_of("nano_scenes")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nano_scenes.yaml").write_text(
        "version: 1\nfamily: qsdt\ndims: [4, 4, 4, 8, 8]\n")
    assert zoo.spec_of("nano_scenes") == wanted
    assert zoo.spec_of("nano_scenes.yaml").dims == (4, 4, 4, 8, 8)


def test_nano_scenes_is_qsdt_nano_at_another_size():
    nano, scenes = zoo.spec_of("qsdt_nano"), zoo.spec_of("qsdt_s")
    assert zoo.spec_of("nano_scenes") == replace(
        nano, name="nano_scenes", image_size=64, norm_mean=scenes.norm_mean,
        norm_std=scenes.norm_std)


@pytest.mark.parametrize("text, message", [
    ("dims: [4, 4, 4, 8, 8]", "version must be 1, not None"),
    ("version: 2", "version must be 1, not 2"),
    ("version: 1\nfamily: vit", "family must be one of qsdt, sdt_v3, sdt_v3_large, not 'vit'"),
    ("version: 1\nfamily: [qsdt]", "family must be one of qsdt, sdt_v3"),
    ("version: 1\nfamily: sdt_v3\ndims: [4, 4, 4, 8, 8]\nmprf: add", "'mprf' is not a field"),
    ("version: 1\nfamily: qsdt", "dims is missing: 5 numbers of channels, one for each of"),
    ("version: 1\nfamily: sdt_v3_large", "dims is missing: 4 numbers of channels, one for each of"),
    ("version: 1\nfamily: sdt_v3_large\ndims: [4, 4, 4, 8, 8]", "dims must be 4 positive integers"),
    ("version: 1\nfamily: qsdt\ndims: 5", "dims must be a list of numbers, not 5"),
    ("version: 1\nfamily: qsdt\ndims: [4, 4, 4, 8, 8]\ndepth: 3", "'depth' is not a field"),
    ("version: 1\nfamily: qsdt\ndims: [4, 4, 4, 8, 8]\ndepths: [1, 1, 1, 1, 18446744073709551616]",
     "depths must be at most 64"),
    ("version: 1\nfamily: qsdt\ndims: [4096, 4096, 4096, 4096, 4096]",
     "at most 67,108,864 weights"),
    ("version: 1\nfamily: qsdt\ndims: [4, 4, 4, 8, 8]\nnorm_std: [.nan, 1, 1]", "norm_std must"),
    ("version: 1\nfamily: qsdt\ndims: [4, 4, 4, 8, 8]\nname: [1]", "name must be"),
    ("version: 1\nfamily: qsdt\ndims: [4, 4, 4, 8, 8]\nimage_size: 100000", "image_size must be"),
    ("version: 1\nfamily: qsdt\ndims: [4, 4, 4, 8, 8]\nheads: 3", "heads must divide"),
])
def test_specs_that_are_refused(tmp_path, text, message):
    path = tmp_path / "net.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        zoo.read(str(path))
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
