"""Classify images on a board, or on the virtual board: the same RTL in a simulator, same frames."""

from pathlib import Path
import sys

from boards import DEFAULT, find_board
from gen.api import configure, run, VIRTUAL
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
from model.command import add_verbosity, ArgumentParser, called, main, next_step, require
from model.data.dataset import class_title
from model.error import (
    as_input_error,
    known,
)


__all__ = ["cli"]


def _parser():
    parser = ArgumentParser(
        prog=called("gen.run"),
        description="Classify images on a board and compare every result with the integer model.",
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
    add_verbosity(parser)
    return parser


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
    overrides = read_overrides(arguments.config)
    name, network = load_network(arguments)
    check_way(arguments, _bitstream(arguments, board, name))
    found = load_images(arguments.images, network, model=arguments.model, count=arguments.count,
                        dataset=arguments.data, data_dir=arguments.data_dir, fit=arguments.fit,
                        background=arguments.background)
    images = found.image_q
    design = configure(network, board=board.name, name=name, overrides=overrides)
    expected = network.run_batched(images, keep=("logits", "logits_acc"))
    if arguments.program:
        program(board, _bitstream(arguments, board, name))
    device = VIRTUAL if arguments.board == VIRTUAL else arguments.port
    outcome = run(design, images, device=device, cache=arguments.cache,
                  check=check, folder=arguments.build)
    if network.origin:
        print(network.origin)
    tag = "rtl-sim" if arguments.board == VIRTUAL else "board"
    status = _summary(outcome, expected, found, network.info, design.config, tag)
    if arguments.board == VIRTUAL:
        next_step("gen.build", "--board", board.name, *network_words(arguments))
    else:
        next_step("model.train", "--data", "folder:DIR")
    return status


def _summary(outcome, expected, found, info, config, tag):
    labels = found.labels
    acc, classes, totals, seconds = (outcome.acc, outcome.classes, outcome.counters,
                                     outcome.seconds)
    count = len(acc)
    wanted = expected["logits"].argmax(axis=1)
    same = (acc == expected["logits_acc"].reshape(count, -1)).all(axis=1)
    shown = min(count, 16)
    for index in range(shown):
        truth = "" if labels is None else f", label {class_title(labels[index], info)}"
        file = f" {found.files[index]}" if found.files else ""
        differs = "" if same[index] else "  DIFFERENT RESULT"
        print(f"image {index}{file}: class {class_title(classes[index], info)}{truth}, "
              f"integer model {class_title(wanted[index], info)}{differs}")
    if count > shown:
        print(f"... {count - shown} more")
    if labels is not None:
        hits = int((classes == labels).sum())
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


def cli(argv=None):
    return main(_run, _parser(), argv)


if __name__ == "__main__":
    sys.exit(cli())
