"""What the commands of this package share: parsing, exit statuses, progress, integer widths."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import fields
import sys
from typing import NoReturn

from model.epilogue import IntegerParams


BAD_INPUT, INTERRUPTED = 1, 130
"""Exit statuses beside 0."""


class Parser(argparse.ArgumentParser):
    """argparse with exit status 1 for a wrong command line, as for every other bad input."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(BAD_INPUT, f"error: {message}\n")


def guarded(
    parser: argparse.ArgumentParser,
    command: Callable[[argparse.Namespace], None],
    argv: Sequence[str] | None,
) -> int:
    """Parse, run `command` and return the exit status; bad input is one line on stderr."""
    args = parser.parse_args(argv)
    try:
        command(args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return INTERRUPTED
    return 0


_WIDTHS = {
    "u_frac": "fraction bits of the membrane U",
    "u_bits": "signed bits of the membrane U",
    "z_frac": "fraction bits of z, the multi-bit maps inside RepConv and SepConv",
    "z_bits": "signed bits of z",
    "mult_bits": "signed bits of the per-channel multipliers",
    "acc_bits": "signed bits of the accumulators",
}


def add_widths(parser: argparse.ArgumentParser) -> None:
    """Add the options that `widths` reads."""
    group = parser.add_argument_group("widths of the integer form")
    defaults = {item.name: item.default for item in fields(IntegerParams)}
    for name, text in _WIDTHS.items():
        group.add_argument(
            f"--{name.replace('_', '-')}",
            type=int,
            metavar="N",
            help=f"{text} (default: the file's, else {defaults[name]})",
        )
    group.add_argument(
        "--z-frac-of",
        action="append",
        type=_layer_frac,
        default=[],
        metavar="LAYER=N",
        help="another z_frac for one layer or all that end so, such as proj_conv=5; repeatable",
    )


def _layer_frac(text: str) -> tuple[str, int]:
    layer, _, frac = text.partition("=")
    if not layer or not frac.isdecimal():
        raise argparse.ArgumentTypeError(f"must be LAYER=N, not {text}")
    return layer, int(frac)


def widths(args: argparse.Namespace, base: IntegerParams | None) -> IntegerParams:
    """`base`, or the defaults, with what the command line says otherwise."""
    base = base or IntegerParams()
    values = {item.name: getattr(base, item.name) for item in fields(base)}
    values |= {n: getattr(args, n) for n in _WIDTHS if getattr(args, n) is not None}
    values["z_frac_of"] = (*values["z_frac_of"], *args.z_frac_of)
    return IntegerParams(**values)
