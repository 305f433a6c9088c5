"""Options of commands for the widths of the integer network."""

import argparse
from dataclasses import fields

from model.integer.epilogue import IntegerParams


__all__ = ["add_widths", "widths"]


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
    for name, example in (("z_bits", "dwconv=8"), ("z_frac", "proj_conv=5")):
        group.add_argument(
            f"--{name.replace('_', '-')}-of",
            action="append",
            type=_layer_bits,
            default=[],
            metavar="LAYER=N",
            help=f"another {name} for one layer or all that end so, such as {example}; repeatable",
        )


def _layer_bits(text: str) -> tuple[str, int]:
    layer, _, bits = text.partition("=")
    if not layer or not (bits.isascii() and bits.isdecimal()):
        raise argparse.ArgumentTypeError(f"must be LAYER=N, not {text}")
    return layer, int(bits)


def widths(args: argparse.Namespace, base: IntegerParams | None) -> IntegerParams:
    """`base`, or the defaults, with what the command line says otherwise.

    A width for every z (``--z-bits``, ``--z-frac``) replaces those that `base` has by layer.
    """
    base = base or IntegerParams()
    values = {item.name: getattr(base, item.name) for item in fields(base)}
    values |= {n: getattr(args, n) for n in _WIDTHS if getattr(args, n) is not None}
    for name in ("z_bits", "z_frac"):
        kept = values[f"{name}_of"] if getattr(args, name) is None else ()
        values[f"{name}_of"] = (*kept, *getattr(args, f"{name}_of"))
    return IntegerParams(**values)
