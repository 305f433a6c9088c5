"""Folders of pictures and PNG masks of their pixels' classes, in the layout of ADE20K (Zhou et al.,
CVPR 2017, the scene parsing benchmark of 150 classes).

``images/training/NAME.jpg`` and ``annotations/training/NAME.png``, the same for ``validation`` and
``test``; ``train``, ``val`` and ``testing`` are taken, too. A mask has one channel (grey or a
palette) of class numbers. By default 0 is no class, whose pixels are ignored, and class k of the
list has number k, as in ADE20K (mmsegmentation's ``reduce_zero_label``); else number 0 is the first
class of the list. 255 is ignored in both cases.
"""

from functools import partial
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data.dataset import CLASS_NAME_MAX, DataInfo
from model.data.object_files import object_data, ObjectFile, ObjectFiles
from model.data.objects import IGNORED, ObjectData, Objects
from model.data.pictures import Fitting, list_pictures, PictureError, read_numbers, SUFFIXES


__all__ = ["mask_data", "read_mask", "read_names"]


log = logging.getLogger(__name__)

_FOLDERS = {"train": ("training", "train"), "val": ("validation", "val"),
            "test": ("test", "testing")}

_NAMES = ("classes.txt", "objectInfo150.txt")


def mask_data(folder: Path, fitting: Fitting, *, zero_ignored: bool = True) -> ObjectData:
    """A folder of that layout; without boxes. The class names are in ``classes.txt``, one a line,
    or in ADE20K's ``objectInfo150.txt``.

    See `model.data.object_files.object_data` for parts that are not there. Masks are read with
    their pictures. Raises ValueError naming the file and the cause.
    """
    classes = read_names(folder)
    parts = {}
    for part, names in _FOLDERS.items():
        found = next((name for name in names if (folder / "images" / name).is_dir()), None)
        if found is not None:
            parts[part] = ObjectFiles(
                files=_paired(folder / "images" / found, folder / "annotations" / found, classes,
                              zero_ignored),
                fitting=fitting, classes=(), mask_classes=classes, category_ids=())
    return object_data(folder, parts)


def read_names(folder: Path) -> tuple[str, ...]:
    """The class names of a folder, in the order of their numbers. Raises ValueError if there are
    none, or more than 255."""
    file = next((folder / name for name in _NAMES if (folder / name).is_file()), None)
    if file is None:
        raise ValueError(f"{folder}: has no {_NAMES[0]}; write the class names there, one a line")
    try:
        lines = [line.strip() for line in file.read_text("utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise ValueError(f"{file}: is not UTF-8; save it anew") from None
    if file.name == _NAMES[1]:  # Idx, Ratio, Train, Val, Name, below a head
        lines = [_shortened(line.split("\t")[-1].strip()) for line in lines[1:]]
    if not 0 < len(lines) <= IGNORED:
        raise ValueError(f"{file}: must name 1 to {IGNORED} classes, not {len(lines)}")
    try:
        return DataInfo(classes=tuple(lines)).classes
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def _shortened(name: str) -> str:
    """A name without its last synonyms, until it is no longer than a class name may be."""
    while len(name) > CLASS_NAME_MAX and "," in name:
        name = name.rpartition(",")[0]
    return name


def _paired(pictures: Path, masks: Path, classes: tuple[str, ...], zero_ignored: bool
            ) -> list[ObjectFile]:
    """Pictures of a folder with the masks of their names, in natural order."""
    files, _ = list_pictures(pictures, SUFFIXES)
    known = ({file.stem: file for file in list_pictures(masks, (".png",))[0]}
             if masks.is_dir() else {})
    paired = []
    for number, file in enumerate(files, 1):
        if file.stem not in known:
            raise ValueError(f"{file}: has no mask {masks / file.stem}.png; add it or remove the "
                             "picture")
        paired.append(ObjectFile(
            file=file, name=file.name, image_id=number, objects=Objects.none(),
            mask=partial(read_mask, known.pop(file.stem), classes=classes,
                         zero_ignored=zero_ignored)))
    if known:
        log.info("%s: %d masks without a picture were passed over", masks, len(known))
    return paired


def read_mask(file: Path, height: int, width: int, *, classes: tuple[str, ...],
              zero_ignored: bool) -> NDArray[np.uint8]:
    """The class of every pixel (H, W), from 0, or `IGNORED`.

    Raises PictureError naming the file if it has another size than the picture, or a number without
    a class, or OSError.
    """
    numbers = read_numbers(file)
    if numbers.shape != (height, width):
        raise PictureError(f"{file}: has {numbers.shape[1]}x{numbers.shape[0]} pixels, its picture "
                           f"{width}x{height}; take the mask that was made for it")
    ignored = (numbers == IGNORED) | ((numbers == 0) if zero_ignored else False)
    found = np.where(ignored, 0, numbers.astype(np.int64) - zero_ignored)
    if found.max() >= len(classes) or found.min() < 0:
        worst = numbers[(found >= len(classes)) | (found < 0)][0]
        raise PictureError(f"{file}: has class number {worst}, but "
                           f"{'1' if zero_ignored else '0'} to {len(classes) - 1 + zero_ignored} "
                           "have names; correct the mask or the list of classes")
    return np.where(ignored, IGNORED, found).astype(np.uint8)
