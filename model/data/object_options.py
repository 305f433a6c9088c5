"""Data with boxes and masks by name or folder, for commands."""

import argparse
from pathlib import Path

from model.command import require
from model.data.coco import coco_data
from model.data.mask_folder import mask_data
from model.data.objects import ObjectData
from model.data.options import fitting_for
from model.data.scenes import fashion_objects
from model.families.base import NetworkSpec


__all__ = ["add_score", "OBJECT_DATA", "OBJECT_DATA_HELP", "read_objects"]


OBJECT_DATA = {
    "fashion_scenes": "scenes of Fashion-MNIST's items, 10 classes of boxes and 11 of pixels",
    "coco:DIR": "a folder in COCO's layout, annotations/instances_train2017.json and train2017/*",
    "ade20k:DIR": "a folder in ADE20K's layout, images/training/* and annotations/training/*.png "
                  "with the numbers 1 to K, 0 ignored, and classes.txt",
    "masks:DIR": "the same with the numbers 0 to K-1",
}
"""Every name, and what it stands for; docs/objects.md has the layouts."""

OBJECT_DATA_HELP = "; ".join(f"{name}: {text}" for name, text in OBJECT_DATA.items())


def add_score(parser: argparse.ArgumentParser) -> None:
    """``--score``, from which boxes are shown to people."""
    parser.add_argument("--score", type=_score, default=0.3, metavar="S",
                        help="least score, 0 to 1, of the boxes in pictures and lines (default: "
                             "%(default)s); a file of boxes has all from 0.05")


def _score(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be 0 to 1, not {text[:40]}")
    return value


def read_objects(name: str, spec: NetworkSpec, *, data_dir: Path | None = None,
                 background: str | None = None, masks: bool = False) -> ObjectData:
    """Data by a name of `OBJECT_DATA` for a network of `spec`, whose channels pictures get.

    With `masks` COCO's outlines become masks. Transparent pictures are laid on `background`, by
    default black. `data_dir` is Fashion-MNIST's folder, if its package is not installed.

    Raises ValueError listing the names, and as the readers do; ToolMissing without Pillow, or
    without pycocotools where outlines are drawn.
    """
    if name == "fashion_scenes":
        return fashion_objects(data_dir)
    kind, _, folder = name.partition(":")
    if f"{kind}:DIR" not in OBJECT_DATA or not folder:
        raise ValueError(f"data with boxes or masks must be one of {', '.join(OBJECT_DATA)}, "
                         f"not {name}")
    if not Path(folder).is_dir():
        raise ValueError(f"{folder}: is not a folder; see docs/objects.md for what it must hold")
    require("PIL", what="reads pictures")
    fitting = fitting_for(spec, None, background)
    if kind == "coco":
        return coco_data(Path(folder), fitting, masks=masks)
    return mask_data(Path(folder), fitting, zero_ignored=kind == "ade20k")
