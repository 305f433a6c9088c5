"""FAULTS row 14: a folder of pictures as people have it."""

import logging
import shutil
from types import SimpleNamespace

from PIL import Image
import pytest

from gen import run
from gen.inputs import load_images
from model import zoo
from model.data.pictures import list_pictures
from model.error import InputError


INPUTS = "folder"


@pytest.fixture(scope="module")
def nano():
    return zoo.network(zoo.read("qsdt_nano"))


def test_natural_order_without_dot_files(data_folder, nano):
    found = load_images(data_folder, nano)
    assert found.files == ("a1.png", "a2.png", "a10.png", "b.webp")
    assert found.image_q.shape == (4, 1, 28, 28)


def test_only_the_first_n_are_decoded(data_folder, nano, tmp_path, caplog):
    folder = tmp_path / "pictures"
    shutil.copytree(data_folder, folder)
    (folder / "c.png").write_bytes(b"broken")
    (folder / "d.png").mkdir()
    (folder / "notes.txt").write_text("")
    with caplog.at_level(logging.INFO):
        assert load_images(folder, nano, count=4).files[-1] == "b.webp"
    assert "2 entries that are not pictures were skipped" in caplog.text
    with pytest.raises(InputError, match="c.png: is not a picture"):
        load_images(folder, nano)


@pytest.mark.parametrize("suffix", ["webp", "tif", "tiff", "gif", "bmp", "jpg", "PNG"])
def test_suffixes(tmp_path, nano, suffix):
    Image.new("L", (28, 28), 7).save(tmp_path / f"a.{suffix}")
    assert list_pictures(tmp_path)[1] == 0
    assert load_images(tmp_path, nano).files == (f"a.{suffix}",)


def test_a_folder_without_pictures(tmp_path, nano):
    with pytest.raises(InputError, match=r"holds no pictures \(.png, .*; name another folder"):
        load_images(tmp_path, nano)


def test_results_have_names(data_folder, nano, capsys):
    found = load_images(data_folder, nano, count=2)
    made = nano.run_batched(found.image_q, keep=("logits", "logits_acc"))
    outcome = SimpleNamespace(
        acc=made["logits_acc"].reshape(2, -1), classes=made["logits"].argmax(1),
        outputs={}, counters={"CYCLES": 2, "SPIKE_EVENTS": 2}, seconds=1.0, checked=[])

    design = SimpleNamespace(network=nano, config=SimpleNamespace(clock_hz=1e6))

    assert run._summary(outcome, made, found, design, "rtl-sim") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("image 0 a1.png: class ")
    assert lines[1].startswith("image 1 a2.png: class ")
