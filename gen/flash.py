"""Make a board work without a host: `python -m gen.flash --board ulx3s --build DIR`."""

import logging
from pathlib import Path
import sys

import numpy as np

from boards import DEFAULT, find_board, NAMES
from gen.boot.medium import boot_image, card_image, flash_parts, write_device, write_file
from gen.boot.script import boot_script
from gen.boot.time import first_result, TIME_OF
from gen.compile.results import raw_of
from gen.device import flash
from gen.flow.bitstream import bitstream_comments
from gen.inputs import add_image_options, add_network_options, load_images, load_network
from gen.proof.build import open_build
from hw.register import identity_text
from model.command import add_verbosity, ArgumentParser, called, main, next_step
from model.data.dataset import class_title
from model.error import as_input_error, InputError, WeightsMismatch


__all__ = ["cli"]


log = logging.getLogger(__name__)


def _parser():
    parser = ArgumentParser(
        prog=called("gen.flash"),
        description="Write bitstream, program, weights and pictures to a board's flash, or all but "
                    "the bitstream to a card: the board then classifies the pictures by itself "
                    "after power-up. Or load a bitstream until the board is switched off.",
        epilog="The build must have boot: flash or boot: sd (docs/tutorials/stand-alone.md). The "
               "header is erased first and written last: a board whose flashing broke off says so.")
    parser.add_argument("--board", default=DEFAULT, metavar="NAME", help=NAMES)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--build", type=Path, metavar="DIR", help="build folder to make the image of")
    what.add_argument("--bitstream", type=Path, metavar="F",
                      help="only load this file, e.g. top.bit, until power-off")
    what.add_argument("--detect", action="store_true", help="only print the chip's IDCODE")
    parser.add_argument("--card", type=Path, metavar="F",
                        help="with a build that boots from a card: the file to write")
    parser.add_argument("--overwrite-device", action="store_true",
                        help="--card is a card in a reader, e.g. /dev/sdX, whose content is lost")
    parser.add_argument("--image", type=Path, metavar="F",
                        help="with a build that boots from flash: write what lies behind the "
                             "bitstream to this file, and nothing to a board")
    add_network_options(parser, default="the one of the build")
    add_image_options(parser)
    add_verbosity(parser)
    return parser


def _pictures(arguments, image):
    """Pictures, accumulators of the integer model, and what a line calls each picture."""
    if arguments.model is None and arguments.weights is None:
        arguments.model = image.model
    _, network = load_network(arguments)
    if network.digest() != image.network_digest:
        raise WeightsMismatch(f"{image.source} was built for other weights than these: name those "
                              "of the build with --model or --weights")
    found = load_images(arguments.images, network, model=arguments.model, count=arguments.count,
                        dataset=arguments.data, data_dir=arguments.data_dir, fit=arguments.fit,
                        background=arguments.background)
    acc = raw_of(network, found.image_q)
    names = [f"picture {index}" for index in range(len(acc))]
    if found.files:
        names = [Path(file).name for file in found.files]
    if found.labels is not None:
        names = [f"{name}, label {class_title(label, network.info)}"
                 for name, label in zip(names, found.labels, strict=True)]
    return found.image_q, acc, names


def _load(arguments, board):
    """Load a bitstream or say which chip is there, as the options ask."""
    if arguments.detect:
        print(flash.chip_name(flash.detect(board)))
        return
    chip = flash.program(board, arguments.bitstream)
    if not arguments.quiet:
        comments = bitstream_comments(arguments.bitstream)
        said = ", ".join(f"{name.lower()} {comments[name]}" for name in ("Identity", "Commit")
                         if name in comments)
        print(f"loaded {arguments.bitstream}{f' ({said})' if said else ''} into "
              f"{flash.chip_name(chip)}")
    next_step("gen.run", "--board", board.name, "--model", "qsdt_nano", "--port", "/dev/ttyUSB0")


def _run(arguments):
    with as_input_error():
        board = find_board(arguments.board)
    if arguments.build is None:
        if arguments.card or arguments.image or arguments.overwrite_device:
            raise InputError("--card, --image and --overwrite-device go with --build")
        _load(arguments, board)
        return
    build = open_build(arguments.build)
    if build.board is not board:
        raise InputError(f"{arguments.build} is for {build.board.name}, not {board.name}: name it "
                         "with --board")
    config = build.report["config"]
    _check_ways(arguments, config.get("boot", "none"))
    pictures, acc, names = _pictures(arguments, build.image)
    script = boot_script(build.image, pictures, acc, names=names,
                         memory_words=config["memory_words"])
    image = boot_image(build.image, script)
    parts = None if arguments.card else flash_parts(
        build.bit.read_bytes(), image, size=board.flash_bytes).parts
    if arguments.card and arguments.overwrite_device:
        write_device(arguments.card, card_image(image))
    elif arguments.card:
        write_file(arguments.card, card_image(image))
    elif arguments.image:
        write_file(arguments.image, image)
    else:
        flash.write_flash(board, parts, progress=lambda name: log.info("writing the %s", name))
    if not arguments.quiet:
        where = arguments.card or arguments.image or f"the flash of {board.name}"
        print(f"wrote {where}: {build.image.model} for bitstream {identity_text(build.identity)}, "
              f"{len(pictures)} pictures, {len(image)} bytes of image")
        print(f"first result {first_result(script, config):.2f} s behind configuration ({TIME_OF})")
        for name, shown in zip(names, np.asarray(script.classes), strict=True):
            print(f"the board will show: {name}: class {shown:03}")
    next_step("gen.run", "--board", board.name, "--model", build.image.model, "--port",
              "/dev/ttyUSB0")


def _check_ways(arguments, boots):
    """That the build boots from where the image shall go."""
    if boots == "none":
        raise InputError(f"{arguments.build} does not boot by itself: build it with a --config "
                         "that has boot: flash or boot: sd")
    if boots == "sd" and (arguments.card is None or arguments.image):
        raise InputError(f"{arguments.build} boots from a card: name the file or device with "
                         "--card")
    if boots == "flash" and arguments.card:
        raise InputError(f"{arguments.build} boots from flash: leave out --card")
    if arguments.overwrite_device and not arguments.card:
        raise InputError("--overwrite-device goes with --card")


def cli(argv=None):
    return main(_run, _parser(), argv)


if __name__ == "__main__":
    sys.exit(cli())
