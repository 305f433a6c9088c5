"""Options of ``model.convert`` that give every layer the width of z that it needs.

The search itself is `model.integer.z_choice`; here are its pictures and its report.
"""

import argparse
from dataclasses import asdict, replace
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model import zoo
from model.data.dataset import to_image_q
from model.data.options import add_data_options, DATA_HELP, read_split
from model.error import InputError
from model.integer.epilogue import IntegerParams
from model.integer.export import build, fold
from model.integer.widths import widths
from model.integer.z_choice import choose, reader_macs, sensitivity, ZChoice
from model.progress import track


__all__ = ["add_z_options", "check_z_options", "choose_z", "z_report", "z_table"]


def add_z_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--data`` and what goes with it."""
    group = parser.add_argument_group(
        "width of z by layer",
        "With --data each layer gets the narrowest z, with the best fraction, that keeps the "
        "accuracy on validation pictures. The widths above are what accuracy is compared with, "
        "and --z-bits the most that a layer gets. Every bit costs the hardware time.",
    )
    add = group.add_argument
    add("--data", metavar="NAME", help=f"choose by pictures of this data set: {DATA_HELP}")
    add_data_options(group)
    add("--calibrate", type=int, default=256, metavar="N",
        help="training pictures that tell what each bit is worth (default: %(default)s)")
    add("--validate", type=int, metavar="N",
        help="only the first N validation pictures (default: all)")
    add("--points", type=float, default=0.1, metavar="P",
        help="percentage points of accuracy that may be lost on them (default: %(default)s)")
    add("--report", type=Path, metavar="F.json", help="write all that was tried")


def check_z_options(args: argparse.Namespace) -> None:
    """Raise InputError where options do not go together or are out of range."""
    if args.data is None:
        for name in ("data_dir", "fit", "background", "validate", "report"):
            if getattr(args, name) is not None:
                raise InputError(f"--{name.replace('_', '-')} goes with --data")
    elif args.z_bits_of:
        raise InputError("--z-bits-of cannot go with --data, which chooses these widths")
    for name in ("calibrate", "validate"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise InputError(f"--{name} must be at least 1, not {value}")
    if not 0 <= args.points <= 100:
        raise InputError(f"--points must be 0..100, not {args.points}")


def choose_z(args: argparse.Namespace, found: zoo.Weights) -> ZChoice:
    """Choose by the pictures that the command line names; an earlier choice is forgotten.

    Raises ValueError or OSError naming the cause.
    """
    if not found.spec.has_z:
        raise ValueError(f"no layer of {found.spec.title} makes a z: leave out --data")
    if found.spec.dense_heads is not None:
        raise ValueError(f"{found.spec.name} is for boxes or pixels; widths of z are chosen by "
                         "probabilities of classes: leave out --data")
    base = found.params
    if base is not None and base.z_bits_of:
        base = replace(base, z_bits_of=(), z_frac_of=())
    params = widths(args, base)
    layers, spec = fold(found.state, found.spec), found.spec

    def pictures(part: str, count: int | None) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
        split = read_split(
            *(args.data, part, spec), data_dir=args.data_dir, count=count, fit=args.fit,
            background=args.background, known=found.info)
        return to_image_q(split.images, spec), split.labels

    def logits(tried: IntegerParams) -> NDArray[np.float64]:
        network = build(layers, spec, tried, input_shape=image_q.shape[1:])
        with track("accuracy of other widths of z", len(labels), "images") as task:
            return network.classify(image_q, progress=task.update)

    calibration, _ = pictures("train", args.calibrate)
    image_q, labels = pictures("val", args.validate)
    calibration = calibration.reshape(-1, *calibration.shape[-3:])    # frames are pictures, too
    with track("what each bit of z is worth", 2 * len(calibration), "images") as task:
        options = sensitivity(layers, spec, params, calibration, progress=task.update)
    macs = reader_macs(build(layers, spec, params, input_shape=image_q.shape[1:]))
    return choose(options, macs, params, logits, labels, points=args.points)


def z_table(choice: ZChoice) -> str:
    """What was chosen, as a text table, and what it does to the accuracy."""
    before = f"{choice.params.z_bits} bits in every layer {_accuracy(choice.hits, choice.count)}"
    if choice.taken is None:
        return f"z: nothing narrower is as good as asked for: {before}\n"
    width = max(map(len, choice.macs))
    lines = [f"{'z of layer':{width}}  bits  fraction  levels that differ  {'MACs':>13}"]
    for name, bits in choice.taken.bits.items():
        option = choice.options[name][bits]
        lines.append(f"{name:{width}}  {bits:4}  {option.frac:8}  {option.share:18.3%}  "
                     f"{choice.macs[name]:13,}")
    lines.append(f"validation: {before}; these {_accuracy(choice.taken.hits, choice.count)}: "
                 f"{choice.taken.won} won, {choice.taken.lost} lost")
    lines.append(f"mean probability of the right class: {choice.sure:.3%}; {choice.taken.sure:.3%}")
    lines.append(f"mean width over the MACs: {choice.params.z_bits}; {choice.mean_bits:.2f} bits")
    return "\n".join(lines) + "\n"


def _accuracy(hits: int, count: int) -> str:
    return f"{hits / count:.2%} ({hits} of {count})"


def z_report(choice: ZChoice, args: argparse.Namespace) -> str:
    """All that was tried, as JSON."""
    values = {
        "data": args.data, "calibrate": args.calibrate, "validate": choice.count,
        "points": args.points, "z_bits": choice.params.z_bits, "hits": choice.hits,
        "sure": choice.sure, "mean_bits": choice.mean_bits,
        "taken": None if choice.taken is None else asdict(choice.taken),
        "tried": [asdict(rung) for rung in choice.tried],
        "layers": {name: {"macs": choice.macs[name],
                          "options": {bits: asdict(option) for bits, option in known.items()}}
                   for name, known in choice.options.items()},
    }
    return json.dumps(values, indent=1) + "\n"
