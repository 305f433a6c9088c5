"""model.training.recipe: presets of the papers, files of one's own, and what they may not say."""

from dataclasses import asdict, replace
import re

import pytest

from model.error import InputError
from model.families.spec import FAMILIES, spec
from model.training.recipe import Masking, presets, read_preset, Recipe
from tests.model.tiny import TINY


@pytest.mark.parametrize("name", presets())
def test_presets_are_whole(name):
    preset = read_preset(name)
    assert preset.applied(spec("qsdt_nano")).dims == spec("qsdt_nano").dims
    assert Recipe.from_dict(asdict(preset.recipe)) == preset.recipe


def test_presets_say_what_their_sources_say():
    """Paper Table 8 and appendix G.4, and the published train.sh, which disagree."""
    code, paper = (read_preset(f"imagenet_{x}") for x in ("code", "paper"))
    for preset, epochs in ((code, 15), (paper, 10)):
        recipe = preset.recipe
        assert (recipe.epochs, recipe.batch, recipe.optimiser) == (300, 8 * 196, "lamb")
        assert recipe.lr == pytest.approx(6e-4 * 1568 / 256)
        assert recipe.lr * recipe.final_lr == pytest.approx(1e-6, rel=1e-4)
        assert recipe.warmup * 300 == pytest.approx(epochs, rel=1e-4)
        assert (recipe.rand_augment, recipe.erase) == ("rand-m9-mstd0.5-inc1", 0.25)
        assert (recipe.label_smoothing, recipe.mixup, recipe.cutmix) == (0.1, 0, 0)
    assert (paper.recipe.fgd, dict(paper.network)) == (2.0, {"mprf": "add"})
    assert (code.recipe.fgd, dict(code.network)) == (0, {})
    table, text = (read_preset(f"cifar_{x}").recipe for x in ("table8", "text"))
    assert (table.epochs, text.epochs, table.batch, text.batch) == (100, 100, 256, 128)
    assert (table.optimiser, table.lr, table.weight_decay) == ("lamb", 6e-4, 0.05)
    assert (text.optimiser, text.lr, text.weight_decay) == ("adamw", 1e-4, 0.01)
    assert (table.mixup, table.cutmix, text.mixup, text.cutmix) == (0.8, 1.0, 0.8, 1.0)
    assert (table.label_smoothing, text.label_smoothing) == (0, 0.1)
    assert table.lr * table.final_lr == pytest.approx(1e-6, rel=1e-3)
    assert (text.lr * text.final_lr, text.warmup * 100) == (pytest.approx(1e-5), 3)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_be_pretrained(family):
    preset = read_preset(f"masked_{family}")
    assert preset.masking is not None and preset.masking.ratio == 0.5
    assert preset.recipe.warmup == 0.1
    assert read_preset("nano").masking is None


def test_masking_of_ones_own(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("version: 1\nmasking: {ratio: 0.75, cell: 8, width: 64}\n")
    assert read_preset(path).masking == Masking(ratio=0.75, cell=8, width=64)
    path.write_text("version: 1\nmasking:\n")
    assert read_preset(path).masking == Masking()


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("version: 1\nepochs: 3\nlr: 1\nnetwork: {mprf: add, weight_bits: 2}\n")
    preset = read_preset(path)
    assert preset.recipe == replace(Recipe(), epochs=3, lr=1)
    changed = preset.applied(TINY)
    assert (changed.mprf, changed.weight_bits, changed.dims) == ("add", 2, TINY.dims)


@pytest.mark.parametrize("text, message", [
    ("epochs: 3", "version must be 1, not None"),
    ("version: 1\nepoch: 3", "unknown parameter 'epoch'; known are .*epochs"),
    ("version: 1\nepochs: many", "epochs must be a whole number, not 'many'"),
    ("version: 1\nepochs: 0", "epochs must be positive, not 0"),
    ("version: 1\nprecision: fp16", "precision must be auto, fp32 or bf16, not 'fp16'"),
    ("version: 1\nrand_augment: auto", "rand_augment must be in timm's words"),
    ("version: 1\nwarmup: 2", "warmup must be 0 to 1, not 2"),
    ("version: 1\nmasking: {ratio: 1}", "ratio must be between 0 and 1, not 1"),
    ("version: 1\nmasking: {width: 30}", "width must be a multiple of 4 and of 4 heads, not 30"),
    ("version: 1\nmasking: {blocks: 0}", "blocks must be 1 to 64, not 0"),
    ("version: 1\nmasking: {part: 2}", "masking: unknown parameter 'part'; known are blocks"),
    ("version: 1\nmasking: half", "masking must be a mapping, not 'half'"),
    ("version: 1\nfgd: -1", "fgd must be at least 0, not -1"),
    ("version: 1\nbatch: 3\nmixup: 0.5", "batch must be even with mixup or cutmix, not 3"),
    ("version: 1\nnetwork: {dims: 3}", "network: unknown parameter 'dims'"),
    ("version: 1\nnetwork: 3", "network must be a mapping, not 3"),
])
def test_bad_files_are_refused(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=f"{re.escape(str(path))}.*{message}"):
        read_preset(path)


def test_changes_must_fit_the_network(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("version: 1\nnetwork: {mprf: sometimes}\n")
    with pytest.raises(ValueError, match="mprf must be none, add or replace"):
        read_preset(path).applied(TINY)


def test_recipes_of_older_checkpoints():
    values = asdict(Recipe())
    del values["precision"]
    assert Recipe.from_dict(values | {"bfloat16": True}).precision == "bf16"
    assert Recipe.from_dict(values | {"bfloat16": False}).precision == "fp32"
    with pytest.raises(ValueError, match="keys of Recipe"):
        Recipe.from_dict(values | {"colour": 1})
