"""Make a portable file: ``python -m model.convert --checkpoint F.pth --heads H --out F.qsd``.

Reads a published checkpoint or one of `model.train`, checks it, and writes a ``.qsd`` file, which
needs no torch to run. With ``--model NAME`` the file holds what that name stands for (`model.zoo`),
so synthetic weights can be kept. With ``--data`` every layer gets the width of z that it needs
(`model.z_width`). Nothing is written unless everything is in order.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
import sys

from model import zoo
from model.command import add_verbosity, ArgumentParser, called, main, next_step, require
from model.error import as_input_error, InputError
from model.families.layout import CHECKPOINT_SUFFIXES
from model.files import check_writable, write_atomic
from model.integer import qsd_file
from model.integer.widths import add_widths, widths
from model.z_width import add_z_options, check_z_options, choose_z, z_report, z_table


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
        "(default: the checkpoint's own, else 224)",
    )
    parser.add_argument(
        "--averaged",
        action="store_true",
        help="take the moving average (EMA) of the weights where a checkpoint holds both",
    )
    parser.add_argument("--weight-bits", type=int, metavar="B", help="LSQ bits: 2, 3 or 4")
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
    for file in filter(None, (args.out, args.report)):
        check_writable(file)
    with as_input_error():
        found = _read(args)
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
        f"{spec.classes} classes, {spec.weight_count:,} weights of {spec.weight_bits} bits, "
        + (f"{spec.time_steps} images a result, " if spec.time_steps > 1 else "") +
        f"{len(content):,} bytes" + (f" ({found.origin})" if found.origin else "")
    )
    if choice is not None:
        print(z_table(choice), end="")
    elif spec.has_z and not params.z_bits_of:
        print(f"z: {params.z_bits} bits in every layer; --data NAME finds what each layer needs")
    if choice is not None and args.report is not None:
        write_atomic(args.report, z_report(choice, args))
    next_step("gen.verify", "--weights", args.out, "--forms", "integer,iss")


def _read(args: argparse.Namespace) -> zoo.Weights:
    if args.checkpoint is None:
        for name in ("image_size", "weight_bits", "levels"):
            if getattr(args, name) is not None:
                raise ValueError(f"--{name.replace('_', '-')} goes with --checkpoint")
        return zoo.read(args.model, args.weights, args.heads, seed=args.seed)
    require("torch", what="reads checkpoints")
    from model.training import checkpoint  # after parsing: --help should not wait for torch

    found = checkpoint.read(
        args.checkpoint,
        heads=args.heads,
        image_size=args.image_size,
        weight_bits=args.weight_bits,
        levels=args.levels,
        averaged=args.averaged,
    )
    return zoo.Weights(found.spec, None, found.state, info=found.info)


if __name__ == "__main__":
    sys.exit(cli())
