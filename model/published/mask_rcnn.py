"""The published detector as a whole: images to boxes and masks, in float.

Where it goes wrong is a switch, off unless asked for (`Defects`); everything else is as in
`model.published.detector` and `model.decode.regions`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
import torch
from torch import nn, Tensor

from model.data.objects import Found
from model.decode.anchors import anchors
from model.decode.elementary import sigmoid
from model.decode.pixels import paste
from model.decode.regions import AnchorMap, detections, proposals
from model.decode.roi_align import roi_align
from model.families.backbone import Backbone
from model.families.base import NetworkSpec
from model.families.taps import DETECTION
from model.published.detector import BOX_SIDE, BoxHead, MASK_SIDE, MaskHead, SpikeFpn, SpikeRpn


__all__ = ["ANCHOR_SCALE", "CORRECT", "Defects", "MaskRcnn", "map_strides"]


ANCHOR_SCALE = 8
"""Side of an anchor in strides of its map, where each map has twice the stride of the one before.
The sizes are part of what was learned, so they stay where a stride is another."""

_OUTPUTS = 5
_REGION_MAPS = 4


@dataclass(frozen=True)
class Defects:
    """What the published detector does by mistake.

    binary_neck: the neck fires levels in training, but 0 or 1 in evaluation. doubling_strides:
    anchors and regions are placed as if every map had half the size of the one before; the
    backbone's last stage has that of the stage before it. Weights that were trained with these
    strides, as the published ones were, fit them alone.
    """

    binary_neck: bool = False
    doubling_strides: bool = False


CORRECT = Defects()
"""None of them."""


def map_strides(taps: Sequence[int], outputs: int, *, doubling: bool = False) -> list[int]:
    """Strides of the neck's maps from those of the taps; further maps have twice that of the one
    before. `doubling` as of `Defects`."""
    if doubling:
        return [taps[0] << i for i in range(outputs)]
    return [*taps, *(taps[-1] << i for i in range(1, outputs - len(taps) + 1))]


class MaskRcnn(nn.Module):
    """Backbone, neck and heads; weights are to be loaded (`model.published.checkpoint`).

    Parameters
    ----------
    spec
        The backbone's network, with one time step.
    width, hidden, classes
        As of `BoxHead`: 256, 1024 and 80 for the published qsdt_t; 384 and 1536 for qsdt_m.
    defects
        What to do as published though it is wrong.
    """

    def __init__(
        self, spec: NetworkSpec, *, width: int = 256, hidden: int = 1024, classes: int = 80,
        defects: Defects = CORRECT,
    ) -> None:
        super().__init__()
        if spec.time_steps != 1:
            raise ValueError(f"time_steps must be 1, not {spec.time_steps}")
        self.backbone = Backbone(spec, DETECTION)
        self.neck = SpikeFpn([tap.channels for tap in self.backbone.taps], width, outputs=_OUTPUTS,
                             binary_in_evaluation=defects.binary_neck)
        self.rpn_head = SpikeRpn(width)
        self.box_head = BoxHead(width, hidden=hidden, classes=classes)
        self.mask_head = MaskHead(width, classes=classes)
        taps = [tap.stride for tap in self.backbone.taps]
        self.strides = map_strides(taps, _OUTPUTS, doubling=defects.doubling_strides)
        self.sizes = [ANCHOR_SCALE * s for s in map_strides(taps, _OUTPUTS, doubling=True)]

    @torch.inference_mode()
    def detect(self, image: Tensor, *, height: int, width: int
               ) -> tuple[Found, NDArray[np.bool_]]:
        """Objects in an image and their masks (N, height, width), in evaluation mode.

        image: normalised, (1, in_channels, H, W), filled up with zeros to the right and below to
        multiples of the last tap's stride; height, width: of the image without them.

        Raises ValueError on several images, and on one that is smaller than `height` by `width`.
        """
        if len(image) != 1:
            raise ValueError(f"there must be one image, not {len(image)}")
        if image.shape[2] < height or image.shape[3] < width:
            raise ValueError(f"height and width must be at most {image.shape[2]} and "
                             f"{image.shape[3]}, not {height} and {width}")
        maps = self.neck(self.backbone(image))
        regions = self.propose(maps, height=height, width=width).boxes
        logits, deltas = self.box_head(self._seen(maps, regions, BOX_SIDE))
        found = detections(regions, _array(logits), _array(deltas), height, width)
        masks = self.mask_head(self._seen(maps, found.boxes, MASK_SIDE))
        own = masks[torch.arange(len(masks)), torch.from_numpy(found.classes)]
        return found, paste(sigmoid(_array(own)), found.boxes, height, width)

    @torch.inference_mode()
    def propose(self, maps: Sequence[Tensor], *, height: int, width: int) -> Found:
        """Regions of one image of the neck's maps (1, width, h, w)."""
        found = []
        for out, stride, size in zip(self.rpn_head(maps), self.strides, self.sizes, strict=True):
            shape = (out.logits.shape[2], out.logits.shape[3])
            found.append(AnchorMap(_array(out.logits[0]), _array(out.deltas[0]),
                                   anchors(shape, stride=stride, size=size)))
        return proposals(found, height, width)

    def _seen(self, maps: Sequence[Tensor], regions: NDArray[np.float64], side: int) -> Tensor:
        fine = maps[:_REGION_MAPS]
        seen = roi_align([_array(x[0]) for x in fine], self.strides[:_REGION_MAPS], regions, side)
        return torch.from_numpy(seen).to(maps[0])


def _array(x: Tensor) -> NDArray:
    return x.detach().cpu().numpy()
