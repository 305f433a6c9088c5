"""Pictures in files with what is in them, read when they are asked for. Needs Pillow."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.data.objects import ObjectData, Objects, Sample
from model.data.pictures import Fitting, PictureError, read_whole


__all__ = ["ObjectFile", "ObjectFiles", "object_data"]


log = logging.getLogger(__name__)

HASH_BINS = 10
"""A file goes by the hash of its name into one of ten bins; those of bin 1 are set aside."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ObjectFile:
    """A picture and what is said of it.

    file, the picture; name, how messages call it; image_id, COCO's; size, its height and width, if
    the annotations say them; objects, to train on; annotations, all that is true of it as COCO
    writes it, for evaluation; mask, which reads or draws the class of every pixel (H, W) uint8 for
    a height and width, or None.
    """

    file: Path
    name: str
    image_id: int
    size: tuple[int, int] | None = None
    objects: Objects
    annotations: Sequence[dict[str, Any]] = ()
    mask: Callable[[int, int], NDArray[np.uint8]] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ObjectFiles:
    """`model.data.objects.Samples` in files; of `fitting` only channels and background matter."""

    files: Sequence[ObjectFile]
    fitting: Fitting
    classes: tuple[str, ...]
    mask_classes: tuple[str, ...]
    category_ids: Sequence[int]

    @property
    def image_ids(self) -> Sequence[int]:
        return [one.image_id for one in self.files]

    def __len__(self) -> int:
        return len(self.files)

    def objects_of(self, index: int) -> Objects:
        return self.files[index].objects

    def annotations_of(self, index: int) -> Sequence[dict[str, Any]]:
        return self.files[index].annotations

    def sample(self, index: int) -> Sample:
        """A picture in its own size, upright. Raises PictureError or OSError naming the file, also
        if it has another size than its annotations or its mask."""
        one = self.files[index]
        image = read_whole(one.file, self.fitting)
        height, width = image.shape[-2:]
        if one.size is not None and one.size != (height, width):
            raise PictureError(
                f"{one.file}: has {width}x{height} pixels, upright, but its annotations are for "
                f"{one.size[1]}x{one.size[0]}; take the picture that was annotated"
            )
        mask = None if one.mask is None else one.mask(height, width)
        return Sample(image=image, objects=one.objects, mask=mask, name=one.name)

    def picked(self, keep: Callable[[ObjectFile], bool]) -> "ObjectFiles":
        """Those files that `keep` is true of."""
        return replace(self, files=[one for one in self.files if keep(one)])


def object_data(folder: Path, parts: dict[str, ObjectFiles], *,
                trained_on: Callable[[ObjectFile], bool] = lambda _: True) -> ObjectData:
    """All three parts, of those that there are, at least train.

    Without val, the pictures of train are taken whose names fall into one of ten bins; without
    test, val is taken, as for folders of classes. Of train only those stay that `trained_on` is
    true of. Raises ValueError if a part has no pictures.
    """
    parts = dict(parts)
    if "train" not in parts:
        raise ValueError(f"{folder}: has no part for training; see docs/objects.md for the "
                         "names of its folders")
    if "val" not in parts:
        log.info("%s: no part val; a tenth of train is set aside for it", folder)
        train = parts["train"]
        parts["val"] = train.picked(lambda one: _bin(one.name) == 1)
        parts["train"] = train.picked(lambda one: _bin(one.name) != 1)
    if "test" not in parts:
        log.warning("%s: no part test; val is used, so figures of a training's choice are a "
                    "little too good", folder)
        parts["test"] = parts["val"]
    total = len(parts["train"])
    parts["train"] = parts["train"].picked(trained_on)
    if len(parts["train"]) < total:
        log.info("%s: %d pictures without objects are not trained on", folder,
                 total - len(parts["train"]))
    for part, samples in parts.items():
        if not len(samples):
            raise ValueError(f"{folder}: has no pictures for {part}; add some")
        for kind in ("classes", "mask_classes", "category_ids"):
            if getattr(samples, kind) != getattr(parts["train"], kind):
                raise ValueError(f"{folder}: {part} has other {kind.replace('_', ' ')} than train; "
                                 "give all parts the same, in one order")
    return ObjectData(train=parts["train"], val=parts["val"], test=parts["test"])


def _bin(name: str) -> int:
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8]) % HASH_BINS
