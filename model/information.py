"""What the levels of networks tell: ``python -m model.information --weights F.qsd --out DIR``.

Writes to the output folder, each file atomically:

``information.json``  every block, head and tensor of every network
``information.md``    the same as a table, heads averaged
``information.png``   histograms of the levels
"""

import argparse
from collections.abc import Sequence
import json
from pathlib import Path
import sys

from model import zoo
from model.command import add_verbosity, ArgumentParser, called, main, next_step, require
from model.data.options import add_data_options, DATA_HELP, read_split
from model.error import as_input_error
from model.files import check_writable, make_folder, write_atomic


def cli(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return main(_run, _parser(), argv)


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog=called("model.information"),
        description="Measure what the levels of q, k, v and of the attention tell: histograms, "
        "entropies in bits, saturation, bimodality and, against a teacher, how much of it they "
        "carry. Several networks stand side by side, such as one before and one after MPRF.",
    )
    add = parser.add_argument
    add("--weights", type=Path, nargs="+", required=True, metavar="F",
        help="networks, .pth or .qsd files")
    add("--teacher", type=Path, metavar="F.pth",
        help="the ANN twin: adds H(S|A) and I(S;A) of q, k and v")
    add("--data", default="fashion_mnist", metavar="NAME",
        help=f"data set: {DATA_HELP} (default: %(default)s)")
    add_data_options(parser)
    add("--split", choices=("train", "val", "test"), default="val",
        help="part of the data set (default: %(default)s)")
    add("--count", type=int, default=1000, metavar="N", help="images (default: %(default)s)")
    add("--threads", type=int, default=1, metavar="N", help="CPU threads (default: %(default)s)")
    add("--out", type=Path, default=Path("runs/information"), metavar="DIR",
        help="folder to write (default: %(default)s)")
    add_verbosity(parser)
    return parser


def _run(args: argparse.Namespace) -> None:
    require("torch", "matplotlib", what="information")
    import torch

    from model.training.distil import load_teacher
    from model.training.information import measure
    from model.training.information_report import picture, table

    torch.set_num_threads(args.threads)
    check_writable(make_folder(args.out) / "information.json")
    networks = []
    for path in args.weights:
        with as_input_error():
            found = zoo.read(None, path)
            split = read_split(
                *(args.data, args.split, found.spec), data_dir=args.data_dir, count=args.count,
                fit=args.fit, background=args.background, known=found.info)
            teacher = None if args.teacher is None else load_teacher(args.teacher, found.spec)
            rows = measure(zoo.float_network(found), split, teacher=teacher)
        networks.append({"name": found.spec.name, "file": str(path), "levels": found.spec.levels,
                         "mprf": found.spec.to_dict().get("mprf", "none"),
                         "images": len(split), "rows": rows}
                        | ({"data": split.source} if split.source else {}))
    write_atomic(args.out / "information.json", json.dumps(networks, indent=1) + "\n")
    text = table(networks)
    write_atomic(args.out / "information.md", text)
    picture(networks, args.out / "information.png")
    print(text, end="")
    next_step("model.train", "--recipe", "nano_full", "--teacher", args.teacher or "F.pth")


if __name__ == "__main__":
    sys.exit(cli())
