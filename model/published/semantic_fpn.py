"""The published segmenter as a whole: images to the class of every pixel, in float."""

import numpy as np
from numpy.typing import NDArray
import torch
from torch import nn, Tensor

from model.decode.pixels import label_map
from model.families.backbone import Backbone
from model.families.base import NetworkSpec
from model.families.taps import SEGMENTATION
from model.published.segmenter import Qfpn, QfpnHead


__all__ = ["SemanticFpn"]


class SemanticFpn(nn.Module):
    """Images (B, in_channels, H, W) -> logits (B, classes, H/2, W/2) with the published networks;
    weights are to be loaded (`model.published.checkpoint`).

    Parameters
    ----------
    spec
        The backbone's network, with one time step.
    width, classes
        As of `QfpnHead`: 128 and 150 as published.
    upsampling
        As of `QfpnHead`.
    """

    def __init__(self, spec: NetworkSpec, *, width: int = 128, classes: int = 150,
                 upsampling: str = "bilinear") -> None:
        super().__init__()
        if spec.time_steps != 1:
            raise ValueError(f"time_steps must be 1, not {spec.time_steps}")
        self.backbone = Backbone(spec, SEGMENTATION)
        taps = self.backbone.taps
        self.neck = Qfpn([tap.channels for tap in taps], width)
        self.head = QfpnHead([tap.stride for tap in taps], width, classes=classes,
                             upsampling=upsampling)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.neck(self.backbone(images)))

    @torch.inference_mode()
    def segment(self, image: Tensor) -> NDArray[np.int64]:
        """The class (H, W) of every pixel of an image (1, in_channels, H, W), normalised.

        Raises ValueError on several images, and unless H and W are multiples of the last tap's
        stride.
        """
        if len(image) != 1:
            raise ValueError(f"there must be one image, not {len(image)}")
        height, width = image.shape[2:]
        return label_map(self(image)[0].cpu().numpy(), height, width)
