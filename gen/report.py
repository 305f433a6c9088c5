"""Make the pages of a build's report again: ``python -m gen.report build/ulx3s-85f-qsdt_nano``."""

from pathlib import Path
import sys

from gen.flow.page import read_report, write_page
from gen.flow.report import headline, render
from model.command import add_verbosity, ArgumentParser, called, main, next_step
from model.files import write_atomic


__all__ = ["cli"]


def _parser():
    parser = ArgumentParser(
        prog=called("gen.report"),
        description="Make report.html and report.md from a build's report.json, and from its "
                    "layout.json where the design was routed. The page is one file and needs no "
                    "network.")
    parser.add_argument("build", type=Path, metavar="DIR",
                        help="a build folder, or its report.json")
    parser.add_argument("--out", type=Path, metavar="DIR",
                        help="where to write (default: the build folder)")
    add_verbosity(parser)
    return parser


def _run(arguments):
    report, layout = read_report(arguments.build)
    folder = arguments.build if arguments.build.is_dir() else arguments.build.parent
    folder = arguments.out or folder
    write_atomic(folder / "report.md", render(report))
    print(f"{write_page(report, folder, layout)}: {headline(report)}")
    next_step("gen.run", "--board", report["board"], "--model", report["model"], "--program",
              "--port", "/dev/ttyUSB0")


def cli(argv=None):
    return main(_run, _parser(), argv)


if __name__ == "__main__":
    sys.exit(cli())
