"""model.data.object_options: every name leads to its reader."""

import argparse
import importlib.util

import numpy as np
import pytest

from model.data import object_options
from model.data.object_options import add_score, OBJECT_DATA, read_objects
from model.error import ToolMissing
from model.families.spec import spec
from tests.model.data.coco_files import annotation, content, write
from tests.model.data.test_mask_folder import ade, MASK


GREY = spec("qsdt_s")


def test_coco(tmp_path):
    write(tmp_path, content([annotation(1, 1, 3, [1, 1, 4, 4])]))
    write(tmp_path, content([annotation(1, 1, 3, [1, 1, 4, 4])]), "val")
    data = read_objects(f"coco:{tmp_path}", GREY)
    assert data.train.sample(0).image.shape == (10, 20) and data.train.mask_classes == ()
    pytest.importorskip("pycocotools")
    masks = read_objects(f"coco:{tmp_path}", GREY, masks=True)
    assert masks.train.sample(0).mask.sum() == 16


@pytest.mark.parametrize("kind, want", [("ade20k", [255, 0, 1]), ("masks", [0, 1, 2])])
def test_masks(tmp_path, kind, want):
    mask = np.array(MASK)
    mask[mask == 3] = 2
    data = read_objects(f"{kind}:{ade(tmp_path, mask)}", GREY)
    assert data.train.sample(0).mask[0, :3].tolist() == want


def test_fashion_scenes(monkeypatch, tmp_path):
    monkeypatch.setattr(object_options, "fashion_objects", lambda folder: folder)
    assert read_objects("fashion_scenes", GREY, data_dir=tmp_path) == tmp_path


@pytest.mark.parametrize("name", ["coco", "coco:", "voc:x", "fashion_scenes:x", ""])
def test_other_names(name):
    with pytest.raises(ValueError, match="must be one of fashion_scenes, coco:DIR, ade20k:DIR"):
        read_objects(name, GREY)
    assert all(name in object_options.OBJECT_DATA_HELP for name in OBJECT_DATA)


def test_no_folder_and_no_pillow(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"none: is not a folder; see docs/objects\.md"):
        read_objects(f"coco:{tmp_path / 'none'}", GREY)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ToolMissing, match="PIL"):
        read_objects(f"coco:{tmp_path}", GREY)


@pytest.mark.parametrize("given, wanted", [
    ([], 0.3), (["--score", "0"], 0), (["--score", "2"], None), (["--score", "nan"], None),
    (["--score", "x"], None)])
def test_score(given, wanted, capsys):
    parser = argparse.ArgumentParser()
    add_score(parser)
    if wanted is not None:
        assert parser.parse_args(given).score == wanted
        return
    with pytest.raises(SystemExit):
        parser.parse_args(given)
    assert f"argument --score: must be 0 to 1, not {given[1]}" in capsys.readouterr().err
