"""Parts of timm that need no torchvision: LAMB, RandAugment, mixup and cutmix, random erasing.

``import timm`` imports torchvision, whose wheels ask for one exact build of torch and so may
replace it. The files used here import torch, NumPy and Pillow alone. They are loaded from timm's
folder under names of their own; timm itself stays as it is for others.
"""

from collections.abc import Callable
from functools import cache, partial
import importlib.machinery
import importlib.util
from pathlib import Path
import sys
from types import ModuleType
from typing import Any

from model.error import ToolMissing


__all__ = ["INSTALL", "rand_augment", "timm_part"]


INSTALL = "pip install --no-deps timm"
"""Without its dependencies, of which only torchvision is not here already."""

_ALIAS = "_timm_without_torchvision"


@cache
def timm_part(name: str) -> ModuleType:
    """Module `name` of timm, such as ``optim.lamb``.

    Raises :class:`ToolMissing` if timm is not installed.
    """
    found = importlib.util.find_spec("timm")    # does not import it
    if found is None or not found.submodule_search_locations:
        raise ToolMissing("Python package timm (this recipe's optimiser or augmentation)",
                          install=INSTALL)
    folder = Path(found.submodule_search_locations[0])
    package = _ALIAS
    _package(package, folder)
    *parents, _ = name.split(".")
    for parent in parents:
        package, folder = f"{package}.{parent}", folder / parent
        _package(package, folder)
    return importlib.import_module(f"{_ALIAS}.{name}")


def rand_augment(words: str, fill: int | tuple[int, ...]) -> Callable[[Any], Any]:
    """RandAugment of Pillow pictures, of which `fill` is the mean pixel, as `words` say.

    Raises ToolMissing without timm.
    """
    part = timm_part("data.auto_augment")
    for name in ("Posterize", "PosterizeIncreasing", "PosterizeOriginal"):
        part.NAME_TO_OP[name] = partial(_posterize, part.posterize)
    return part.rand_augment_transform(words, {"img_mean": fill})


def _posterize(own: Callable[..., Any], picture: Any, bits: int, **options: Any) -> Any:
    """Keep `bits` bits of every pixel. timm asks for none too, which Pillow 13 refuses: black."""
    return own(picture, bits, **options) if bits else picture.point([0] * 256 * len(picture.mode))


def _package(name: str, folder: Path) -> None:
    """Register a package without running its ``__init__``."""
    if name not in sys.modules:
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        sys.modules[name] = importlib.util.module_from_spec(spec)
