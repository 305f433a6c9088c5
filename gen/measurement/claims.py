"""Texts against the ledger: every number that they state is that of its record.

``texts`` of the ledger has, for each file, pieces of its text with names of figures in place of
numbers: ``"**{nano.cycles:,.4s}**: {nano.rate:.3s} images/s"``. Behind the colon stand ``,`` for
thousands and ``.N`` with ``f`` (decimals), ``s`` (significant digits) or ``%`` (per cent, N
decimals). A row ``{text, tag, command}`` holds numbers without a record, each as ``{}``.

``complete`` has, for each file, headings of sections (``"*"`` for all of it): every number with a
comma or a point in them must lie inside of such a piece.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
import re
from typing import Any

from gen.measurement.ledger import Ledger, TAGS
from model.error import InputError
from model.yaml_file import shown


__all__ = ["Checked", "check", "formatted"]


NUMBER = r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?!\d)(?!,\d{3})"

MEASURED = re.compile(r"(?<![\w.,/-])(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.\d+)(?!\d|\.\w|,\d{3})")
"""A number with a comma or a point: counted or measured rather than chosen. Versions and names
are none."""

PLACE = re.compile(r"\{([^{}:]*)(?::([^{}]*))?\}")

SPEC = re.compile(r"(,?)(?:\.(\d)([fs%]))?")

SHOWN = 100
"""Letters of a piece that an error shows."""

UNREAD = re.compile(r"```.*?```|`[^`\n]*`|\]\([^)\n]*\)", re.DOTALL)
"""Code and targets of links: no statements."""


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Parameters
    ----------
    failures : list of str
        A sentence each.
    places : list of dict
        Every number that a text states: ``file``, ``line``, ``text``, ``figure``, ``tag``,
        ``record``, ``command``.
    """

    failures: list[str]
    places: list[dict[str, Any]]


def formatted(value: float, spec: str) -> str:
    """A number as a text writes it; ValueError for a specification that is none."""
    found = SPEC.fullmatch(spec)
    if not found:
        raise ValueError(f"{spec!r} is no format: write , and .N with f, s or %")
    comma, count, kind = found[1], int(found[2] or 0), found[3]
    if kind == "%":
        return f"{100 * value:{comma}.{count}f}"
    if kind == "f":
        return f"{value:{comma}.{count}f}"
    if kind == "s":
        return f"{Decimal(f'{value:.{max(1, count) - 1}e}'):{comma}f}"
    return f"{int(value):{comma}}" if value == int(value) else f"{value:{comma}}"


def check(ledger: Ledger) -> Checked:
    """Check texts and figures of a ledger.

    Raises
    ------
    InputError
        The ledger itself is wrong.
    """
    failures, places = ledger.differences(), []
    stated: dict[str, tuple[str, str]] = {}
    for name, pieces in ledger.texts.items():
        if not isinstance(pieces, list):
            raise InputError(f"{ledger.path}: texts of {name} must be a list, not "
                             f"{shown(pieces)}")
        text = ledger.read(name)
        spans: list[tuple[int, int]] = []
        for piece in pieces:
            found = list(_matches(ledger, name, text, piece))
            if not found:
                failures.append(f"{name} does not say "
                                f"{_template(ledger, name, piece)[0][:SHOWN]!r}, with any numbers")
            for match, numbers in found:
                spans.append(match.span())
                line = text.count("\n", 0, match.start()) + 1
                for number in numbers:
                    failures += _wrong(f"{name}:{line}", number, stated)
                    places.append({"file": name, "line": line, **number})
        failures += _uncovered(ledger, name, text, spans)
    for name in ledger.complete:
        if name not in ledger.texts:
            failures += _uncovered(ledger, name, ledger.read(name), [])
    used = {place["figure"] for place in places} | {
        str(figure) for row in ledger.agree for figure in row["of"]} | {
        str(part) for figure in ledger.claims for part in ledger.parts(figure)}
    failures += [f"{ledger.path}: nothing uses the figure {figure}; take it out"
                 for figure in ledger.claims if figure not in used]
    return Checked(failures, places)


def _template(ledger: Ledger, name: str, piece: Any) -> tuple[str, str, str]:
    """(text, tag, command) of a piece; the last two are of numbers without a figure."""
    if isinstance(piece, str):
        return piece, "", ""
    if not isinstance(piece, dict) or set(piece) != {"text", "tag", "command"} \
            or piece["tag"] not in TAGS:
        raise InputError(f"{ledger.path}: texts of {name} must be texts or {{text, tag, command}} "
                         f"with a tag of {', '.join(TAGS)}, not {shown(piece)}")
    return str(piece["text"]), piece["tag"], str(piece["command"])


def _matches(ledger: Ledger, name: str, text: str, piece: Any
             ) -> Iterator[tuple[re.Match[str], list[dict[str, Any]]]]:
    """(match, its numbers) wherever a text has a piece, whatever numbers stand in it."""
    template, tag, command = _template(ledger, name, piece)
    parts = PLACE.split(template)
    pattern = _literal(parts[0])
    for literal in parts[3::3]:
        pattern += f"({NUMBER}){_literal(literal)}"
    fields = list(zip(parts[1::3], parts[2::3], strict=True))
    if not all(figure or tag for figure, _ in fields):
        raise InputError(f"{ledger.path}: {shown(template)} of {name} has a number without a "
                         "figure: give it a tag and a command")
    for match in re.finditer(pattern, text):
        numbers = []
        for (figure, spec), found in zip(fields, match.groups(), strict=True):
            claim = ledger.claim(figure, f"a text of {name}") if figure else None
            try:
                wanted = (None if claim is None or claim.value is None
                          else formatted(claim.value, spec or ""))
            except ValueError as error:
                raise InputError(f"{ledger.path}: {shown(template)} of {name}: {error}") from None
            numbers.append({
                "text": found, "figure": figure, "wanted": wanted,
                "tag": claim.tag if claim else tag, "record": claim.record if claim else "",
                "command": claim.command if claim else command})
        yield match, numbers


def _literal(text: str) -> str:
    return r"\s+".join(map(re.escape, re.split(r"\s+", text)))


def _wrong(where: str, number: dict[str, Any], stated: dict[str, tuple[str, str]]) -> list[str]:
    """What is wrong with a number; one without a record is compared with the first that says it."""
    wanted = number.pop("wanted")
    if wanted is not None and number["text"] != wanted:
        return [f"{where} says {number['text']}, but {number['figure']} of {number['record']} is "
                f"{wanted} ({number['tag']})"]
    if wanted is None and number["figure"]:
        first = stated.setdefault(number["figure"], (number["text"], where))
        if first[0] != number["text"]:
            return [f"{where} says {number['text']} for {number['figure']}, but {first[1]} says "
                    f"{first[0]}"]
    return []


def _uncovered(ledger: Ledger, name: str, text: str, spans: list[tuple[int, int]]) -> list[str]:
    """Numbers in complete sections that lie in no piece."""
    headings = ledger.complete.get(name) or []
    if not isinstance(headings, list):
        raise InputError(f"{ledger.path}: complete of {name} must be a list of headings")
    blank = UNREAD.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    failures = []
    for heading in headings:
        section = _section(blank, str(heading))
        if section is None:
            failures.append(f"{name} has no section {shown(heading)}")
            continue
        for match in MEASURED.finditer(blank, *section):
            if not any(start <= match.start() and match.end() <= end for start, end in spans):
                line = text.count("\n", 0, match.start()) + 1
                failures.append(f"{name}:{line} says {match[0]}, which {ledger.path.name} does "
                                "not have")
    return failures


def _section(text: str, heading: str) -> tuple[int, int] | None:
    """Where a section begins and ends; all of the text for ``*``."""
    if heading == "*":
        return 0, len(text)
    found = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    if found is None:
        return None
    after = re.compile(rf"^#{{1,{len(found[1])}}} ", re.MULTILINE).search(text, found.end())
    return found.end(), after.start() if after else len(text)
