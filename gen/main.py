"""The console script ``qsdt``: one name for all commands, each imported only when it is asked for.

``qsdt build`` runs the same code as ``python -m gen.build``. Where a folder holds files named as
Python's or our own modules (``random.py``, ``model.py``), only ``qsdt`` is safe: ``python -m``
imports from the working folder first.
"""

from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
import sys

from model.command import ArgumentParser, PROJECT, report_missing
from model.error import EXIT_INTERRUPTED


__all__ = ["COMMANDS", "cli"]


COMMANDS = {
    "doctor": ("gen.doctor", "what is installed, what is missing and how to get it"),
    "train": ("model.train", "train a network on a data set"),
    "pretrain": ("model.pretrain", "prepare a network on pictures without labels"),
    "evaluate": ("model.evaluate", "classify images, or find boxes and pixels, in software"),
    "ablation": ("model.ablation", "train variants of a network and compare them"),
    "energy": ("model.energy", "synaptic operations and energy by the paper's formula"),
    "information": ("model.information", "what the levels of networks tell, as entropies"),
    "convert": ("model.convert", "turn a checkpoint into a portable file (.qsd)"),
    "export": ("model.export", "write the integer network as ONNX, which other programs run"),
    "verify": ("gen.verify", "compare integer model, instruction-set simulator and RTL"),
    "build": ("gen.build", "make configuration, RTL, bitstream, program and report"),
    "prove": ("gen.prove", "show that a bitstream is the design that was verified"),
    "bringup": ("gen.bringup", "bring a board up, step by step"),
    "run": ("gen.run", "find classes, boxes or pixels, on a board or the virtual one"),
    "measure": ("gen.measure", "measure throughput and energy, and write a report"),
    "meter": ("gen.meter.meter", "watch a power meter, to check its wiring"),
    "faults": ("gen.faults", "plant faults while a network runs, and count what comes of them"),
    "sweep": ("gen.sweep", "run a task for many seeds, configurations, images or faults"),
    "report": ("gen.report", "make a build's report.html and report.md again"),
    "compare": ("gen.compare", "two measurements or builds side by side"),
    "traffic": ("gen.traffic", "memory traffic of a network, layer by layer"),
    "flash": ("gen.flash", "load a bitstream, or make a board work without a host"),
}
"""Each command: its module, with a function ``cli(argv)``, and what it does."""


def _version() -> str:
    try:
        return version(PROJECT)
    except PackageNotFoundError:
        return "unknown: not installed"


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="qsdt", usage="qsdt [--version] [--help] COMMAND ...",
        description="From a trained spike-driven transformer to an open FPGA board.",
        epilog="qsdt COMMAND --help tells the options of a command.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for name, (_, text) in COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    return parser


def cli(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names, with the arguments behind it."""
    words = sys.argv[1:] if argv is None else list(argv)
    if words and words[0] in COMMANDS:
        module, _ = COMMANDS[words[0]]
        try:
            command = import_module(module)
        except ModuleNotFoundError as error:
            return report_missing(error)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return EXIT_INTERRUPTED
        return command.cli(words[1:])
    _parser().parse_args(words)    # help, version, or an error that names the commands
    return 0


if __name__ == "__main__":
    sys.exit(cli())
