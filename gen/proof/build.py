"""A build's folder, checked before anything about it is called proven."""

from dataclasses import dataclass
import json
from pathlib import Path

from boards import find_board
from gen.compile.package import ProgramImage
from gen.flow.bitstream import bitstream_idcode
from gen.flow.report import check_report
from gen.flow.synth import SYNTHESISED
from model.error import InputError
from model.files import digest_file


__all__ = ["Build", "open_build"]


STEPS = ("synth", "route", "pack")

CHAIN = {"route": ("synth", "top.json"), "pack": ("route", "top.config")}
"""{step: (step that made its input, the input's name)}"""


@dataclass(frozen=True)
class Build:
    """What a finished build consists of.

    folder; report, as in ``report.json``; board; image, the program; synthesised, netlist and
    routed, paths of what yosys wrote (None where a build did not keep it), of what went into
    placement and of what came out of routing; config and bit, of what nextpnr wrote for ecppack and
    of what that made; bitstream, SHA-256 of ``top.bit``.
    """

    folder: Path
    report: dict
    board: object
    image: ProgramImage
    synthesised: Path | None
    netlist: Path
    routed: Path
    config: Path
    bit: Path
    bitstream: str


def open_build(folder):
    """The :class:`Build` in a folder.

    Every file is what its step has written, every step took what the one before it gave, and the
    report says the same as they do.

    Raises
    ------
    InputError
        What is missing, what was changed, or what does not belong together.
    """
    folder = Path(folder)
    report = _report(folder)
    again = f"build again: {report['command']}"
    seed = report["seed"]
    stamps = {step: _stamp(folder, f"route-{seed}" if step == "route" else step, again)
              for step in STEPS}
    for step, (before, name) in CHAIN.items():
        made = {"top.config": f"route-{seed}.config"}.get(name, name)
        if stamps[step].get("inputs", {}).get(name) != stamps[before]["outputs"][made]:
            raise InputError(f"{folder}: step {step} did not start from what {before} has "
                             f"written; {again}")
    board = find_board(report["board"])
    bit = folder / "top.bit"
    if bitstream_idcode(bit) != board.idcode:
        raise InputError(f"{bit} is for IDCODE {bitstream_idcode(bit):#010x}, {board.name} has "
                         f"{board.idcode:#010x}")
    image = ProgramImage.load(folder / "program.img")
    _compare(folder, report, stamps, image, again)
    synthesised = folder / SYNTHESISED if SYNTHESISED in stamps["synth"]["outputs"] else None
    return Build(folder, report, board, image, synthesised, folder / "top.json",
                 folder / f"route-{seed}.routed.json.gz", folder / f"route-{seed}.config", bit,
                 stamps["pack"]["outputs"]["top.bit"])


def _report(folder):
    path = folder / "report.json"
    try:
        report = json.loads(path.read_text())
        check_report(report)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; this is no folder of qsdt build") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged: {error}") from None
    if report["until"] != "bitstream":
        raise InputError(f"{folder} was built up to {report['until']!r} only: there is no "
                         f"bitstream to prove; build without --until")
    return report


def _stamp(folder, step, again):
    """Stamp of a step whose outputs are all as it has written them."""
    path = folder / f"{step}.stamp.json"
    try:
        stamp = json.loads(path.read_text())
        outputs = dict(stamp["outputs"])
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; {again}") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is damaged; {again}") from None
    for name, digest in outputs.items():
        file = folder / name
        if not file.is_file():
            raise InputError(f"{file} is missing; {again}")
        if digest_file(file) != digest:
            raise InputError(f"{file} is not what step {step} has written: it was changed "
                             f"afterwards; {again}")
    return stamp


def _compare(folder, report, stamps, image, again):
    """Raise where the report says something else than the files."""
    seed = report["seed"]
    route = json.loads((folder / f"route-{seed}.json").read_text())
    used = {kind: entry["used"] for kind, entry in route["utilization"].items()}
    clocks = {clock["name"]: clock["achieved"] for clock in report["clocks"]}
    pairs = [
        ("bitstream", report["digests"].get("bitstream"), stamps["pack"]["outputs"]["top.bit"]),
        ("clocks", clocks, {name: clock["achieved"] for name, clock
                            in stamps["route"]["data"]["clocks"].items()}),
        ("LUTs", report["comb"]["value"], used.get("TRELLIS_COMB")),
        ("block RAMs", report["ebr"]["value"], used.get("DP16KD")),
        ("core", report["config"].get("core"), image.config.to_dict()),
        ("network", report["digests"].get("network"), image.network_digest),
    ]
    for what, said, found in pairs:
        if said != found:
            raise InputError(f"{folder / 'report.json'} does not belong to this build ({what}: "
                             f"{said}, the files have {found}); {again}")
