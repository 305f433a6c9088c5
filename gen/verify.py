"""Compare the forms of a network on the same images, and record a passing comparison for gen.build:
`python -m gen.verify --help`."""

import json
from pathlib import Path
import sys
import time

import numpy as np

from boards import DEFAULT, find_board
from gen.api import configure
from gen.check.compare import CHECKPOINT_CYCLES, COMPARISONS, FORMS, parts, verify, WHOLE_WORDS
from gen.check.record import core_digest, described, save
from gen.check.simulate import reported
from gen.compile.excerpt import PATTERNS
from gen.config.memory import rtl_memory
from gen.config.spec import read_overrides, TwinSpec
from gen.inputs import (
    add_image_options,
    add_network_options,
    load_images,
    load_network,
    network_words,
)
from model.command import add_verbosity, ArgumentParser, called, main, next_step
from model.error import as_input_error, InputError, known, VerificationFailed
from model.files import check_writable, write_atomic
from model.progress import track
from sim.rtl.core import Waveform
from sim.rtl.verilator import require_tools, SIMULATORS


__all__ = ["cli"]


def _parser():
    parser = ArgumentParser(
        prog=called("gen.verify"),
        description="Compare the forms of a network on the same images, tensor by tensor, and "
                    "record a passing comparison for gen.build.")
    add_network_options(parser)
    add_image_options(parser)
    parser.add_argument("--board", default=DEFAULT, metavar="NAME",
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
    wave = parser.add_mutually_exclusive_group()
    for kind, text in (("fst", "compressed"), ("vcd", "as text, some fifty times as large")):
        wave.add_argument(f"--{kind}", type=Path, metavar="FILE",
                          help=f"record every signal of the RTL's run, {text}; for one image "
                               "(--count 1), best with one of --layers")
    parser.add_argument("--cycles", metavar="A:B",
                        help="record these cycles of the run only, B excluded; either may be "
                             "left out")
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


def _waveform(arguments, forms, layers):
    """The :class:`Waveform` that is asked for, or None."""
    path = arguments.fst or arguments.vcd
    if path is None:
        if arguments.cycles is not None:
            raise InputError("--cycles: name a file for the waveform, too, with --fst or --vcd")
        return None
    option = "--fst" if arguments.fst else "--vcd"
    if "rtl" not in forms:
        raise InputError(f"{option}: signals are those of the RTL; add rtl to --forms")
    if len(layers) > 1:
        raise InputError(f"{option}: a waveform is of one run; name one layer")
    first, colon, last = (arguments.cycles or ":").partition(":")
    with as_input_error(f"--cycles {arguments.cycles}"):
        if not colon:
            raise ValueError("cycles are A:B, for example 1000:2000")
        waveform = Waveform(path, option[2:], int(first or 0), int(last) if last else None)
    check_writable(path)
    return waveform


def _checked(arguments):
    """(forms, layers, patterns, waveform): the options that need no network to be checked."""
    forms = _chosen(arguments.forms, FORMS, "form")
    if len(set(forms)) < 2:
        raise InputError("At least two forms are needed to compare")
    if arguments.checkpoint_cycles < 1:
        raise InputError(f"Checkpoint cycles must be at least 1, "
                         f"not {arguments.checkpoint_cycles}")
    layers = [name.strip() for name in arguments.layers.split(",")] if arguments.layers else []
    patterns = _patterns(arguments)
    with as_input_error():
        find_board(arguments.board)
    if arguments.report:
        check_writable(arguments.report)
    if "rtl" in forms:
        with reported():
            require_tools()
    return forms, layers, patterns, _waveform(arguments, forms, layers)


def _run(arguments):
    forms, layers, patterns, waveform = _checked(arguments)
    overrides = read_overrides(arguments.config)
    with as_input_error("twin"):
        twin = TwinSpec(**overrides["twin"]) if overrides.get("twin") else None
    name, network = load_network(arguments)
    images = None if patterns else load_images(
        arguments.images, network, model=arguments.model, count=arguments.count,
        dataset=arguments.data, data_dir=arguments.data_dir, fit=arguments.fit,
        background=arguments.background).image_q
    design = configure(network, board=arguments.board, name=name, overrides=overrides)
    config, program = design.config, design.program
    with as_input_error("memory"):
        memory, options = rtl_memory(design.board, config, twin=twin, chip=arguments.sdram_chip)
    core, strips = config.core, max(program.strips.values())
    print(f"{name}: {len(program.descriptors)} descriptors on {core.rows}x{core.rows} lanes, "
          f"pool {core.pool_words} words, at most {strips} strips a map, "
          f"{len(program.spilled)} spilled tensors; memory: {memory}")
    started, results = time.monotonic(), {}
    for part, part_program, cases in parts(network, program, images, layers=layers,
                                           patterns=patterns):
        if waveform and len(cases) != 1:
            raise InputError(f"--{waveform.kind}: a waveform is of one run; here are {len(cases)}: "
                             "add --count 1, or name one pattern")
        with track(f"verify {part}".strip(), len(cases), "images") as task, reported():
            result = verify(network, part_program, cases, forms=forms, **options,
                            compare=arguments.compare, cache=arguments.cache, waveform=waveform,
                            checkpoints=arguments.checkpoints, timing=config.timing,
                            every=arguments.checkpoint_cycles, progress=task.update)
        results[part] = {"images": len(cases), "lines": result.lines, "figures": result.figures,
                         "differ": len(result.differences)}
        _show(part, part_program, result)
    differ = sum(result.pop("differ") for result in results.values())
    record = {
        "equal": differ == 0, "forms": forms, "model": name, "network_digest": network.digest(),
        "config": config.to_dict(), "memory": memory, "strips": program.strips,
        "spilled": program.spilled, "seconds": round(time.monotonic() - started, 1),
        "command": arguments.command_line,
        **({"layers": results} if layers else
           {"inputs": "patterns" if patterns else "images", **results[""]})}
    if arguments.report:
        write_atomic(arguments.report, json.dumps(record, indent=1) + "\n")
    if differ:
        pairs = sum(len(result["lines"]) for result in results.values())
        raise VerificationFailed(f"{differ} of {pairs} pairs differ")
    if waveform:
        print(f"{waveform.path}: {waveform.path.stat().st_size / 1e6:.1f} MB of signals")
    follows = "gen.verify"
    if {"integer", "rtl"} <= set(forms) and not layers and not patterns:
        save(record, core_digest(core), network.digest())
        print(described(record))
        follows = "gen.build"
    next_step(follows, "--board", arguments.board, *network_words(arguments))


def _show(part, program, result):
    if part:
        layers = dict.fromkeys(d.layer for d in program.descriptors)
        print(f"{part}: {len(program.descriptors)} descriptors of {', '.join(layers)}")
    print("\n".join(result.lines))
    figures = result.figures
    if "cycles" in figures:
        print(f"rtl: {min(figures['cycles'])}..{max(figures['cycles'])} cycles and "
              f"{round(np.mean(figures['spike_events']))} spike events each (rtl-sim)")
    if figures.get("stats"):
        print("reached: " + ", ".join(f"{k} {v}" for k, v in figures["stats"].items()))


def cli(argv=None):
    return main(_run, _parser(), argv)


if __name__ == "__main__":
    sys.exit(cli())
