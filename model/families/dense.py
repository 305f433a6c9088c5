"""Heads for dense prediction, boxes and classes of pixels, on the taps of a network; no torch.

QSD-Det is FCOS (Tian et al., 2019) on a feature pyramid (Lin et al., 2017), QSD-Seg the published
segmenter's head with nearest neighbours in place of bilinear maps. All convolutions read levels of
the network's own neuron and have weights of the network's bits. Predictors have a bias and no batch
norm, the others a batch norm and no bias.

A tap is read as the levels that the next stage's downsampling fires, so that none is fired for it
alone; the last stage's membrane has a neuron of its own, "neck.encode_lif". s is a tap's stride.
With the published neuron, which fires other levels, taps have neurons "neck.encode<s>_lif".

=============================  ===================================================================
neck.lateral<s>                1x1 of a tap; the next coarser one's membrane is added to its own
neck.output<s>                 3x3 of the lateral's levels
detector.tower<j>              3x3, the same weights on every map, batch norms of its own
detector.cls, detector.reg     1x1, the same on every map; outputs "cls<s>" and "reg<s>"
segmenter.branch<s>            3x3, added from coarse to fine
segmenter.head                 1x1 of the finest sum; output "seg"
=============================  ===================================================================

"cls<s>" are the logits of K classes, "reg<s>" the logarithms of the distances in strides to the
left, top, right and bottom side, and the logit of being in the middle (`model.decode.locations`).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from math import prod
from typing import Any, TYPE_CHECKING

from model.families.checks import check_choice, is_positive_int, shown
from model.families.parts import HeadLayer
from model.families.taps import Tap, taps


if TYPE_CHECKING:
    from model.families.base import NetworkSpec


__all__ = ["BINARY_NECKS", "DenseHeads", "Detector", "GROUPS", "NEURONS", "REGRESSIONS",
           "Segmenter", "SEGMENTERS"]


GROUPS = ("neck", "detector", "segmenter")
"""First parts of the names of their layers."""

REGRESSIONS = 5
"""Numbers of "reg<s>" at a position: four distances, and being in the middle."""

SEGMENTERS = ("lite", "faithful")
"""One 3x3 a map, then sums from coarse to fine; or as many as published, 1, 1, 2 and 3, each but
those of the finest map in front of a doubling."""

BINARY_NECKS = ("none", "evaluation", "always")
"""Where neurons of the neck hand on levels of 0 and 1 alone: nowhere, in evaluation, which is the
published detector's mistake, or in training too."""

NEURONS = ("backbone", "published")
"""What the neurons of heads fire: what the backbone's do, or, as in the published segmenter,
round(clip(U, 0, 4)), half to even, of the value level/4, without a factor on the membrane. The
convolutions of the published neck have a bias, too."""

_WEIGHT_BITS = (0, 2, 3, 4, 8, 32)

_CHANNELS_MAX, _CLASSES_MAX, _PIXEL_CLASSES_MAX, _TOWER_MAX = 1023, 65536, 255, 16


def _check_counts(what: str, made: Any, **most: int) -> None:
    for name, limit in most.items():
        value = getattr(made, name)
        if not is_positive_int(value) or value > limit:
            raise ValueError(f"{what}.{name} must be 1 to {limit}, not {shown(value)}")


def _names(what: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(x, str) for x in value):
        raise ValueError(f'{what} must be a list of stages in quotes, such as ["2", "4"], '
                         f"not {shown(value)}")
    return tuple(value)


@dataclass(frozen=True, kw_only=True)
class Detector:
    """QSD-Det.

    classes, K; taps, those of the neck whose maps it reads, all if not given; tower, its 3x3 on
    each; channels of these, 0 for the neck's.
    """

    classes: int
    taps: tuple[str, ...] = ()
    tower: int = 2
    channels: int = 0

    def __post_init__(self) -> None:
        what = "dense_heads.detector"
        object.__setattr__(self, "taps", _names(f"{what}.taps", self.taps))
        _check_counts(what, self, classes=_CLASSES_MAX, tower=_TOWER_MAX)
        if self.channels != 0:
            _check_counts(what, self, channels=_CHANNELS_MAX)


@dataclass(frozen=True, kw_only=True)
class Segmenter:
    """QSD-Seg.

    classes, of pixels, with the background; kind, one of `SEGMENTERS`; on_host, whether the levels
    in front of the last 1x1 are read out, and the host computes it, for many classes.
    """

    classes: int
    kind: str = "lite"
    on_host: bool = False

    def __post_init__(self) -> None:
        what = "dense_heads.segmenter"
        _check_counts(what, self, classes=_PIXEL_CLASSES_MAX)
        check_choice(f"{what}.kind", self.kind, SEGMENTERS)
        if not isinstance(self.on_host, bool):
            raise ValueError(f"{what}.on_host must be true or false, not {shown(self.on_host)}")


@dataclass(frozen=True, kw_only=True)
class DenseHeads:
    """A neck, and a detector, a segmenter or both on it.

    Parameters
    ----------
    taps
        Stages that the neck reads (`model.families.taps`), the last of the network among them;
        each has twice the stride of the one before.
    channels
        F, of every map of the neck.
    detector, segmenter
        At least one; the segmenter reads every map of the neck. Mappings are taken, too.
    binary_neck
        One of `BINARY_NECKS`.
    neuron
        One of `NEURONS`.
    weight_bits
        Of the heads' weights, 2, 3, 4, 8, or 32 for real ones; 0 for the network's.

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    taps: tuple[str, ...]
    channels: int
    detector: Detector | None = None
    segmenter: Segmenter | None = None
    binary_neck: str = "none"
    neuron: str = "backbone"
    weight_bits: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "taps", _names("dense_heads.taps", self.taps))
        _check_counts("dense_heads", self, channels=_CHANNELS_MAX)
        for name, kind in (("detector", Detector), ("segmenter", Segmenter)):
            value = getattr(self, name)
            if value is not None and not isinstance(value, kind):
                object.__setattr__(self, name, _made(f"dense_heads.{name}", kind, value))
        check_choice("dense_heads.binary_neck", self.binary_neck, BINARY_NECKS)
        check_choice("dense_heads.neuron", self.neuron, NEURONS)
        check_choice("dense_heads.weight_bits", self.weight_bits, _WEIGHT_BITS)
        if self.detector is None and self.segmenter is None:
            raise ValueError("dense_heads must have a detector, a segmenter or both")
        faithful = self.detector is None and self.segmenter is not None and (
            self.segmenter.kind == "faithful")
        if self.published and not (faithful and self.binary_neck == "none"):
            raise ValueError("dense_heads.neuron must be backbone, but for a faithful segmenter "
                             "alone, with binary_neck none")

    @classmethod
    def from_dict(cls, values: object) -> "DenseHeads":
        """Of a mapping, such as `to_dict` makes. Raises ValueError, also on unknown keys."""
        return _made("dense_heads", cls, values)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, texts, lists and mappings, without what has its default."""
        found = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if value == item.default:
                continue
            found[item.name] = _plain(value)
        return found

    @property
    def published(self) -> bool:
        """Whether its neurons are the published segmenter's."""
        return self.neuron == "published"

    @property
    def classes(self) -> int:
        """Of the boxes, or without a detector of the pixels."""
        head = self.detector or self.segmenter
        return 0 if head is None else head.classes

    def check(self, spec: "NetworkSpec") -> None:
        """Raise ValueError if they do not fit the network of `spec`."""
        try:
            found = taps(spec, self.taps)
        except ValueError as error:
            raise ValueError(f"dense_heads.taps: {error}") from None
        if not found or found[-1].stage != spec.stages[-1]:
            raise ValueError(f"dense_heads.taps must end with the network's last stage, "
                             f"{spec.stages[-1]}, not be {shown(list(self.taps))}")
        for fine, coarse in zip(found, found[1:], strict=False):
            if coarse.stride != 2 * fine.stride:
                raise ValueError(
                    f"dense_heads.taps must each have twice the stride of the one before; stage "
                    f"{fine.stage} has {fine.stride} pixels and stage {coarse.stage} "
                    f"{coarse.stride}: leave one out, or change the strides")
        unknown = [x for x in self.detector.taps if x not in self.taps] if self.detector else []
        if unknown:
            raise ValueError(f"dense_heads.detector.taps must be some of {', '.join(self.taps)}, "
                             f"not {shown(unknown[0])}")
        if spec.time_steps > 1:
            raise ValueError("dense_heads are for single images: time_steps must be 1, "
                             f"not {spec.time_steps}")
        if self.published and not (spec.spikes and spec.levels == 4 and (
                spec.half_even or spec.gain > 1)):
            raise ValueError("dense_heads.neuron published is for spiking networks with levels "
                             "0..4, and not for a large SDT-v3")

    def whole(self, spec: "NetworkSpec") -> bool:
        """Whether a membrane of 1 is worth one level in the heads, but several in the backbone."""
        return self.published and spec.gain > 1

    def encoders(self, spec: "NetworkSpec") -> dict[str, HeadLayer]:
        """By the stage of a tap, the last one's excepted: what hands on its membrane unchanged to
        the neuron of the heads, where that fires other levels than the next stage's does."""
        if not self.whole(spec):
            return {}
        ends = {step.stage: f"{step.name}/u" for step in spec.steps}
        found = {}
        for tap in taps(spec, self.taps)[:-1]:
            stage = spec.stages.index(tap.stage)
            neuron = source_of(spec, tap.stage)
            name = neuron.removesuffix("_lif")
            found[tap.stage] = HeadLayer(
                name=f"{name}_conv", shape=(tap.channels, tap.channels, 1, 1), zero=True,
                source=f"downsample{spec.stages[stage + 1]}.encode_lif", unit=spec.level_unit,
                reduction=tap.stride, membrane=f"{name}/u", added=ends[stage], neuron=neuron)
        return found

    def maps(self, spec: "NetworkSpec") -> tuple[Tap, ...]:
        """The taps that the detector's maps have their places and strides of; () without one."""
        if self.detector is None:
            return ()
        chosen = self.detector.taps or self.taps
        return tuple(tap for tap in taps(spec, self.taps) if tap.stage in chosen)

    def strides(self, spec: "NetworkSpec") -> tuple[int, ...]:
        """Those of `maps`, from fine to coarse."""
        return tuple(tap.stride for tap in self.maps(spec))

    def layers(self, spec: "NetworkSpec") -> tuple[HeadLayer, ...]:
        """Every layer with weights, in order of execution."""
        found = taps(spec, self.taps)
        made = list(self._neck(spec, found))
        if self.detector is not None:
            made += self._detector(spec, self.detector)
        if self.segmenter is not None:
            segmenter = self._lite if self.segmenter.kind == "lite" else self._faithful
            made += segmenter(spec, found)
            made.append(HeadLayer(
                name="segmenter.head", shape=(self.segmenter.classes, self.channels, 1, 1),
                source="segmenter.lif", unit=spec.level_unit, bias=True,
                reduction=found[0].stride, output="seg", on_host=self.segmenter.on_host))
        return tuple(made)

    def _neck(self, spec: "NetworkSpec", found: Iterable[Tap]) -> Iterator[HeadLayer]:
        """Laterals from coarse to fine, then the outputs that a head reads."""
        size, unit = self.channels, spec.level_unit
        added, found = "", tuple(found)
        for tap in reversed(found):
            name = f"neck.lateral{tap.stride}"
            yield HeadLayer(
                name=f"{name}_conv", shape=(size, tap.channels, 1, 1), norms=(f"{name}_bn",),
                source=source_of(spec, tap.stage), unit=unit, neuron=f"{name}_lif",
                bias=self.published, reduction=tap.stride, membrane=f"{name}/u", added=added,
                upsample=2)
            added = f"{name}/u"
        read = found if self.segmenter is not None else self.maps(spec)
        for tap in read:
            yield self._block(spec, f"neck.output{tap.stride}", f"neck.lateral{tap.stride}_lif",
                              tap.stride, neuron=f"neck.output{tap.stride}_lif",
                              bias=self.published)

    def _block(self, spec: "NetworkSpec", name: str, source: str, stride: int, **others: Any
               ) -> HeadLayer:
        """3x3 from F to F channels, batch norm."""
        return HeadLayer(name=f"{name}_conv", shape=(self.channels, self.channels, 3, 3),
                         source=source, unit=spec.level_unit, norms=(f"{name}_bn",),
                         reduction=stride, **others)

    def _detector(self, spec: "NetworkSpec", head: Detector) -> Iterator[HeadLayer]:
        size, unit = head.channels or self.channels, spec.level_unit
        for tap in self.maps(spec):
            s, source, inputs = tap.stride, f"neck.output{tap.stride}_lif", self.channels
            for j in range(head.tower):
                name = f"detector.tower{j}"
                yield HeadLayer(
                    name=f"{name}_conv{s}", weights=f"{name}_conv", shape=(size, inputs, 3, 3),
                    source=source, unit=unit, norms=(f"{name}_bn{s}",), neuron=f"{name}_lif{s}",
                    reduction=s)
                source, inputs = f"{name}_lif{s}", size
            for name, outputs in (("cls", head.classes), ("reg", REGRESSIONS)):
                yield HeadLayer(
                    name=f"detector.{name}{s}", weights=f"detector.{name}", source=source,
                    shape=(outputs, size, 1, 1), unit=unit, bias=True, reduction=s,
                    output=f"{name}{s}")

    def _lite(self, spec: "NetworkSpec", found: tuple[Tap, ...]) -> Iterator[HeadLayer]:
        added = ""
        for tap in reversed(found):
            name = f"segmenter.branch{tap.stride}"
            yield self._block(
                spec, name, f"neck.output{tap.stride}_lif", tap.stride, membrane=f"{name}/u",
                added=added, upsample=2, neuron="segmenter.lif" if tap is found[0] else "")
            added = f"{name}/u"

    def _faithful(self, spec: "NetworkSpec", found: tuple[Tap, ...]) -> Iterator[HeadLayer]:
        """The published head. What it sums at the finest map are doubled maps, and a sum of doubled
        maps is the doubled sum: branches but the finest are summed at twice its stride."""
        strides = [tap.stride for tap in found]
        sums = ""
        for i in reversed(range(1, len(strides))):
            source = f"neck.output{strides[i]}_lif"
            for j in range(i):
                stride, name = strides[i - j], f"segmenter.branch{strides[i]}_unit{j}"
                last = j == i - 1
                yield self._block(spec, name, source, stride, membrane=f"{name}/u",
                                  added=sums if last else "")
                if last:
                    sums = f"{name}/u"
                    continue
                source = f"{name}_lif"
                yield HeadLayer(
                    name=f"{name}_up", shape=(self.channels, self.channels, 1, 1), zero=True,
                    source=f"neck.output{stride // 2}_lif", unit=spec.level_unit,
                    reduction=stride // 2, membrane=f"{name}_up/u", added=f"{name}/u", upsample=2,
                    neuron=source)
        yield self._block(spec, f"segmenter.branch{strides[0]}", f"neck.output{strides[0]}_lif",
                          strides[0], membrane=f"segmenter.branch{strides[0]}/u", added=sums,
                          upsample=2, neuron="segmenter.lif")


def source_of(spec: "NetworkSpec", stage: str) -> str:
    """The neuron whose levels are those of a tap."""
    place = spec.stages.index(stage) + 1
    heads = spec.dense_heads
    if heads is not None and heads.whole(spec):
        return f"neck.encode{prod(spec.strides[:place])}_lif"
    if place == len(spec.stages):
        return "neck.encode_lif"
    return f"downsample{spec.stages[place]}.encode_lif"


def _made(what: str, kind: Any, values: object) -> Any:
    """An object of a dataclass of a mapping of its fields."""
    known = [item.name for item in fields(kind)]
    if not isinstance(values, Mapping):
        raise ValueError(f"{what} must be a mapping of {', '.join(known)}, not {shown(values)}")
    for key in values:
        if key not in known:
            raise ValueError(f"{what}: {shown(key)} is not known; known are {', '.join(known)}")
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"{what}: {error}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, Detector | Segmenter):
        defaults = {item.name: item.default for item in fields(value)}
        return {k: _plain(v) for k, v in asdict(value).items() if v != defaults[k]}
    return list(value) if isinstance(value, tuple) else value
