"""Two measurements or builds side by side: ``qsdt compare A B``."""

from pathlib import Path
import sys

from gen.measurement.comparison import compare
from gen.measurement.comparison_page import FILES, write_comparison
from gen.measurement.record import read_record
from model.command import add_verbosity, ArgumentParser, called, main, next_step
from model.files import check_folder


__all__ = ["cli"]


def _parser():
    parser = ArgumentParser(
        prog=called("gen.compare"),
        description="Put two measurements or builds side by side: every figure with how it was "
                    "obtained and the ratio, what they were made with where that differs, and "
                    "what cannot be compared, with the reason.")
    for name in "ab":
        parser.add_argument(name, type=Path, metavar=name.upper(),
                            help="a folder of qsdt measure or qsdt build, or its measure.json or "
                                 "report.json")
    parser.add_argument("--out", type=Path, metavar="DIR",
                        help=f"folder for {' and '.join(FILES)}")
    add_verbosity(parser)
    return parser


def _run(arguments):
    if arguments.out:
        check_folder(arguments.out)
    found = compare(read_record(arguments.a), read_record(arguments.b))
    print("\n".join(found.lines()))
    if arguments.out:
        write_comparison(found, arguments.out, arguments.command_line)
        print(f"page: {arguments.out / FILES[0]}")
    next_step("gen.measure", "--board", found.b.settings["board"], "--model", found.b.model)


def cli(argv=None):
    return main(_run, _parser(), argv)


if __name__ == "__main__":
    sys.exit(cli())
