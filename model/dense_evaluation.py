"""One form of a network with heads, measured on pictures with boxes or classes of pixels.

Part of ``model.evaluate``: float, integer and wide form go through the same decoding, in float64.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import cast, TYPE_CHECKING

from numpy.typing import NDArray

from model import zoo
from model.data.dataset import DataInfo
from model.data.objects import BACKGROUND, Samples
from model.data.pipeline import Batch, object_batches, steps_for
from model.decode.outputs import Seen, seen
from model.families.base import NetworkSpec
from model.families.dense import DenseHeads
from model.integer.epilogue import IntegerParams
from model.metrics.dense import DenseMeasure, FIGURES
from model.progress import OnProgress


if TYPE_CHECKING:
    from model.integer.export import Form


__all__ = ["check_classes", "class_names", "measured", "said", "seen_in"]

Run = Callable[[NDArray], dict[str, NDArray]]


def check_classes(
    spec: NetworkSpec, info: DataInfo | None, samples: Samples, name: str
) -> None:
    """Raise ValueError unless data has the classes that the network's heads have, in their order;
    names are compared where the network keeps those of its data."""
    advice = "take data with the classes it was trained on"
    boxes, pixels = class_names(spec, info)
    for known, names, what in ((boxes, samples.classes, "boxes"),
                               (pixels, samples.mask_classes, "pixels")):
        if not known:
            continue
        if len(names) != len(known):
            raise ValueError(f"{name}: has {len(names)} classes of {what}, the network "
                             f"{len(known)}: {advice}")
        if _numbered(known) or _numbered(names):
            continue
        for number, (ours, theirs) in enumerate(zip(known, names, strict=True)):
            if ours != theirs:
                raise ValueError(f"{name}: class {number} of {what} is {theirs}, the network's "
                                 f"is {ours}: {advice}, in their order")


def _numbered(names: Sequence[str]) -> bool:
    """Whether names are their own numbers, so that nothing is known of them."""
    return [*names] == [str(number) for number in range(len(names))]


def class_names(spec: NetworkSpec, info: DataInfo | None) -> tuple[tuple[str, ...], ...]:
    """Names of the classes of boxes and of pixels, each () without the head: those that the network
    keeps of its data, of pixels with the background in front where boxes have the same; else
    numbers. Raises ValueError if the network has no such heads."""
    heads = spec.dense_heads
    if heads is None:
        raise ValueError(f"{spec.name} has no heads for boxes or pixels")
    known = () if info is None else info.classes
    return tuple(() if head is None else next(
        (names for names in (known, (BACKGROUND, *known)) if len(names) == head.classes),
        tuple(map(str, range(head.classes)))) for head in (heads.detector, heads.segmenter))


def measured(
    weights: zoo.Weights, samples: Samples, form: str, *, params: IntegerParams | None = None,
    batch: int = 64, progress: OnProgress | None = None,
) -> DenseMeasure:
    """`DenseMeasure` of "float", "integer" or "wide" on all `samples`.

    Raises ValueError if the network has no such form, or a picture cannot be read.
    """
    heads = _heads(weights)
    found = DenseMeasure(samples, heads.strides(weights.spec), pixels=heads.segmenter is not None)
    for made, outputs in _run(weights, samples, form, params, batch):
        found.add(made, outputs)
        if progress is not None:
            progress(len(made.image_q))
    return found


def seen_in(weights: zoo.Weights, samples: Samples, form: str, *,
            params: IntegerParams | None = None, batch: int = 64) -> list[Seen]:
    """What a form of the network sees in each of `samples`. Raises as `measured`."""
    strides = _heads(weights).strides(weights.spec)
    return [seen({name: value[i] for name, value in outputs.items()}, placed, strides)
            for made, outputs in _run(weights, samples, form, params, batch)
            for i, placed in enumerate(made.placed)]


def said(measure: DenseMeasure) -> Iterator[str]:
    """The figures in words, and those of each class."""
    figures = measure.figures()
    yield ", ".join(f"{FIGURES[name]} {value:.4f}" for name, value in figures.items())
    rows = []
    if (precision := measure.precision) is not None:
        rows.append(("mAP@0.5", measure.samples.classes, precision.of_class_at50))
    if measure.confusion is not None:
        rows.append(("IoU", measure.samples.mask_classes, measure.confusion.iou))
    for what, names, values in rows:
        yield f"  {what}: " + ", ".join(f"{name} {value:.3f}" for name, value in
                                        zip(names, values, strict=True))


def _heads(weights: zoo.Weights) -> DenseHeads:
    if weights.spec.dense_heads is None:
        raise ValueError(f"{weights.spec.name} has no heads for boxes or pixels")
    return weights.spec.dense_heads


def _run(weights: zoo.Weights, samples: Samples, form: str, params: IntegerParams | None,
         batch: int) -> Iterator[tuple[Batch, dict[str, NDArray]]]:
    """Batches of all pictures, and their outputs."""
    run = _float(weights) if form == "float" else _integer(weights, form, params)
    steps = steps_for(weights.spec.image_size, train=False)
    for made in object_batches(samples, weights.spec, steps, batch=batch):
        yield made, run(made.image_q)


def _integer(weights: zoo.Weights, form: str, params: IntegerParams | None) -> Run:
    network = zoo.network(weights, params=params, form=cast("Form", form))
    return network.results


def _float(weights: zoo.Weights) -> Run:
    import torch  # only this form needs it

    network = zoo.float_network(weights).double()

    def run(image_q: NDArray) -> dict[str, NDArray]:
        with torch.inference_mode():
            outputs = network(torch.from_numpy(image_q).double() / network.spec.image_scale)
        return {name: value.numpy() for name, value in outputs.items()}

    return run
