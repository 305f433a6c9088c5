"""A folder of pictures, or of recordings of events, in folders of classes, as a data set.

``DIR/train/CLASS/*``, ``DIR/val/CLASS/*`` and ``DIR/test/CLASS/*``, or ``DIR/CLASS/*`` alone,
which is split by a hash of each file's name, so that a file stays in its part when others come.
Labels are the places of the folder names in plain sorted order, as torchvision's ImageFolder has
them. Samples of a part are ordered by file name, naturally, and then by class.
"""

from collections.abc import Callable, Sequence
import hashlib
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data.aedat import SUFFIXES as RECORDINGS
from model.data.dataset import DataInfo, Dataset, PARTS, Split
from model.data.pictures import list_pictures, natural_order, SUFFIXES


log = logging.getLogger(__name__)

_SUFFIXES = (*SUFFIXES, *RECORDINGS)

Read = Callable[[Sequence[Path]], NDArray[np.uint8]]

HASH_BINS = 10
"""A file goes by its hash into one of ten bins: 0 is for the test, 1 for validation."""


class ClassFolder:
    """What is in a folder, read from its names; samples are read when they are asked for.

    `recordings` tells whether they are recordings of events; else they are pictures.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    ValueError
        If it holds no classes, or a class no pictures; the message says how it must look.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not folder.is_dir():
            raise ValueError(f"{folder}: is not a folder; name one that holds folders of classes")
        self._skipped = 0
        found = {part: self._classes(folder / part) for part in PARTS
                 if (folder / part).is_dir() and not list_pictures(folder / part, _SUFFIXES)[0]}
        parts = found or {"": self._classes(folder)}
        first = next(iter(parts))
        names = tuple(sorted(parts[first]))
        if len(names) < 2:
            raise ValueError(
                f"{folder / first}: must hold at least two folders of pictures or recordings, one "
                f"for each class, not {len(names)}"
            )
        self.info = DataInfo(classes=names)
        for part, classes in parts.items():
            for name, files in classes.items():
                if name not in names:
                    raise ValueError(f"{folder / part / name}: is a class that {first} lacks; "
                                     "remove it or rename it")
                if not files:
                    raise ValueError(f"{folder / part / name}: holds no pictures "
                                     f"({', '.join(SUFFIXES)}) and no recordings "
                                     f"({', '.join(RECORDINGS)}); remove it or fill it")
        kinds = {file.suffix.lower() in RECORDINGS for classes in parts.values()
                 for files in classes.values() for file in files}
        if len(kinds) > 1:
            raise ValueError(f"{folder}: holds pictures and recordings; keep them in folders of "
                             "their own")
        self.recordings = kinds.pop()
        self._files = self._divided(parts)
        if self._skipped:
            log.info("%s: %d entries that are neither pictures nor recordings were skipped",
                     folder, self._skipped)

    def _classes(self, folder: Path) -> dict[str, list[Path]]:
        classes = {}
        for entry in sorted(folder.iterdir()):
            if entry.name.startswith("."):
                continue
            if not entry.is_dir():
                self._skipped += 1
                continue
            classes[entry.name], skipped = list_pictures(entry, _SUFFIXES)
            self._skipped += skipped
        return classes

    def _divided(self, parts: dict[str, dict[str, list[Path]]]) -> dict[str, list[Path]]:
        """Files of every part, in order."""
        flat = {part: sorted((file for files in classes.values() for file in files),
                             key=lambda file: (natural_order(file.name), file.parent.name))
                for part, classes in parts.items()}
        if "" in flat:
            bins = {file: _bin(file) for file in flat[""]}
            return {"train": [f for f, n in bins.items() if n > 1],
                    "val": [f for f, n in bins.items() if n == 1],
                    "test": [f for f, n in bins.items() if n == 0]}
        if "val" not in flat and "train" in flat:
            log.info("%s: no folder val; a tenth of train is set aside for it", self.folder)
            flat["val"] = [file for file in flat["train"] if _bin(file) == 1]
            flat["train"] = [file for file in flat["train"] if _bin(file) != 1]
        if "test" not in flat and "val" in flat:
            log.warning("%s: no folder test; val is used, so an accuracy of a training's choice "
                        "is a little too good", self.folder)
            flat["test"] = flat["val"]
        return flat

    def split(
        self, part: str, read: Read, *, count: int | None = None,
        known: DataInfo | None = None,
    ) -> Split:
        """The first `count` samples of a part, all if it is None.

        `read` turns files into images, or what stands for them (`model.data.on_demand`). With
        `known`, what a network keeps of its own data, labels are found by its class names.

        Raises ValueError if there are none or a class is not known, and what `read` raises.
        """
        files = self._files.get(part, [])[:count]
        if not files:
            raise ValueError(f"{self.folder}: has no samples for {part}; add some in "
                             f"{self.folder / part}/CLASS/")
        names = known.classes if known is not None else self.info.classes
        strange = sorted(set(self.info.classes) - set(names))
        if strange:
            raise ValueError(f"{self.folder}: the network has no class {strange[0]}; it knows "
                             f"{', '.join(names[:20])}")
        label = {name: index for index, name in enumerate(names)}
        labels = np.array([label[file.parent.name] for file in files], np.int64)
        titles = tuple(f"{file.parent.name}/{file.name}" for file in files)
        return Split(images=read(files), labels=labels, files=titles)

    def dataset(self, read: Read, *, count: int | None = None) -> Dataset:
        """All three parts, at most `count` samples of each."""
        return Dataset(**{part: self.split(part, read, count=count) for part in PARTS},
                       info=self.info)


def _bin(file: Path) -> int:
    name = f"{file.parent.name}/{file.name}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.sha256(name).digest()[:8]) % HASH_BINS
