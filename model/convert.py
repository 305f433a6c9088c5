"""Make a portable file: ``python -m model.convert --checkpoint F.pth --heads H --out F.qsd``.

Reads a published checkpoint, of a classifier or of the segmenter, or one of `model.train`, checks
it, and writes a ``.qsd`` file, which needs no torch to run. Real weights are quantised with
``--weight-bits``. With ``--model NAME`` the file holds what that name stands for (`model.zoo`), so
synthetic weights can be kept. With ``--data`` every layer gets the width of z that it needs
(`model.z_width`). Nothing is written unless everything is in order.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
import sys
from typing import TYPE_CHECKING

from model import zoo
from model.command import add_verbosity, ArgumentParser, called, main, next_step, require
from model.error import as_input_error, InputError
from model.families.base import FLOAT_BITS, NetworkSpec
from model.families.layout import CHECKPOINT_SUFFIXES
from model.families.spec import FAMILIES
from model.files import check_writable, write_atomic
from model.integer import qsd_file
from model.integer.quantise import quantise, sqnr
from model.integer.widths import add_widths, widths
from model.z_width import add_z_options, check_z_options, choose_z, z_report, z_table


if TYPE_CHECKING:
    from model.published.checkpoint import Published


def cli(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return main(_convert, _parser(), argv)


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog=called("model.convert"),
        description="Turn a checkpoint (.pth) into a portable integer network (.qsd). The file "
        "keeps int8 weights and the trained per-channel constants; the widths below are checked "
        "and stored as its defaults, and can be changed whenever it is loaded.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", type=Path, metavar="F.pth",
                        help=f"file to read ({', '.join(CHECKPOINT_SUFFIXES)})")
    source.add_argument("--weights", type=Path, metavar="F.qsd",
                        help="another portable file, for other widths")
    source.add_argument(
        "--model",
        metavar="NAME",
        help="a network by name: shipped, in the cache folder, or else synthetic",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="of synthetic weights (default: 0)"
    )
    parser.add_argument(
        "--family",
        choices=FAMILIES,
        help="refuse a checkpoint of another family; without it the keys alone tell",
    )
    parser.add_argument(
        "--heads",
        type=int,
        metavar="H",
        help="attention heads; needed for a published checkpoint of a QSD-Transformer, which "
        "does not tell (published networks have 8)",
    )
    parser.add_argument(
        "--image-size",
        type=int,
        metavar="PX",
        help="side of the images the network is meant for; shapes do not tell "
        "(default: the checkpoint's own, else 224, of a published segmenter 512)",
    )
    parser.add_argument(
        "--averaged",
        action="store_true",
        help="take the moving average (EMA) of the weights where a checkpoint holds both",
    )
    parser.add_argument(
        "--without-kd",
        action="store_true",
        help="leave out the second head (head_kd) of a network trained with distillation, whose "
        "published evaluation averages both; accuracy may differ",
    )
    parser.add_argument(
        "--weight-bits",
        type=int,
        metavar="B",
        help="LSQ bits, which shapes do not tell (default: 4); real weights, and those of a "
        "published segmenter's heads, are quantised to so many: 8 cost little accuracy, fewer need "
        "training (qsdt train --init)",
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="X.npz",
        help="with real weights: pictures on which to count how often the integer network agrees "
        "with the real one, of a segmenter on how many pixels",
    )
    parser.add_argument(
        "--levels",
        type=int,
        metavar="D",
        help="highest level that neurons fire; no state dict tells (default: 4, as published)",
    )
    parser.add_argument("--time-steps", type=int, metavar="T",
                        help="images, such as frames of events, whose results are averaged; "
                             "neurons have no state, so any number is possible (default: the "
                             "network's own)")
    parser.add_argument("--out", required=True, type=Path, metavar="F.qsd", help="file to write")
    add_widths(parser)
    add_z_options(parser)
    add_verbosity(parser)
    return parser


def _convert(args: argparse.Namespace) -> None:
    if args.out.suffix != ".qsd":
        raise InputError(f"--out must end in .qsd, not be {args.out}")
    check_z_options(args)
    if args.images is not None and args.checkpoint is None:
        raise InputError("--images goes with --checkpoint")
    for file in filter(None, (args.out, args.report)):
        check_writable(file)
    with as_input_error():
        found, segmenter = _read(args)
        real = None
        if any(found.spec.bits_of(layer) == FLOAT_BITS for layer in found.spec.layers):
            real, found = found, _quantised(args, found)
        elif args.images is not None:
            raise ValueError("--images is for checkpoints with real weights; for others use: "
                             f"{called('model.evaluate')} --against float")
        if args.time_steps is not None:
            found = replace(found, spec=replace(found.spec, time_steps=args.time_steps))
        choice = None if args.data is None else choose_z(args, found)
        params = widths(args, found.params) if choice is None else choice.params
        content = qsd_file.to_bytes(
            *(found.state, found.spec, params), origin=found.origin, info=found.info
        )
    write_atomic(args.out, content)
    spec = found.spec
    print(
        f"{args.out}: dims {'/'.join(map(str, spec.dims))}, {spec.heads} heads, "
        f"{spec.classes} classes, {spec.weight_count:,} weights of {_bits_said(spec)}, "
        + (f"{spec.time_steps} images a result, " if spec.time_steps > 1 else "") +
        f"{len(content):,} bytes" + (f" ({found.origin})" if found.origin else "")
    )
    if choice is not None:
        print(z_table(choice), end="")
    elif spec.has_z and not params.z_bits_of:
        hint = "" if spec.dense_heads else "; --data NAME finds what each layer needs"
        print(f"z: {params.z_bits} bits in every layer{hint}")
    if choice is not None and args.report is not None:
        write_atomic(args.report, z_report(choice, args))
    if segmenter is not None:
        print("bilinear maps inside the published head are nearest neighbours here")
    if real is not None and args.images is not None:
        found = replace(found, params=params)
        if segmenter is None:
            _compare(args, real, found)
        else:
            _compare_pixels(args, segmenter, found)
    if spec.software_only:
        next_step("model.evaluate", "--weights", args.out, "--data", "NAME", "--against", "float")
    else:
        next_step("gen.verify", "--weights", args.out, "--forms", "integer,iss")


def _quantised(args: argparse.Namespace, real: zoo.Weights) -> zoo.Weights:
    """Integer weights for real ones, as the command line asks; prints what they cost."""
    spec, bits = real.spec, args.weight_bits
    heads = spec.dense_heads
    of_heads = heads is not None and heads.weight_bits == FLOAT_BITS
    many = 8
    if not of_heads:
        replace(spec, weight_bits=4).check_integer_form()    # what else may be in the way
        many = max(b for b in spec.WEIGHT_BITS if b != FLOAT_BITS)
    if bits in (None, FLOAT_BITS):
        raise ValueError(
            f"{spec.name} has heads with real weights: quantise them with --weight-bits {many}"
            if of_heads else
            f"{spec.name} has real weights: quantise them with --weight-bits {many}, or train it "
            "with fewer (qsdt train --init)")
    made = quantise(real.state, spec, bits)
    width = max(map(len, made.sqnr))
    print(f"signal over error of the weights in {bits} bits, dB:")
    print("\n".join(f"  {name:{width}}  {value:6.1f}" for name, value in made.sqnr.items()))
    if bits < 8 and not of_heads:
        print(f"{bits} bits cost accuracy without training: qsdt train --init starts from the "
              "real weights")
    return replace(real, spec=made.spec, state=made.state)


def _compare(args: argparse.Namespace, real: zoo.Weights, found: zoo.Weights) -> None:
    """Print how often the integer network has the class of the real one, on --images."""
    from model.evaluate import read_images, run

    with as_input_error():
        image_q, _ = read_images(args.images, channels=found.spec.in_channels)
        tops = [run(weights, image_q, form, params=found.params)["logits"].argmax(1)
                for weights, form in ((real, "float"), (found, "integer"))]
    same = int((tops[0] == tops[1]).sum())
    print(f"integer = float with real weights in the top class: {same / len(image_q):.4f} "
          f"({same} of {len(image_q)})")


def _compare_pixels(args: argparse.Namespace, segmenter: "Published", found: zoo.Weights) -> None:
    """Print what nearest neighbours and integers change of a published segmenter on --images."""
    from model.evaluate import read_images
    from model.published.integer import logits

    with as_input_error():
        image_q, _ = read_images(args.images, channels=found.spec.in_channels)
        network = zoo.network(found, params=found.params, input_shape=image_q.shape[1:])
        bilinear, nearest = (logits(segmenter, image_q, upsampling=x)
                             for x in ("bilinear", "nearest"))
        integer = network.run_batched(image_q, batch=1, keep=("seg",))["seg"]
    for what, before, after in (("nearest = bilinear", bilinear, nearest),
                                ("integer = nearest", nearest, integer)):
        same, count = before.argmax(1) == after.argmax(1), before[:, 0].size
        print(f"{what} in the class: {same.sum() / count:.4f} of {count:,} pixels; signal over "
              f"error of the logits {sqnr(before, after):.1f} dB")


def _bits_said(spec: NetworkSpec) -> str:
    heads = spec.dense_heads
    if heads is None or heads.weight_bits in (0, spec.weight_bits):
        return f"{spec.weight_bits} bits"
    return f"{spec.weight_bits} bits and of the heads {heads.weight_bits}"


def _read(args: argparse.Namespace) -> tuple[zoo.Weights, "Published | None"]:
    """The network, and what it was made of, of a published segmenter."""
    if args.checkpoint is None:
        for name in ("image_size", "weight_bits", "levels", "family"):
            if getattr(args, name) is not None:
                raise ValueError(f"--{name.replace('_', '-')} goes with --checkpoint")
        return zoo.read(args.model, args.weights, args.heads, seed=args.seed), None
    require("torch", what="reads checkpoints")
    from model.published.checkpoint import is_published  # --help should not wait for torch
    from model.training import checkpoint

    if is_published(args.checkpoint):
        return _read_published(args)
    found = checkpoint.read(
        args.checkpoint,
        heads=args.heads,
        image_size=args.image_size,
        weight_bits=args.weight_bits,
        levels=args.levels,
        averaged=args.averaged,
        without_kd=args.without_kd,
    )
    if args.family not in (None, found.spec.family):
        raise ValueError(f"{args.checkpoint}: holds a {found.spec.title} (--family "
                         f"{found.spec.family}), not a {FAMILIES[args.family].title}")
    return zoo.Weights(found.spec, None, found.state, info=found.info), None


def _read_published(args: argparse.Namespace) -> tuple[zoo.Weights, "Published"]:
    from model.published import checkpoint, integer

    for name in ("levels", "averaged", "without_kd", "time_steps", "data"):
        if getattr(args, name):
            raise ValueError(f"--{name.replace('_', '-')} is not for a published segmenter")
    found = checkpoint.read(args.checkpoint, heads=args.heads)
    if args.family not in (None, found.spec.family):
        raise ValueError(f"{args.checkpoint}: holds a {found.spec.title} (--family "
                         f"{found.spec.family}), not a {FAMILIES[args.family].title}")
    try:
        spec, state = integer.as_network(found, image_size=args.image_size or integer.IMAGE_SIZE)
    except ValueError as error:
        raise ValueError(f"{args.checkpoint}: {error}") from None
    return zoo.Weights(spec, None, state), found


if __name__ == "__main__":
    sys.exit(cli())
