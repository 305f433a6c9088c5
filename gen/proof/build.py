"""A build's folder, checked before anything about it is called proven."""

from dataclasses import dataclass
import json
from pathlib import Path

from boards import find_board
from gen.compile.package import ProgramImage
from gen.flow.bitstream import bitstream_comments, bitstream_idcode
from gen.flow.report import check_report, report_digest
from gen.flow.rtl import identity_of, read_identity
from gen.flow.synth import SYNTHESISED
from hw.register import identity_text
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
    of what that made; bitstream, SHA-256 of ``top.bit``; identity, what the design says of itself
    (:func:`gen.flow.rtl.identity_of`).
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
    identity: int


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
        if stamps[step]["inputs"].get(name) != stamps[before]["outputs"].get(made, ""):
            raise InputError(f"{folder}: step {step} did not start from what {before} has "
                             f"written; {again}")
    board = find_board(report["board"])
    bit = folder / "top.bit"
    if bitstream_idcode(bit) != board.idcode:
        raise InputError(f"{bit} is for IDCODE {bitstream_idcode(bit):#010x}, {board.name} has "
                         f"{board.idcode:#010x}; {again}")
    image = ProgramImage.load(folder / "program.img")
    identity = _identity(folder, report, board, stamps, again)
    try:
        _compare(folder, report, stamps, image, identity, again)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{folder}: what route has written, or report.json, lacks {error}; "
                         f"{again}") from None
    if image.identity != identity:
        raise InputError(f"{folder / 'program.img'}: was built for bitstream "
                         f"{identity_text(image.identity)}, the build's is "
                         f"{identity_text(identity)}; {again}")
    synthesised = folder / SYNTHESISED if SYNTHESISED in stamps["synth"]["outputs"] else None
    return Build(folder, report, board, image, synthesised, folder / "top.json",
                 folder / f"route-{seed}.routed.json.gz", folder / f"route-{seed}.config", bit,
                 stamps["pack"]["outputs"]["top.bit"], identity)


def _report(folder):
    path = folder / "report.json"
    try:
        report = json.loads(path.read_text())
        check_report(report)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; this is no folder of qsdt build") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged: {error}; build again") from None
    if report["until"] != "bitstream":
        raise InputError(f"{folder} was built up to {report['until']!r} only: there is no "
                         f"bitstream to prove; build without --until")
    return report


def _stamp(folder, step, again):
    """Stamp of a step whose outputs are all as it has written them."""
    path = folder / f"{step}.stamp.json"
    try:
        stamp = json.loads(path.read_text())
        outputs, _ = dict(stamp["outputs"]), dict(stamp["inputs"])
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


def _identity(folder, report, board, stamps, again):
    """The identity that the RTL has as a constant: it must be that of RTL, clocks and
    configuration, and synthesis and routing must have started from these files."""
    texts = {}
    for step, name in (("synth", "top.il"), ("route", "top.lpf")):
        path = folder / name
        if not path.is_file():
            raise InputError(f"{path} is missing; {again}")
        if stamps[step]["inputs"].get(name) != digest_file(path):
            raise InputError(f"{path} is not what step {step} started from; {again}")
        texts[name] = path.read_text()
    try:
        rtl, identity = read_identity(texts["top.il"])
    except ValueError as error:
        raise InputError(f"{folder / 'top.il'} {error}; {again}") from None
    computed = identity_of(rtl, texts["top.lpf"], board=board,
                           core_clock_hz=report["core_clock_hz"],
                           sdram_clock_hz=report["config"].get("sdram_clock_hz"),
                           config=report["config"])
    if computed != identity:
        raise InputError(f"{folder / 'report.json'} does not belong to this build (RTL with its "
                         f"board, clocks and configuration have identity "
                         f"{identity_text(computed)}, the RTL says {identity_text(identity)}); "
                         f"{again}")
    return identity


def _compare(folder, report, stamps, image, identity, again):
    """Raise where the report says something else than the files."""
    seed = report["seed"]
    route = json.loads((folder / f"route-{seed}.json").read_text())
    used = {kind: entry["used"] for kind, entry in route["utilization"].items()}
    clocks = {clock["name"]: clock["achieved"] for clock in report["clocks"]}
    comments = bitstream_comments(folder / "top.bit")
    pairs = [
        ("bitstream", report["digests"].get("bitstream"), stamps["pack"]["outputs"]["top.bit"]),
        ("clocks", clocks, {name: clock["achieved"] for name, clock
                            in stamps["route"]["data"]["clocks"].items()}),
        ("LUTs", report["comb"]["value"], used.get("TRELLIS_COMB")),
        ("block RAMs", report["ebr"]["value"], used.get("DP16KD")),
        ("core", report["config"].get("core"), image.config.to_dict()),
        ("network", report["digests"].get("network"), image.network_digest),
        ("program", report["digests"].get("image"), image.payload_digest),
        ("identity", report.get("identity"), identity_text(identity)),
        ("identity in the bitstream", report.get("identity"), comments.get("Identity")),
        ("commit", report.get("commit"), comments.get("Commit")),
    ]
    for what, said, found in pairs:
        if said != found:
            raise InputError(f"{folder / 'report.json'} does not belong to this build ({what}: "
                             f"{said}, the files have {found}); {again}")
    if report.get("digest") != report_digest(report):
        raise InputError(f"{folder / 'report.json'} was changed since the build wrote it; {again}")
