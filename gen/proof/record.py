"""proof.json and proof.md: what was proven about a bitstream, and how."""

from dataclasses import asdict, dataclass, field
from datetime import datetime, UTC
import json

from hw.register import identity_text
from model.files import write_atomic


__all__ = ["Rung", "SCHEMA", "write_proof"]


SCHEMA = 1

NOT_RUN = "not run"


@dataclass(frozen=True)
class Rung:
    """A rung of the ladder: its name, whether it holds (None: it was not run), what was found
    in figures, how, and the seconds that it took; in ``parts``, what it consists of, each with its
    number and its method; in ``first``, the first differences that were found."""

    name: str
    passed: bool | None
    figure: str
    method: str
    seconds: float = 0.0
    parts: list[dict] = field(default_factory=list)
    first: list[str] = field(default_factory=list)

    @property
    def verdict(self):
        return {True: "holds", False: "FAILS", None: NOT_RUN}[self.passed]


def write_proof(folder, build, rungs, command, notes=()):
    """Write both files; returns the path of proof.md.

    Parameters
    ----------
    folder : Path
    build : gen.proof.build.Build
    rungs : list of Rung
        All of the ladder: those that were not run say so.
    command : str
    notes : sequence of str
        What else must be known: see :func:`gen.proof.origin.notes`.
    """
    record = {"schema": SCHEMA, "bitstream": build.bitstream, "board": build.report["board"],
              "model": build.report["model"], "identity": identity_text(build.identity),
              "command": command, "notes": list(notes),
              "created": datetime.now(UTC).isoformat(timespec="seconds"),
              "rungs": [asdict(rung) for rung in rungs]}
    write_atomic(folder / "proof.json", json.dumps(record, indent=1) + "\n")
    write_atomic(folder / "proof.md", "\n".join(_page(record, rungs)) + "\n")
    return folder / "proof.md"


def _page(record, rungs):
    yield f"# What is proven about {record['model']} on {record['board']}"
    yield ""
    yield (f"Bitstream `top.bit`, SHA-256 `{record['bitstream']}`, identity "
           f"`{record['identity']}`.")
    yield f"Made {record['created']} by `{record['command']}`."
    yield ""
    yield "| rung | verdict | figure | how | seconds |"
    yield "|---|---|---|---|---|"
    for rung in rungs:
        yield (f"| {rung.name} | {rung.verdict} | {rung.figure} | {rung.method} | "
               f"{rung.seconds:.0f} |")
    for rung in rungs:
        for part in rung.parts:
            yield (f"\n{rung.name}: {part['count']:,} blocks ({part['what']}; "
                   f"{part['distinct']:,} distinct), {part['method']}.")
        if rung.first:
            yield f"\n{rung.name}, what differs first:\n"
            yield from (f"    {text}" for text in rung.first)
    yield ""
    yield from (f"- {note}" for note in record["notes"])
    if record["notes"]:
        yield ""
    missing = [rung.name for rung in rungs if rung.passed is None]
    if missing:
        yield f"Not run, and so not proven: {', '.join(missing)}."
    yield "None of this was measured on a board."
