"""Every known network by name, and the specs of all families; no torch here."""

from collections.abc import Mapping
from typing import Any

from model.families import qsdt, sdt_v3, sdt_v3_large
from model.families.base import NetworkSpec, STAGES, WEIGHTS_MAX
from model.families.qsdt import QsdtSpec
from model.families.sdt_v3 import SdtV3Spec
from model.families.sdt_v3_large import SdtV3LargeSpec


__all__ = ["FAMILIES", "MODELS", "STAGES", "WEIGHTS_MAX", "NetworkSpec", "QsdtSpec",
           "SdtV3LargeSpec", "SdtV3Spec", "from_dict", "spec"]


FAMILIES: dict[str, type[NetworkSpec]] = {
    family.family: family for family in (QsdtSpec, SdtV3Spec, SdtV3LargeSpec)
}
"""Specs of each family, by its name in files."""

MODELS: dict[str, NetworkSpec] = {**qsdt.MODELS, **sdt_v3.MODELS, **sdt_v3_large.MODELS}
"""Every known network by name."""


def spec(name: str) -> NetworkSpec:
    """Return the registered spec `name`. Raises ValueError listing the known names."""
    if name not in MODELS:
        raise ValueError(f"model must be one of {', '.join(MODELS)}, not {name}")
    return MODELS[name]


def from_dict(values: Mapping[str, Any]) -> NetworkSpec:
    """The spec of `NetworkSpec.to_dict`'s result, whatever its family.

    A spec without the key ``family`` is that of a QSD-Transformer. Raises ValueError on an unknown
    family, and on missing or unknown keys.
    """
    values = dict(values)
    family = values.pop("family", QsdtSpec.family)
    if not isinstance(family, str) or family not in FAMILIES:
        raise ValueError(f"family must be one of {', '.join(FAMILIES)}, not {family!r:.60}")
    return FAMILIES[family].from_dict(values)
