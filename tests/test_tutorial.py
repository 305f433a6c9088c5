"""The commands of docs/tutorials/own-network.md and boxes.md, read out of the text, on small sets.
"""

import json
import os
from pathlib import Path
import shlex
import subprocess
import sys

import pytest

from model.data.mnist import DEBIAN_FOLDER, DEBIAN_PACKAGE


ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(
    not DEBIAN_FOLDER.is_dir(), reason=f"needs the Debian package {DEBIAN_PACKAGE}"
)

SPEC = """\
version: 1
family: qsdt
in_channels: 1
image_size: 28
dims: [8, 8, 8, 8, 8]
strides: [2, 1, 2, 1, 1]
depths: [1, 1, 1, 1, 1]
conv_expansion: [1, 1, 1]
mlp_ratio: 1
heads: 2
layer_scale_init: 0.1
"""

DETECTOR = """\
version: 1
family: qsdt
in_channels: 1
image_size: 64
dims: [8, 8, 8, 8, 8]
depths: [1, 1, 1, 1, 1]
sep_expansion: 1
conv_expansion: [1, 1, 1]
mlp_ratio: 1
heads: 2
layer_scale_init: 0.1
dense_heads: {taps: ["2", "4"], channels: 8, detector: {classes: 10, tower: 1}}
"""

SMALLER = {
    "fashion_png.py": lambda words: [*words, "--count", "40", "--classes", "3"],
    "scenes_coco.py": lambda words: [*words, "--count", "16"],
    "train": lambda words: [*(SPECS.get(word, word) for word in words),
                            "--epochs", "1", "--batch", "16"],
}
"""What makes a command of the tutorial quick; all others run as they stand."""


SPECS = {"qsdt_nano": "tiny.yaml", "scenes_det": "detector.yaml"}
"""Networks of the tutorials, and the small ones in their place."""


def commands(page, example):
    text = (ROOT / "docs" / "tutorials" / page).read_text()
    lines = [shlex.split(line[2:]) for line in text.splitlines() if line.startswith("$ ")]
    assert [words[1] for words in lines] == [
        f"examples/{example}", "train", "convert", "evaluate", "verify", "run"]
    return lines


def own_network():
    return commands("own-network.md", "fashion_png.py")


def boxes():
    return commands("boxes.md", "scenes_coco.py")


def run(words, folder):
    name = Path(words[1]).name
    words = SMALLER.get(name, lambda words: words)(words)
    start = {"python": [sys.executable, ROOT / words[1]],
             "qsdt": [sys.executable, "-m", "gen.main", words[1]]}[words[0]]
    done = subprocess.run(
        [*start, *words[2:]], cwd=folder, capture_output=True, text=True, timeout=900,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The tutorial up to its last step, and what each command printed."""
    folder = tmp_path_factory.mktemp("tutorial")
    (folder / "tiny.yaml").write_text(SPEC)
    return folder, [run(words, folder) for words in own_network()[:-1]]


def test_pictures_to_verified_network(folder):
    _, (pictures, train, convert, evaluate, verify) = folder
    assert pictures == "pictures: 360 pictures\n"
    assert "epoch 1/1" in train and "test accuracy" in train
    assert "3 classes" in convert
    assert "integer: accuracy " in evaluate
    assert "2 (2_pullover)" in evaluate
    assert "integer = iss: equal on images: 2" in verify


@pytest.mark.rtl
@pytest.mark.slow
def test_classes_by_name_on_the_virtual_board(folder):
    printed = run(own_network()[-1], folder[0])
    assert "image 0 2_pullover/00001.png: class " in printed
    assert "label 2 (2_pullover)" in printed
    assert "agreement with the integer model: 4 of 4 images" in printed


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The tutorial on boxes up to its last step, and what each command printed."""
    pytest.importorskip("pycocotools")
    folder = tmp_path_factory.mktemp("boxes")
    (folder / "detector.yaml").write_text(DETECTOR)
    return folder, [run(words, folder) for words in boxes()[:-1]]


def test_coco_folder_to_verified_detector(found):
    folder, (pictures, train, convert, evaluate, verify) = found
    assert pictures == "scenes: 16 scenes for each of train, val and test\n"
    assert "epoch 1/1" in train and "test mAP@0.5" in train
    assert "10 classes" in convert
    assert "integer: mAP@0.5" in evaluate and "float: mAP@0.5" in evaluate
    assert {"index.html", "first-16.png", "worst-01.png"} <= {
        path.name for path in (folder / "compared").iterdir()}
    assert "integer = iss: equal on images: 2" in verify


@pytest.mark.rtl
@pytest.mark.slow
def test_boxes_from_the_virtual_board(found):
    printed = run(boxes()[-1], found[0])
    assert "image 0 000001.png: " in printed
    assert "agreement with the integer model: 4 of 4 images" in printed
    assert len([*(found[0] / "seen").glob("*.png")]) == 4
    assert isinstance(json.loads((found[0] / "found.json").read_text()), list)
