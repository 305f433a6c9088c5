"""Run images on a board, or on the virtual board: the same RTL in a simulator, same frames."""

import io
from pathlib import Path
import sys

import numpy as np

from boards import DEFAULT, find_board
from gen.api import configure, run, VIRTUAL
from gen.compile.results import place_of, raw_in
from gen.config.spec import read_overrides
from gen.device.check import CHECKS
from gen.device.flash import program
from gen.inputs import (
    add_device_options,
    add_image_options,
    add_network_options,
    check_way,
    load_images,
    load_network,
    network_words,
)
from gen.seen import Sight
from model.command import add_verbosity, ArgumentParser, called, main, next_step, require
from model.data.dataset import class_title
from model.data.object_options import add_score
from model.error import as_input_error, InputError, known
from model.families.spec import from_dict
from model.files import check_folder, check_writable, write_atomic
from model.integer.epilogue import LOGITS


__all__ = ["cli"]


def _parser():
    parser = ArgumentParser(
        prog=called("gen.run"),
        description="Run images on a board, classify them or find boxes and pixels, and compare "
                    "every result with the integer model.",
        epilog="The virtual board is the same RTL, but for the UART, in Verilator behind a "
               "local socket; its first start compiles for a minute or two (g++, make and perl "
               "are needed).")
    add_device_options(parser)
    add_network_options(parser)
    add_image_options(parser)
    parser.add_argument("--check", action="append", default=[], metavar="C[,C]",
                        help="more checks, each with what it cost; the first that fails ends the "
                             "run with an error: "
                             + "; ".join(f"{name}: {text}" for name, text in CHECKS.items())
                             + ". Loading is always checked by CRC; twice and host run one image "
                             "at a time")
    parser.add_argument("--outputs", type=Path, metavar="F.npz",
                        help="write every output of all images to this file, an array (N, ...) by "
                             "the output's name, such as logits, cls8 or seg")
    parser.add_argument("--pictures", type=Path, metavar="DIR",
                        help="of a network with heads for boxes or pixels: write the pictures with "
                             "what the board found to this folder, and the numbers of the pixels' "
                             "classes to its folder masks")
    parser.add_argument("--out", type=Path, metavar="F.json",
                        help="write the boxes that a detector found, in COCO's format; pictures "
                             "without annotations have the ids 1 to N in their order, classes 1 "
                             "to K")
    add_score(parser)
    add_verbosity(parser)
    return parser


def _check_files(arguments, network):
    """Say now what would prevent that boxes and pictures are written."""
    heads = from_dict(network.spec).dense_heads
    for option in ("pictures", "out"):
        if getattr(arguments, option) is None:
            continue
        if heads is None:
            raise InputError(f"--{option} is for networks with heads for boxes or pixels; this one "
                             "has none: leave it out")
        if (arguments.images is None and arguments.data is None) or (
                Path(arguments.images or "").suffix == ".npz"):
            raise InputError(f"--{option} needs pictures: name them with --images P.png or a "
                             "folder, or with --data")
    if arguments.out is not None:
        if heads.detector is None or arguments.out.suffix != ".json":
            raise InputError("--out takes the boxes that a detector found: name a file that ends "
                             f"in .json, for a network with a detector, not {arguments.out}")
        check_writable(arguments.out)
    if arguments.pictures is not None:
        require("PIL", what="draws pictures")
        check_folder(arguments.pictures)


def _bitstream(arguments, board, name):
    return (arguments.build or Path("build") / f"{board.name}-{name}") / "top.bit"


def _run(arguments):
    from boards import ALIASES, BOARDS

    require("serial", what="the link to a board, also to the virtual one")
    known("board", arguments.board, [VIRTUAL, *BOARDS, *ALIASES])
    with as_input_error():
        board = find_board(DEFAULT if arguments.board == VIRTUAL else arguments.board)
    check = [name for names in arguments.check for name in names.split(",")]
    for name in check:
        known("check", name, CHECKS)
    if arguments.outputs:
        check_writable(arguments.outputs)
    overrides = read_overrides(arguments.config)
    name, network = load_network(arguments)
    _check_files(arguments, network)
    check_way(arguments, _bitstream(arguments, board, name))
    found = load_images(arguments.images, network, model=arguments.model, count=arguments.count,
                        dataset=arguments.data, data_dir=arguments.data_dir, fit=arguments.fit,
                        background=arguments.background)
    images = found.image_q
    design = configure(network, board=board.name, name=name, overrides=overrides)
    expected = network.run_batched(images, keep={*network.outputs, *network.outputs.values()})
    if arguments.program:
        program(board, _bitstream(arguments, board, name))
    device = VIRTUAL if arguments.board == VIRTUAL else arguments.port
    outcome = run(design, images, device=device, cache=arguments.cache,
                  check=check, folder=arguments.build)
    if network.origin:
        print(network.origin)
    tag = "rtl-sim" if arguments.board == VIRTUAL else "board"
    sight = None
    if found.samples is not None:
        sight = Sight(network, found, outcome.outputs, arguments.score)
    status = _summary(outcome, expected, found, design, tag, sight)
    if arguments.outputs:
        content = io.BytesIO()
        np.savez(content, **outcome.outputs)
        write_atomic(arguments.outputs, content.getvalue())
        print(f"{arguments.outputs}: {', '.join(outcome.outputs)}")
    if arguments.out is not None:
        sight.write_boxes(arguments.out)
        print(f"{arguments.out}: boxes")
    if arguments.pictures is not None:
        sight.write_pictures(arguments.pictures)
        print(f"{arguments.pictures}: pictures")
    if arguments.board == VIRTUAL:
        next_step("gen.build", "--board", board.name, *network_words(arguments))
    else:
        next_step("model.train", "--data", "folder:DIR")
    return status


def _summary(outcome, expected, found, design, tag, sight=None):
    totals, seconds, config = outcome.counters, outcome.seconds, design.config
    wanted, info = raw_in(design.network, expected), design.network.info
    count = len(wanted)
    same = (outcome.acc == wanted).all(axis=1)
    scores = expected.get(LOGITS)
    shapes = {name: x.shape[1:] for name, x in outcome.outputs.items() if name != LOGITS}
    if shapes:
        print("outputs: " + ", ".join([*([LOGITS] if scores is not None else []), *(
            f"{name} ({', '.join(map(str, shape))})" for name, shape in shapes.items())]))
    shown = count if sight is not None else min(count, 16)
    for index in range(shown):
        file = f" {found.files[index]}" if found.files else ""
        said = [] if scores is None else [
            _class(outcome, scores, index, found.labels, info)]
        if sight is not None:
            said.append(sight.line(index))
        if not same[index]:
            said.append(f"DIFFERENT RESULT{_where(outcome, wanted, index, design)}")
        print(f"image {index}{file}: {'  '.join(said) or 'all outputs as in the integer model'}")
    if count > shown:
        print(f"... {count - shown} more")
    if found.labels is not None and scores is not None:
        hits = int((outcome.classes == found.labels).sum())
        print(f"accuracy {hits / count:.4f} ({hits} of {count})")
    cycles = totals["CYCLES"] / count
    print(f"agreement with the integer model: {int(same.sum())} of {count} images, every result")
    for line in outcome.checked:
        print(line)
    print(f"cycles per image {cycles:.0f} ({tag}), spike events per image "
          f"{totals['SPIKE_EVENTS'] / count:.0f} ({tag})")
    print(f"at {config.clock_hz / 1e6:g} MHz {config.clock_hz / cycles:.1f} images/s of the core "
          f"alone; with the link {count / seconds:.2f} images/s"
          + (" of simulation" if tag == "rtl-sim" else " (board)"))
    return 0 if same.all() else 1


def _class(outcome, scores, index, labels, info):
    """What a line says of an image: its class, and what it should be."""
    truth = "" if labels is None else f", label {class_title(labels[index], info)}"
    return (f"class {class_title(outcome.classes[index], info)}{truth}, "
            f"integer model {class_title(scores[index].argmax(), info)}")


def _where(outcome, wanted, index, design):
    """The first place of a map that differs; class scores tell nothing by it."""
    if [*outcome.outputs] == [LOGITS]:
        return ""
    at = int(np.flatnonzero(outcome.acc[index] != wanted[index])[0])
    return (f": {place_of(design.program, at)}: {outcome.acc[index, at]} against "
            f"{wanted[index, at]}")


def cli(argv=None):
    return main(_run, _parser(), argv)


if __name__ == "__main__":
    sys.exit(cli())
