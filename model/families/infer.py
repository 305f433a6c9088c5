"""The spec of a network, read off the shapes of its state dict; no torch here."""

from collections.abc import Mapping
from typing import Protocol

from model.families.spec import QsdtSpec, STAGES
from model.families.spec import spec as known_spec


class _Shaped(Protocol):
    @property
    def shape(self) -> tuple[int, ...]: ...


def infer_spec(
    state_dict: Mapping[str, _Shaped],
    *,
    heads: int = 8,
    name: str = "inferred",
    image_size: int = 224,
    strides: tuple[int, ...] = (2, 2, 2, 2, 1),
    weight_bits: int = 4,
    norm_mean: tuple[float, ...] | None = None,
    norm_std: tuple[float, ...] | None = None,
) -> QsdtSpec:
    """Read dims, depths, ratios, classes and MPRF off a state dict with published keys.

    What shapes cannot tell is an argument; the defaults are the published ones. Normalisation
    defaults to ImageNet's for three channels, else to none. Raises ValueError if a key is missing.
    """

    def shape(key: str) -> tuple[int, ...]:
        if key not in state_dict:
            raise ValueError(f"state dict must have the key {key}")
        return tuple(state_dict[key].shape)

    def count(pattern: str, first: int = 0) -> int:
        last = first
        while pattern.format(last) in state_dict:
            last += 1
        return last - first

    rectified = "block3.0.attn.q_mprf.weight" in state_dict
    mprf = "none" if not rectified else (
        "add" if "block3.0.attn.q_conv.1.weight" in state_dict else "replace")
    stems = [shape(f"downsample{stage}.encode_conv.weight") for stage in STAGES]
    convs = [f"ConvBlock{stage}.0" for stage in ("1_1", "1_2", "2_1")]
    dims, channels = tuple(stem[0] for stem in stems), stems[0][1]
    if norm_mean is None:
        norm_mean = known_spec("qsdt_t").norm_mean if channels == 3 else (0.0,) * channels
    if norm_std is None:
        norm_std = known_spec("qsdt_t").norm_std if channels == 3 else (1.0,) * channels
    return QsdtSpec(
        name=name,
        in_channels=channels,
        image_size=image_size,
        classes=shape("head.weight")[0],
        dims=dims,
        strides=strides,
        depths=(
            count("ConvBlock1_1.{}.conv1.weight"),
            count("ConvBlock1_2.{}.conv1.weight"),
            count("ConvBlock2_{}.0.conv1.weight", first=1),
            count("block3.{}.layer_scale1"),
            count("block4.{}.layer_scale1"),
        ),
        stem_kernel=stems[0][2],
        sep_expansion=shape(f"{convs[0]}.Conv.pwconv1.weight")[0] // dims[0],
        conv_expansion=tuple(shape(f"{convs[s]}.conv1.weight")[0] // dims[s] for s in range(3)),
        mlp_ratio=shape("block3.0.mlp.fc1_conv.weight")[0] // dims[3],
        heads=heads,
        weight_bits=weight_bits,
        mprf=mprf,
        norm_mean=norm_mean,
        norm_std=norm_std,
    )
