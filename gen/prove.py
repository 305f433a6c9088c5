"""Prove that a bitstream is the design: ``python -m gen.prove build/ulx3s-85f-qsdt_nano``."""

from pathlib import Path
import sys

from gen.api import configure
from gen.config.spec import read_overrides
from gen.inputs import add_network_options, load_network, network_words
from gen.ladder import check_tools, prove, RUNGS
from gen.proof.build import open_build
from model.command import add_verbosity, ArgumentParser, called, main, next_step
from model.error import InputError, known
from sim.rtl.verilator import SIMULATORS


__all__ = ["cli"]


def _parser():
    parser = ArgumentParser(
        prog=called("gen.prove"),
        description="Show that the bitstream of a build is the design that was verified: "
                    + "; ".join(f"{name}, {text}" for name, text in RUNGS.items())
                    + ". Writes proof.json and proof.md into the build folder.")
    parser.add_argument("build", type=Path, metavar="DIR", help="a folder of qsdt build")
    parser.add_argument("--only", metavar="R,…",
                        help=f"some rungs of {', '.join(RUNGS)} (default: all that belong to the "
                             "build; gate and unknown need a memory on chip, pads an SDRAM)")
    parser.add_argument("--seeds", type=int, default=5, metavar="N",
                        help="seeds of the rung unknown (default: %(default)s)")
    add_network_options(parser, default="the build's")
    parser.add_argument("--config", metavar="C.yaml", help="the overrides the board was built with")
    parser.add_argument("--cache", default=SIMULATORS, type=Path, metavar="DIR",
                        help="compiled simulators (default: %(default)s)")
    add_verbosity(parser)
    return parser


def _design(build, arguments, overrides):
    """The design that the build was made of: its program must be the one in the folder."""
    report = build.report
    if arguments.model is None and arguments.weights is None:
        arguments.model = report["model"]
    name, network = load_network(arguments)
    design = configure(network, board=report["board"], name=name, overrides=overrides)
    if design.image.payload_digest != build.image.payload_digest:
        raise InputError(f"{build.folder}: this code compiles another program for {name} than the "
                         "build has; was it built with --weights, widths or --config, or by "
                         f"another commit? Build again: {report['command']}")
    return design


def _run(arguments):
    names = list(RUNGS)
    if arguments.only is not None:
        names = [known("rung", name.strip(), RUNGS) for name in arguments.only.split(",")]
    if arguments.seeds < 1:
        raise InputError(f"--seeds must be at least 1, not {arguments.seeds}")
    overrides = read_overrides(arguments.config)
    build = open_build(arguments.build)
    chosen = check_tools(build.report["config"]["memory"], names)
    if arguments.only is not None and chosen != names:
        wrong = [name for name in names if name not in chosen]
        raise InputError(f"--only {arguments.only}: {', '.join(wrong)} cannot run here: gate and "
                         "unknown run designs whose memory is on chip, pads those with an SDRAM; "
                         "leave out what does not belong")
    prove(build, _design(build, arguments, overrides), chosen, seeds=arguments.seeds,
          cache=arguments.cache, command=arguments.command_line)
    next_step("gen.run", "--board", build.report["board"], *network_words(arguments), "--program",
              "--port", "/dev/ttyUSB0")


def cli(argv=None):
    return main(_run, _parser(), argv)


if __name__ == "__main__":
    sys.exit(cli())
