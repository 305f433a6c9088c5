"""Family and spec of a network, read off the keys and shapes of its state dict; no torch here."""

from collections.abc import Iterable, Mapping
import re
from typing import Any, Protocol

from model.families.base import FLOAT_BITS, NetworkSpec
from model.families.qsdt import QsdtSpec
from model.families.sdt_v3 import SdtV3Spec
from model.families.sdt_v3_large import SdtV3LargeSpec


__all__ = ["family_of", "infer_spec"]


class _Shaped(Protocol):
    @property
    def shape(self) -> tuple[int, ...]: ...


_MARKS: dict[type[NetworkSpec], re.Pattern] = {
    QsdtSpec: re.compile(r"attn\.[qkv]_conv\.0\.body\.|\.Conv\.pwconv1\.weight$|\.layer_scale\d$"),
    SdtV3Spec: re.compile(r"\.[cC]onv\.pwconv1\.0\.|attn\.[qkv]_conv\.0\.weight$"),
    SdtV3LargeSpec: re.compile(r"attn\.[qkv]_conv\.0\.conv1\.|^ConvBlock\w+\.\d+\.conv1\.0\.0\."),
}
"""Keys that one family alone has, but for `_SHARED`."""

_SHARED = re.compile(r"\.layer_scale\d$|attn\.[qkv]_conv\.0\.weight$")
"""Those of them that a large SDT-v3 has, too, whose chains are merged."""

_COMMON = re.compile(r"^(downsample(1_[12]|[234])|ConvBlock\w+|block[34])\.")
"""Keys that networks of all families have."""

_OTHERS = {
    "detector on such a network": re.compile(r"^(rpn_head|roi_head|bbox_head)\."),
    "segmenter on such a network": re.compile(r"^decode_head\."),
    "spike masked autoencoder, which has no head yet": re.compile(r"^decoder_(blocks\.|embed\.)"),
    "Spike-driven Transformer V1, a Spikformer or a Spikingformer": re.compile(
        r"^patch_embed\.proj_|^block\.\d+\.attn\."),
}
"""Networks that are known by a key, but not supported."""


def family_of(keys: Iterable[str]) -> type[NetworkSpec]:
    """The family whose keys a state dict has; `QsdtSpec` where none can be told.

    Raises ValueError if it has those of two families, or of one that is not supported, or none of a
    network of these families.
    """
    keys = list(keys)
    found = {}
    large = any(map(_MARKS[SdtV3LargeSpec].search, keys))
    telling = [key for key in keys if not (large and _SHARED.search(key))]
    for family, mark in _MARKS.items():
        first = next(filter(mark.search, telling), None)
        if first is not None:
            found[family] = first
    if len(found) > 1:
        said = " and ".join(f"{key} of {family.title}" for family, key in found.items())
        raise ValueError(f"mixes keys of two families, {said}: save one network alone")
    known = ", ".join(family.title for family in _MARKS)
    for title, mark in _OTHERS.items():
        if any(map(mark.search, keys)):
            raise ValueError(f"has the keys of a {title}; supported are {known}: use a checkpoint "
                             "of one of these")
    if not found and not any(map(_COMMON.search, keys)):
        first = f"its first is {keys[0]}" if keys else "it holds no weights"
        raise ValueError(f"has no key of a network that is known here ({first}); supported are "
                         f"{known}, with their published names")
    return next(iter(found), QsdtSpec)


def infer_spec(
    state_dict: Mapping[str, _Shaped],
    *,
    heads: int = 8,
    name: str = "inferred",
    image_size: int = 224,
    strides: tuple[int, ...] | None = None,
    weight_bits: int | None = None,
    norm_mean: tuple[float, ...] | None = None,
    norm_std: tuple[float, ...] | None = None,
    **others: Any,
) -> NetworkSpec:
    """Read family, dims, depths, ratios and classes off a state dict with published keys.

    What shapes cannot tell is an argument; the defaults are the published ones, of fields that are
    not named here too. Normalisation defaults to ImageNet's for three channels, else to none,
    weight_bits to 4; without LSQ steps an SDT-v3 has 32 in any case. Of a large one the chains must
    be merged (`model.families.merge`). Raises ValueError if a key is missing.
    """
    family = family_of(state_dict)

    def shape(key: str) -> tuple[int, ...]:
        if key not in state_dict:
            raise ValueError(f"state dict must have the key {key}")
        return tuple(state_dict[key].shape)

    def count(pattern: str, first: int = 0) -> int:
        last = first
        while pattern.format(last) in state_dict:
            last += 1
        return last - first

    first_conv, conv = "ConvBlock1_1.0.Conv.pwconv1.weight", "conv1"
    if family is QsdtSpec and not any(key.endswith(".alpha") for key in state_dict):
        raise ValueError("has no learned steps (.alpha), so it may be a Spike-driven Transformer "
                         "V2, whose neurons are others; a QSD-Transformer's checkpoint has them")
    if family is QsdtSpec:
        rectified = "block3.0.attn.q_mprf.weight" in state_dict
        others["mprf"] = "none" if not rectified else (
            "add" if "block3.0.attn.q_conv.1.weight" in state_dict else "replace")
    elif not any(key.endswith(".alpha") for key in state_dict):
        weight_bits = FLOAT_BITS
    if family is SdtV3Spec:
        first_conv = "ConvBlock1_1.0.Conv.pwconv1.0.weight"
        rows = shape("block3.0.attn.v_conv.0.weight")[0]
        others["value_expansion"] = rows // shape("block3.0.attn.q_conv.0.weight")[0]
    stems = [shape(f"downsample{stage}.encode_conv.weight") for stage in family.stages]
    if family is SdtV3LargeSpec:
        conv = "conv1.0.0"
        others["rep_conv"] = "block3.0.rep_conv.0.weight" in state_dict
    else:
        others["sep_expansion"] = shape(first_conv)[0] // stems[0][0]
    convs = [f"ConvBlock{stage}.0.{conv}.weight" for stage in ("1_1", "1_2", "2_1")]
    dims, channels = tuple(stem[0] for stem in stems), stems[0][1]
    if channels != 3:
        norm_mean, norm_std = norm_mean or (0.0,) * channels, norm_std or (1.0,) * channels
    given = {"weight_bits": weight_bits, "norm_mean": norm_mean, "norm_std": norm_std,
             "strides": strides}
    others |= {key: value for key, value in given.items() if value is not None}
    return family(
        name=name,
        in_channels=channels,
        image_size=image_size,
        classes=shape("head.weight")[0],
        dims=dims,
        depths=(
            count(f"ConvBlock1_1.{{}}.{conv}.weight"),
            count(f"ConvBlock1_2.{{}}.{conv}.weight"),
            count(f"ConvBlock2_{{}}.0.{conv}.weight", first=1),
            *(count(f"block{stage}.{{}}.mlp.fc1_conv.weight") for stage in family.stages[3:]),
        ),
        stem_kernel=stems[0][2],
        conv_expansion=tuple(shape(convs[s])[0] // dims[s] for s in range(3)),
        mlp_ratio=shape("block3.0.mlp.fc1_conv.weight")[0] // dims[3],
        heads=heads,
        **others,
    )
