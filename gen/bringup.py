"""The first hour of a board, step by step: ``python -m gen.bringup --board ulx3s --port P``."""

from contextlib import contextmanager, ExitStack
import datetime as dt
from pathlib import Path
import select
import sys

from boards import find_board, NAMES
from gen.api import configure
from gen.bench.bitstream import build_small, default_folder, read_record, write_record
from gen.bench.core_steps import CORE_STEPS
from gen.bench.link_steps import is_small, LINK_STEPS
from gen.bench.proof import prove_small
from gen.bench.step import Bench, run_step
from gen.config.spec import chosen_clock, chosen_sdram_clock, read_overrides
from gen.device.flash import find_loader, program
from gen.device.port import check_port, LinkError
from gen.inputs import add_network_options, load_images, load_network, network_words
from gen.opened import bound_image
from hw.register import Restart
from model.command import add_verbosity, ArgumentParser, called, main, next_step, require
from model.error import as_input_error, InputError, VerificationFailed
from model.files import check_writable, make_folder
from sim.rtl.verilator import SIMULATORS


__all__ = ["STEPS", "cli"]


STEPS = (*LINK_STEPS, *CORE_STEPS)

VIRTUAL = "virtual"

IMAGES, SOAK = 1000, 10_000

VIRTUAL_PATIENCE = 20.0
"""Times that a simulated board may take longer."""

ASK_S = 60.0
"""Longest time for a person's answer."""


def _parser():
    names = "; ".join(f"{number} {step.title}" for number, step in enumerate(STEPS, 1))
    parser = ArgumentParser(
        prog=called("gen.bringup"),
        description="Bring a board up step by step; each step says pass or fail, what that shows "
                    f"and what to try next. The steps: {names}. Those before the core need one "
                    "small bitstream, which --build makes (docs/bringup.md).",
        epilog="The first step that fails ends it; --step goes on there.")
    parser.add_argument("--board", required=True, metavar="NAME",
                        help=NAMES)
    parser.add_argument("--port", metavar="P",
                        help="serial port of the board, e.g. /dev/ttyUSB0 (or "
                             "socket://host:port), or virtual for a rehearsal on the RTL in a "
                             "simulator, which presses its button itself")
    parser.add_argument("--step", type=int, default=1, metavar="N",
                        help="begin with this step (default: %(default)s)")
    parser.add_argument("--until", type=int, default=len(STEPS), metavar="N",
                        help="end with this step (default: %(default)s)")
    parser.add_argument("--build", action="store_true",
                        help="make the small bitstream, and do nothing else")
    parser.add_argument("--prove", action="store_true",
                        help="with --build, show that the bitstream is the design, as qsdt prove "
                             "does: passes, lvs, bitstream")
    parser.add_argument("--program", action="store_true",
                        help="load the bitstreams as they are needed (openFPGALoader)")
    parser.add_argument("--folder", type=Path, metavar="DIR",
                        help="folder of the small bitstream (default: build/<board>-bringup)")
    parser.add_argument("--clock-mhz", type=float, metavar="F",
                        help="with --build, clock of the core (default: the board's)")
    parser.add_argument("--sdram-mhz", type=float, metavar="F",
                        help="with --build, clock of the SDRAM (default: the board's)")
    parser.add_argument("--toolchain", choices=("auto", "native", "yowasp"), default="auto",
                        help="with --build, which yosys and nextpnr (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, metavar="S",
                        help="with --build, seed of place and route (default: %(default)s)")
    add_network_options(parser)
    parser.set_defaults(model=None)
    parser.add_argument("--config", metavar="C.yaml", help="the overrides the core was built with")
    parser.add_argument("--core", type=Path, metavar="DIR",
                        help="build folder of the core (default: build/<board>-<model>)")
    parser.add_argument("--layer", metavar="NAME",
                        help="the layer that runs by itself (default: the first one)")
    many = parser.add_mutually_exclusive_group()
    many.add_argument("--count", type=int, default=IMAGES, metavar="N",
                      help="images of the last step (default: %(default)s)")
    many.add_argument("--soak", action="store_const", dest="count", const=SOAK,
                      help=f"{SOAK} images")
    parser.add_argument("--log", type=Path, metavar="F",
                        help="file that everything said is added to (default: bringup.log in the "
                             "folder of the small bitstream)")
    parser.add_argument("--cache", default=SIMULATORS, type=Path, metavar="DIR",
                        help="compiled simulators of virtual boards (default: %(default)s)")
    add_verbosity(parser)
    return parser


def _ask(question):
    """The answer of the person at the terminal; no answer is no."""
    print(f"  {question} [y/n] ", end="", flush=True)
    try:
        if not select.select([sys.stdin], [], [], ASK_S)[0]:
            print(f"no answer within {ASK_S:g} s")
            return False
    except OSError:    # Windows has no select for a console
        pass
    return sys.stdin.readline().strip().lower().startswith("y")


class _Log:
    """What is said, on the terminal and at the end of a file."""

    def __init__(self, path, command):
        check_writable(path)
        self._file = open(path, "a", encoding="utf-8")
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        self._file.write(f"\n# {now} {command}\n")

    def say(self, line):
        print(line, flush=True)
        self._file.write(f"{line}\n")
        self._file.flush()

    def close(self):
        self._file.close()


class _Bringup:
    """The way through the steps."""

    def __init__(self, arguments, board, folder, say):
        self._arguments, self._board, self._folder = arguments, board, folder
        self._virtual = arguments.port == VIRTUAL
        self._say = say
        self._record = None if self._virtual else read_record(board, folder)
        self._design = self._image = self._images = None

    def introduce(self):
        """What is needed, in words."""
        say = self._say
        if self._virtual:
            say("Rehearsal on virtual boards: the RTL in a simulator, which is compiled the first "
                "time (minutes).")
            return
        say(f"Board {self._board.name} at {self._arguments.port}.")
        first, last = self._arguments.step, self._arguments.until
        if first <= len(LINK_STEPS):
            self._introduce_one("Steps 1 to 5", self._folder, self._record is not None,
                                [called("gen.bringup"), "--build", "--board", self._board.name])
        if last > len(LINK_STEPS):
            folder = self._core_folder()
            self._introduce_one("Steps 6 to 8", folder, (folder / "top.bit").is_file(),
                                [called("gen.build"), "--board", self._board.name,
                                 *map(str, network_words(self._arguments))])

    def _introduce_one(self, steps, folder, there, build):
        bit = folder / "top.bit"
        if not there:
            self._say(f"{steps} need {bit}, which is not there; make it with: {' '.join(build)}")
        elif self._arguments.program:
            self._say(f"{steps} need {bit}, which is loaded when it comes to them.")
        else:
            self._say(f"{steps} need {bit}; load it with: {called('gen.flash')} "
                      f"--board {self._board.name} --bitstream {bit}")

    def _core_folder(self):
        arguments = self._arguments
        if arguments.core:
            return arguments.core
        name = arguments.model or Path(arguments.weights).stem
        return Path("build") / f"{self._board.name}-{Path(name).stem}"

    def run(self):
        """All steps that are asked for; the first that fails ends it."""
        arguments = self._arguments
        with ExitStack() as stack:
            bench, kind = None, None
            for number in range(arguments.step, arguments.until + 1):
                step = STEPS[number - 1]
                arguments.on_interrupt = f"go on with --step {number}"
                if step.core is not kind:
                    stack.close()
                    kind = step.core
                    bench = stack.enter_context(self._bench(kind))
                    if kind and number > arguments.step and self._holds_small(bench):
                        self._say("")
                        self._say(f"Steps {arguments.step} to {number - 1} passed. Now load the "
                                  f"core's bitstream as said above, and go on with --step "
                                  f"{number}.")
                        return
                self._say("")
                self._say(f"Step {number} of {len(STEPS)}: {step.title}")
                if run_step(bench, step):
                    raise VerificationFailed(f"step {number} ({step.title}) failed; when that is "
                                             f"mended, go on with --step {number}")
        self._say("")
        self._say(f"Steps {arguments.step} to {arguments.until} passed.")

    def _holds_small(self, bench):
        """Whether a board that somebody else loads still has the small bitstream."""
        if self._virtual or self._arguments.program:
            return False
        bench.deadline = float("inf")
        try:
            with bench.opened() as device:
                return is_small(device)
        except LinkError:
            return False                        # the step says it

    @contextmanager
    def _bench(self, core):
        """The bench for the steps of one bitstream, which is loaded first if asked for."""
        from gen.device.transport import Transport

        arguments, board = self._arguments, self._board
        if core:
            self._prepare_core()
        common = {"board": board, "say": self._say, "folder": self._folder, "design": self._design,
                  "image": self._image, "images": self._images, "layer": self._layer()}
        if self._virtual:
            from gen.bench.virtual import core_board, small_board

            running = (core_board(board, self._design.config, arguments.cache) if core else
                       small_board(arguments.cache))
            with running as virtual:
                yield Bench(connect=lambda: Transport(virtual.url), timeout=virtual.link_timeout,
                            patience=VIRTUAL_PATIENCE, echoes=200, rounds=2,
                            press=lambda: virtual.restart(Restart.BUTTON), **common)
            return
        if arguments.program:
            bit = (self._core_folder() if core else self._folder) / "top.bit"
            program(board, bit)
            self._say(f"loaded {bit}")
        clock_hz = (self._design.config.clock_hz if core else
                    self._record["clock_hz"] if self._record else board.target_hz)
        baud, _ = board.link(clock_hz)
        person = sys.stdin.isatty() and sys.stdout.isatty()
        yield Bench(connect=lambda: Transport(arguments.port, baud=baud),
                    ask=_ask if person else None, identity=self._identity(core), **common)

    def _identity(self, core):
        return None if core or self._record is None else self._record.get("identity")

    def _layer(self):
        if self._design is None:
            return ""
        return self._arguments.layer or self._design.network.ops[0].name

    def _prepare_core(self):
        arguments = self._arguments
        overrides = read_overrides(arguments.config)
        name, network = load_network(arguments)
        self._design = configure(network, board=self._board.name, name=name, overrides=overrides)
        self._images = load_images(None, network, count=arguments.count).image_q
        self._image = (self._design.image if self._virtual else
                       bound_image(self._design, self._core_folder()))


def _check(arguments, board):
    """What cannot work is said before anything that takes long."""
    if not 1 <= arguments.step <= arguments.until <= len(STEPS):
        raise InputError(f"--step and --until must be in 1..{len(STEPS)}, in this order, not "
                         f"{arguments.step} and {arguments.until}")
    if arguments.count < 1:
        raise InputError(f"--count must be at least 1, not {arguments.count}")
    if arguments.port != VIRTUAL:
        check_port(arguments.port)
    elif arguments.program:
        raise InputError("--program is for real boards")
    if arguments.program:
        find_loader()


def _build(arguments, board, folder):
    chosen = {name: getattr(arguments, name) for name in ("clock_mhz", "sdram_mhz")
              if getattr(arguments, name) is not None}
    with as_input_error():
        clock_hz = board.check_core_clock(chosen_clock(board, chosen))
        sdram_hz = chosen_sdram_clock(board, chosen)
    record = build_small(board, folder, clock_hz=clock_hz, sdram_hz=sdram_hz,
                         toolchain=arguments.toolchain, seed=arguments.seed)
    used = record["used"]
    found = ", ".join(f"{name} {clock['achieved']:.1f} MHz ({clock['constraint']:g} asked for)"
                      for name, clock in record["clocks"].items())
    print(f"{folder / 'top.bit'}: {used['comb']} COMB, {used['ff']} FF, {used['ebr']} block RAMs; "
          f"{found}; {record['seconds']:.0f} s")
    if arguments.prove:
        record["proof"] = prove_small(folder, arguments.seed)
        write_record(folder, record)
        if any(rung["differences"] for rung in record["proof"]):
            raise VerificationFailed(f"{folder / 'top.bit'} is not the design: see above; do not "
                                     "load it")
    next_step("gen.bringup", "--board", board.name, "--port", "/dev/ttyUSB0", "--program")


def _run(arguments):
    with as_input_error():
        board = find_board(arguments.board)
    folder = arguments.folder or default_folder(board)
    if arguments.build:
        require("scipy", "numba", what="place and route")
        _build(arguments, board, folder)
        return
    require("serial", what="the link to a board, also to the virtual one")
    if arguments.model is None and arguments.weights is None:
        arguments.model = "qsdt_nano"
    _check(arguments, board)
    make_folder(folder)
    log = _Log(arguments.log or folder / "bringup.log", arguments.command_line)
    try:
        bringup = _Bringup(arguments, board, folder, log.say)
        bringup.introduce()
        bringup.run()
    finally:
        log.close()


def cli(argv=None):
    return main(_run, _parser(), argv)


if __name__ == "__main__":
    sys.exit(cli())
