"""Networks of one's own: a spec as a YAML file.

The file holds ``version: 1``, ``family: qsdt``, ``sdt_v3`` or ``sdt_v3_large``, ``dims``, and any
other field of `model.families.base.NetworkSpec`, such as image_size, in_channels, classes, strides,
depths, stem_kernel, sep_expansion, conv_expansion, mlp_ratio, heads, weight_bits, norm_mean and
norm_std, or of the family's own (`model.families.qsdt.QsdtSpec`, `model.families.sdt_v3.SdtV3Spec`,
`model.families.sdt_v3_large.SdtV3LargeSpec`). What is left out has the published value; the
normalisation of pictures that are not in colour is 0.5 and 0.25, and the name is the file's. Two
channels are counts of events, which go in as they are: mean 0, std 1/255, image_scale 1.
"""

from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any, cast

from model import yaml_file
from model.error import InputError
from model.families.base import NetworkSpec
from model.families.spec import FAMILIES


VERSION = 1
"""Rises when a file of before would mean another network."""

COUNTS = {"norm_mean": (0.0,) * 2, "norm_std": (1 / 255,) * 2, "image_scale": 1}
"""Fields of a network for events, with which a pixel's count is the network's input."""

SUFFIXES = (".yaml", ".yml")


def is_spec_file(model: str) -> bool:
    """Whether the name of a network is that of a file."""
    return model.lower().endswith(SUFFIXES)


def shipped_specs() -> tuple[str, ...]:
    """Names of the specs that come with this package (``model/specs``)."""
    names = (Path(entry.name) for entry in (resources.files("model") / "specs").iterdir())
    return tuple(sorted(name.stem for name in names if name.suffix == ".yaml"))


def shipped_spec(name: str, *, classes: int | None = None) -> NetworkSpec:
    """One of `shipped_specs`, whatever lies in the working folder; `classes` as of `read_spec`."""
    with resources.as_file(resources.files("model") / "specs" / f"{name}.yaml") as path:
        return read_spec(path, classes=classes)


def read_spec(path: str | Path, *, classes: int | None = None) -> NetworkSpec:
    """The spec of a file; `classes` is taken where the file leaves it out.

    A bare name that is not in the working folder is looked for in the package's ``model/specs``.

    Raises
    ------
    InputError
        Naming the file and the field.
    """
    path = Path(path)
    bare = path.parent == Path() and path.suffix == ".yaml"
    if bare and not path.exists() and path.stem in shipped_specs():
        return shipped_spec(path.stem, classes=classes)
    values = yaml_file.load(path)
    version, family = values.pop("version", None), values.pop("family", None)
    if version != VERSION or isinstance(version, bool):
        raise InputError(f"{path}: version must be {VERSION}, not {yaml_file.shown(version)}")
    if not isinstance(family, str) or family not in FAMILIES:
        raise InputError(f"{path}: family must be one of {', '.join(FAMILIES)}, "
                         f"not {yaml_file.shown(family)}")
    known = [item.name for item in fields(FAMILIES[family])]
    for key in values:
        if key not in known:
            raise InputError(f"{path}: {yaml_file.shown(key)} is not a field of a spec; "
                             f"known are {', '.join(known)}")
    if "dims" not in values:
        stages = FAMILIES[family].stages
        raise InputError(f"{path}: dims is missing: {len(stages)} numbers of channels, one for "
                         f"each of the stages {', '.join(stages)}")
    values.setdefault("name", path.stem)
    if classes is not None:
        values.setdefault("classes", classes)
    channels = values.get("in_channels", 3)
    if channels == 2:
        for field, value in COUNTS.items():
            values.setdefault(field, value)
    elif channels != 3 and isinstance(channels, int) and 0 < channels < 1000:
        values.setdefault("norm_mean", (0.5,) * channels)
        values.setdefault("norm_std", (0.25,) * channels)
    try:
        return FAMILIES[family](**cast("dict[str, Any]", values))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: {error}") from None
