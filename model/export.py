"""Write a network for other programs: ``python -m model.export --model qsdt_nano --onnx F.onnx``.

The file holds the integer network, what the hardware computes, in standard ONNX, so that any
runtime gives every logit bit for bit. Before it is written, onnxruntime runs it beside the integer
model on random images, all level maps included.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
import sys

import numpy as np

from model import zoo
from model.command import add_verbosity, ArgumentParser, called, main, next_step, require
from model.error import as_input_error, InputError, VerificationFailed
from model.files import check_writable, write_atomic
from model.integer.network import IntegerNetwork
from model.integer.widths import add_widths, widths
from model.progress import track


def cli(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return main(_export, _parser(), argv)


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog=called("model.export"),
        description="Write the integer network as standard ONNX (opset 21). Input image, int8; "
        "outputs logits (float64) and logits_acc (their integers), or those of heads for boxes "
        "and pixels, the same as those of the hardware. The file's metadata tells how a "
        "picture becomes the input, class names and units.",
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--model", metavar="NAME",
        help="a network by name: shipped, in the cache folder, or else synthetic",
    )
    which.add_argument(
        "--weights", type=Path, metavar="F", help="a .qsd file or a checkpoint (.pth)"
    )
    parser.add_argument(
        "--heads", type=int, metavar="H", help="attention heads, for a published checkpoint"
    )
    parser.add_argument("--onnx", required=True, type=Path, metavar="F.onnx", help="file to write")
    parser.add_argument(
        "--levels", action="store_true", help="every level map (uint8) is an output, too"
    )
    parser.add_argument(
        "--check", type=int, default=2, metavar="N",
        help="random images on which onnxruntime must equal the integer model first, in every "
        "logit and level; 0 needs no onnxruntime (default: %(default)s)",
    )
    add_widths(parser)
    add_verbosity(parser)
    return parser


def _export(args: argparse.Namespace) -> None:
    if args.onnx.suffix != ".onnx":
        raise InputError(f"--onnx must end in .onnx, not be {args.onnx}")
    if args.check < 0:
        raise InputError(f"--check must be at least 0, not {args.check}")
    require("onnx", what="writes ONNX files")
    if args.check:
        require("onnxruntime", what="checks the file; --check 0 writes it unchecked")
    check_writable(args.onnx)
    from model.exchange import onnx_file  # after parsing: --help needs no package of an extra

    with as_input_error():
        found = zoo.read(args.model, args.weights, args.heads)
        network = zoo.network(found, params=widths(args, found.params))
        levels = onnx_file.level_names(network)
        content = onnx_file.to_bytes(network, keep=levels if args.levels else ())
    if args.check:
        full = () if args.levels else (onnx_file.to_bytes(network, keep=levels),)
        checked = _check(network, (content, *full), args.check)
    write_atomic(args.onnx, content)
    shape = ", ".join(map(str, network.input_shape))
    print(f"{args.onnx}: {network.spec['name']}, image int8 (N, {shape}), "
          f"outputs {', '.join(network.outputs)}, "
          + (f"{len(levels)} level maps, " if args.levels else "") +
          f"{len(content):,} bytes" + (f" ({found.origin})" if found.origin else ""))
    print(checked if args.check else "not checked; --check N compares it with the integer model")
    which = ("--weights", args.weights) if args.model is None else ("--model", args.model)
    next_step("gen.verify", *which, "--forms", "integer,iss")


def _check(network: IntegerNetwork, contents: Sequence[bytes], count: int) -> str:
    """Run every content on `count` random samples; say what is equal, or raise
    VerificationFailed."""
    from model.exchange.onnx_runtime import differences, OnnxNetwork, RUNTIME

    rng = np.random.default_rng(0)
    image_q = rng.integers(-128, 128, (count, *network.input_shape), np.int8)
    models = [OnnxNetwork(content) for content in contents]
    wrong: Counter[str] = Counter()
    with track("onnxruntime beside the integer model", len(models) * count, "samples") as task:
        for model in models:
            for found in differences(network, model, image_q):
                wrong.update(found)
                task.update()
    if wrong:
        raise VerificationFailed(
            f"{RUNTIME} differs from the integer model in "
            f"{', '.join(f'{name} ({n} values)' for name, n in wrong.items())}; nothing was "
            "written; try another version of onnxruntime"
        )
    levels = len(models[-1].outputs) - 2 * len(network.outputs)
    return (f"{RUNTIME} = integer model on {count} random image{'s' if count > 1 else ''}: "
            f"every output, {levels} level maps")


if __name__ == "__main__":
    sys.exit(cli())
