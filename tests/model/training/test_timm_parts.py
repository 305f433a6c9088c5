"""model.training.timm_parts and what is built of them, without torchvision."""

from dataclasses import replace
import importlib.util
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest
import torch

from model.error import ToolMissing
from model.training.optimise import optimiser
from model.training.session import load_checkpoint, save
from model.training.task import augmentation
from model.training.timm_parts import rand_augment, timm_part
from model.training.trainer import build, Trainer
from tests.model.tiny import DATA, RECIPE, TINY


torch.set_num_threads(1)


def test_parts_come_without_torchvision():
    script = ("import sys; from model.training.timm_parts import timm_part as part;"
              "part('optim.lamb').Lamb; part('data.mixup').Mixup;"
              "part('data.random_erasing').RandomErasing;"
              "part('data.auto_augment').rand_augment_transform('rand-m9', {});"
              "print('torchvision' in sys.modules, 'timm' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                          check=True)
    assert done.stdout.split() == ["False", "False"]


def test_without_timm_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    timm_part.cache_clear()
    with pytest.raises(ToolMissing, match=r"timm .*pip install --no-deps timm"):
        optimiser(build(TINY, RECIPE), replace(RECIPE, optimiser="lamb"))
    timm_part.cache_clear()


def test_lamb_clips_the_trust_ratio_and_not_the_gradient():
    lamb = optimiser(build(TINY, RECIPE), replace(RECIPE, optimiser="lamb"))
    assert [group["weight_decay"] for group in lamb.param_groups] == [0.05, 0, 0]
    assert all(group["trust_clip"] and group["max_grad_norm"] is None
               for group in lamb.param_groups)


@pytest.mark.parametrize("changes", [
    {"optimiser": "lamb"}, {"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0},
    {"rand_augment": "rand-m9-mstd0.5-inc1", "crop": "resized", "erase": 0.5}])
def test_recipes_with_timm_train_and_resume_exactly(changes, tmp_path):
    recipe = replace(RECIPE, **changes)
    whole = Trainer(TINY, recipe, DATA)
    whole.run_epoch()
    save(whole.state(), tmp_path / "half.pth")
    rest = Trainer(TINY, recipe, DATA)
    rest.restore(load_checkpoint(tmp_path / "half.pth"))
    one, two = whole.run_epoch()["train_loss"], rest.run_epoch()["train_loss"]
    assert np.isfinite(one) and one == two


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_posterize_to_nothing_is_black(mode):
    rand_augment("rand-m9", 0)
    op = timm_part("data.auto_augment").NAME_TO_OP["PosterizeIncreasing"]
    picture = Image.new(mode, (4, 4), "white")
    assert not np.asarray(op(picture, 0)).any() and np.asarray(op(picture, 8)).all()
    assert set(np.asarray(op(picture, 2)).flat) == {0b1100_0000}


def test_rand_augment_depends_on_the_seed_of_a_picture_alone():
    augment = augmentation(replace(RECIPE, rand_augment="rand-m9-mstd0.5-inc1"), TINY)
    images = DATA.train.images[:6]
    whole = augment(images, np.random.default_rng(3), slice(None))
    halves = [augment(images, np.random.default_rng(3), slice(i, None, 2)) for i in range(2)]
    assert np.array_equal(whole[::2], halves[0]) and np.array_equal(whole[1::2], halves[1])
    assert not np.array_equal(whole, images)
