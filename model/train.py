"""Train a network: ``python -m model.train --model qsdt_nano --data fashion_mnist``.

Writes to the output folder, each file atomically:

``checkpoint.pth``  everything that ``--resume`` needs, after every epoch
``model.pth``       {"model": state dict, "spec": dict, ...} of the best epoch on validation
``log.jsonl``       one JSON object an epoch, and a last one with the test accuracy
``curve.png``       loss, accuracy and the saturation of the attention over the epochs
``tensorboard``     the same for TensorBoard, with ``--tensorboard``
"""

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
import os
from pathlib import Path
import sys
from typing import TYPE_CHECKING

from model.command import add_verbosity, ArgumentParser, called, main, next_step, require
from model.data.object_options import OBJECT_DATA_HELP, read_objects
from model.data.options import add_data_options, class_folder, DATA_HELP, FOLDER, read_dataset
from model.error import as_input_error, InputError
from model.families.base import FLOAT_BITS, NetworkSpec
from model.families.spec import from_dict
from model.files import check_writable, digest_file, locked
from model.metrics.dense import FIGURES
from model.progress import say
from model.training.recipe import PRECISIONS, Preset, presets, read_preset, Recipe
from model.zoo import spec_of


if TYPE_CHECKING:
    import torch

    from model.data.dataset import Dataset
    from model.data.objects import ObjectData
    from model.training.trainer import Trainer


RECIPES = {False: "nano", True: "scenes_dense"}
DATA = {False: "fashion_mnist", True: "fashion_scenes"}
"""What is taken without an option, by whether a network has heads for boxes or pixels."""


def cli(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return main(_train, _parser(), argv)


def _parser() -> argparse.ArgumentParser:
    default = Recipe()
    parser = ArgumentParser(
        prog=called("model.train"),
        description="Train a Quantized Spike-driven Transformer, on a CPU or a GPU, in one process "
        "or, under torchrun, in several.",
        epilog="An interrupted training continues with --resume.",
    )
    parser.set_defaults(on_interrupt="--resume continues after the last whole epoch")
    add = parser.add_argument
    add("--model", default="qsdt_nano", metavar="NAME",
        help="network by name, or a spec (F.yaml) (default: %(default)s)")
    add("--recipe", metavar="NAME",
        help=f"how to train: {', '.join(presets())}, or a file of one's own (F.yaml, see "
        f"model/recipes) (default: {RECIPES[False]}, of heads for boxes and pixels "
        f"{RECIPES[True]})")
    add("--data", metavar="NAME",
        help=f"data set: {DATA_HELP}; of heads for boxes and pixels: {OBJECT_DATA_HELP} (default: "
        f"{DATA[False]}, of heads {DATA[True]})")
    add_data_options(parser)
    add("--out", type=Path, default=Path("runs/nano"), metavar="DIR",
        help="folder to write (default: %(default)s)")
    add("--resume", action="store_true",
        help="continue from OUT/checkpoint.pth with the network, the recipe and the teacher stored "
        "there; the options for them are then ignored")
    add("--init", type=Path, metavar="F.pth",
        help="start from the weights of a network of the same shape, or from a backbone of "
        f"{called('model.pretrain')}; a head for other classes, and MPRF, may differ")
    add("--teacher", type=Path, metavar="F.pth",
        help="model.pth of the network to learn from, if the recipe has fgd or distil")
    add("--twin", action="store_true",
        help="train the ANN of the same shape instead, such as a teacher (ReLU, softmax attention, "
        "real weights)")
    recipe = parser.add_argument_group("instead of what the recipe says")
    recipe.add_argument("--weight-bits", type=int, metavar="B",
                        help="bits of the weights, 32 for real ones, which "
                        f"{called('model.convert')} --weight-bits quantises")
    for name, kind, metavar, text in (
        ("epochs", int, "N", "passes over the training images"),
        ("batch", int, "N", "images a step, over all processes"),
        ("lr", float, "X", "peak learning rate"),
        ("seed", int, "N", "start weights, order, augmentation"),
        ("attention_penalty", float, "X",
         "weight of the loss term that keeps attention from saturating"),
        ("fgd", float, "X", "weight of fine-grained distillation"),
        ("distil", float, "X", "weight of the teacher's logits"),
    ):
        recipe.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=metavar,
                            help=f"{text} (nano: {getattr(default, name)})")
    recipe.add_argument("--precision", choices=PRECISIONS,
                        help="number format; auto takes the quicker one by a timed step")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto",
        help="where to compute; auto takes a GPU if there is one (default: %(default)s)")
    add("--threads", type=int, default=1, metavar="N", help="CPU threads (default: %(default)s)")
    add("--limit", type=int, metavar="N", help="use N images of each split, for a quick try")
    add("--tensorboard", action="store_true", help="also write OUT/tensorboard")
    add_verbosity(parser)
    return parser


def _network(args: argparse.Namespace) -> NetworkSpec:
    """The spec that the command line names, with as many classes as a folder has."""
    name = args.data or ""
    folder = class_folder(name) if name.startswith(FOLDER) else None
    classes = None if folder is None else len(folder.info.classes)
    network = spec_of(args.model, classes=classes)
    if classes is not None and classes != network.classes:
        raise ValueError(
            f"{args.data}: has {classes} classes, {args.model} {network.classes}; write a spec "
            "like model/specs/small_grey.yaml and name it with --model"
        )
    return network


def _recipe(args: argparse.Namespace, preset: Preset) -> Recipe:
    """The preset's recipe with what the command line says instead."""
    names = ("epochs", "batch", "lr", "seed", "attention_penalty", "fgd", "distil", "precision")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return replace(preset.recipe, **given)


def _prepare(args: argparse.Namespace, device: "torch.device") -> "Trainer":
    from model.training.distil import load_teacher
    from model.training.session import load_checkpoint
    from model.training.trainer import Trainer

    state, teacher = None, args.teacher
    if args.resume:
        path = args.out / "checkpoint.pth"
        state = load_checkpoint(path)
        try:
            network = from_dict(state["spec"])
            recipe = Recipe.from_dict(state["recipe"])
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from None
        teacher = _same_teacher(path, state.get("teacher_file"), teacher)
    else:
        network = _network(args)
        chosen = args.recipe or RECIPES[network.dense_heads is not None]
        preset = read_preset(chosen)
        if preset.masking is not None:
            raise ValueError(f"the recipe {chosen} is for {called('model.pretrain')}")
        network, recipe = preset.applied(network), _recipe(args, preset)
        if args.weight_bits is not None:
            network = network.changed(weight_bits=args.weight_bits)
        if args.twin:
            network = network.twin()
    data = _data(args, network)
    trainer = Trainer(network, recipe, data, device=device,
                      teacher=None if teacher is None else load_teacher(teacher, network))
    if teacher is not None:
        trainer.teacher_file = {"path": str(teacher), "sha256": digest_file(teacher)}
    if state is not None:
        trainer.restore(state)
    elif args.init is not None:
        _start(trainer, args.init)
    return trainer


def _data(args: argparse.Namespace, network: NetworkSpec) -> "Dataset | ObjectData":
    """The data that the command line names, or the network's usual ones, at most --limit of each
    part."""
    heads = network.dense_heads
    name = args.data = args.data or DATA[heads is not None]
    if heads is None:
        return read_dataset(name, network, data_dir=args.data_dir, count=args.limit, fit=args.fit,
                            background=args.background)
    if args.fit is not None:
        raise ValueError("--fit is for classes of images: pictures with boxes keep their "
                         "proportions")
    return read_objects(name, network, data_dir=args.data_dir, background=args.background,
                        masks=heads.segmenter is not None).first(args.limit)


def _same_teacher(checkpoint: Path, stored: object, given: Path | None) -> Path | None:
    """The teacher of a resumed training: what the checkpoint names, if it is still the same."""
    if not isinstance(stored, dict) or not stored:
        return None
    path = given or Path(str(stored.get("path")))
    if digest_file(path) != stored.get("sha256"):
        raise ValueError(f"{path}: is not the teacher that {checkpoint} was trained with")
    return path


def _start(trainer: "Trainer", path: Path) -> None:
    """Begin with the weights of a checkpoint."""
    from model.training.checkpoint import read, tensors
    from model.training.start import adopt

    found = read(path, heads=trainer.spec.heads, headless=True)
    try:
        anew = trainer.start_from(lambda model: adopt(
            model, tensors(found.state), weight_bits=found.spec.weight_bits, head=found.head))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    say(f"starts from {path}" + (f"; new: {', '.join(anew)}" if anew else ""))


def _train(args: argparse.Namespace) -> None:
    require("torch", "matplotlib", what="training")
    if args.tensorboard:
        require("tensorboard", what="--tensorboard")
    import torch

    from model.training.parallel import processes, rank
    from model.training.process import prepare
    from model.training.session import train

    prepare(args.threads)
    if args.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: there is no GPU that this torch can use")
    on_gpu = args.device == "cuda" or (args.device == "auto" and torch.cuda.is_available())
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local) if on_gpu else torch.device("cpu")
    with processes(device), ExitStack() as stack:
        with as_input_error():
            trainer = _prepare(args, device)
        if rank() == 0:
            stack.enter_context(locked(args.out, "training"))
            check_writable(args.out / "checkpoint.pth")
        with as_input_error():  # a loss that is not finite is the recipe's fault
            test = train(trainer, args.out, say, tensorboard=args.tensorboard)
        if rank():
            return
    best, source = trainer.best, trainer.task.source
    if "acc" in test:
        said = f"accuracy {test['acc']:.4f}"
    else:
        said = ", ".join(f"{FIGURES[name]} {value:.4f}" for name, value in test.items()
                         if name in FIGURES)
    print(
        f"test {said}{f' on {source}' if source else ''} with the "
        f"{best['weights']} weights of epoch {best['epoch']} (validation "
        f"{best[trainer.score]:.4f})"
    )
    model = args.out / "model.pth"
    spec = trainer.spec
    bits: tuple[object, ...] = ()
    if spec.weight_bits == FLOAT_BITS and spec.spikes:
        most = max(b for b in spec.WEIGHT_BITS if b != FLOAT_BITS)
        spec, bits = spec.changed(weight_bits=most), ("--weight-bits", most)
    if spec.no_integer_form:
        next_step("model.evaluate", "--weights", model, "--form", "float", "--data", args.data)
    else:
        place = ("--data-dir", args.data_dir) if args.data_dir else ()
        pictures = ("--data", args.data, *place) if spec.has_z and spec.dense_heads is None else ()
        next_step("model.convert", "--checkpoint", model, *bits, *pictures,
                  "--out", model.with_suffix(".qsd"))


if __name__ == "__main__":
    sys.exit(cli())
