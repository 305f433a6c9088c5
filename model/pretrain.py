"""Pretrain a network without labels: ``python -m model.pretrain --model sdt_v3_scenes``.

A spike masked autoencoder (`model.training.masked`). Writes to the output folder, each file
atomically, after every epoch:

``backbone.pth``    the network, whose head is not trained: ``qsdt train --init`` starts from it
``checkpoint.pth``  everything that ``--resume`` needs
``log.jsonl``       one JSON object an epoch
``curve.png``       losses over the epochs
``pictures.png``    validation pictures, what is visible of them, and how they are filled in
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
import sys
from typing import Any, TYPE_CHECKING

from model.command import add_verbosity, ArgumentParser, called, main, next_step, require
from model.data.options import add_data_options, class_folder, DATA_HELP, read_dataset
from model.error import as_input_error, InputError
from model.families.spec import from_dict
from model.files import check_writable, locked
from model.progress import say
from model.training.recipe import Masking, PRECISIONS, read_preset, Recipe
from model.zoo import spec_of


if TYPE_CHECKING:
    import torch

    from model.training.pretrainer import Pretrainer


def cli(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return main(_run, _parser(), argv)


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog=called("model.pretrain"),
        description="Pretrain a spiking network on pictures without their labels: parts are "
        "hidden, and it learns to tell what is there.",
        epilog="An interrupted pretraining continues with --resume.",
    )
    parser.set_defaults(on_interrupt="--resume continues after the last whole epoch")
    add = parser.add_argument
    add("--model", default="sdt_v3_scenes", metavar="NAME",
        help="network by name, or a spec (F.yaml) (default: %(default)s)")
    add("--recipe", metavar="NAME",
        help="how to pretrain: a recipe with masking, by name or a file (F.yaml) (default: "
        "masked_FAMILY, of the network's family, see model/recipes)")
    add("--data", default="fashion_scenes", metavar="NAME",
        help=f"data set: {DATA_HELP} (default: %(default)s)")
    add_data_options(parser)
    add("--out", type=Path, default=Path("runs/pretraining"), metavar="DIR",
        help="folder to write (default: %(default)s)")
    add("--resume", action="store_true",
        help="continue from OUT/checkpoint.pth with the network and the recipe stored there; the "
        "options for them are then ignored")
    recipe = parser.add_argument_group("instead of what the recipe says")
    for name, kind, metavar, text in (
        ("epochs", int, "N", "passes over the training images"),
        ("batch", int, "N", "images a step"),
        ("lr", float, "X", "peak learning rate"),
        ("seed", int, "N", "start weights, order, augmentation, what is hidden"),
        ("ratio", float, "X", "share of the cells that is hidden"),
        ("cell", int, "PX", "side of a cell in pixels, a multiple of those of a token; 0 for one "
         "token"),
    ):
        recipe.add_argument(f"--{name}", type=kind, metavar=metavar, help=text)
    recipe.add_argument("--precision", choices=PRECISIONS,
                        help="number format; auto takes the quicker one by a timed step")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto",
        help="where to compute; auto takes a GPU if there is one (default: %(default)s)")
    add("--threads", type=int, default=1, metavar="N", help="CPU threads (default: %(default)s)")
    add("--limit", type=int, metavar="N", help="use N images of each split, for a quick try")
    add_verbosity(parser)
    return parser


def _prepare(args: argparse.Namespace, device: "torch.device") -> "Pretrainer":
    from model.training.pretrainer import Pretrainer
    from model.training.session import load_pretraining

    state = None
    if args.resume:
        path = args.out / "checkpoint.pth"
        state = load_pretraining(path)
        try:
            network = from_dict(state["spec"])
            recipe, masking = Recipe.from_dict(state["recipe"]), Masking(**state["masking"])
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from None
    else:
        folder = class_folder(args.data)
        classes = None if folder is None else len(folder.info.classes)
        network = spec_of(args.model, classes=classes)
        if network.dense_heads is not None:
            raise ValueError(f"{network.name} is for boxes or pixels: pretrain its backbone, a "
                             "spec without dense_heads, and go on with qsdt train --init")
        name = args.recipe or f"masked_{network.family}"
        preset = read_preset(name)
        if preset.masking is None:
            raise ValueError(f"the recipe {name} is for {called('model.train')}: it says nothing "
                             "of masking")
        network = preset.applied(network)
        recipe = replace(preset.recipe, **_given(
            args, ("epochs", "batch", "lr", "seed", "precision")))
        masking = replace(preset.masking, **_given(args, ("ratio", "cell")))
    data = read_dataset(
        *(args.data, network), data_dir=args.data_dir, count=args.limit,
        fit=args.fit, background=args.background,
    )
    pretrainer = Pretrainer(network, recipe, masking, data, device=device)
    if state is not None:
        pretrainer.restore(state)
    return pretrainer


def _given(args: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    """Options that the command line names."""
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def _run(args: argparse.Namespace) -> None:
    require("torch", "matplotlib", what="pretraining")
    import torch

    from model.training.pretrainer import pretrain
    from model.training.process import prepare

    prepare(args.threads)
    if args.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: there is no GPU that this torch can use")
    on_gpu = args.device == "cuda" or (args.device == "auto" and torch.cuda.is_available())
    with as_input_error():
        pretrainer = _prepare(args, torch.device("cuda" if on_gpu else "cpu"))
    with locked(args.out, "pretraining"):
        check_writable(args.out / "checkpoint.pth")
        with as_input_error():  # a loss that is not finite is the recipe's fault
            pretrain(pretrainer, args.out, say)
    last = pretrainer.log[-1]
    print(f"loss {last['val_loss']:.4f} on validation pictures after epoch {last['epoch']}")
    next_step("model.train", "--model", args.model, "--data", args.data,
              "--init", args.out / "backbone.pth")


if __name__ == "__main__":
    sys.exit(cli())
