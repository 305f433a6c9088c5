"""How a network is trained, and the presets of the papers as YAML; needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import resources
import math
from pathlib import Path
import re
from typing import Any

from model import yaml_file
from model.error import InputError
from model.families.base import NetworkSpec


__all__ = ["Masking", "network_changes", "Preset", "PRECISIONS", "presets", "read_preset", "Recipe"]


PRECISIONS = ("auto", "fp32", "bf16")
OPTIMISERS = ("adamw", "lamb")
CROPS = ("none", "shift", "resized", "nda")

VERSION = 1
"""Rises when a preset of before would mean another training."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train; stored with the checkpoint, so that a resumed run continues exactly."""

    epochs: int = 60
    batch: int = 64
    """Images a step, over all processes."""
    optimiser: str = "adamw"
    """adamw, or lamb with clipped trust ratios (timm)."""
    lr: float = 3e-3
    """Peak learning rate; a linear warm-up, then a half cosine to `final_lr` of it."""
    warmup: float = 0.03
    """Share of the run in which the learning rate rises."""
    final_lr: float = 0.01
    """Learning rate at the end, as a share of the peak."""
    alpha_lr: float = 0.1
    """Factor on the learning rate of the LSQ steps: keeps them from crossing 0."""
    weight_decay: float = 0.05
    """On tensors of two dimensions or more, as published: not on BN, biases, steps, scales."""
    label_smoothing: float = 0.05
    crop: str = "shift"
    """How a sample is cut: none; shift by up to 2 pixels; resized, of 8 % to all of a picture's
    area with sides of 3:4 to 4:3 (bicubic); nda, rolled, turned or with a part cut out, as
    published for events (`model.data.augment.moved`)."""
    flip: bool = True
    """Mirror half of the pictures left to right."""
    rand_augment: str = ""
    """RandAugment in timm's words, such as rand-m9-mstd0.5-inc1."""
    erase: float = 0.0
    """Share of pictures with a rectangle of noise (random erasing)."""
    mixup: float = 0.0
    """Alpha of mixup."""
    cutmix: float = 0.0
    """Alpha of cutmix; with mixup too, each batch has one of the two."""
    attention_beta: float = -0.6
    """Start of the last BN or MPRF bias before q, k and v: at 0, nearly every attention level is
    the highest."""
    attention_penalty: float = 0.01
    """Weight of mean(max(x - 1, 0)) on the attention membranes, where 1 means the highest level."""
    fgd: float = 0.0
    """Weight of fine-grained distillation from a teacher (Eq. 14; the paper's lambda is 2)."""
    distil: float = 0.0
    """Weight of the teacher's logits (Kullback-Leibler divergence)."""
    temperature: float = 1.0
    """What divides both logits there."""
    clip: float = 0.0
    """Largest norm of all gradients together, above which they are scaled down; 0 for none."""
    ema_decay: float = 0.999
    precision: str = "auto"
    """fp32, bf16 (autocast; levels and codes are exact in it), or auto: the quicker one by a timed
    step. Evaluation is float32."""
    seed: int = 1

    def __post_init__(self) -> None:
        for item in fields(self):
            value, wanted = getattr(self, item.name), type(item.default)
            fits = isinstance(value, (int, float) if wanted is float else wanted)
            if not fits or (wanted is not bool and isinstance(value, bool)):
                raise ValueError(f"{item.name} must be a {wanted.__name__}, not {value!r:.40}")
            if wanted is not str and not math.isfinite(value):
                raise ValueError(f"{item.name} must be finite, not {value}")
        for name in ("epochs", "batch", "lr", "temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        for name in ("warmup", "final_lr", "label_smoothing", "erase", "ema_decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be 0 to 1, not {getattr(self, name)}")
        for name in ("weight_decay", "mixup", "cutmix", "fgd", "distil", "attention_penalty",
                     "alpha_lr", "clip"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")
        for name, known in (("precision", PRECISIONS), ("optimiser", OPTIMISERS), ("crop", CROPS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be {', '.join(known[:-1])} or {known[-1]}, "
                                 f"not {getattr(self, name)!r:.40}")
        if self.rand_augment and not re.fullmatch(r"rand(-[a-z]+[\d.]+)*", self.rand_augment):
            raise ValueError("rand_augment must be in timm's words, such as rand-m9-mstd0.5-inc1, "
                             f"not {self.rand_augment!r:.40}")
        if (self.mixup or self.cutmix) and self.batch % 2:
            raise ValueError(f"batch must be even with mixup or cutmix, not {self.batch}")

    @property
    def needs_teacher(self) -> bool:
        """Whether a part of the loss compares with a teacher."""
        return bool(self.fgd or self.distil)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Recipe":
        """Build from ``asdict``'s result. Raises ValueError on an unknown key."""
        known = dict(values)
        if "bfloat16" in known:    # of checkpoints before the choice was timed
            known["precision"] = "bf16" if known.pop("bfloat16") else "fp32"
        try:
            return cls(**known)
        except TypeError as error:
            raise ValueError(f"a recipe must have the keys of Recipe: {error}") from None


@dataclass(frozen=True, kw_only=True)
class Masking:
    """What pretraining hides of a picture, and the decoder that fills it in."""

    ratio: float = 0.5
    """Share of the cells that is hidden, as published."""
    cell: int = 0
    """Side of a cell in pixels, a multiple of those of a token; 0 for one token, as published."""
    width: int = 128
    """Channels of the decoder; published: 256."""
    blocks: int = 2
    """Its blocks; published: 4."""
    heads: int = 4

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, (int, float) if name == "ratio"
                                                         else int):
                raise ValueError(f"{name} must be a number, not {value!r:.40}")
        if not 0 < self.ratio < 1:
            raise ValueError(f"ratio must be between 0 and 1, not {self.ratio}")
        for name, most in (("cell", 1024), ("width", 4096), ("blocks", 64), ("heads", 64)):
            value, least = getattr(self, name), 0 if name == "cell" else 1
            if not least <= value <= most:
                raise ValueError(f"{name} must be {least} to {most}, not {value}")
        if self.width % 4 or self.width % self.heads:
            raise ValueError(f"width must be a multiple of 4 and of {self.heads} heads, "
                             f"not {self.width}")


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A recipe and what it changes of the network, such as ``mprf`` or ``weight_bits``; `masking`,
    if it is one for `model.pretrain`."""

    recipe: Recipe
    network: Mapping[str, Any]
    masking: Masking | None = None

    def applied(self, spec: NetworkSpec) -> NetworkSpec:
        """`spec` with the changes. Raises ValueError if they do not fit it."""
        return spec.changed(**self.network)


def presets() -> tuple[str, ...]:
    """Names of the presets that come with this package."""
    folder = resources.files("model") / "recipes"
    names = (Path(entry.name) for entry in folder.iterdir())
    return tuple(sorted(name.stem for name in names if name.suffix == ".yaml"))


def read_preset(name: str | Path) -> Preset:
    """A preset by name, or from a YAML file: ``version: 1``, fields of `Recipe`, and under
    ``network`` fields of the network's spec that it changes, under ``masking`` those of `Masking`.

    Raises InputError naming the file and the key, or listing the known presets.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        if str(name) not in presets():
            raise InputError(f"recipe must be one of {', '.join(presets())} or a file (F.yaml), "
                             f"not {name}")
        own = resources.files("model") / "recipes" / f"{name}.yaml"
        with resources.as_file(own) as shipped:
            return read_preset(shipped)
    values = yaml_file.load(path)
    version = values.pop("version", None)
    if version != VERSION or isinstance(version, bool):
        raise InputError(f"{path}: version must be {VERSION}, not {yaml_file.shown(version)}")
    network = network_changes(f"{path}: network", values.pop("network", None))
    masked = "masking" in values
    hidden = yaml_file.checked_fields(f"{path}: masking", values.pop("masking", None), Masking)
    given = yaml_file.checked_fields(str(path), values, Recipe)
    try:
        return Preset(recipe=Recipe(**given), network=network,  # type: ignore[arg-type]
                      masking=Masking(**hidden) if masked else None)  # type: ignore[arg-type]
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None


def network_changes(where: str, values: object) -> dict[str, object]:
    """A mapping of fields of a spec that a recipe may change, each of its type.

    Raises InputError that begins with `where`.
    """
    return yaml_file.checked_fields(where, values, _Changes)


@dataclass(frozen=True)
class _Changes:
    """What a preset may change of a network; `model.families.qsdt.QsdtSpec` has the meaning."""

    levels: int = 0
    time_steps: int = 0
    neuron: str = ""
    leak: float = 0.0
    mprf: str = ""
    weight_bits: int = 0
    layer_scale_init: float = 0.0
