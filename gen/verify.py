"""Compare the forms of a network on the same images: integer model, ISS, RTL.

Every level map, z and membrane is compared as the units write it, or for large networks the
signature of each descriptor first; the first difference is named by layer, tile, channel and
position. `python -m gen.verify --help` tells the rest.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
import json
import logging
from pathlib import Path
import sys
import time

import numpy as np

from boards import find_board
from gen.api import configure
from gen.check.simulate import Checkpoints, controls_of, Meter, reported, simulate
from gen.check.trace import (
    first_difference,
    integer_trace,
    iss_trace,
    rtl_trace,
    rtl_writes,
    TRACED,
    traced_units,
    written_words,
)
from gen.compile.excerpt import excerpt, pattern, PATTERNS
from gen.config.memory import sdram_config
from gen.config.spec import read_overrides, TwinSpec
from gen.inputs import (
    add_image_options,
    add_network_options,
    load_images,
    load_network,
    network_words,
)
from gen.machine.cost import layer_cycles, ON_CHIP, spans
from model.command import add_verbosity, ArgumentParser, called, main, next_step
from model.error import (
    as_input_error,
    InputError,
    known,
    VerificationFailed,
)
from model.files import check_writable, digest_bytes, make_folder, write_atomic
from model.progress import track
from sim.rtl.core import EVERYTHING, NOTHING, RtlCore, RtlTimeout, twin_memory
from sim.rtl.verilator import require_tools
from sim.rtl.verilog import cached_verilog
from sim.twin.sdram import SdramTwin
from sim.twin.sdram_chip import broken_rules
from sim.twin.sdram_system import SdramSystem


__all__ = ["COMPARISONS", "FORMS", "Case", "core_digest", "excerpt_cases", "image_cases", "main",
           "verified_path", "verify"]


log = logging.getLogger(__name__)


FORMS = ("integer", "iss", "rtl")

COMPARISONS = ("tensors", "signatures")

NO_STALLS = TwinSpec()

LIMIT = 50_000_000
"""Cycles in which the RTL must finish an image."""

WHOLE_WORDS = 1_000_000
"""Pool words written per image up to which every one is compared."""

CHECKPOINT_CYCLES = 2_000_000

TRACE_AHEAD = 64
"""Cycles before the recorded start of a descriptor where tracing it may begin: the record counts
from a few cycles after the run's start."""

SIMULATORS = Path("build/sim")
"""Compiled simulators and the Verilog of cores."""

VERIFIED = Path("build/verified")
"""Records of passing verifications, one file for each configuration."""


def core_digest(config):
    """Digest of the core's Verilog: what a verification is valid for."""
    from hw.core import Core

    return digest_bytes(cached_verilog(partial(Core, config), "core", SIMULATORS).encode())


def verified_path(digest, network_digest):
    """Where the record of a passing verification of this core and network lies."""
    return VERIFIED / f"{digest[:16]}-{network_digest[:16]}.json"


@dataclass
class Verification:
    """Outcome of :func:`verify`: one line per compared pair, the first difference of each, and
    figures of the runs."""

    lines: list
    differences: dict
    figures: dict


@dataclass(frozen=True)
class Case:
    """One run to compare: an image int8 (C, H, W), other inputs as (address, memory words), and
    the integer model, which makes its tensors (adding to the counters that it is given)."""

    title: str
    image: np.ndarray
    presets: list
    tensors: Callable


def image_cases(network, images):
    """The whole network on images int8 (N, C, H, W)."""
    return [Case(f"image {k}", images[k], [],
                 lambda stats, k=k: network.run(images[k:k + 1], stats=stats))
            for k in range(len(images))]


def excerpt_cases(part, images, patterns=()):
    """An excerpt on the integer model's tensors for images, or on patterns."""
    cases = []
    for title, inputs in [*((f"pattern {name}", part.pattern(name)) for name in patterns),
                          *((f"image {k}", part.tensors(images[k]))
                            for k in range(0 if patterns else len(images)))]:
        image = inputs.get("image", np.zeros((1, *part.network.input_shape), np.int8))[0]
        cases.append(Case(title, image, part.presets(inputs),
                          lambda stats, inputs=inputs: part.run(inputs, stats=stats)))
    return cases


class _Rtl:
    """The RTL as a form: compiled once; traced whole, or only where signatures differ.

    Traced whole, one simulator takes all cases, one after the other, as a board does. Else each
    case has a fresh one, so that its run can be continued and repeated in part.
    """

    def __init__(self, program, *, core, whole, checkpoints, every, limit, timing):
        self.program, self.core, self.whole = program, core, whole
        self._root, self._every = checkpoints, every
        self._limit, self._timing = limit, timing
        self._stack = ExitStack()
        self.checkpoints = []

    def __enter__(self):
        if self.whole:
            self._stack.enter_context(self.core)
            self.core.write(0, self.program.payload)
        return self

    def __exit__(self, *exception):
        self._stack.close()

    def run(self, case):
        """(Trace, records, RtlRun) of a case."""
        program, core = self.program, self.core
        self._writes = rtl_writes(program, case.image, case.presets)
        if self.whole:
            run = simulate(core, program, self._writes, limit=self._limit, trace=EVERYTHING)
            trace, self._records = rtl_trace(program, core, run)
        else:
            self._writes.insert(0, (0, program.payload))
            saved = Checkpoints.of(self._root, core, controls_of(program), self._writes,
                                   every=self._every)
            self.checkpoints.append(saved)
            with core:
                run = simulate(core, program, self._writes, limit=self._limit, trace=NOTHING,
                               checkpoints=saved,
                               meter=Meter(program, self._timing, f"rtl, {case.title}"))
                trace, self._records = rtl_trace(program, core, run)
        if run.counters["ERRORS"]:
            raise VerificationFailed(f"rtl: memory collision flags {run.counters['ERRORS']:#x} "
                                     f"on {case.title}")
        if run.end.violations:
            raise VerificationFailed(f"rtl: SDRAM rules broken on {case.title}: "
                                     f"{', '.join(broken_rules(run.end.violations))}")
        return trace, self._records, run

    def trace_descriptor(self, trace, index):
        """Add the words of one descriptor to the trace of the last case, by running it again."""
        places, _ = traced_units(self.program)
        unit, first = places[index]
        number, count = TRACED.index(unit), written_words(self.program.descriptors[index])
        window = [(0, 0)] * len(TRACED)
        window[number] = first, count
        log.info("rtl: running again, to trace descriptor %d", index)
        start, _ = spans(self._records)[index]
        with self.core:
            run = simulate(self.core, self.program, self._writes, limit=self._limit,
                           trace=window, checkpoints=self.checkpoints[-1],
                           before=max(0, start - TRACE_AHEAD),
                           until=lambda state: state.written[number] >= first + count)
        trace.addresses[index], trace.words[index] = (run.neuron, run.attention)[number]


def _tensor_counts(program):
    kinds = {}
    for descriptor in program.descriptors:
        for output in descriptor.outputs:
            kinds.setdefault(program.maps[output.tensor].kind, set()).add(output.tensor)
    logits = "logits_acc" in kinds.setdefault("u", set())
    kinds["u"].discard("logits_acc")
    names = {"level": "level maps", "z": "z maps", "u": "membranes"}
    return ", ".join([*(f"{len(kinds.get(kind, ()))} {text}" for kind, text in names.items()),
                      *(["logits"] if logits else [])])


def compares_whole(program):
    """Whether every word is compared unless asked otherwise: where there are few."""
    return sum(traced_units(program)[1].values()) <= WHOLE_WORDS


def verify(network, program, cases, *, forms, twin=NO_STALLS, memory=None, clocks_hz=None,
           compare=None, cache=SIMULATORS, checkpoints=Path("build/checkpoints"),
           every=CHECKPOINT_CYCLES, timing=ON_CHIP, progress=lambda *_: None, limit=LIMIT):
    """Run the forms on every case and compare each pair.

    Parameters
    ----------
    network : IntegerNetwork
    program : gen.compile.compiler.Program
    cases : int8 (N, C, H, W) or list of Case
        Images, or what :func:`image_cases` and :func:`excerpt_cases` make.
    forms : iterable of str
        Of :data:`FORMS`.
    twin : TwinSpec
        Memory behind the RTL, unless ``memory`` and ``clocks_hz`` are given
        (:class:`sim.rtl.core.RtlCore`).
    compare : str or None
        One of :data:`COMPARISONS`: "tensors" compares every word that a unit writes;
        "signatures" compares those of the descriptors first and the words of the first that
        differs, saving the RTL's state every ``every`` cycles under ``checkpoints``. None
        compares tensors if there are at most :data:`WHOLE_WORDS` words.
    timing : gen.machine.cost.MemoryTiming
        For estimates of the time left.
    limit : int
        Cycles of the RTL for a case.

    Returns
    -------
    Verification
    """
    stats, figures, differences = {}, {}, {}
    cases = cases if isinstance(cases, list) else image_cases(network, cases)
    pairs = list(combinations([f for f in FORMS if f in forms], 2))
    whole = compares_whole(program) if compare is None else compare == "tensors"
    with ExitStack() as stack:
        rtl = None
        if "rtl" in forms:
            core = RtlCore(program.config, clocks_hz=clocks_hz, cache=cache,
                           memory=memory or twin_memory(program.memory_words, **vars(twin)))
            rtl = stack.enter_context(_Rtl(program, core=core, whole=whole, timing=timing,
                                           checkpoints=checkpoints, every=every, limit=limit))
        cycles, spikes, counters, records = [], [], {}, None
        for case in cases:
            traces = {}
            if "integer" in forms:
                traces["integer"] = integer_trace(program, case.tensors(stats), 0)
            if "iss" in forms:
                with track(f"iss, {case.title}", len(program.descriptors), "descriptors") as task:
                    traces["iss"] = iss_trace(program, case.image, case.presets,
                                              progress=task.update)
            if rtl is not None:
                traces["rtl"], records, run = rtl.run(case)
                cycles.append(run.cycles)
                spikes.append(run.counters["SPIKE_EVENTS"])
                counters = run.counters
            for a, b in pairs:
                if (a, b) in differences:
                    continue
                found = first_difference(program, traces[a], traces[b])
                if found and not found.traced:
                    rtl.trace_descriptor(traces["rtl"], found.index)
                    found = first_difference(program, traces[a], traces[b])
                if found:
                    differences[a, b] = f"{case.title}, {found.text}"
            progress(1)
        if cycles:
            layers = layer_cycles(program, spans(records))
            figures |= {"cycles": cycles, "spike_events": spikes,
                        "counters": {k: v for k, v in counters.items() if v},
                        "layer_cycles": {name: cost.cycles for name, cost in layers.items()}}
        if rtl is not None and not differences:
            for saved in rtl.checkpoints:
                saved.remove()
    figures["stats"] = stats
    counts = _tensor_counts(program) + ("" if whole else "; by signatures")
    lines = []
    for a, b in pairs:
        text = differences.get((a, b))
        lines.append(f"{a} = {b}: " + (f"DIFFERENT, {text}" if text else
                     f"equal on {cases[0].title.split()[0]}s: {len(cases)} ({counts})"))
    return Verification(lines, differences, figures)


def _parser():
    parser = ArgumentParser(
        prog=called("gen.verify"),
        description="Compare the forms of a network on the same images, tensor by tensor, and "
                    "record a passing comparison for gen.build.")
    add_network_options(parser)
    add_image_options(parser)
    parser.add_argument("--board", default="ulx3s", metavar="NAME",
                        help="board whose configuration is verified (default: %(default)s)")
    parser.add_argument("--config", metavar="C.yaml",
                        help="overrides: core (parameters of CoreConfig), memory_words, twin "
                             "(latency, stall, seed, words_per_cycle, refresh_interval, "
                             "refresh_cycles of the memory); see docs/configuration.md")
    parser.add_argument("--forms", default="integer,iss,rtl", metavar="A,B",
                        help="comma separated, of integer, iss and rtl (default: %(default)s)")
    parser.add_argument("--layers", metavar="A,B",
                        help="verify these layers only, each from the integer model's tensors at "
                             "its inputs: names of layers, or of modules such as block3.0 for "
                             "all inside them; layers fused with them come along")
    parser.add_argument("--patterns", metavar="P,Q",
                        help="in place of images, inputs that no image gives, of "
                             f"{', '.join(PATTERNS)} (or all): the images, or with --layers "
                             "every tensor at the layers' inputs")
    parser.add_argument("--compare", choices=COMPARISONS,
                        help="every word that is written, or signatures first and words only "
                             "around the first difference (default: tensors for up to "
                             f"{WHOLE_WORDS} words an image)")
    parser.add_argument("--checkpoint-cycles", type=int, default=CHECKPOINT_CYCLES, metavar="N",
                        help="with signatures, save the RTL's state every N cycles; the same "
                             "command goes on from there after an interruption "
                             "(default: %(default)s)")
    parser.add_argument("--checkpoints", type=Path, default="build/checkpoints", metavar="DIR",
                        help="where (default: %(default)s); removed when all are equal")
    parser.add_argument("--sdram-chip", action="store_true",
                        help="with an SDRAM, simulate its controller and a model of the chip that "
                             "checks every timing, in place of the controller's twin")
    parser.add_argument("--cache", default=SIMULATORS, type=Path, metavar="DIR",
                        help="compiled simulators (default: %(default)s)")
    parser.add_argument("--report", type=Path, metavar="F.json",
                        help="write the comparison and its figures here")
    add_verbosity(parser)
    return parser


def _chosen(text, names, what):
    """Comma separated names, each one of ``names``."""
    return [known(what, name.strip(), names) for name in text.split(",")]


def _patterns(arguments):
    if arguments.patterns is None:
        return []
    if arguments.images or arguments.data:
        raise InputError("--patterns come in place of --images and --data")
    return PATTERNS if arguments.patterns == "all" else _chosen(arguments.patterns, PATTERNS,
                                                                "pattern")


def _memory(arguments, board, config, twin):
    """(in words, options of :func:`verify`): what the RTL's memory is."""
    if twin is not None:
        return ", ".join(f"{key} {value:g}" for key, value in vars(twin).items()), {"twin": twin}
    if config.memory == "onchip":
        return "on chip", {}
    sdram = sdram_config(board, config.sdram_clock_hz)
    where = f"SDRAM at {config.sdram_clock_hz / 1e6:g} MHz"
    if arguments.sdram_chip:
        memory = partial(SdramSystem, sdram, verilog=True)
        return f"{where}, controller and chip", {
            "memory": memory, "clocks_hz": (config.clock_hz, config.sdram_clock_hz)}
    memory = partial(SdramTwin, sdram, sync_hz=config.clock_hz, verilog=True)
    return f"{where}, its twin", {"memory": memory}


def _parts(arguments, network, program, patterns, images):
    """(name, program, cases) of what is verified; the name is empty for the whole network."""
    if arguments.layers is not None:
        for name in arguments.layers.split(","):
            part = excerpt(network, program, name.strip())
            yield part.name, part.program, excerpt_cases(part, images, patterns)
    elif patterns:
        shape, params = network.input_shape, network.params
        yield "", program, [
            replace(case, title=f"pattern {name}") for name, case in zip(
                patterns, image_cases(network, np.stack([
                    pattern(name, "image", shape, params).astype(np.int8) for name in patterns])),
                strict=True)]
    else:
        yield "", program, image_cases(network, images)


def _run(arguments):
    forms = _chosen(arguments.forms, FORMS, "form")
    if len(set(forms)) < 2:
        raise InputError("At least two forms are needed to compare")
    if arguments.checkpoint_cycles < 1:
        raise InputError(f"Checkpoint cycles must be at least 1, "
                         f"not {arguments.checkpoint_cycles}")
    patterns = _patterns(arguments)
    with as_input_error():
        find_board(arguments.board)
    if arguments.report:
        check_writable(arguments.report)
    if "rtl" in forms:
        with reported():
            require_tools()
    overrides = read_overrides(arguments.config)
    name, network = load_network(arguments)
    images = None if patterns else load_images(
        arguments.images, network, model=arguments.model, count=arguments.count,
        dataset=arguments.data, data_dir=arguments.data_dir, fit=arguments.fit,
        background=arguments.background).image_q
    design = configure(network, board=arguments.board, name=name, overrides=overrides)
    board, config, program = design.board, design.config, design.program
    twin = None
    if overrides.get("twin"):
        with as_input_error("twin"):
            twin = TwinSpec(**overrides["twin"])
    with as_input_error("memory"):
        memory, options = _memory(arguments, board, config, twin)
    strips = max(program.strips.values())
    spilled = [n for n, (home, _) in program.homes.items()
               if home == "memory" and n not in ("image", "logits_acc")]
    core = config.core
    print(f"{name}: {len(program.descriptors)} descriptors on {core.rows}x{core.rows} lanes, "
          f"pool {core.pool_words} words, at most {strips} strips a map, {len(spilled)} spilled "
          f"tensors; memory: {memory}")
    started = time.monotonic()
    results = []
    try:
        for part, part_program, cases in _parts(arguments, network, program, patterns,
                                                 images):
            if part:
                layers = dict.fromkeys(d.layer for d in part_program.descriptors)
                print(f"{part}: {len(part_program.descriptors)} descriptors of "
                      f"{', '.join(layers)}")
            with track("verify", len(cases), "images") as task, reported():
                result = verify(network, part_program, cases, forms=forms, **options,
                                compare=arguments.compare, cache=arguments.cache,
                                checkpoints=arguments.checkpoints, timing=config.timing,
                                every=arguments.checkpoint_cycles, progress=task.update)
            results.append((part, len(cases), result))
            for line in result.lines:
                print(line)
            figures = result.figures
            if "cycles" in figures:
                print(f"rtl: {min(figures['cycles'])}..{max(figures['cycles'])} cycles and "
                      f"{round(np.mean(figures['spike_events']))} spike events each (rtl-sim)")
            if "integer" in forms:
                print("reached: " + ", ".join(f"{k} {v}" for k, v in figures["stats"].items()))
    except RtlTimeout as error:
        raise VerificationFailed(f"rtl: {error}") from None
    differ = sum(len(result.differences) for _, _, result in results)
    record = {
        "equal": differ == 0, "forms": forms, "model": name, "network_digest": network.digest(),
        "config": config.to_dict(), "memory": memory, "strips": program.strips,
        "spilled": spilled, "seconds": round(time.monotonic() - started, 1),
        "command": arguments.command_line,
    }
    if arguments.layers is None:
        (_, count, result), = results
        record |= {"images": count, "lines": result.lines, "figures": result.figures}
    else:
        record["layers"] = {part: {"images": count, "lines": result.lines,
                                   "figures": result.figures}
                            for part, count, result in results}
    if arguments.report:
        write_atomic(arguments.report, json.dumps(record, indent=1) + "\n")
    if differ:
        raise VerificationFailed(f"{differ} of {sum(len(r.lines) for *_, r in results)} pairs "
                                 "differ")
    if "rtl" in forms and "integer" in forms and arguments.layers is None:
        path = verified_path(core_digest(core), network.digest())
        make_folder(path.parent)
        write_atomic(path, json.dumps(record, indent=1) + "\n")
        next_step("gen.build", "--board", arguments.board, *network_words(arguments))
    else:
        next_step("gen.verify", "--board", arguments.board, *network_words(arguments))


def cli(argv=None):
    return main(_run, _parser(), argv)


if __name__ == "__main__":
    sys.exit(cli())
