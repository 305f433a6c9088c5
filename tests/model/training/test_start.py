"""model.training.start: networks that begin with the weights of others, and what MPRF changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.families.infer import infer_spec
from model.families.lsq import LsqLayer
from model.families.network import capture_levels, Mprf, QsdTransformer
from model.families.spec import QsdtSpec
from model.integer.epilogue import IntegerParams
from model.integer.export import export, fold
from model.integer.random_network import random_state
from model.training.start import adopt
from model.training.trainer import Trainer
from tests.model import tiny


torch.set_num_threads(1)

TINY = QsdtSpec(
    name="tiny", in_channels=1, image_size=16, classes=3, dims=(4, 6, 8, 8, 12),
    depths=(1, 1, 1, 1, 1), conv_expansion=(1, 1, 1), mlp_ratio=1, heads=2,
    norm_mean=(0.5,), norm_std=(0.5,), layer_scale_init=0.3,
)
IMAGE = torch.from_numpy(np.random.default_rng(5).integers(-128, 128, (4, 1, 16, 16)) / 48)


def made_up(spec: QsdtSpec, seed: int = 1) -> tuple[QsdTransformer, dict[str, np.ndarray]]:
    state = random_state(np.random.default_rng(seed), spec, IntegerParams(), ("negative",))
    model = QsdTransformer(spec)
    model.load_state_dict({key: torch.from_numpy(np.array(v)) for key, v in state.items()})
    return model.eval(), state


@torch.no_grad()
def levels_of(model: QsdTransformer) -> dict[str, torch.Tensor]:
    with capture_levels(model) as levels:
        model(IMAGE)
    return dict(levels)


@torch.no_grad()
def test_mprf_at_rest_changes_nothing():
    """Model check 7.17: gamma 1, alpha 0 and identity statistics; float64, every level."""
    plain, state = made_up(TINY)
    added = QsdTransformer(replace(TINY, mprf="add"))
    added.load_state_dict({key: torch.from_numpy(np.array(v)) for key, v in state.items()},
                          strict=False)
    for module in added.modules():
        if isinstance(module, Mprf):
            assert (module.weight == 1).all() and (module.bias == 0).all()
            module.running_var.fill_(1)
            module.eps = 0.0
    want, got = levels_of(plain.double()), levels_of(added.double().eval())
    assert all(torch.equal(want[name], got[name]) for name in want)
    assert torch.equal(plain(IMAGE), added(IMAGE))


@torch.no_grad()
@pytest.mark.parametrize("mprf", ["add", "replace"])
def test_mprf_folds_into_the_affine_map(mprf):
    """Model check 7.17: the folded form equals the unfolded one, and no integer weight changes."""
    spec = replace(TINY, mprf=mprf)
    model, state = made_up(spec)
    wide = export(state, spec, form="wide").run((IMAGE.numpy() * 48).round().astype(np.int8))
    for name, level in levels_of(model.double()).items():
        np.testing.assert_array_equal(
            level.numpy().reshape(wide[name].shape), wide[name], err_msg=name)
    np.testing.assert_allclose(model(IMAGE).numpy(), wide["logits"], rtol=0, atol=1e-6)
    moved = {key: value + 1 if "_mprf.bias" in key else 2 * value if "_mprf.weight" in key
             else value for key, value in state.items()}
    one, two = fold(state, spec), fold(moved, spec)
    changed = {name for name in one if not (np.array_equal(one[name].scale, two[name].scale)
                                            and np.array_equal(one[name].offset, two[name].offset))}
    assert changed == {f"block{s}.0.attn.{x}_conv.0.body.2.1" for s in (3, 4) for x in "qkv"}
    assert all(np.array_equal(one[name].weight, two[name].weight) for name in one)


@torch.no_grad()
@pytest.mark.parametrize("mprf", ["add", "replace"])
def test_checkpoints_without_mprf_start_unchanged(mprf):
    plain, _ = made_up(TINY)
    model = QsdTransformer(replace(TINY, mprf=mprf))
    assert adopt(model, plain.state_dict()) == (["MPRF"] if mprf == "add" else [])
    plain, model = plain.double(), model.double().eval()
    want, got = levels_of(plain), levels_of(model)
    differ = sum(int((want[name] != got[name]).sum()) for name in want)
    assert differ <= (0 if mprf == "replace" else 2)  # a tie may round to the other side
    # Neither in training, where statistics are those of the batch.
    torch.testing.assert_close(model.train()(IMAGE), plain.train()(IMAGE), rtol=0, atol=1e-3)


def test_mprf_in_place_of_the_batch_norm_trains_as_that_batch_norm():
    logs = []
    for mprf in ("none", "replace", "add"):
        trainer = Trainer(replace(tiny.TINY, mprf=mprf), tiny.RECIPE, tiny.DATA)
        trainer.run_epoch()
        logs.append([trainer.log[-1][key] for key in ("train_loss", "val_acc", "mean_level")])
    assert logs[0] == logs[1] != logs[2]


@torch.no_grad()
def test_mprf_that_replaced_a_norm_becomes_one_again():
    source, _ = made_up(replace(TINY, mprf="replace"))
    plain = QsdTransformer(TINY)
    assert adopt(plain, source.state_dict()) == []
    want, got = levels_of(source.double()), levels_of(plain.double().eval())
    assert all(torch.equal(want[name], got[name]) for name in want)
    with pytest.raises(ValueError, match="k_mprf.bias does not fit"):
        adopt(QsdTransformer(TINY), made_up(replace(TINY, mprf="add"))[0].state_dict())


@torch.no_grad()
def test_start_after_repeats_the_norm_before():
    torch.manual_seed(0)
    norm, mprf = torch.nn.BatchNorm2d(5), Mprf(5)
    norm.weight.copy_(torch.tensor([0.5, -1.5, 2.0, 0.1, 1.0]))
    norm.bias.normal_()
    mprf.start_after(norm)
    x = norm(torch.randn(64, 5, 8, 8))
    torch.testing.assert_close(mprf(x), x, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(mprf.eval()(x), x, rtol=1e-2, atol=1e-2)


@torch.no_grad()
def test_a_new_head_and_the_same_body():
    plain, _ = made_up(TINY)
    wider = QsdTransformer(replace(TINY, classes=7))
    before = wider.head.weight.clone()
    assert adopt(wider, plain.state_dict()) == ["head"]
    assert torch.equal(wider.head.weight, before)
    assert torch.equal(wider.block4[0].mlp.fc1_conv.weight, plain.block4[0].mlp.fc1_conv.weight)


@torch.no_grad()
def test_float_weights_get_steps_and_lose_them():
    real = QsdTransformer(replace(TINY, weight_bits=32))
    model = QsdTransformer(replace(TINY, weight_bits=2))
    assert adopt(model, real.state_dict()) == ["LSQ steps"]
    conv = model.downsample2.encode_conv
    assert conv.alpha.tolist() == pytest.approx([2 * conv.weight.abs().mean().item()] * 8)
    back = QsdTransformer(replace(TINY, weight_bits=32))
    assert adopt(back, model.state_dict()) == []
    assert torch.equal(back.downsample2.encode_conv.weight, real.downsample2.encode_conv.weight)


def test_other_shapes_are_refused():
    plain, _ = made_up(TINY)
    with pytest.raises(ValueError, match=r"ConvBlock1_1.0.Conv.bn1.bias does not fit .and"):
        adopt(QsdTransformer(replace(TINY, dims=(6, 6, 8, 8, 12))), plain.state_dict())
    with pytest.raises(ValueError, match=r"must have the shape of tiny, but .* is missing"):
        adopt(QsdTransformer(TINY), {})


@pytest.mark.parametrize("mprf", ["none", "add", "replace"])
def test_shapes_tell_mprf(mprf):
    state = QsdTransformer(replace(TINY, mprf=mprf)).state_dict()
    assert infer_spec(state, heads=2, image_size=16).mprf == mprf


@torch.no_grad()
@pytest.mark.parametrize("bits", [2, 3])
def test_fewer_bits_begin_with_steps_of_their_own(bits):
    """Weights stay, every step is set from them as at the start of a training."""
    source = QsdTransformer(TINY)
    state = {key: value.clone() for key, value in source.state_dict().items()}
    fewer = QsdTransformer(replace(TINY, weight_bits=bits))
    assert adopt(fewer, state, weight_bits=4) == ["LSQ steps"]
    for name, module in fewer.named_modules():
        if isinstance(module, LsqLayer):
            weight = source.get_submodule(name).weight
            assert torch.equal(module.weight, weight)
            want = 2 * weight.abs().mean() / (2 ** (bits - 1) - 1) ** 0.5
            torch.testing.assert_close(module.alpha, want.expand(len(weight)))
    same = QsdTransformer(TINY)
    assert adopt(same, state, weight_bits=4) == []
    assert torch.equal(same.head.alpha, source.head.alpha)
