"""Run a network on images: ``python -m model.evaluate --model qsdt_nano --data fashion_mnist``.

Three forms of the same network: "float", PyTorch in float64; "integer", what the hardware
computes; "wide", the integer network with so many bits that it equals the float one.
"""

import argparse
from collections.abc import Sequence
import csv
from functools import partial
import io
import math
from pathlib import Path
import sys
from typing import Any, cast, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model import zoo
from model.command import add_verbosity, ArgumentParser, called, main, next_step, require
from model.data.coco import results_of, write_results
from model.data.dataset import class_title, DataInfo, to_image_q
from model.data.object_options import add_score, OBJECT_DATA_HELP, read_objects
from model.data.objects import Samples
from model.data.options import add_data_options, DATA_HELP, read_split
from model.decode.outputs import Seen
from model.error import as_input_error, InputError
from model.families.spec import MODELS
from model.files import check_folder, check_writable, replacing, write_atomic
from model.gallery import PAGE, write_gallery
from model.integer.epilogue import IntegerParams
from model.integer.widths import add_widths, widths
from model.progress import OnProgress, track


if TYPE_CHECKING:
    from model.integer.export import Form


FORMS = ("float", "integer", "wide")

TOP = 5
"""Classes among which the label must be for the second accuracy that is printed."""

TABLE_CLASSES = 20
"""Most classes whose confusion is printed as a table; of more, as many most frequent mistakes."""


def cli(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return main(_evaluate, _parser(), argv)


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog=called("model.evaluate"),
        description="Classify images with one form of a network, or find boxes and classes of "
        "pixels. Prints the accuracy where labels are known, mAP and mIoU of heads. Nothing is "
        "written without --out.",
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--model",
        metavar="NAME",
        help=f"a network by name: {', '.join(MODELS)}, or a spec (F.yaml)",
    )
    which.add_argument(
        "--weights", type=Path, metavar="F", help="a .qsd file or a checkpoint (.pth)"
    )
    parser.add_argument(
        "--heads", type=int, metavar="H", help="attention heads, for a published checkpoint"
    )
    parser.add_argument(
        "--form", choices=FORMS, default="integer", help="what to run (default: %(default)s)"
    )
    parser.add_argument(
        "--against", choices=FORMS, help="also run this form and print the top-1 agreement"
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--data", metavar="NAME", help=f"a data set: {DATA_HELP}; of a network with heads for "
        f"boxes or pixels: {OBJECT_DATA_HELP}"
    )
    source.add_argument(
        "--images",
        type=Path,
        metavar="X.npz",
        help="image_q, int8 (N, C, H, W), units of 1/48; optionally labels (N,)",
    )
    add_data_options(parser)
    parser.add_argument(
        "--split",
        choices=("test", "val"),
        default="test",
        help="part of the data set (default: %(default)s; val for every choice you make)",
    )
    parser.add_argument("--count", type=int, metavar="N", help="only the first N images")
    parser.add_argument(
        "--confusion",
        nargs="?",
        const=Path(),
        type=Path,
        metavar="F.csv",
        help="print which classes are taken for which, or write them as a table; the row is the "
        "label, the column what the network says",
    )
    parser.add_argument("--out", type=Path, metavar="Y.npz", help="write logits here; of a "
                        "detector, what it found, in COCO's format (F.json)")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="write pictures of boxes and "
                        "pixels to this folder, the truth and what --against and --form see side "
                        "by side: the first ones and the worst, with what is wrong in them, and "
                        f"a page of all ({PAGE})")
    parser.add_argument("--drawn", type=int, default=20, metavar="N",
                        help="of each, for --pictures (default: %(default)s)")
    add_score(parser)
    parser.add_argument(
        "--tensors", action="store_true", help="also write levels/<module> uint8 to --out"
    )
    parser.add_argument(
        "--batch", type=int, default=64, metavar="N", help="images at a time (default: %(default)s)"
    )
    add_widths(parser)
    add_verbosity(parser)
    return parser


def _evaluate(args: argparse.Namespace) -> None:
    if args.tensors and args.out is None:
        raise InputError("--tensors needs --out, the file to write them to")
    for name in ("count", "batch", "drawn"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise InputError(f"--{name} must be at least 1, not {value}")
    if "float" in (args.form, args.against):
        require("torch", what="the float form")
    for file in (args.out, args.confusion):
        if file is not None and file != Path():
            check_writable(file)
    if args.pictures is not None:
        require("PIL", what="draws pictures")
        check_folder(args.pictures)
    with as_input_error():
        found = zoo.read(args.model, args.weights, args.heads)
        params = widths(args, found.params)
    if found.spec.dense_heads is not None:
        _evaluate_dense(args, found, params)
        return
    if args.pictures is not None:
        raise InputError(f"--pictures is for boxes and pixels; {found.spec.name} tells classes of "
                         "images: leave it out")
    with as_input_error():
        image_q, labels, source = _images(args, found)
    results = {}
    for form in dict.fromkeys(filter(None, (args.form, args.against))):
        # An image of another size is refused here, where the network for it is made.
        count = math.prod(image_q.shape[:-3])
        with track(form, count, "images") as task, as_input_error():
            results[form] = run(
                *(found, image_q, form),
                params=params,
                tensors=args.tensors and form == args.form,
                batch=args.batch,
                progress=task.update,
            )
    if args.out is not None:
        with replacing(args.out) as file:
            arrays: dict[str, Any] = {**results[args.form]}
            np.savez(file, **arrays)
    if source:
        print(f"on {source}:")
    _print_result(args, results, labels)
    if args.confusion is not None:
        if labels is None:
            raise InputError("--confusion needs labels; give --data, or labels in --images")
        _show_confusion(args, confusion(labels, results[args.form]["logits"]), found.info)
    if found.origin:
        print(found.origin)
    selected = ("--weights", args.weights) if args.weights else ("--model", args.model)
    if not found.spec.software_only:
        next_step("gen.verify", *selected, "--forms", "integer,iss")


def _evaluate_dense(
    args: argparse.Namespace, found: zoo.Weights, params: IntegerParams
) -> None:
    """Measure a network with heads for boxes or pixels, and write the boxes found to --out."""
    from model.dense_evaluation import check_classes, measured, said, seen_in

    heads = found.spec.dense_heads
    if heads is None:
        raise InputError(f"{found.spec.name} has no heads for boxes or pixels")
    if args.data is None:
        raise InputError("--images are for classes of images; name data with boxes or masks with "
                         "--data, see docs/objects.md")
    for name in ("confusion", "tensors", "fit"):
        if getattr(args, name):
            raise InputError(f"--{name} is for classes of images, not for boxes and pixels")
    if args.out is not None and (args.out.suffix != ".json" or heads.detector is None):
        raise InputError("--out takes the boxes that a detector found, in COCO's format: name a "
                         f"file that ends in .json, for a network with a detector, not {args.out}")
    if heads.detector is not None:
        require("pycocotools", what="measures mAP")
    with as_input_error():
        data = read_objects(args.data, found.spec, data_dir=args.data_dir,
                            background=args.background, masks=heads.segmenter is not None)
        samples = getattr(data.first(args.count), args.split)
        check_classes(found.spec, found.info, samples, args.data)
    measures, words = {}, []
    for form in dict.fromkeys(filter(None, (args.form, args.against))):
        with track(form, len(samples), "images") as task, as_input_error():
            measures[form] = measure = measured(found, samples, form, params=params,
                                                batch=args.batch, progress=task.update)
        for line in said(measure):
            words.append(line if line.startswith(" ") else f"{form}: {line}")
            print(words[-1])
        if form == args.form and args.out is not None:
            write_results(results_of(samples, measure.found), args.out)
    if args.pictures is not None:
        def look(form: str, chosen: Samples) -> list[Seen]:
            return seen_in(found, chosen, form, params=params, batch=args.batch)

        forms = [*reversed(measures)]
        with as_input_error():
            write_gallery(args.pictures, {form: measures[form] for form in forms},
                          {form: partial(look, form) for form in forms},
                          words=words, count=args.drawn, least=args.score)
        print(f"{args.pictures / PAGE}: pictures")
    if found.origin:
        print(found.origin)


def _print_result(
    args: argparse.Namespace, results: dict[str, dict[str, NDArray]], labels: NDArray | None
) -> None:
    top = {form: result["logits"].argmax(1) for form, result in results.items()}
    count = len(top[args.form])
    if labels is None:
        print(f"{args.form}: {count} images, no labels")
    else:
        for form, classes in top.items():
            hits = int((classes == labels).sum())
            print(f"{form}: accuracy {hits / count:.4f} ({hits} of {count})")
            logits = results[form]["logits"]
            if logits.shape[1] > TOP:
                best = np.argsort(-logits, axis=1, kind="stable")[:, :TOP]
                hits = int((best == labels[:, None]).any(1).sum())
                print(f"{form}: among the first {TOP} {hits / count:.4f} ({hits} of {count})")
    if args.against is not None:
        same = int((top[args.form] == top[args.against]).sum())
        print(
            f"{args.form} = {args.against} in the top class: {same / count:.4f} ({same} of {count})"
        )


def confusion(labels: NDArray[np.int64], logits: NDArray) -> NDArray[np.int64]:
    """(classes, classes) counts of images: row the label, column the class with most score."""
    classes = logits.shape[1]
    pairs = labels * classes + logits.argmax(1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def _show_confusion(
    args: argparse.Namespace, counts: NDArray[np.int64], info: DataInfo | None
) -> None:
    titles = [class_title(label, info) for label in range(len(counts))]
    if args.confusion != Path():
        with io.StringIO(newline="") as text:
            writer = csv.writer(text)
            writer.writerow(["label", *titles])
            writer.writerows([title, *row] for title, row in zip(titles, counts, strict=True))
            write_atomic(args.confusion, text.getvalue())
    elif len(counts) <= TABLE_CLASSES:
        width, wide = max(map(len, titles)), max(6, len(str(counts.max())) + 1)
        print(" " * width + "".join(f"{label:{wide}}" for label in range(len(counts))))
        for title, row in zip(titles, counts, strict=True):
            print(f"{title:{width}}" + "".join(f"{count:{wide}}" for count in row))
    else:
        wrong = counts - np.diag(np.diag(counts))
        for place in np.argsort(-wrong, axis=None, kind="stable")[:TABLE_CLASSES]:
            label, said = divmod(int(place), len(counts))
            if wrong[label, said]:
                print(f"{titles[label]} taken for {titles[said]}: {wrong[label, said]}")


def _images(
    args: argparse.Namespace, found: zoo.Weights
) -> tuple[NDArray[np.int8], NDArray[np.int64] | None, str]:
    """Images and labels that the command line names, cut to --count, and what they are."""
    if args.data is not None:
        split = read_split(
            *(args.data, args.split, found.spec), data_dir=args.data_dir, count=args.count,
            fit=args.fit, background=args.background, known=found.info,
        )
        return to_image_q(split.images, found.spec), split.labels, split.source
    image_q, labels = read_images(args.images, channels=found.spec.in_channels)
    return image_q[: args.count], None if labels is None else labels[: args.count], ""


def read_images(path: Path, *, channels: int) -> tuple[NDArray[np.int8], NDArray[np.int64] | None]:
    """Read image_q, int8 (N, channels, H, W) or (N, T, channels, H, W), and labels (N,), if any.

    Raises ValueError naming the entry and what is wrong with it, OSError if there is no file.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("not an .npz archive")
            image_q = archive["image_q"]
            labels = archive["labels"] if "labels" in archive.files else None
    except OSError:
        raise
    except Exception as error:  # numpy and zipfile raise many types on damaged bytes
        raise ValueError(f"{path}: {error}") from None
    if (image_q.dtype != np.int8 or image_q.ndim not in (4, 5)
            or image_q.shape[-3] != channels):
        raise ValueError(
            f"{path}: image_q must be int8 (N, {channels}, H, W) or (N, T, {channels}, H, W), "
            f"not {image_q.dtype} {image_q.shape}"
        )
    if 0 in image_q.shape:
        raise ValueError(f"{path}: image_q must not be empty, not {image_q.shape}")
    if labels is not None and (labels.dtype.kind not in "iu" or labels.shape != image_q.shape[:1]):
        raise ValueError(
            f"{path}: labels must be integers ({len(image_q)},), not {labels.dtype} {labels.shape}"
        )
    return image_q, labels


def run(
    weights: zoo.Weights,
    image_q: NDArray[np.int8],
    form: str,
    *,
    params: IntegerParams | None = None,
    tensors: bool = False,
    batch: int = 64,
    progress: OnProgress | None = None,
) -> dict[str, NDArray]:
    """Run one form on images (N, C, H, W), or (N, T, C, H, W) for T time steps.

    Returns:
        "logits" float64 (N, classes), the mean over time, and, if `tensors`, "levels/<module>"
        uint8 in execution order: (N, C, H, W), for the final "lif" (N, C); (N, T, ...) where the
        network saw T inputs.
    """
    if form == "float":
        return _run_float(weights, image_q, tensors=tensors, batch=batch, progress=progress)
    network = zoo.network(weights, params=params, form=cast("Form", form),
                          input_shape=image_q.shape[1:])
    levels = [n for n, (kind, *_) in network.tensors().items() if kind == "level"]
    keep = ("logits", *(levels if tensors else ()))
    made = network.run_batched(
        image_q, batch=batch, keep=keep,
        progress=None if progress is None else lambda n: progress(n * network.time_steps))
    result = {"logits": made["logits"]}
    for name in levels if tensors else ():
        result[f"levels/{name}"] = made[name] if name != "lif" else made[name][..., 0, 0]
    return result


def _run_float(
    weights: zoo.Weights,
    image_q: NDArray[np.int8],
    *,
    tensors: bool,
    batch: int,
    progress: OnProgress | None,
) -> dict[str, NDArray]:
    import torch  # only this form needs it

    from model.families.network import capture_levels

    network = zoo.float_network(weights).double()  # in float32 a rounded sum may fire another level
    parts: list[dict[str, NDArray]] = []
    steps = network.spec.time_steps
    for start in range(0, len(image_q), batch):
        x = torch.from_numpy(image_q[start : start + batch]).double() / network.spec.image_scale
        given = x if x.ndim == 4 else x.transpose(0, 1)
        with torch.inference_mode(), capture_levels(network) as levels:
            part = {"logits": network(given).numpy()}
        for name, level in levels.items() if tensors else ():
            if given.ndim == 5 or steps > 1:
                level = level.unflatten(0, (steps, -1)).transpose(0, 1)
            part[f"levels/{name}"] = level.numpy()
        parts.append(part)
        if progress is not None:
            progress(math.prod(x.shape[:-3]))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


if __name__ == "__main__":
    sys.exit(cli())
