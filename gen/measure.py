"""Measure a board, or rehearse it on the virtual one: throughput, energy, health; a report."""

from contextlib import ExitStack, nullcontext
from datetime import datetime, UTC
from functools import partial
import logging
from pathlib import Path
import sys
import time

from boards import ALIASES, BOARDS, DEFAULT, find_board
from gen.api import configure, VIRTUAL
from gen.compile.results import raw_of
from gen.config.spec import read_overrides
from gen.device.device import Device
from gen.device.flash import program
from gen.device.port import check_port, LinkError
from gen.device.ring import MOST_RUNS, ring_room
from gen.device.session import Session
from gen.inputs import (
    add_device_options,
    add_image_options,
    add_network_options,
    check_way,
    load_images,
    load_network,
    network_words,
)
from gen.measurement.figures import (
    layer_figures,
    logged_cycles,
    roofs,
    run_figures,
    stall_rows,
    tagged,
)
from gen.measurement.memory import memory_checks
from gen.measurement.onboard import BoardPower, simulated_monitor
from gen.measurement.replay import read_record, replaying
from gen.measurement.runs import check_sums, counted, measure_runs, Stopwatch
from gen.measurement.timeline import timeline
from gen.measurement.write import FILES, write_measurement
from gen.meter.account import account, IDLE, RUNNING, UNCONFIGURED
from gen.meter.choice import parse_meter
from gen.meter.onboard import OnBoard
from gen.meter.recorder import Recorder
from gen.meter.simulated import BusyLine, Simulated
from gen.opened import bound_image, reachable
from model.code import commit
from model.command import add_verbosity, ArgumentParser, called, main, next_step, require
from model.error import as_input_error, InputError, known
from model.files import check_folder
from model.integer.epilogue import LOGITS
from model.progress import track


__all__ = ["cli"]


log = logging.getLogger(__name__)


DEFAULTS = {"seconds": (60.0, 0.0), "warm_up": (60.0, 0.0), "idle": (10.0, 1.0)}
"""Seconds of running, of the warm-up and of idle: on a board, and on the virtual board."""

COUNT = (1000, 2)
"""Images on a board, also the least of a run, and on the virtual board."""

SUMMED = (16, 2)
"""Images that are also run one by one, before: on a board, and on the virtual board."""

LOOK_S = (0.002, 0.2)
"""Seconds between two looks at a running core: on a board, and on the virtual board."""

REPEATS = (3, 1)
"""Runs: on a board, and on the virtual board."""

IMAGE_S = (10.0, 600.0)
"""Longest time for an image, with the link."""

PORT_S = 10.0
"""Longest wait for the serial port of a board that the meter feeds."""

FIRST_S = 10.0
"""Longest wait for a meter's first sample."""


def _parser():
    parser = ArgumentParser(
        prog=called("gen.measure"),
        description="Measure throughput and energy of a board (docs/tutorials/measure.md): "
                    "identity, memory and CRCs are checked first, every result is compared with "
                    "the integer model, and each number says how it was obtained.",
        epilog="--board virtual --meter simulated rehearses all of it without a board; its power "
               "is no measurement, and says so.")
    add_device_options(parser)
    add_network_options(parser)
    add_image_options(parser)
    parser.add_argument("--meter", metavar="M",
                        help="the meter, as for qsdt meter; without one there is no energy")
    parser.add_argument("--out", type=Path, default=Path("measured"), metavar="DIR",
                        help=f"folder for {', '.join(FILES)} (default: %(default)s)")
    parser.add_argument("--back-to-back", type=int, metavar="N",
                        help="least number of images that a run has; fewer pictures lie in the "
                             "memory as a ring that is read again and again (default: "
                             f"{COUNT[0]}; on the virtual board all pictures once)")
    parser.add_argument("--repeats", type=int, metavar="R",
                        help=f"least number of runs (default: {REPEATS[0]}; on the virtual board "
                             f"{REPEATS[1]})")
    for name, text in (("seconds", "least time of the runs; hours make a soak"),
                       ("warm-up", "images run for so long before anything counts"),
                       ("idle", "time for idle, and for --unconfigured")):
        board, virtual = DEFAULTS[name.replace("-", "_")]
        parser.add_argument(f"--{name}", type=float, metavar="S",
                            help=f"{text} (default: {board:g}; on the virtual board {virtual:g})")
    parser.add_argument("--recorded", type=Path, metavar="F.json",
                        help="with --board virtual: no simulation of the RTL, but the cycles that "
                             "a record of qsdt verify has, at the core's clock")
    parser.add_argument("--unconfigured", action="store_true",
                        help="the board has no bitstream yet: measure its power so, before "
                             "--program loads it")
    add_verbosity(parser)
    return parser


def _nothing():
    """There is no recording that could have ended."""


class _Measurement:
    """One measurement, from the options to the files."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.virtual = arguments.board == VIRTUAL
        for name, values in DEFAULTS.items():
            value = getattr(arguments, name)
            value = values[self.virtual] if value is None else value
            if not 0 <= value < float("inf"):
                raise InputError(f"--{name.replace('_', '-')} must be 0 or more seconds, not "
                                 f"{value:g}")
            setattr(self, name, value)
        self.repeats = REPEATS[self.virtual] if arguments.repeats is None else arguments.repeats
        if self.repeats < 1:
            raise InputError(f"--repeats must be at least 1, not {self.repeats}")
        self.back_to_back = arguments.back_to_back
        if self.back_to_back is None:
            self.back_to_back = 1 if self.virtual else COUNT[0]
        if not 1 <= self.back_to_back <= MOST_RUNS:
            raise InputError(f"--back-to-back must be 1 to {MOST_RUNS}, not "
                             f"{self.back_to_back}")
        if arguments.unconfigured and not (arguments.program or self.virtual):
            raise InputError("--unconfigured needs --program: the bitstream is loaded afterwards")
        if arguments.unconfigured and not arguments.meter:
            raise InputError("--unconfigured needs --meter")
        if arguments.unconfigured and arguments.meter.split(":")[0] == OnBoard.name:
            raise InputError("--unconfigured needs another meter: a board without a bitstream "
                             "reads none")
        if arguments.recorded is not None and not self.virtual:
            raise InputError("--recorded is for --board virtual: a board has its own cycles")
        if arguments.recorded is not None and not arguments.recorded.is_file():
            raise InputError(f"{arguments.recorded}: there is no such file; name a record of qsdt "
                             "verify")
        self.tag = "rtl-sim" if self.virtual else "board"
        self.line = BusyLine()
        self.meter = self._meter(arguments.meter)
        self.power = None
        with as_input_error():
            self.board = find_board(DEFAULT if self.virtual else arguments.board)
        check_folder(arguments.out)
        overrides = read_overrides(arguments.config)
        name, network = load_network(arguments)
        self.folder = arguments.build or Path("build") / f"{self.board.name}-{name}"
        check_way(arguments, self.folder / "top.bit",
                  fed=self.meter is not None and self.meter.feeds)
        self.network = network
        self.found = self._images(network)
        self.design = configure(network, board=self.board.name, name=name, overrides=overrides)
        self.record = (None if arguments.recorded is None
                       else read_record(arguments.recorded, self.design))
        self.device = (self.board.name if not self.virtual else "the virtual board"
                       if self.record is None else "a replay of recorded cycles")

    def _meter(self, words):
        meter = None if words is None else parse_meter(words)
        if isinstance(meter, Simulated):
            return Simulated(line=self.line, **meter.options)
        return meter

    def _images(self, network):
        arguments = self.arguments
        count = COUNT[self.virtual] if arguments.count is None else arguments.count
        return load_images(arguments.images, network, model=arguments.model, count=count,
                           dataset=arguments.data, data_dir=arguments.data_dir,
                           fit=arguments.fit, background=arguments.background)

    def run(self):
        """Measure; returns (runs, checks, trace or None, account or None)."""
        trace = None
        try:
            with ExitStack() as stack:
                recorder = None
                if self.meter is not None and not isinstance(self.meter, OnBoard):
                    recorder = stack.enter_context(
                        Recorder(stack.enter_context(self.meter)))
                    recorder.wait(FIRST_S)
                runs, checks = self._on_device(stack, recorder)
        except LinkError as error:
            raise InputError(str(error)) from None
        if recorder is not None:
            trace = recorder.trace()
            return runs, checks, trace, account(trace, runs.images)
        return runs, checks, None, self.power and self.power.account(
            runs.runs, self.design.config.clock_hz, "simulated" if self.virtual else "board")

    def _on_device(self, stack, recorder):
        arguments, design = self.arguments, self.design
        if recorder is not None and self.meter.feeds and not self.virtual:
            self._await_port()
        if arguments.unconfigured:
            self._rest(UNCONFIGURED, recorder.phase, recorder.check)
        if arguments.program:
            program(self.board, self.folder / "top.bit")
        image = design.image if self.virtual else bound_image(design, self.folder)
        device = Stopwatch(stack.enter_context(self._open(stack)), self.line.set)
        session = Session(device, image)
        checks = self._prepared(session, device)
        begin, look = nullcontext, _nothing
        if isinstance(self.meter, OnBoard):
            self.power = BoardPower(device, self.meter)
            self._rest(IDLE, self.power.rest, _nothing)
            begin, look = self.power.running, self.power.look
        elif recorder is not None:
            self._rest(IDLE, recorder.phase, recorder.check)
            begin, look = partial(recorder.phase, RUNNING), recorder.check
        expected = raw_of(self.network, self.found.image_q)
        runs = measure_runs(
            session, device, self.found.image_q, expected, back_to_back=self.back_to_back,
            repeats=self.repeats, seconds=self.seconds, warm_up_s=self.warm_up,
            timeout_s=IMAGE_S[self.virtual],
            interval=LOOK_S[self.virtual and self.record is None], begin=begin, look=look)
        session.check()
        checks.append(f"{counted(runs.compared, 'result')} of {counted(runs.images, 'image')} as "
                      "in the integer model, every one that was kept; images before each start, "
                      "program, weights and constants also afterwards have their CRC")
        state = device.state()
        checks.append(f"{counted(state['restarts'], 'restart')} since configuration, "
                      + ("A PLL LOST ITS LOCK" if state["lock_lost"] else "no PLL lost its lock"))
        return runs, checks

    def _prepared(self, session, device):
        """Load the program; what was checked, a line each."""
        checks = ["no bitstream and no memory: a replay has neither"]
        if self.record is None:
            checks = [session.bitstream, *memory_checks(device, self.design.config.memory,
                                                        simulated=self.virtual)]
        words = len(session.image.payload)
        with track("load", words, "words") as task:
            session.load(task.reach)
        with track("check", words, "words") as task:
            session.check(task.reach)
        checks.append(f"{words} words of program, weights and constants have the right CRC, "
                      f"computed by {self.device}")
        if room := ring_room(session):
            checks.append(check_sums(session, self.found.image_q[:min(room, SUMMED[self.virtual])],
                                     timeout_s=IMAGE_S[self.virtual]))
        return checks

    def _open(self, stack):
        """The device: a context."""
        if self.record is not None:
            return Device(replaying(self.design, self.record, self.found.image_q))
        port = None if self.virtual else self.arguments.port
        monitor = None
        if self.virtual and isinstance(self.meter, OnBoard):
            monitor = simulated_monitor(self.meter, self.design.config)
        return stack.enter_context(reachable(self.board, self.design.config, port,
                                             self.arguments.cache, monitor=monitor))()

    def _await_port(self):
        """The port of a board that has only just been fed."""
        deadline = time.monotonic() + PORT_S
        while True:
            try:
                return check_port(self.arguments.port)
            except InputError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.1)

    def _rest(self, name, phase, look):
        """A phase in which nothing happens."""
        with phase(name), track(name, max(1, round(self.idle)), "s") as task:
            end = time.monotonic() + self.idle
            while (left := end - time.monotonic()) > 0:
                look()
                time.sleep(min(0.2, left))
                task.reach(round(self.idle - left))

    def content(self, runs, checks, spent):
        """measure.json."""
        arguments, design, labels = self.arguments, self.design, self.found.labels
        cycles = (logged_cycles(design, runs.records) if self.record is None
                  else self.record.layer_cycles)
        layers = layer_figures(design, cycles, self.tag)
        energy = spent and spent.to_json()
        host = ("by the host's clock" if not self.virtual else "of the simulation, not of a board"
                if self.record is None else "of the replay, not of a board")
        if LOGITS not in self.network.outputs:
            labels = None
        hits = None if labels is None else int((runs.classes == labels).sum())
        return {
            "schema": 1, "model": design.name, "board": self.board.name,
            "device": self.device,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": arguments.command_line, "commit": commit(),
            "stamps": self._stamps(energy),
            "checks": checks, "config": design.config.to_dict(),
            "accuracy": None if hits is None else tagged(
                hits / len(labels), self.tag, f"{hits} of {len(labels)} images"),
            "figures": run_figures(design.config, layers, runs, self.tag, host),
            "units": stall_rows(runs.runs, self.tag), "layers": layers, "energy": energy,
            "network": design.network.digest(), "roofs": roofs(design.config),
            "timeline": [] if self.record is not None else [
                turn.to_json() for turn in timeline(design.program, runs.records)],
        }


    def _stamps(self, energy):
        """What must not be overlooked."""
        stamps, record = [], self.record
        if record is not None:
            images = counted(len(record.cycles), "image")
            stamps.append(
                f"{'Recorded cycles, simulated meter' if energy else 'Recorded cycles'}: neither a "
                f"board nor RTL ran. Cycles and counters are those of {images} in RTL (memory: "
                f"{record.memory}) from {record.name}, in turn and at "
                f"{self.design.config.clock_hz / 1e6:g} MHz; counters other than cycles and spike "
                "events, and cycles of layers, are those of one image. Results are the "
                "instruction-set simulator's.")
        elif self.virtual:
            stamps.append("Rehearsal on the virtual board: the RTL in a simulator. Cycles are "
                          "exact; times of the host are those of the simulation.")
        if energy and energy["tag"] == "simulated":
            stamps.append("The meter is simulated: power and energy are made up"
                          + (", over the time of the simulation." if self.virtual
                             and record is None else "."))
        if self.network.origin:
            stamps.append(self.network.origin)
        return stamps


def _run(arguments):
    require("serial", what="the link to a board, also to the virtual one")
    known("board", arguments.board, [VIRTUAL, *BOARDS, *ALIASES])
    measurement = _Measurement(arguments)
    runs, checks, trace, spent = measurement.run()
    content = measurement.content(runs, checks, spent)
    write_measurement(arguments.out, content, runs.runs, measurement.tag, trace)
    for line in [*content["stamps"], *checks]:
        print(line)
    for name in ("images", "cycles_per_image", "images_per_s", "images_per_s_host",
                 "images_per_s_link"):
        figure = content["figures"][name]
        print(f"{name} {figure['value']:.6g} ({figure['tag']}): {figure['text']}")
    if spent is not None:
        for line in spent.lines():
            print(line)
    print(f"report: {arguments.out / 'report.html'}")
    if measurement.virtual:
        next_step("gen.build", "--board", measurement.board.name, *network_words(arguments))
    else:
        next_step("gen.faults", *network_words(arguments))


def cli(argv=None):
    """The command."""
    return main(_run, _parser(), argv)


if __name__ == "__main__":
    sys.exit(cli())
