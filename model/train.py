"""Train a network: ``python -m model.train --model qsdt_nano --data fashion_mnist``.

Writes to the output folder, each file atomically:

``checkpoint.pth``  everything that ``--resume`` needs, after every epoch
``model.pth``       {"model": state dict, "spec": dict, ...} of the best epoch on validation
``log.jsonl``       one JSON object an epoch, and a last one with the test accuracy
``curve.png``       loss and accuracy over the epochs
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
import sys
from typing import TYPE_CHECKING

from model.command import add_verbosity, ArgumentParser, called, main, next_step, require
from model.data.options import add_data_options, DATA_HELP, picture_folder, read_dataset
from model.error import as_input_error
from model.families.spec import QsdtSpec
from model.files import check_writable, locked
from model.progress import say
from model.training.recipe import Recipe
from model.zoo import spec_of


if TYPE_CHECKING:
    from model.training.trainer import Trainer


def cli(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return main(_train, _parser(), argv)


def _parser() -> argparse.ArgumentParser:
    default = Recipe()
    parser = ArgumentParser(
        prog=called("model.train"),
        description="Train a Quantized Spike-driven Transformer on a CPU.",
        epilog="An interrupted training continues with --resume.",
    )
    parser.set_defaults(on_interrupt="--resume continues after the last whole epoch")
    add = parser.add_argument
    add("--model", default="qsdt_nano", metavar="NAME",
        help="network by name, or a spec (F.yaml) (default: %(default)s)")
    add("--data", default="fashion_mnist", metavar="NAME",
        help=f"data set: {DATA_HELP} (default: %(default)s)")
    add_data_options(parser)
    add(
        "--out",
        type=Path,
        default=Path("runs/nano"),
        metavar="DIR",
        help="folder to write (default: %(default)s)",
    )
    add(
        "--resume",
        action="store_true",
        help="continue from OUT/checkpoint.pth with the recipe stored there; --model and the "
        "recipe options below are then ignored",
    )
    add(
        "--epochs",
        type=int,
        default=default.epochs,
        metavar="N",
        help="passes over the training images (default: %(default)s)",
    )
    add(
        "--batch",
        type=int,
        default=default.batch,
        metavar="N",
        help="images a step (default: %(default)s)",
    )
    add(
        "--lr",
        type=float,
        default=default.lr,
        metavar="X",
        help="peak learning rate (default: %(default)s)",
    )
    add(
        "--seed",
        type=int,
        default=default.seed,
        metavar="N",
        help="start weights, order, augmentation (default: %(default)s)",
    )
    add(
        "--attention-penalty",
        type=float,
        default=default.attention_penalty,
        metavar="X",
        help="weight of the loss term that keeps attention from saturating (default: %(default)s)",
    )
    add(
        "--float32",
        action="store_true",
        help="do not use bfloat16 in training (slower on CPUs that have it)",
    )
    add("--threads", type=int, default=1, metavar="N", help="CPU threads (default: %(default)s)")
    add("--limit", type=int, metavar="N", help="use N images of each split, for a quick try")
    add_verbosity(parser)
    return parser


def _network(args: argparse.Namespace) -> QsdtSpec:
    """The spec that the command line names, with as many classes as a folder of pictures has."""
    folder = picture_folder(args.data)
    classes = None if folder is None else len(folder.info.classes)
    network = spec_of(args.model, classes=classes)
    if classes is not None and classes != network.classes:
        raise ValueError(
            f"{args.data}: has {classes} classes, {args.model} {network.classes}; write a spec "
            "like model/specs/small_grey.yaml and name it with --model"
        )
    return network


def _prepare(args: argparse.Namespace) -> "Trainer":
    from model.training.trainer import load_checkpoint, Trainer

    if args.resume:
        state = load_checkpoint(args.out / "checkpoint.pth")
        try:
            network, recipe = QsdtSpec.from_dict(state["spec"]), Recipe(**state["recipe"])
        except (TypeError, ValueError) as error:
            raise ValueError(f"{args.out / 'checkpoint.pth'}: {error}") from None
    else:
        state, network = None, _network(args)
        recipe = Recipe(
            epochs=args.epochs,
            batch=args.batch,
            lr=args.lr,
            seed=args.seed,
            attention_penalty=args.attention_penalty,
            bfloat16=not args.float32,
        )
    data = read_dataset(
        *(args.data, network), data_dir=args.data_dir, count=args.limit,
        fit=args.fit, background=args.background,
    )
    trainer = Trainer(network, recipe, data)
    if state is not None:
        trainer.restore(state)
    return trainer


def _train(args: argparse.Namespace) -> None:
    require("torch", "matplotlib", what="training")
    import torch

    from model.training.trainer import train

    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)  # tiny gradients would otherwise cost a trap each
    with as_input_error():
        trainer = _prepare(args)
    with locked(args.out, "training"):
        check_writable(args.out / "checkpoint.pth")
        with as_input_error():  # a loss that is not finite is the recipe's fault
            test_acc = train(trainer, args.out, say)
    best = trainer.best
    print(
        f"test accuracy {test_acc:.4f} with the {best['weights']} weights of epoch "
        f"{best['epoch']} (validation {best['val_acc']:.4f})"
    )
    model = args.out / "model.pth"
    next_step("model.convert", "--checkpoint", model, "--out", model.with_suffix(".qsd"))


if __name__ == "__main__":
    sys.exit(cli())
