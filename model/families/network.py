"""The Quantized Spike-driven Transformer in PyTorch, with the published state-dict names.

Qiu et al., ICLR 2025; https://github.com/bollossom/QSD-Transformer, ``Spiking_vit_MetaFormer``.
Other neurons, the softmax attention of an ANN, and MPRF can take the places of the published parts.
The unused ``*.act.*`` entries of a published checkpoint have no counterpart here. What networks of
other families share with it is here too: `SpikingTransformer`, `SpikeAttention` and some blocks.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
import math
from typing import Any

import torch
from torch import nn, Tensor
from torch.nn import functional as F

from model.families import fused
from model.families.base import NetworkSpec
from model.families.dense import source_of
from model.families.dense_network import add_heads, heads_forward
from model.families.lsq import LsqConv1d, LsqConv2d, LsqLinear
from model.families.neuron import IeLif, make_neuron, Neuron, Sfa
from model.families.qsdt import QsdtSpec
from model.families.taps import taps


ATTENTION_SCALE, LIF_ATTENTION_SCALE = 0.25, 0.125
"""Factor on Q(K^T V), a constant in the published code whatever the head size; with binary spikes
that of the Spike-driven Transformer V2."""


class BatchNorm(nn.BatchNorm2d):
    """torch's, of (B, C, H, W); in one pass each way where `fused` can."""

    def forward(self, x: Tensor) -> Tensor:
        return fused.normalise(self, x) if fused.can_normalise(self, x) else super().forward(x)


def fire(neuron: nn.Module, norm: nn.Module, x: Tensor) -> Tensor:
    """What `neuron` makes of the batch norm of `x`, both (B, C, H, W)."""
    if (
        isinstance(neuron, IeLif | Sfa) and neuron.gain == 1 and isinstance(norm, BatchNorm)
        and (isinstance(neuron, IeLif) or neuron.half_even) and fused.can_normalise(norm, x)
    ):
        return fused.normalise(norm, x, neuron.levels, half_even=isinstance(neuron, Sfa))
    return neuron(norm(x))


class Downsample(nn.Module):
    """[IE-LIF ->] convolution -> BN: (B, cin, H, W) -> the next stage's membrane."""

    def __init__(
        self, cin: int, cout: int, *, kernel: int, stride: int, first: bool, spec: NetworkSpec
    ) -> None:
        super().__init__()
        self.encode_lif = None if first else make_neuron(spec)
        self.encode_conv = LsqConv2d(
            cin,
            cout,
            kernel,
            stride=stride,
            padding=kernel // 2,
            bias=True,
            bits=spec.weight_bits,
        )
        self.encode_bn = BatchNorm(cout)

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.encode_lif is None else self.encode_lif(x)
        x = self.encode_conv(x)
        # Of one input channel torch cannot tell the layout: all that follows would be slower.
        return self.encode_bn(x.contiguous(memory_format=torch.channels_last))


class SepConv(nn.Module):
    """SN -> 1x1 -> BN -> SN -> depthwise 7x7 -> 1x1 -> BN, shape (B, C, H, W) kept.

    The last 1x1 sees the real output of the depthwise convolution, not spikes.
    """

    def __init__(self, channels: int, *, spec: QsdtSpec) -> None:
        super().__init__()
        hidden, bits = channels * spec.sep_expansion, spec.weight_bits
        self.lif1 = make_neuron(spec)
        self.pwconv1 = LsqConv2d(channels, hidden, 1, bits=bits)
        self.bn1 = BatchNorm(hidden)
        self.lif2 = make_neuron(spec)
        self.dwconv = LsqConv2d(hidden, hidden, 7, padding=3, groups=hidden, bits=bits)
        self.pwconv2 = LsqConv2d(hidden, channels, 1, bits=bits)
        self.bn2 = BatchNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = fire(self.lif2, self.bn1, self.pwconv1(self.lif1(x)))
        return self.bn2(self.pwconv2(self.dwconv(x)))


class ConvBlock(nn.Module):
    """Two residual steps on the membrane (B, C, H, W): `sep_conv`, then 3x3 -> SN -> 3x3."""

    def __init__(
        self, channels: int, *, expansion: int, spec: NetworkSpec, sep_conv: nn.Module
    ) -> None:
        super().__init__()
        hidden, bits = channels * expansion, spec.weight_bits
        self.Conv = sep_conv
        self.lif1 = make_neuron(spec)
        self.conv1 = LsqConv2d(channels, hidden, 3, padding=1, bits=bits)
        self.bn1 = BatchNorm(hidden)
        self.lif2 = make_neuron(spec)
        self.conv2 = LsqConv2d(hidden, channels, 3, padding=1, bits=bits)
        self.bn2 = BatchNorm(channels)

    def forward(self, u: Tensor) -> Tensor:
        u = u + self.Conv(u)
        s = fire(self.lif2, self.bn1, self.conv1(self.lif1(u)))
        return u + self.bn2(self.conv2(s))


class BnAndPad(nn.Module):
    """BN, then a border of one pixel that holds the BN image of 0: (B, C, H, W) -> +2 each way.

    The border comes from the running statistics, in training too, and carries no gradient.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = BatchNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        x, bn = self.bn(x), self.bn
        mean, var = self.statistics()
        border = bn.bias - mean * bn.weight / torch.sqrt(var + bn.eps)
        border = border.detach().view(1, -1, 1, 1)
        return F.pad(x - border, (1, 1, 1, 1)) + border

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Running mean and variance of the batch norm; it always keeps both."""
        mean, var = self.bn.running_mean, self.bn.running_var
        if mean is None or var is None:
            raise ValueError("the batch norm must track its running statistics")
        return mean, var


class RepConv(nn.Module):
    """1x1 -> BN with border -> depthwise 3x3 -> 1x1 -> BN, all linear, (B, C, H, W) kept."""

    def __init__(self, channels: int, *, bits: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            LsqConv2d(channels, channels, 1, bits=bits),
            BnAndPad(channels),
            nn.Sequential(
                LsqConv2d(channels, channels, 3, groups=channels, bits=bits),
                LsqConv2d(channels, channels, 1, bits=bits),
                BatchNorm(channels),
            ),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class Mprf(BatchNorm):
    """Membrane potential rectification (Eq. 12): gamma*(U - mu)/sqrt(sigma^2 + eps) + alpha.

    Per channel of (B, C, H, W); statistics of the batch in training and running ones otherwise, so
    an export folds it into the affine map before the neuron (Eq. 26). ``weight`` is gamma,
    ``bias`` alpha.
    """

    @torch.no_grad()
    def start_after(self, norm: nn.BatchNorm2d) -> None:
        """Leave unchanged what batch norm `norm` hands on: its moments are bias and weight^2."""
        self.weight.copy_(norm.weight.abs().clamp(min=math.sqrt(2 * self.eps)))
        self.bias.copy_(norm.bias)
        if self.running_mean is not None and self.running_var is not None:
            self.running_mean.copy_(norm.bias)
            self.running_var.copy_(self.weight.square() - self.eps)


class SpikeAttention(nn.Module):
    """Attention on membranes (B, C, H, W): proj(SN_att(scale * Q (K^T V))), no softmax.

    Head h owns channels h*d .. h*d+d-1; K^T V sums over all H*W tokens. While `record` is a list,
    every pass appends its (q, k, v), each (B, heads, tokens, d), where v may have another d.
    Families have a scale and layers q_conv, k_conv, v_conv and proj_conv of their own, each a
    sequence that ends with a batch norm.
    """

    q_conv: nn.Module
    k_conv: nn.Module
    v_conv: nn.Module
    proj_conv: nn.Module

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec, self.heads = spec, spec.heads
        self.record: list[tuple[Tensor, Tensor, Tensor]] | None = None
        self.head_lif = make_neuron(spec)
        self.attn_lif = make_neuron(spec, attention=True)

    def forward(self, u: Tensor) -> Tensor:
        q, k, v = self.operands(u)
        with torch.autocast(u.device.type, enabled=False):    # sums in bfloat16 are not exact
            x = self.product(q, k, v)
        batch, _, height, width = u.shape
        x = x.transpose(1, 2).reshape(batch, height, width, -1).permute(0, 3, 1, 2)
        return self.proj_conv(self.attn_lif(x))

    def operands(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v of membrane u (B, C, H, W), each (B, heads, tokens, d)."""
        s = self.head_lif(u)
        q, k, v = (self._split(self.operand(x, s)) for x in "qkv")
        if self.record is not None:
            self.record.append((q, k, v))
        return q, k, v

    def norm(self, name: str) -> nn.BatchNorm2d:
        """The batch norm in front of the neuron of q, k or v."""
        norm = self.get_submodule(f"{name}_conv.1")
        if not isinstance(norm, nn.BatchNorm2d):
            raise TypeError(f"{name} must end with a batch norm, not {norm}")
        return norm

    def operand(self, name: str, s: Tensor) -> Tensor:
        """q, k or v, (B, C, H, W), of the neuron's output (B, C, H, W) at the block's entry."""
        *layers, norm = self.get_submodule(f"{name}_conv").children()
        for layer in layers:
            s = layer(s)
        return fire(self.get_submodule(f"{name}_lif"), norm, s)

    def product(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Membrane of the attention's neuron, (B, heads, tokens, d), of three such tensors."""
        levels = self.spec.levels
        if levels & (levels - 1):
            # The values are no binary fractions: in whole levels, so that a tie stays a tie.
            q, k, v = (whole(x * levels) for x in (q, k, v))
            return self.membrane(q @ (k.transpose(-2, -1) @ v), levels)
        return self.membrane(q @ (k.transpose(-2, -1) @ v))

    def membrane(self, products: Tensor, steps: int = 1) -> Tensor:
        """Membrane of Q (K^T V), (B, heads, tokens, d), of values that are whole numbers over
        `steps`; a tie stays one."""
        raise NotImplementedError

    def relative(self, products: Tensor) -> tuple[Tensor, int]:
        """Numerator and denominator of `products` times N0/N; themselves and 1 without N0."""
        if not self.spec.attention_tokens:
            return products, 1
        return products * self.spec.attention_tokens, products.shape[-2]

    def _split(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, heads, tokens, d); float32, where both products are exact."""
        batch, channels, height, width = x.shape
        x = x.permute(0, 2, 3, 1).reshape(batch, height * width, self.heads, -1)
        return x.float().transpose(1, 2) if x.dtype == torch.bfloat16 else x.transpose(1, 2)


class Attention(SpikeAttention):
    """Q-SDSA (Eq. 6): RepConv_proj(SN_att(0.25 * Q (K^T V))).

    In the ANN twin q, k and v are real and softmax(Q K^T / sqrt(d)) V (Eq. 27), or the mean of
    K^T V over the tokens, takes the place of the sum.
    """

    def __init__(self, channels: int, *, spec: QsdtSpec) -> None:
        super().__init__(spec)
        self.spec: QsdtSpec = spec
        self.q_conv, self.k_conv, self.v_conv, self.proj_conv = (
            nn.Sequential(
                RepConv(channels, bits=spec.weight_bits),
                *([] if replaced else [BatchNorm(channels)]),
            )
            for replaced in (*[spec.mprf == "replace"] * 3, False)
        )
        for x in "qkv":
            if spec.mprf != "none":
                self.add_module(f"{x}_mprf", Mprf(channels))
            if spec.attention == "sdsa":
                self.add_module(f"{x}_lif", make_neuron(spec))

    def norm(self, name: str) -> nn.BatchNorm2d:
        mprf = f"{name}_mprf"
        return getattr(self, mprf) if hasattr(self, mprf) else super().norm(name)

    def operand(self, name: str, s: Tensor) -> Tensor:
        layers = list(self.get_submodule(f"{name}_conv").children())
        if self.spec.mprf != "none":
            layers.append(self.get_submodule(f"{name}_mprf"))
        for layer in layers[:-1]:
            s = layer(s)
        if self.spec.attention != "sdsa":
            return layers[-1](s)
        return fire(self.get_submodule(f"{name}_lif"), layers[-1], s)

    def product(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self.spec.attention == "softmax":
            return F.scaled_dot_product_attention(q, k, v)
        if self.spec.neuron == "relu":
            return q @ (k.transpose(-2, -1) @ v) / q.shape[2]
        if self.spec.neuron == "lif":
            return q @ (k.transpose(-2, -1) @ v) * LIF_ATTENTION_SCALE
        return super().product(q, k, v)

    def membrane(self, products: Tensor, steps: int = 1) -> Tensor:
        products, tokens = self.relative(products)
        if steps == 1:
            products = products * ATTENTION_SCALE
            return products if tokens == 1 else products / tokens
        return products / (steps**2 / ATTENTION_SCALE * tokens) / steps


class Mlp(nn.Module):
    """SN -> fc1 -> BN -> SN -> fc2 -> BN on every token of (B, C, H, W)."""

    def __init__(self, channels: int, *, spec: NetworkSpec) -> None:
        super().__init__()
        hidden = channels * spec.mlp_ratio
        self.fc1_lif = make_neuron(spec)
        self.fc1_conv = LsqConv1d(channels, hidden, bits=spec.weight_bits)
        self.fc1_bn = BatchNorm(hidden)  # keys and result of BatchNorm1d over tokens
        self.fc2_lif = make_neuron(spec)
        self.fc2_conv = LsqConv1d(hidden, channels, bits=spec.weight_bits)
        self.fc2_bn = BatchNorm(channels)

    def forward(self, u: Tensor) -> Tensor:
        s = fire(self.fc2_lif, self.fc1_bn, self.fc1_conv(self.fc1_lif(u)))
        return self.fc2_bn(self.fc2_conv(s))


class TransformerBlock(nn.Module):
    """Two residual steps on the membrane (B, C, H, W): attention, then MLP, each scaled."""

    def __init__(self, channels: int, *, spec: QsdtSpec) -> None:
        super().__init__()
        self.attn = Attention(channels, spec=spec)
        self.mlp = Mlp(channels, spec=spec)
        self.layer_scale1 = nn.Parameter(torch.full((channels,), spec.layer_scale_init))
        self.layer_scale2 = nn.Parameter(torch.full((channels,), spec.layer_scale_init))

    def forward(self, u: Tensor) -> Tensor:
        u = u + self.layer_scale1.view(-1, 1, 1) * self.attn(u)
        return u + self.layer_scale2.view(-1, 1, 1) * self.mlp(u)


class SpikingTransformer(nn.Module):
    """The whole network of `spec`: images (B, in_channels, H, W) -> logits (B, classes).

    With T time steps an image is repeated, or T are given as (T, B, in_channels, H, W); the logits
    are the mean over time. H and W need not be the spec's image_size; any multiple of its reduction
    works. An image is image_q over the spec's image_scale (48), with image_q from
    `model.data.dataset.to_image_q`. Works in float32 and float64. Families give its blocks.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        channels = spec.in_channels
        for stage, dim in enumerate(spec.dims):
            module = Downsample(
                channels,
                dim,
                kernel=spec.stem_kernel if stage == 0 else 3,
                stride=spec.strides[stage],
                first=stage == 0,
                spec=spec,
            )
            self.add_module(f"downsample{spec.stages[stage]}", module)
            channels = dim
        for name, stage in spec.conv_blocks:
            self._append(name, self.conv_block(stage))
        for name, stage in spec.transformer_blocks:
            self._append(name, self.transformer_block(spec.dims[stage]))
        if spec.dense_heads is not None:
            add_heads(self, spec, BatchNorm)
            return
        self.lif = make_neuron(spec, head=True) if spec.head_fires else nn.Identity()
        self.head = LsqLinear(spec.dims[-1], spec.classes, bits=spec.weight_bits)

    def conv_block(self, stage: int) -> nn.Module:
        """A block of one of the first three stages, (B, C, H, W) kept."""
        channels = self.spec.dims[stage]
        return ConvBlock(channels, expansion=self.spec.conv_expansion[stage], spec=self.spec,
                         sep_conv=self.sep_conv(channels))

    def sep_conv(self, channels: int) -> nn.Module:
        """The first half of a convolution block."""
        raise NotImplementedError

    def transformer_block(self, channels: int) -> nn.Module:
        """A block of a later stage, (B, C, H, W) kept; its attention is called ``attn``."""
        raise NotImplementedError

    def _append(self, name: str, block: nn.Module) -> None:
        group = name.partition(".")[0]
        if not hasattr(self, group):
            self.add_module(group, nn.ModuleList())
        getattr(self, group).append(block)

    def forward(self, x: Tensor) -> Any:
        """Logits (B, classes), or of a network with `dense_heads` a dictionary of its outputs
        (B, O, H/s, W/s) by name, such as "cls8", "reg8" and "seg"."""
        if self.spec.dense_heads is not None:
            return self.dense(x)
        steps, x = self.spec.time_steps, self.membrane(x)
        # Same as x.mean((2, 3)), whose gradient would fall out of the channels-last layout.
        x = F.avg_pool2d(x, x.shape[2:]).flatten(1)
        logits = self.head(self.lif(x))
        return logits if steps == 1 else logits.unflatten(0, (steps, -1)).mean(0)

    def dense(self, x: Tensor) -> dict[str, Tensor]:
        """The outputs of the heads."""
        heads = self.spec.dense_heads
        if heads is None:
            raise ValueError("the network has no heads for dense prediction")
        wanted = {tap.name: source_of(self.spec, tap.stage) for tap in taps(self.spec, heads.taps)}
        fired = {wanted[name]: self.get_submodule(wanted[name])(u)
                 for name, u in self.membranes(x) if name in wanted}
        return heads_forward(self, self.spec, fired, fire)

    def membrane(self, x: Tensor) -> Tensor:
        """The last stage's membrane, (T*B, C, h, w), of what `forward` takes."""
        return deque(self.membranes(x), maxlen=1).pop()[1]

    def membranes(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Name of every downsampling and block, in order, with the membrane (T*B, C, h, w) behind
        it, of what `forward` takes."""
        blocks = (*self.spec.conv_blocks, *self.spec.transformer_blocks)
        steps = self.spec.time_steps
        if x.ndim == 5:
            if len(x) != steps:
                raise ValueError(f"images must have {steps} time steps, not {len(x)}")
            x = x.flatten(0, 1)
        elif steps > 1:
            x = x.repeat(steps, 1, 1, 1)
        for stage, suffix in enumerate(self.spec.stages):
            names = [name for name, owner in blocks if owner == stage]
            for name in (f"downsample{suffix}", *names):
                x = self.get_submodule(name)(x)
                yield name, x


class QsdTransformer(SpikingTransformer):
    """A QSD-Transformer, see `SpikingTransformer`."""

    spec: QsdtSpec

    def sep_conv(self, channels: int) -> nn.Module:
        return SepConv(channels, spec=self.spec)

    def transformer_block(self, channels: int) -> nn.Module:
        return TransformerBlock(channels, spec=self.spec)


def whole(x: Tensor) -> Tensor:
    """`x` rounded to whole numbers, with the gradient of x."""
    return x + (x.round() - x).detach()


@contextmanager
def capture_levels(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Record the levels of every spiking neuron in forward passes made inside the ``with`` block.

    The dictionary maps the published module name, in execution order, to a uint8 tensor of the
    last pass: (T*B, C, H, W), for the final ``lif`` (T*B, C).
    """
    levels: dict[str, Tensor] = {}

    def hook(name: str):
        def record(module: Neuron, args: tuple[Tensor, ...], output: Tensor) -> None:
            levels[name] = module.level(args[0].detach())

        return record

    handles = [
        module.register_forward_hook(hook(name))
        for name, module in model.named_modules()
        if isinstance(module, Neuron)
    ]
    try:
        yield levels
    finally:
        for handle in handles:
            handle.remove()
