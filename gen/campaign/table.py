"""Results of a campaign: the file they are collected in, and the tables made of it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
import json
from pathlib import Path
from typing import Any

from gen.campaign.fault import KINDS, MODES, NEVER_WRONG
from gen.campaign.trial import CLASSES
from model.error import InputError


__all__ = ["broken_promises", "page", "read_results", "summary"]


def read_results(path: Path) -> dict[int, dict[str, Any]]:
    """Results by number. A line that was not written to its end counts as none.

    Raises
    ------
    InputError
        Another line than the last is damaged.
    """
    if not path.exists():
        return {}
    found = {}
    lines = path.read_text().split("\n")
    for place, line in enumerate(lines):
        if not line:
            continue
        try:
            entry = json.loads(line)
            found[entry["number"]] = entry
        except (ValueError, TypeError, KeyError):
            if place == len(lines) - 1:
                continue
            raise InputError(f"{path}: line {place + 1} is damaged; remove it to have this fault "
                             "run again") from None
    return found


def broken_promises(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each result that must not be."""
    found = []
    for entry in results:
        kind, mode, outcome = entry["kind"], entry["check"], entry["class"]
        if outcome in ("hung", "lost") or (outcome == "wrong" and mode in NEVER_WRONG[kind]):
            found.append(f"fault {entry['number']}: {kind}, --check {mode}: {outcome}"
                         + (f" ({entry['error']})" if entry.get("error") else ""))
    return found


def summary(results: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The campaign as plain data: settings, and counts of each class by kind and mode."""
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for entry in results:
        row = counts.setdefault(entry["kind"], {}).setdefault(entry["check"],
                                                              dict.fromkeys(CLASSES, 0))
        row[entry["class"]] += 1
    wrong = [entry for entry in results if entry["class"] == "wrong"]
    return {
        "settings": dict(settings), "tag": "rtl-sim", "faults": len(results), "counts": counts,
        "not_planted": sum(not entry.get("planted", True) for entry in results),
        "wrong": len(wrong), "wrong_with_another_class": sum(
            bool(entry.get("other_class")) for entry in wrong),
        "recovered": Counter(entry["recovered"] for entry in results if "recovered" in entry),
        "broken_promises": broken_promises(results),
    }


def page(found: Mapping[str, Any]) -> str:
    """The same as Markdown."""
    settings = found["settings"]
    lines = [f"# Faults planted while {settings['model']} runs", "",
             f"`{settings['command']}`", "",
             f"{found['faults']:,} faults on the virtual board: the RTL of the core in Verilator "
             f"(rtl-sim), {settings['core']}, {settings['cycles']:,} cycles an image. Program and "
             "weights are put into its memory by a back door; device, session, checks and recovery "
             "are those of every run. Each fault has a board of its own, a copy of the loaded one. "
             "Kinds and checks take turns, all else is drawn from the seed.", ""]
    if settings.get("note"):
        lines += [settings["note"], ""]
    lines += ["| kind | `--check` | " + " | ".join(CLASSES) + " |",
              "|---|---|" + "---:|" * len(CLASSES)]
    total: Counter[str] = Counter()
    for kind in KINDS:
        for mode in MODES:
            row = found["counts"].get(kind, {}).get(mode)
            if row is None:
                continue
            total.update(row)
            # A wrong result where none may be stands out.
            cells = [f"**{row[name]}**" if row[name] and (name in ("hung", "lost") or (
                name == "wrong" and mode in NEVER_WRONG[kind])) else str(row[name])
                for name in CLASSES]
            lines.append(f"| {kind} | {mode} | " + " | ".join(cells) + " |")
    lines += ["| **all** | | " + " | ".join(str(total[name]) for name in CLASSES) + " |", "",
              "What a class means: " + "; ".join(f"**{name}**, {text}"
                                                 for name, text in CLASSES.items()) + ".", "",
              "What a kind is: " + "; ".join(f"**{kind}**, {KINDS[kind]}" for kind in KINDS
                                             if kind in found["counts"]) + ".", ""]
    again = found["recovered"]
    lines += [f"Of {found['wrong']} wrong results {found['wrong_with_another_class']} have another "
              f"class, too. After {again.get('itself', 0):,} errors the next run was right by "
              f"itself, after {again.get('command', 0):,} behind `qsdt flash`. "
              f"{found['not_planted']:,} faults did not come about before the end of the run.", ""]
    promises = found["broken_promises"]
    lines.append(f"**{len(promises)} results that must not be.**" if promises else
                 "No wrong result was returned as right for what the check covers, for the line, "
                 "for restarts, for another bitstream or for a hung engine, and nothing hung.")
    return "\n".join([*lines, *(f"- {line}" for line in promises)]) + "\n"
