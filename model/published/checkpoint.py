"""Checkpoints of the published detector and segmenter, as mmdetection and mmsegmentation save them.

Files are read as `model.training.checkpoint` reads them: nothing in them is executed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
import os
from pathlib import Path
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
import torch
from torch import nn

from model.families.base import NetworkSpec
from model.published.mask_rcnn import CORRECT, Defects, MaskRcnn
from model.published.semantic_fpn import SemanticFpn
from model.training.checkpoint import (
    check_shapes,
    CheckpointError,
    copy_of,
    inferred,
    state_of,
    stem,
    tensors,
    unpickle,
)


__all__ = ["DETECTOR", "SEGMENTER", "Published", "is_published", "load_detector",
           "load_segmenter", "published_key", "read", "segmenter_of"]


DETECTOR, SEGMENTER = "detector", "segmenter"

_MARKS = {
    DETECTOR: re.compile(r"^(rpn_head|roi_head)\.|^neck\.\w+_convs\.\d+\.1\.0\.conv\."),
    SEGMENTER: re.compile(r"^decode_head\.|^neck\.\w+_convs\.\d+\.[01]\.\w+$"),
}
"""Keys that only one of the two has."""

_WRAPPERS = ("module.", "_orig_mod.")
_BACKBONE = "backbone."
_HEADS = 8    # of every published network

_NAMES = [
    # Ours, and as published. Containers count the neuron as 0 and what it feeds as 1.
    (r"backbone\.network\.(.*)", r"backbone.\1"),
    (r"neck\.(\w+)\.(\d+)\.layer\.([01])\.(\w+)", r"neck.\1.\2.\3.\4"),
    (r"neck\.(\w+)\.(\d+)\.layer\.(\w+)", r"neck.\1.\2.1.0.conv.\3"),
    (r"rpn_head\.(\w+)\.layer\.(\w+)", r"rpn_head.\1.1.0.\2"),
    (r"box_head\.shared_fcs\.(\d+)\.layer\.(\w+)", r"roi_head.bbox_head.shared_fcs.\1.1.0.\2"),
    (r"box_head\.(fc_\w+\.\w+)", r"roi_head.bbox_head.\1"),
    (r"mask_head\.convs\.(\d+)\.layer\.(\w+)", r"roi_head.mask_head.convs.\1.1.0.conv.\2"),
    (r"mask_head\.(\w+)\.layer\.(\w+)", r"roi_head.mask_head.\1.1.0.\2"),
    (r"head\.out\.layer\.(\w+)", r"decode_head.conv_seg.\1"),
]
_UNIT = re.compile(r"head\.scale_heads\.(\d+)\.(\d+)\.layer\.([01])\.(\w+)")


@dataclass(frozen=True, eq=False)
class Published:
    """What a file holds: "detector" or "segmenter"; the spec of its backbone, with one class, since
    there is no head for classes of images; sizes of its heads, as `MaskRcnn` or `SemanticFpn` take
    them; the state dict of one of these."""

    kind: str
    spec: NetworkSpec
    sizes: dict[str, int]
    state: dict[str, NDArray]

    @property
    def backbone(self) -> dict[str, NDArray]:
        """State dict of the network of `spec`, without a head."""
        start = "backbone.network."
        return {key.removeprefix(start): value for key, value in self.state.items()
                if key.startswith(start)}


def load_detector(path: str | os.PathLike, *, heads: int | None = None,
                  defects: Defects = CORRECT) -> MaskRcnn:
    """The published detector of a file, in evaluation mode; arguments and errors as of `read`."""
    found = _of_kind(path, DETECTOR, heads)
    network = MaskRcnn(found.spec, **found.sizes, defects=defects)
    network.load_state_dict(tensors(found.state), strict=False)    # batch counters may lack
    return network.eval()


def load_segmenter(path: str | os.PathLike, *, heads: int | None = None) -> SemanticFpn:
    """The published segmenter of a file, in evaluation mode; arguments and errors as of `read`."""
    return segmenter_of(_of_kind(path, SEGMENTER, heads))


def segmenter_of(found: Published, *, upsampling: str = "bilinear") -> SemanticFpn:
    """The segmenter of what `read` returned, in evaluation mode; `upsampling` as of `QfpnHead`."""
    network = SemanticFpn(found.spec, width=found.sizes["width"], classes=found.sizes["classes"],
                          upsampling=upsampling)
    network.load_state_dict(tensors(found.state), strict=False)
    return network.eval()


def is_published(path: str | os.PathLike) -> bool:
    """Whether a checkpoint has keys of a head of the published detector or segmenter, or of a
    backbone alone, so that `read` is for it. Raises as `read`, if the file is unsafe or damaged."""
    path = Path(path)
    try:
        content = unpickle(path)
        if not isinstance(content, Mapping) or isinstance(content.get("spec"), Mapping):
            return False
        _, copy = copy_of(content, path, averaged=False)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None
    keys = [_plain(str(key)) for key in copy]
    alone = bool(keys) and all(key.startswith(_BACKBONE) and not key.startswith(f"{_BACKBONE}head.")
                               for key in keys)
    return alone or any(mark.search(key) for mark in _MARKS.values() for key in keys)


def read(path: str | os.PathLike, *, heads: int | None = None) -> Published:
    """Read a checkpoint of the published detector or segmenter.

    Args:
        path: A file with one of `model.families.layout.CHECKPOINT_SUFFIXES`.
        heads: Attention heads of the backbone, which no key tells; 8, as published, if not given.

    Raises:
        CheckpointError: In one line, if the file is unsafe or damaged, if it holds neither network
            or keys of both, or if a key is missing, of a wrong shape, or not expected.
        OSError: If it cannot be read.
    """
    path = Path(path)
    try:
        _, content = copy_of(unpickle(path), path, averaged=False)
        return _read({_plain(str(key)): value for key, value in content.items()}, stem(path),
                     _HEADS if heads is None else heads)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None


def published_key(key: str) -> str:
    """The published name of a key of `MaskRcnn` or `SemanticFpn`."""
    if unit := _UNIT.fullmatch(key):
        branch, place, layer, name = unit.groups()
        # Between units stands an upsampling, and in a unit the neuron comes first.
        return f"decode_head.scale_heads.{branch}.{2 * int(place)}.{int(layer) + 1}.{name}"
    for ours, theirs in _NAMES:
        if match := re.fullmatch(ours, key):
            return match.expand(theirs)
    raise ValueError(f"{key}: no key of a published network")


def _read(content: Mapping[str, Any], name: str, heads: int) -> Published:
    kind = _kind(content)
    bare = {key.removeprefix(_BACKBONE): value for key, value in content.items()
            if key.startswith(_BACKBONE)}
    if not bare:
        raise ValueError("has no key of a backbone; save the whole network")
    backbone = state_of(bare)
    for key in backbone:
        if key.startswith(("head.", "neck.", "decode_head.")):
            raise ValueError(f"{_BACKBONE}{key}: not expected")
    spec = _spec(backbone, name, heads)
    state = {f"{_BACKBONE}{key}": value for key, value in backbone.items()}
    state |= state_of({key: value for key, value in content.items()
                       if not key.startswith(_BACKBONE)})
    network, sizes = _skeleton(kind, spec, state)
    wanted = network.state_dict()
    ours = {published_key(key): key for key in wanted}
    check_shapes(state, {theirs: tuple(wanted[key].shape) for theirs, key in ours.items()})
    return Published(kind, spec, sizes, {ours[key]: value for key, value in state.items()})


def _kind(keys: Mapping[str, Any]) -> str:
    found = {kind: next(filter(mark.search, keys), None) for kind, mark in _MARKS.items()}
    there = {kind: key for kind, key in found.items() if key is not None}
    if len(there) > 1:
        said = " and ".join(f"{key} of a {kind}" for kind, key in there.items())
        raise ValueError(f"mixes keys of two networks, {said}: save one of them alone")
    if not there:
        first = f"its first key is {next(iter(keys))}" if keys else "it holds no weights"
        raise ValueError(f"has no head of the published detector or segmenter ({first}); "
                         "qsdt convert takes segmenters and networks that classify")
    return next(iter(there))


def _spec(backbone: Mapping[str, NDArray], name: str, heads: int) -> NetworkSpec:
    last = backbone.get("downsample4.encode_conv.weight")
    if last is None or last.ndim != 4:
        raise ValueError(f"{_BACKBONE}downsample4.encode_conv.weight: missing, or of a wrong shape")
    # What reads specs off classifiers wants to know how many classes there are.
    head = np.zeros((1, len(last)), np.float32)
    try:
        return inferred({**backbone, "head.weight": head}, name, {"heads": heads})
    except ValueError as error:
        raise ValueError(str(error).replace("have the key ", f"have the key {_BACKBONE}")) from None


def _skeleton(kind: str, spec: NetworkSpec, state: Mapping[str, NDArray]
              ) -> tuple[nn.Module, dict[str, int]]:
    """The network without memory, and its sizes."""

    def rows(key: str) -> int:
        if key not in state:
            raise ValueError(f"{key}: missing")
        return len(state[key]) if state[key].ndim else 0

    with torch.device("meta"):
        if kind == DETECTOR:
            box = "roi_head.bbox_head."
            sizes = {"width": rows("neck.lateral_convs.0.1.0.conv.weight"),
                     "hidden": rows(f"{box}shared_fcs.0.1.0.weight"),
                     "classes": rows(f"{box}fc_cls.weight") - 1}
            _check_sizes(sizes)
            return MaskRcnn(spec, width=sizes["width"], hidden=sizes["hidden"],
                            classes=sizes["classes"]), sizes
        sizes = {"width": rows("neck.lateral_convs.0.0.weight"),
                 "classes": rows("decode_head.conv_seg.weight")}
        _check_sizes(sizes)
        return SemanticFpn(spec, width=sizes["width"], classes=sizes["classes"]), sizes


def _check_sizes(sizes: Mapping[str, int]) -> None:
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")


def _of_kind(path: str | os.PathLike, kind: str, heads: int | None) -> Published:
    found = read(path, heads=heads)
    if found.kind != kind:
        raise CheckpointError(f"{path}: is a {found.kind}, not a {kind}")
    return found


def _plain(key: str) -> str:
    while key.startswith(_WRAPPERS):
        key = key.partition(".")[2]
    return key
