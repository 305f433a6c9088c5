"""model.families.fused and its kernels against torch: every value of a neuron, batch norms."""

import pytest
import torch
from torch import nn, Tensor
from torch.nn import functional as F

from model.families import fused
from model.families.lsq import LsqConv2d, LsqLayer
from model.families.network import BatchNorm, fire, QsdTransformer
from model.families.neuron import _Fire, _FireWhole, IeLif, Sfa
from tests.model.tiny import TINY


torch.set_num_threads(1)

EPS = 2**-8
"""Half a step of bfloat16 beside 1."""

needs_numba = pytest.mark.skipif(fused._kernels() is None, reason="numba is not installed")


def every_bfloat16() -> Tensor:
    return torch.arange(1 << 16, dtype=torch.int32).to(torch.uint16).view(torch.bfloat16)


def bf16() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


@needs_numba
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("levels, gain", [(4, 1), (4, 2), (3, 1), (1, 1), (8, 1)])
def test_every_membrane_fires_as_in_float(dtype, levels, gain):
    """Ties fire, NaN stays NaN, and the gradient passes strictly between 0 and 1."""
    x = every_bfloat16().to(dtype).requires_grad_()
    grad = torch.linspace(-3, 3, 1 << 16).bfloat16()
    with bf16():
        assert fused.can_fire(x)
        y = IeLif(levels, gain=gain)(x)
    want = _Fire.apply(x.float(), levels) * gain
    assert y.dtype == torch.bfloat16
    assert torch.equal(y.nan_to_num(77), want.bfloat16().nan_to_num(77))
    got, = torch.autograd.grad(y, x, grad)
    inside = (x > 0) & (x < 1)
    assert got.dtype == dtype
    assert torch.equal(got, torch.where(inside, gain * grad, 0).to(dtype))


@needs_numba
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("levels, gain", [(4, 1), (4, 4), (3, 1), (1, 1), (8, 8)])
def test_every_membrane_fires_half_to_even_as_in_float(dtype, levels, gain):
    """Ties go to the even level, and the gradient passes from 0 to the highest level."""
    x = every_bfloat16().to(dtype).requires_grad_()
    grad = torch.linspace(-3, 3, 1 << 16).bfloat16()
    with bf16():
        y = Sfa(levels, gain=gain)(x)
    want = _FireWhole.apply(x.float(), levels) * torch.tensor(gain / levels)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y.nan_to_num(77), want.bfloat16().nan_to_num(77))
    got, = torch.autograd.grad(y, x, grad)
    inside = (x >= 0) & (x <= levels)
    assert got.dtype == dtype
    assert torch.equal(got, torch.where(inside, gain * grad.float() / levels, 0).to(dtype))


def pictures(channels: int, seed: int = 0) -> Tensor:
    """(4, channels, 5, 7) in bfloat16, channels last, with means far from 0."""
    torch.manual_seed(seed)
    x = torch.randn(4, channels, 5, 7) * torch.rand(channels, 1, 1) + 3 * torch.randn(channels, 1,
                                                                                    1)
    return x.bfloat16().contiguous(memory_format=torch.channels_last).requires_grad_()


def norm_of(channels: int) -> BatchNorm:
    norm = BatchNorm(channels)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    nn.init.normal_(norm.running_mean)
    return norm


@needs_numba
@pytest.mark.parametrize("channels", [3, 32, 60])
@pytest.mark.parametrize("levels, half_even", [(0, False), (3, False), (4, False), (4, True),
                                               (3, True)])
def test_a_batch_norm_equals_torchs_in_float64(channels, levels, half_even):
    x, own = pictures(channels), norm_of(channels)
    other = nn.BatchNorm2d(channels).double()
    other.load_state_dict(own.state_dict())
    with bf16():
        assert fused.can_normalise(own, x)
        y = fire((Sfa if half_even else IeLif)(levels), own, x) if levels else own(x)
    exact = x.detach().double().requires_grad_()
    membrane = other(exact)
    want = (membrane if not levels else _FireWhole.apply(membrane, levels) / levels if half_even
            else _Fire.apply(membrane, levels))
    # No membrane may be so near a threshold that float32 cannot tell on which side.
    scale = 1 if half_even else levels
    far = ((scale * membrane + 0.5) % 1 - 0.5).abs().min() > 1e-5 if levels else True
    assert far
    torch.testing.assert_close(y.double(), want.bfloat16().double() if levels else want, rtol=EPS,
                               atol=0 if levels else 1e-5)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(getattr(own, name), getattr(other, name).to(
            getattr(own, name).dtype), rtol=1e-5, atol=1e-6)
    grad = torch.randn(x.shape).bfloat16()    # of another layout: as a caller may give it
    got = torch.autograd.grad(y, (x, own.weight, own.bias), grad)
    expected = torch.autograd.grad(want, (exact, other.weight, other.bias), grad.double())
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=EPS, atol=2e-5 * b.abs().max().item())


@needs_numba
@pytest.mark.parametrize("shape", [(5, 7, 3, 3), (6, 1, 7, 7), (60, 64, 1), (4, 9)])
@pytest.mark.parametrize("bits", [2, 4])
def test_weights_are_quantised_as_in_float(shape, bits):
    """Codes to the last; steps of both signs; gradients of LSQ."""
    torch.manual_seed(2)
    layer = LsqLayer(shape, bias=False, bits=bits)
    with torch.no_grad():
        layer.alpha.copy_(0.3 * torch.randn(shape[0]))
        layer.weight.copy_(torch.randn(shape))
        layer.weight[0] = layer.alpha[0] * torch.linspace(-9, 9, layer.weight[0].numel()).view(
            shape[1:])
    if len(shape) == 4:
        layer.to(memory_format=torch.channels_last)
    want = layer.quantised_weight()
    with bf16():
        assert fused.can_quantise(layer.weight, layer.alpha)
        got = layer.quantised_weight()
    assert torch.equal(got, want.bfloat16())
    grad = torch.randn(shape).bfloat16()
    inputs = layer.weight, layer.alpha
    for a, b in zip(torch.autograd.grad(got, inputs, grad),
                    torch.autograd.grad(want, inputs, grad.float()), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@needs_numba
@pytest.mark.parametrize("height, width, channels", [(6, 4, 5), (7, 7, 32), (1, 3, 2)])
def test_depthwise_gradients_equal_torchs(height, width, channels):
    torch.manual_seed(0)
    layer = LsqConv2d(channels, channels, 7, padding=3, groups=channels, bits=32)
    shape = (3, channels, height, width)
    x = torch.randint(-4, 5, shape).bfloat16().contiguous(
        memory_format=torch.channels_last).requires_grad_()
    with torch.no_grad():
        layer.weight.copy_(torch.randint(-8, 8, layer.weight.shape))
    grad = torch.randint(-2, 3, shape).bfloat16()
    with bf16():
        assert fused.can_convolve(x)
        y = layer(x)
    got = torch.autograd.grad(y, (x, layer.weight), grad)
    exact = F.conv2d(x.float(), layer.weight, padding=3, groups=channels)
    want = torch.autograd.grad(exact, (x, layer.weight), grad.float())
    torch.testing.assert_close(y.float(), exact, rtol=EPS, atol=0)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a.float(), b.float(), rtol=EPS, atol=0)


@needs_numba
def test_what_is_not_finite_reaches_the_loss():
    x = pictures(3)
    with torch.no_grad():
        x[0, 1, 2, 3] = float("nan")
    with bf16():
        y = fire(IeLif(4), norm_of(3), x)
    assert y[:, 1].isnan().all()
    assert y[:, [0, 2]].isfinite().all()


@needs_numba
def test_it_is_for_training_in_bfloat16_on_one_thread(monkeypatch):
    x, norm = pictures(3), norm_of(3)
    assert not fused.can_normalise(norm, x)    # no autocast
    with bf16():
        assert fused.can_normalise(norm, x)
        assert not fused.can_normalise(norm, x.float())
        assert not fused.can_normalise(norm, x.contiguous())
        assert not fused.can_fire(x[:, :2])
        assert not fused.can_normalise(norm.eval(), x)
        norm.train()
        with torch.no_grad():
            assert not fused.can_normalise(norm, x)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
        assert not fused.can_normalise(norm, x)
        monkeypatch.undo()
        norm.forward = lambda x: x    # of several processes
        assert not fused.can_normalise(norm, x)


@needs_numba
def test_a_step_is_as_near_to_float32_as_torchs(monkeypatch):
    """Logits and gradients, and without numba the network is torch's."""
    torch.manual_seed(1)
    model = QsdTransformer(TINY).to(memory_format=torch.channels_last)
    x = torch.randn(64, 1, 16, 16)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    found = []
    for kernels, low in ((None, False), (fused._kernels(), True), (None, True)):
        monkeypatch.setattr(fused, "_kernels", lambda kernels=kernels: kernels)
        model.load_state_dict(state)
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            logits = model(x)
        logits.float().square().sum().backward()
        found.append((logits.float(), torch.cat([p.grad.flatten() for p in model.parameters()])))
    exact, ours, theirs = found
    for own, other, want in zip(ours, theirs, exact, strict=True):
        assert not torch.equal(own, other)
        assert (own - want).norm() < 1.25 * (other - want).norm()
