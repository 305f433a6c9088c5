"""Make the pages of a build's report again: ``python -m gen.report build/ulx3s-85f-qsdt_nano``."""

import json
from pathlib import Path
import sys

from gen.flow.page import read_json, read_report, write_page
from gen.flow.power_estimate import activity_of_record, estimate_power
from gen.flow.report import headline, render
from model.code import commit
from model.command import add_verbosity, ArgumentParser, called, main, next_step
from model.error import InputError
from model.files import check_folder, make_folder, write_atomic


__all__ = ["cli"]


ESTIMATE = "estimate.json"


def _parser():
    parser = ArgumentParser(
        prog=called("gen.report"),
        description="Make report.html and report.md from a build's report.json, and from its "
                    "layout.json where the design was routed. The page is one file and needs no "
                    "network. Of a routed design, the power is estimated with a range "
                    f"({ESTIMATE}); it is no measurement.")
    parser.add_argument("build", type=Path, metavar="DIR",
                        help="a build folder, or its report.json")
    parser.add_argument("--activity", type=Path, metavar="RECORD",
                        help="a record of gen.verify in RTL (--report), whose counters say how "
                             "busy the design is; the cost model says it by default")
    parser.add_argument("--out", type=Path, metavar="DIR",
                        help="where to write (default: the build folder)")
    add_verbosity(parser)
    return parser


def _activity(path, report):
    """Activity by a record of the same network; None without a record."""
    if path is None:
        return None
    record = read_json(path, "make it with gen.verify --forms integer,iss,rtl --report")
    activity = activity_of_record(record)
    if activity is None:
        raise InputError(f"{path}: has no counters of a whole image in RTL; make it with "
                         "gen.verify --forms integer,iss,rtl --report")
    if record.get("model") != report["model"] or record.get("network_digest") not in (
            None, report["digests"].get("network")):
        raise InputError(f"{path}: is of another network ({record.get('model')}) than the build "
                         f"({report['model']})")
    return activity


def _run(arguments):
    report, layout = read_report(arguments.build)
    folder = arguments.build if arguments.build.is_dir() else arguments.build.parent
    if arguments.out:
        check_folder(arguments.out)
    activity = _activity(arguments.activity, report)
    power = estimate_power(report, activity)
    if activity and power is None:
        raise InputError("--activity needs a routed design; build it up to the route first")
    folder = arguments.out or folder
    make_folder(folder)
    write_atomic(folder / "report.md", render(report))
    if power:
        write_atomic(folder / ESTIMATE, json.dumps({
            "model": report["model"], "board": report["board"],
            "commit": commit(), "command": arguments.command_line, **power.to_json()},
            indent=1) + "\n")
    print(f"{write_page(report, folder, layout, power)}: {headline(report)}")
    for line in power.lines() if power else ():
        print(line)
    next_step("gen.run", "--board", report["board"], "--model", report["model"], "--program",
              "--port", "/dev/ttyUSB0")


def cli(argv=None):
    """The command."""
    return main(_run, _parser(), argv)


if __name__ == "__main__":
    sys.exit(cli())
