"""model.training.distil: similarity, its loss, the logits, and who teaches whom."""

from dataclasses import replace

import pytest
import torch

from model.families.network import QsdTransformer
from model.training import distil
from model.training.distil import (
    capture_operands,
    fgd_loss,
    load_teacher,
    logit_loss,
    similarity,
)
from model.training.recipe import Recipe
from model.training.session import save_model
from model.training.trainer import Trainer
from tests.model.tiny import DATA, RECIPE, TINY


torch.set_num_threads(1)


def operands(seed: int, blocks: int = 2, size: int = 4):
    torch.manual_seed(seed)
    return [tuple(torch.rand(3, 2, 5, size, requires_grad=True) for _ in range(3))
            for _ in range(blocks)]


def test_equal_tensors_lose_nothing():
    """Model check 7.18: 0 between equal tensors, and the same for every scale of either."""
    student, teacher = operands(1), operands(2)
    assert fgd_loss(student, student).item() == 0
    loss = fgd_loss(student, teacher)
    # 10^-6 beside a norm of about 1 is the only thing that scale moves.
    for scale in (0.5, 64.0):
        scaled = [tuple(scale * x for x in block) for block in student]
        torch.testing.assert_close(fgd_loss(scaled, teacher), loss, rtol=1e-4, atol=0)
        torch.testing.assert_close(fgd_loss(teacher, scaled), fgd_loss(teacher, student),
                                   rtol=1e-4, atol=0)
    assert 0 < loss < 2**0.5


@torch.no_grad()
def test_the_mean_of_the_terms_of_the_paper():
    student, teacher = operands(3), operands(4, size=7)  # the size of a head may differ
    total = 0.0
    for own, other in zip(student, teacher, strict=True):
        for x, y in zip(own, other, strict=True):
            for image in range(3):
                for head in range(2):
                    a, b = x[image, head] @ x[image, head].T, y[image, head] @ y[image, head].T
                    total += float((a / a.norm() - b / b.norm()).norm())
    terms = 2 * 3 * 3 * 2  # blocks, q k v, images, heads
    assert fgd_loss(student, teacher).item() == pytest.approx(total / terms, rel=1e-4)


def test_the_distance_is_that_of_the_similarities():
    """Without the matrices of tokens x tokens: value and gradient to the last digits of float64."""
    torch.manual_seed(6)
    own = torch.rand(3, 2, 9, 4, dtype=torch.float64).round(decimals=1).requires_grad_()
    other = torch.randn(3, 2, 9, 5, dtype=torch.float64)
    square = (similarity(own) - similarity(other)).square().sum((-2, -1)) + 1e-12
    want = square.sqrt() - 1e-6
    got = distil._distance(own, other)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)
    gradient = torch.autograd.grad(want.square().sum(), own)
    torch.testing.assert_close(torch.autograd.grad(got.square().sum(), own), gradient,
                               rtol=1e-8, atol=1e-12)
    small = own.detach()[:1, 0].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: distil._distance(x, other[:1, 0]), small)


def test_bound_and_gradients():
    """Model check 7.18: no term is above sqrt(2), a silent head gives no NaN, the teacher none."""
    one = [tuple(torch.eye(4)[None, None].requires_grad_() for _ in range(3))]
    other = [tuple(torch.ones(1, 1, 4, 1).requires_grad_() for _ in range(3))]
    silent = [tuple(torch.zeros(1, 1, 4, 2).requires_grad_() for _ in range(3))]
    assert fgd_loss(one, other).item() <= 2**0.5
    loss = fgd_loss(silent, other) + fgd_loss(one, silent)
    loss.backward()
    assert all(torch.isfinite(x.grad).all() for x in (*silent[0], *one[0]))
    assert all(x.grad is None for x in other[0])
    assert similarity(silent[0][0]).abs().sum() == 0


def test_blocks_and_tokens_must_agree():
    with pytest.raises(ValueError, match="must have 2 attention blocks, not 1"):
        fgd_loss(operands(1), operands(1, blocks=1))
    with pytest.raises(ValueError, match=r"heads and tokens of the teacher must be \(3, 2, 5\)"):
        fgd_loss(operands(1), [tuple(x[:, :, :4] for x in block) for block in operands(1)])


def test_logit_loss():
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 5, requires_grad=True), torch.randn(4, 5)
    assert logit_loss(teacher, teacher, 2.0).item() == pytest.approx(0, abs=1e-6)
    p, q = (teacher / 2).softmax(1), (student / 2).softmax(1)
    want = 4 * (p * (p / q).log()).sum(1).mean()
    assert logit_loss(student, teacher, 2.0).item() == pytest.approx(want.item(), rel=1e-5)


def test_operands_are_what_attention_multiplies():
    model = QsdTransformer(TINY)
    with capture_operands(model) as found:
        model(torch.rand(3, 1, 16, 16))
    assert [tuple(x.shape for x in block) for block in found] == [((3, 2, 16, 3),) * 3] * 2
    assert set((found[0][0] * 4).unique().tolist()) <= {0, 1, 2, 3, 4}
    found.clear()
    model(torch.rand(3, 1, 16, 16))
    assert not found


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory):
    """A twin trained for an epoch."""
    path = tmp_path_factory.mktemp("teacher") / "model.pth"
    recipe = replace(RECIPE, epochs=1, attention_penalty=0.0, attention_beta=0.0)
    trainer = Trainer(TINY.twin(), recipe, DATA)
    trainer.run_epoch()
    assert trainer.log[0]["attention_top"] == {}
    save_model(trainer, path)
    return path


@pytest.mark.parametrize("changes", [
    {"fgd": 2.0}, {"distil": 1.0, "temperature": 2.0}, {"fgd": 2.0, "distil": 0.5}])
@pytest.mark.parametrize("network", [{"mprf": "replace"}, {"levels": 2, "time_steps": 2,
                                                           "leak": 0.5}])
def test_a_network_learns_from_its_twin(teacher_file, changes, network):
    spec = replace(TINY, **network)
    teacher = load_teacher(teacher_file, spec)
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    trainer = Trainer(spec, replace(RECIPE, **changes), DATA, teacher=teacher)
    record = trainer.run_epoch()
    assert ("train_fgd" in record) == ("fgd" in changes)
    assert ("train_distil" in record) == ("distil" in changes)
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    assert not any(p.requires_grad for p in teacher.parameters())


def test_fgd_lowers_the_distance(teacher_file):
    teacher = load_teacher(teacher_file, TINY)
    trainer = Trainer(TINY, replace(RECIPE, epochs=8, fgd=20.0), DATA, teacher=teacher)
    terms = [trainer.run_epoch()["train_fgd"] for _ in range(8)]
    assert terms[-1] < 0.9 * terms[0]


def test_teachers_of_other_shapes_are_refused(teacher_file):
    with pytest.raises(ValueError, match=r"model.pth: heads of the teacher must be 1, not 2"):
        load_teacher(teacher_file, replace(TINY, heads=1))
    with pytest.raises(ValueError, match="learns from a teacher: name it with --teacher"):
        Trainer(TINY, replace(RECIPE, fgd=2.0), DATA)
    with pytest.raises(ValueError, match="a teacher is of no use"):
        Trainer(TINY, RECIPE, DATA, teacher=load_teacher(teacher_file, TINY))


def test_the_twin_has_no_spikes():
    twin = TINY.twin()
    assert (twin.neuron, twin.attention, twin.weight_bits, twin.name) == (
        "relu", "softmax", 32, "tiny-ann")
    assert Recipe(fgd=2.0).needs_teacher and not Recipe().needs_teacher
