"""One form of a network with heads, measured on pictures with boxes or classes of pixels.

Part of ``model.evaluate``: float, integer and wide form go through the same decoding, in float64.
"""

from collections.abc import Callable, Iterator
from typing import cast, TYPE_CHECKING

from numpy.typing import NDArray

from model import zoo
from model.data.objects import Samples
from model.data.pipeline import object_batches, steps_for
from model.families.dense import DenseHeads
from model.integer.epilogue import IntegerParams
from model.metrics.dense import DenseMeasure, FIGURES
from model.progress import OnProgress


if TYPE_CHECKING:
    from model.integer.export import Form


__all__ = ["check_classes", "measured", "said"]

Run = Callable[[NDArray], dict[str, NDArray]]


def check_classes(heads: DenseHeads, samples: Samples, name: str) -> None:
    """Raise ValueError unless data has the classes that the heads have."""
    for head, names, what in ((heads.detector, samples.classes, "boxes"),
                              (heads.segmenter, samples.mask_classes, "pixels")):
        if head is not None and len(names) != head.classes:
            raise ValueError(f"{name}: has {len(names)} classes of {what}, the network "
                             f"{head.classes}: take data with the classes it was trained on")


def measured(
    weights: zoo.Weights, samples: Samples, form: str, *, params: IntegerParams | None = None,
    batch: int = 64, progress: OnProgress | None = None,
) -> DenseMeasure:
    """`DenseMeasure` of "float", "integer" or "wide" on all `samples`.

    Raises ValueError if the network has no such form, or a picture cannot be read.
    """
    spec = weights.spec
    if spec.dense_heads is None:
        raise ValueError(f"{spec.name} has no heads for boxes or pixels")
    run = _float(weights) if form == "float" else _integer(weights, form, params)
    strides = [tap.stride for tap in spec.dense_heads.maps(spec)]
    found = DenseMeasure(samples, strides, pixels=spec.dense_heads.segmenter is not None)
    steps = steps_for(spec.image_size, train=False)
    for made in object_batches(samples, spec, steps, batch=batch):
        found.add(made, run(made.image_q))
        if progress is not None:
            progress(len(made.image_q))
    return found


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
