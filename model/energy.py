"""Energy of a network by the paper's formula: ``python -m model.energy --weights F.qsd``."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
import json
from pathlib import Path
import sys
from typing import TYPE_CHECKING

from model import zoo
from model.command import add_verbosity, ArgumentParser, called, main, next_step, require
from model.data.options import add_data_options, DATA_HELP, read_split
from model.error import as_input_error
from model.files import check_writable, write_atomic


if TYPE_CHECKING:
    from model.training.energy import AttentionEnergy, LayerEnergy


PAPER = {"qsdt_t": 2.5, "qsdt_m": 5.7, "qsdt_l": 8.7}
"""Millijoules an ImageNet image in the paper's Table 1."""


def cli(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return main(_run, _parser(), argv)


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog=called("model.energy"),
        description="Mean levels and synaptic operations of every layer on real images, and the "
        "energy that the paper's formula makes of them (Eq. 28 to 30, constants of 45 nm). It "
        "compares networks on paper; what a board needs is measured by qsdt measure.",
    )
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--weights", type=Path, metavar="F", help="network, .pth or .qsd")
    source.add_argument("--model", metavar="NAME", help="a network by name")
    add("--data", default="fashion_mnist", metavar="NAME",
        help=f"data set: {DATA_HELP} (default: %(default)s)")
    add_data_options(parser)
    add("--split", choices=("train", "val", "test"), default="val",
        help="part of the data set (default: %(default)s)")
    add("--count", type=int, default=500, metavar="N", help="images (default: %(default)s)")
    add("--threads", type=int, default=1, metavar="N", help="CPU threads (default: %(default)s)")
    add("--out", type=Path, metavar="F.json", help="also write every layer and block as JSON")
    add_verbosity(parser)
    return parser


def _run(args: argparse.Namespace) -> None:
    require("torch", what="energy")
    import torch

    from model.training.energy import attention_energy, energy, mean_levels

    torch.set_num_threads(args.threads)
    if args.out is not None:
        check_writable(args.out)
    with as_input_error():
        found = zoo.read(args.model, args.weights)
        split = read_split(
            *(args.data, args.split, found.spec), data_dir=args.data_dir, count=args.count,
            fit=args.fit, background=args.background, known=found.info)
        rows = energy(found.spec, mean_levels(zoo.float_network(found), split))
    blocks = attention_energy(found.spec, rows)
    if args.out is not None:
        record = {"layers": [asdict(row) for row in rows],
                  "attention": [asdict(block) for block in blocks]}
        write_atomic(args.out, json.dumps(record, indent=1) + "\n")
    if split.source:
        print(f"on {split.source}:")
    print(listing(rows), comparison(blocks), sep="\n", end="")
    paper = PAPER.get(found.spec.name)
    if paper is not None:
        print(f"The paper's Table 1 has {paper} mJ for the trained {found.spec.name} on ImageNet.")
    next_step("gen.measure", "--model", found.spec.name, "--board", "virtual")


def listing(rows: "list[LayerEnergy]") -> str:
    """The layers as a text table, sums at the end."""
    width = max(len(row.layer) for row in rows)
    lines = [f"{'layer':{width}}  reads      {'MACs':>14}  mean level  {'SOPs':>14}  "
             f"{'Eq. 29, uJ':>11}  {'Eq. 30, uJ':>11}"]
    for row in rows:
        mean = "-" if row.mean_level is None else f"{row.mean_level:.3f}"
        lines.append(f"{row.layer:{width}}  {row.reads:9}  {row.macs:14,}  {mean:>10}  "
                     f"{row.sops:14,.0f}  {1e6 * row.joules:11.4f}  "
                     f"{1e6 * row.joules_quantised:11.4f}")
    total = [sum(getattr(row, key) for row in rows)
             for key in ("macs", "sops", "joules", "joules_quantised")]
    lines.append(f"{'all':{width}}  {'':9}  {total[0]:14,}  {'':>10}  {total[1]:14,.0f}  "
                 f"{1e6 * total[2]:11.4f}  {1e6 * total[3]:11.4f}")
    return "\n".join(lines) + "\n"


def comparison(blocks: "list[AttentionEnergy]") -> str:
    """Softmax attention of an ANN (MHSA) against SDSA, a block a line."""
    width = max(len(block.block) for block in blocks)
    lines = ["Attention by formula, 32-bit weights (Eq. 29, Table 7), uJ: q k v, products, "
             "softmax (MHSA), projection",
             f"{'block':{width}}  {'N':>6}  {'D':>5}  {'MHSA':>37}  {'SDSA':>28}  MHSA/SDSA"]
    for b in blocks:
        mhsa = (b.mhsa_qkv, b.mhsa_products, b.mhsa_softmax, b.mhsa_projection)
        sdsa = (b.sdsa_qkv, b.sdsa_products, b.sdsa_projection)
        parts = ["  ".join(f"{1e6 * x:8.3f}" for x in each) for each in (mhsa, sdsa)]
        ratio = f"{b.mhsa / b.sdsa:.1f}" if b.sdsa else "-"
        lines.append(f"{b.block:{width}}  {b.tokens:6}  {b.channels:5}  {parts[0]:>37}  "
                     f"{parts[1]:>28}  {ratio:>9}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(cli())
