"""Classify images on a board, or on the virtual board: the same RTL in a simulator, same link."""

from contextlib import contextmanager, ExitStack
from pathlib import Path
import sys
import time

import numpy as np

from boards import find_board
from gen.api import configure
from gen.check.simulate import reported
from gen.config.memory import make_twin
from gen.config.spec import read_overrides
from gen.device.flash import find_loader
from gen.device.port import check_port
from gen.flow.bitstream import bitstream_idcode
from gen.inputs import add_image_options, add_network_options, load_images, load_network
from gen.machine.iss import image_words, logits_of
from hw.register import config_digest
from model.command import add_verbosity, ArgumentParser, called, main, require
from model.error import (
    as_input_error,
    InputError,
    known,
    ToolFailed,
    WeightsMismatch,
)
from model.progress import track
from sim.rtl.verilator import require_tools


__all__ = ["Session", "cli"]


VIRTUAL = "virtual"


class Session:
    """A program on a device: images in, classes and counters out.

    Parameters
    ----------
    device : gen.device.link.Device
    image : gen.compile.package.ProgramImage

    Raises
    ------
    WeightsMismatch
        If the device was built for another configuration.
    """

    def __init__(self, device, image):
        info = device.info()
        wanted = config_digest(image.config)
        if info.config_digest != wanted:
            raise WeightsMismatch(
                f"The device has configuration {info.config_digest:#010x}, the program needs "
                f"{wanted:#010x}: load the bitstream of this build (--program)")
        if info.memory_words < image.memory_words:
            raise WeightsMismatch(f"The device has {info.memory_words} words of memory, the "
                                  f"program needs {image.memory_words}")
        self._device = device
        self._image = image
        # Images beside the program's own place where the memory has room: fewer, longer runs.
        free = info.memory_words - image.memory_words
        per_image = image.image_words + image.result_words
        self.batch = max(1, free // per_image)
        self._base = image.memory_words if free >= per_image else None

    def load(self, progress=None):
        """Write program, weights and constants."""
        self._device.write(0, self._image.payload, progress=progress)

    def run(self, images, *, timeout, progress=None):
        """Run at most :attr:`batch` images int8 (N, C, H, W).

        Returns
        -------
        (acc, logits, counters)
            Raw results int64 and scores float64 (N, classes); counters of the whole run.
        """
        image, device = self._image, self._device
        count = len(images)
        if not 1 <= count <= self.batch:
            raise ValueError(f"Images must be 1..{self.batch}, not {count}")
        first, result = image.image, image.result
        if self._base is not None:
            first = self._base
            result = first + self.batch * image.image_words
        for index, values in enumerate(images):
            device.write(first + index * image.image_words, image_words(image, values))
        device.start(program=image.program, log=image.log, image=first,
                     image_stride=image.image_words, result=result,
                     result_stride=image.result_words, count=count)
        device.wait(timeout=timeout, progress=progress)
        words = device.read(result, count * image.result_words)
        outcome = [logits_of(image, part) for part in words.reshape(count, -1)]
        acc, logits = (np.stack(part) for part in zip(*outcome, strict=True))
        counters = device.counters()
        if counters["ERRORS"]:
            from gen.device.link import LinkError  # needs pyserial, which help does not

            raise LinkError(f"The core reports memory collisions ({counters['ERRORS']:#x}): "
                            f"the results are void")
        return acc, logits, counters


def _parser():
    parser = ArgumentParser(
        prog=called("gen.run"),
        description="Classify images on a board and compare every result with the integer model.",
        epilog="The virtual board is the same top-level RTL in Verilator behind a local socket; "
               "its first start compiles for a minute or two (g++, make and perl are needed).")
    parser.add_argument("--board", required=True, metavar="NAME",
                        help="virtual, or ulx3s-12f, ulx3s-25f, ulx3s-45f, ulx3s-85f (ulx3s)")
    add_network_options(parser)
    add_image_options(parser)
    parser.add_argument("--port", metavar="P",
                        help="serial port of the board, e.g. /dev/ttyUSB0 (or socket://host:port)")
    parser.add_argument("--program", action="store_true",
                        help="load the bitstream of the build folder first (openFPGALoader)")
    parser.add_argument("--build", type=Path, metavar="DIR",
                        help="build folder with the bitstream (default: build/<board>-<model>)")
    parser.add_argument("--config", metavar="C.yaml", help="the overrides the board was built with")
    parser.add_argument("--cache", default="build/sim", type=Path, metavar="DIR",
                        help="compiled simulators (default: %(default)s)")
    add_verbosity(parser)
    return parser


@contextmanager
def _device(arguments, board, config, name):
    """An open device: the virtual board, or the board at --port."""
    from gen.device.link import Device

    if arguments.board == VIRTUAL:
        from gen.config.shell import make_shell
        from sim.rtl.virtual_board import VirtualBoard, VirtualBoardError

        try:
            # Four clock cycles a bit: the link is the slowest thing to simulate.
            with as_input_error():
                memory = make_twin(board, config)
            shell = make_shell(board, config, divisor=4, memory=memory)
            with (reported(), VirtualBoard(shell, cache=arguments.cache) as virtual,
                  Device(virtual.url, timeout=virtual.link_timeout) as device):
                yield device
        except VirtualBoardError as error:
            raise ToolFailed(str(error)) from None
        return
    if arguments.program:
        from gen.device.flash import program

        program(board, _bitstream(arguments, board, name))
    baud, _ = board.link(config.clock_hz)
    with Device(arguments.port, baud=baud) as device:
        yield device


def _bitstream(arguments, board, name):
    return (arguments.build or Path("build") / f"{board.name}-{name}") / "top.bit"


def _check_device(arguments, board, name):
    """What is wrong with the way to the device is said before anything that takes long."""
    if arguments.board == VIRTUAL:
        if arguments.port or arguments.program:
            raise InputError("--port and --program are for real boards")
        with reported():
            require_tools()
        return
    check_port(arguments.port)
    if arguments.program:
        path = _bitstream(arguments, board, name)
        if not path.is_file():
            raise InputError(f"{path}: there is no bitstream; make it with: {called('gen.build')} "
                             f"--board {arguments.board} --model {name}")
        bitstream_idcode(path)
        find_loader()


def _run(arguments):
    from boards import ALIASES, BOARDS

    require("serial", what="the link to a board, also to the virtual one")
    from gen.device.link import LinkError

    known("board", arguments.board, [VIRTUAL, *BOARDS, *ALIASES])
    with as_input_error():
        board = find_board("ulx3s" if arguments.board == VIRTUAL else arguments.board)
    overrides = read_overrides(arguments.config)
    name, network = load_network(arguments)
    _check_device(arguments, board, name)
    images, labels = load_images(arguments.images, network, model=arguments.model,
                                 count=arguments.count, dataset=arguments.data,
                                 data_dir=arguments.data_dir)
    design = configure(network, board=board.name, name=name, overrides=overrides)
    config, image = design.config, design.image
    expected = network.run_batched(images, keep=("logits", "logits_acc"))
    tag = "rtl-sim" if arguments.board == VIRTUAL else "board"
    try:
        with ExitStack() as stack:
            device = stack.enter_context(_device(arguments, board, config, name))
            session = Session(device, image)
            with track("load", len(image.payload), "words") as task:
                session.load(task.reach)
            outcome = _classify(session, images, arguments)
    except LinkError as error:
        raise InputError(str(error)) from None
    if network.origin:
        print(network.origin)
    return _summary(outcome, expected, labels, config, tag)


def _classify(session, images, arguments):
    """(acc, logits, summed counters, seconds with the link)."""
    accs, scores, totals = [], [], {}
    started = time.monotonic()
    # A simulated image takes seconds, one on the board milliseconds.
    limit = 600.0 if arguments.board == VIRTUAL else 10.0
    with track("run", len(images), "images") as task:
        for start in range(0, len(images), session.batch):
            part = images[start:start + session.batch]
            acc, logits, counters = session.run(
                part, timeout=limit * len(part),
                progress=lambda n, start=start: task.reach(start + n))
            task.reach(start + len(part))
            accs.append(acc)
            scores.append(logits)
            for key, value in counters.items():
                totals[key] = totals.get(key, 0) + value
    return np.concatenate(accs), np.concatenate(scores), totals, time.monotonic() - started


def _summary(outcome, expected, labels, config, tag):
    acc, logits, totals, seconds = outcome
    count = len(acc)
    classes = logits.argmax(axis=1)
    wanted = expected["logits"].argmax(axis=1)
    same = (acc == expected["logits_acc"].reshape(count, -1)).all(axis=1)
    shown = min(count, 16)
    for index in range(shown):
        truth = "" if labels is None else f", label {labels[index]}"
        print(f"image {index}: class {classes[index]}{truth}, integer model "
              f"{wanted[index]}{'' if same[index] else '  DIFFERENT RESULT'}")
    if count > shown:
        print(f"... {count - shown} more")
    if labels is not None:
        hits = int((classes == labels).sum())
        print(f"accuracy {hits / count:.4f} ({hits} of {count})")
    cycles = totals["CYCLES"] / count
    print(f"agreement with the integer model: {int(same.sum())} of {count} images, every result")
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
