"""Data sets by name or folder, and the options of commands for them."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
import logging
from pathlib import Path

from model.command import require
from model.data import cifar
from model.data.class_folder import ClassFolder, Read
from model.data.dataset import DataInfo, Dataset, PARTS, Split
from model.data.events import check_counts, COUNT_MAX
from model.data.mnist import fashion_mnist, mnist
from model.data.on_demand import fits, in_memory
from model.data.recordings import cifar10_dvs, recordings_on_demand
from model.data.scenes import fashion_scenes
from model.data.simulated_events import simulated_events
from model.families.base import NetworkSpec


__all__ = ["DATA_HELP", "DATASETS", "FOLDER", "add_data_options", "class_folder",
           "read_dataset", "read_split"]


log = logging.getLogger(__name__)

_LOOKED_AT = 64
"""Samples of events in which high counts are looked for, where all are not in memory."""


def _own(name: str, folder: Path | None) -> Path:
    """The folder of a data set that no package brings."""
    if folder is None:
        raise ValueError(f"{name} comes with no package: name its folder with --data-dir")
    return folder


def _cifar(name: str, read: Callable[[Path, int], Dataset], folder: Path | None, spec: NetworkSpec
           ) -> Dataset:
    if spec.image_size != cifar.SIDE:
        require("PIL", what="resizes pictures")
    return read(_own(name, folder), spec.image_size)


def _cifar10_dvs(folder: Path | None, spec: NetworkSpec) -> Dataset:
    check_counts("cifar10_dvs", spec)
    return cifar10_dvs(_own("cifar10_dvs", folder), spec)


def _simulated_events(folder: Path | None, spec: NetworkSpec) -> Dataset:
    check_counts("simulated_events", spec)
    return simulated_events(folder, steps=spec.time_steps, size=spec.image_size,
                            channels=spec.in_channels)


DATASETS: dict[str, Callable[[Path | None, NetworkSpec], Dataset]] = {
    "cifar10": lambda folder, spec: _cifar("cifar10", cifar.cifar10, folder, spec),
    "cifar10_dvs": _cifar10_dvs,
    "cifar100": lambda folder, spec: _cifar("cifar100", cifar.cifar100, folder, spec),
    "fashion_mnist": lambda folder, spec: fashion_mnist(folder),
    "fashion_scenes": lambda folder, spec: fashion_scenes(folder),
    "mnist": lambda folder, spec: mnist(_own("mnist", folder)),
    "simulated_events": _simulated_events,
}
"""Every known data set by name: made of the folder that ``--data-dir`` names, for a network."""

FOLDER = "folder:"
"""How the name of a data set begins that is a folder of pictures or recordings."""

DATA_HELP = (f"{', '.join(sorted(DATASETS))} (simulated_events are computed from Fashion-MNIST), "
             f"or {FOLDER}DIR with DIR/train/CLASS/*.png (or recordings, *.aedat4), "
             "DIR/val/CLASS/* and DIR/test/CLASS/*, or with DIR/CLASS/*, split by a hash of each "
             "file's name (8:1:1); labels are the sorted folder names")


def add_data_options(parser: argparse._ActionsContainer) -> None:
    """``--data-dir``, ``--fit`` and ``--background``."""
    parser.add_argument("--data-dir", type=Path, metavar="D",
                        help="folder of a data set: of all but those of Fashion-MNIST, of these "
                        "if its package is not installed")
    # The texts lie in model.data.pictures, which imports no Pillow until a picture is read.
    from model.data.pictures import FITS

    ways = "; ".join(f"{name}: {text}" for name, text in FITS.items())
    parser.add_argument("--fit", choices=list(FITS),
                        help=f"how pictures become squares (default: as the network was trained, "
                             f"else auto). {ways}")
    parser.add_argument("--background", metavar="COLOUR",
                        help="what transparent pictures are laid on, and the bars of a letterbox "
                             "(default: as the network was trained, else black)")


def class_folder(name: str) -> ClassFolder | None:
    """The folder of classes of a name, None of a built-in data set.

    Raises ValueError listing the known data sets.
    """
    if name.startswith(FOLDER):
        return ClassFolder(Path(name.removeprefix(FOLDER)))
    if name not in DATASETS:
        raise ValueError(
            f"data set must be one of {', '.join(DATASETS)} or {FOLDER}DIR, not {name}"
        )
    return None


def fitting_for(spec: NetworkSpec, fit: str | None, background: str | None,
                known: DataInfo | None = None):
    """How pictures are fitted: as the options say, else as the network keeps, else by default."""
    from model.data.pictures import Fitting

    return Fitting.of(spec, fit or (known.fit if known else "auto"),
                      background or (known.background if known else "black"))


def _reading(name: str, folder: ClassFolder, spec: NetworkSpec, fit: str | None,
             background: str | None, known: DataInfo | None = None) -> tuple[Read, DataInfo]:
    """How the samples of a folder are read for `spec`, and what a network keeps of that."""
    if folder.recordings:
        check_counts(name, spec)
        return partial(recordings_on_demand, spec=spec), folder.info
    require("PIL", what="reads pictures")
    from model.data.pictures import pictures_on_demand

    fitting = fitting_for(spec, fit, background, known)
    return (partial(pictures_on_demand, fitting=fitting),
            replace(folder.info, fit=fitting.fit, background=fitting.background))


def read_split(
    name: str, part: str, spec: NetworkSpec, *, data_dir: Path | None = None,
    count: int | None = None, fit: str | None = None, background: str | None = None,
    known: DataInfo | None = None,
) -> Split:
    """The first `count` images of a part ("train", "val", "test") of a data set for `spec`.

    `known` is what the network keeps of the data that it was trained on.

    Raises ValueError or OSError naming the cause, ValueError if they do not fit into memory.
    """
    folder = class_folder(name)
    if folder is not None:
        read, _ = _reading(name, folder, spec, fit, background, known)
        split = folder.split(part, read, count=count, known=known)
    else:
        split = first(getattr(DATASETS[name](data_dir, spec), part), count)
    if split.labels.max() >= spec.classes:
        raise ValueError(f"{name}: has more classes than the network, which has {spec.classes}")
    return _told(replace(split, images=in_memory(split.images)), f"{name}, {part}")


def read_dataset(
    name: str, spec: NetworkSpec, *, data_dir: Path | None = None, count: int | None = None,
    fit: str | None = None, background: str | None = None,
) -> Dataset:
    """All parts of a data set for `spec`, at most `count` images of each.

    A part that does not fit into memory is made when it is indexed (`model.data.on_demand`).

    Raises ValueError or OSError naming the cause.
    """
    folder = class_folder(name)
    if folder is not None:
        read, info = _reading(name, folder, spec, fit, background)
        data = replace(folder.dataset(read, count=count), info=info)
    else:
        data = DATASETS[name](data_dir, spec)
    held = {part: _held(first(getattr(data, part), count), f"{name}, {part}") for part in PARTS}
    return Dataset(**held, info=data.info)


def _held(split: Split, title: str) -> Split:
    """`split` in memory, if it fits."""
    if fits(split.images):
        return _told(replace(split, images=in_memory(split.images)), title)
    log.info("%s: %d images are made anew in every epoch", title, len(split))
    if split.images.ndim == 5:
        some = first(split, _LOOKED_AT)
        _told(replace(some, images=in_memory(some.images)), f"{title}, the first {len(some)}")
    return split


def _told(split: Split, title: str) -> Split:
    """`split`, and a line of log if it has more events in a pixel than a network sees."""
    if split.images.ndim == 5:
        clipped = int((split.images > COUNT_MAX).sum())
        if clipped:
            log.info("%s: %d of %d counts of events are above %d and are taken as %d", title,
                     clipped, split.images.size, COUNT_MAX, COUNT_MAX)
    return split


def first(split: Split, count: int | None) -> Split:
    """The first `count` images of a split, all if it is None."""
    return replace(split, images=split.images[:count], labels=split.labels[:count],
                   files=split.files[:count])
