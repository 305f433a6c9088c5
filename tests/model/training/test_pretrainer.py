"""model.training.pretrainer: exact resume, files, and what a training makes of them."""

from dataclasses import replace
import json

import numpy as np
import pytest
import torch

from model.training.checkpoint import CheckpointError, read, tensors
from model.training.masked import patches
from model.training.pretrainer import pretrain, Pretrainer
from model.training.recipe import Masking
from model.training.session import load_checkpoint, load_pretraining
from model.training.start import adopt
from model.training.trainer import Trainer
from tests.model.tiny import DATA, RECIPE, TINY


torch.set_num_threads(1)

SMALL = Masking(width=16, blocks=1, heads=2)


def silent(text: str) -> None:
    pass


def test_a_resumed_pretraining_gives_the_same_numbers(tmp_path):
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    whole = Pretrainer(TINY, replace(RECIPE, epochs=3), SMALL, DATA)
    pretrain(whole, tmp_path / "whole", silent)
    first = Pretrainer(TINY, replace(RECIPE, epochs=3), SMALL, DATA)
    first.run_epoch()
    torch.save(first.state(), tmp_path / "broken" / "checkpoint.pth")
    second = Pretrainer(TINY, replace(RECIPE, epochs=3), SMALL, DATA)
    second.restore(load_pretraining(tmp_path / "broken" / "checkpoint.pth"))
    pretrain(second, tmp_path / "broken", silent)
    one, two = (torch.load(tmp_path / name / "backbone.pth", weights_only=True)
                for name in ("whole", "broken"))
    assert one["pretraining"] == two["pretraining"] and one["pretraining"]["epoch"] == 3
    assert all(torch.equal(value, two["model"][key]) for key, value in one["model"].items())
    decoders = (x.model.decoder.state_dict() for x in (whole, second))
    assert all(map(torch.equal, *(state.values() for state in decoders)))
    records = [json.loads(line) for line in (tmp_path / "broken" / "log.jsonl").open()]
    for key in ("epoch", "train_loss", "val_loss", "lr"):
        assert [r[key] for r in records] == [r[key] for r in whole.log]
    assert records[-1]["val_loss"] < records[0]["val_loss"]
    assert 0.9 < whole.guess() < 1    # of patches of 16 pixels that are not flat: 15/16
    for name in ("curve.png", "pictures.png"):
        assert (tmp_path / "whole" / name).read_bytes().startswith(b"\x89PNG")


def test_masks_differ_between_epochs_and_seeds(monkeypatch):
    seen = []

    def note(self, image_q, hidden, precision):
        seen.append(hidden)
        return loss(self, image_q, hidden, precision)

    loss = Pretrainer._loss
    monkeypatch.setattr(Pretrainer, "_loss", note)
    for seed in (1, 1, 2):
        pretrainer = Pretrainer(TINY, replace(RECIPE, seed=seed, epochs=2, batch=64), SMALL, DATA)
        for _ in range(2):
            pretrainer.run_epoch()
    assert len(seen) == 6
    assert np.array_equal(seen[0], seen[2]) and np.array_equal(seen[1], seen[3])
    assert not np.array_equal(seen[0], seen[1]) and not np.array_equal(seen[0], seen[4])


def test_visible_patches_of_the_pictures_are_true():
    pretrainer = Pretrainer(TINY, RECIPE, SMALL, DATA)
    picture, visible, filled = (patches(x, 4) for x in pretrainer.filled_in(5))
    assert picture.shape == visible.shape == filled.shape == (5, 16, 16)
    hidden = (visible != picture).any(-1)
    assert (hidden.sum(1) == 8).all()
    assert torch.equal(filled[~hidden], picture[~hidden])
    assert not visible[hidden].any()
    assert (filled[hidden] != picture[hidden]).any(-1).all()


def test_a_training_starts_from_the_backbone(tmp_path):
    pretrain(Pretrainer(TINY, replace(RECIPE, epochs=1), SMALL, DATA), tmp_path, silent)
    path = tmp_path / "backbone.pth"
    with pytest.raises(CheckpointError, match="its head is not trained: qsdt train --init"):
        read(path)
    found = read(path, headless=True)
    assert not found.head and found.spec == TINY
    trainer = Trainer(TINY, replace(RECIPE, seed=5), DATA)
    head = trainer.model.head.weight.detach().clone()
    anew = trainer.start_from(lambda model: adopt(model, tensors(found.state), head=found.head))
    assert anew == ["head"]
    assert torch.equal(trainer.model.head.weight, head)
    for key, value in found.state.items():
        own = trainer.model.state_dict()[key]
        assert key.startswith("head.") or torch.equal(own, torch.from_numpy(np.array(value)))
    trainer.run_epoch()


@pytest.mark.parametrize("changes, message", [
    ({"batch": 65}, "batch must be at most 64, not 65"),
    ({"mixup": 0.5}, "mixup has no place in pretraining"),
    ({"fgd": 2.0}, "fgd has no place in pretraining"),
])
def test_recipes_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        Pretrainer(TINY, replace(RECIPE, **changes), SMALL, DATA)


def test_data_that_do_not_fit():
    with pytest.raises(ValueError, match="images must be 32 pixels wide, not 16"):
        Pretrainer(replace(TINY, image_size=32), RECIPE, SMALL, DATA)
    frames = replace(DATA.train, images=np.zeros((64, 2, 1, 16, 16), np.uint8))
    with pytest.raises(ValueError, match="fills in pictures, not frames of events"):
        Pretrainer(replace(TINY, time_steps=2), RECIPE, SMALL, replace(DATA, train=frames))


def test_a_loss_that_is_not_finite_ends_it():
    pretrainer = Pretrainer(TINY, replace(RECIPE, lr=1e30), SMALL, DATA)
    with pytest.raises(ValueError, match=r"the loss must stay finite.*epoch 1, step"):
        pretrainer.run_epoch()


def test_checkpoints_are_told_apart(tmp_path):
    pretrainer = Pretrainer(TINY, RECIPE, SMALL, DATA)
    state = pretrainer.state()
    torch.save(state, tmp_path / "checkpoint.pth")
    with pytest.raises(ValueError, match="must be a whole file that model.train wrote"):
        load_checkpoint(tmp_path / "checkpoint.pth")
    torch.save(Trainer(TINY, RECIPE, DATA).state(), tmp_path / "other.pth")
    with pytest.raises(ValueError, match="must be a whole file that model.pretrain wrote"):
        load_pretraining(tmp_path / "other.pth")
    for key, value, message in (("epoch", 1, "one record an epoch"),
                                ("precision", "fp8", "precision must be"),
                                ("optimiser", {}, "does not fit")):
        with pytest.raises(ValueError, match=message):
            pretrainer.restore({**state, key: value})
