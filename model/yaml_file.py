"""YAML files that people write by hand, read within limits and checked field by field."""

from collections.abc import Mapping
from dataclasses import fields
import math
from pathlib import Path
import reprlib
from typing import get_type_hints

import yaml

from model.error import InputError


__all__ = ["MAX_ALIASES", "MAX_BYTES", "MAX_DEPTH", "MAX_NODES", "checked", "checked_fields",
           "load", "shown"]


MAX_BYTES = 64 * 1024
"""Largest file. A configuration has under 1 kB; the parser takes about a second for this much."""

MAX_DEPTH = 16
"""Deepest nesting. Ours have two levels; the parser recurses, so that 1,000 would end it."""

MAX_NODES = 10_000
"""Most scalars, lists and mappings as they are written."""

MAX_ALIASES = 16
"""Most references to anchors. Each can repeat what others repeat, so 16 multiply a file by a few
hundred at most; 80 multiply it by 10**8."""

NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def shown(value: object) -> str:
    """A value for an error message, shortened however large it is."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 40
    short.maxlist = short.maxdict = 4
    short.maxlevel = 2
    return short.repr(value)


def load(path: str | Path) -> dict[str, object]:
    """The mapping that a YAML file holds; an empty file holds an empty one.

    Raises
    ------
    InputError
        Naming the file and the cause: it cannot be read, is no UTF-8 or no YAML, holds no mapping
        with texts as keys, names a key twice, or is beyond one of the limits above.
    """
    text = _text(Path(path))
    try:
        _check_size(path, text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None:
            return {}
        _check_keys(path, node)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {_one_line(error)}") from error
    except (ValueError, OverflowError) as error:     # such as the date 2026-13-45
        raise InputError(f"{path}: a value cannot be read: {shown(str(error))}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a mapping, not {shown(content)}")
    for key in content:
        if not isinstance(key, str):
            raise InputError(f"{path}: keys must be texts, not {shown(key)}")
    return content


def _text(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}") from error
    except ValueError as error:      # a zero byte in the name
        raise InputError(f"Cannot read {str(path)!r}: {error}") from error
    if len(data) > MAX_BYTES:
        raise InputError(f"{path} has more than {MAX_BYTES} bytes; is it a YAML file?")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error


def _check_size(path: str | Path, text: str) -> None:
    """Refuse what is too deep or too much, from the events: these need no recursion."""
    depth = nodes = aliases = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        aliases += isinstance(event, yaml.AliasEvent)
        nodes += isinstance(event, yaml.NodeEvent)
        for what, count, limit in (("nested levels", depth, MAX_DEPTH),
                                   ("aliases", aliases, MAX_ALIASES),
                                   ("values", nodes, MAX_NODES)):
            if count > limit:
                raise InputError(f"{path}: more than {limit} {what}; write it in a simpler way")


def _check_keys(path: str | Path, node: yaml.Node) -> None:
    """Refuse a key that a mapping holds twice: YAML would take the last one without a word."""
    seen: set[int] = set()
    left = [node]
    while left:
        current = left.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, yaml.SequenceNode):
            left.extend(current.value)
        elif isinstance(current, yaml.MappingNode):
            keys = [(key.tag, key.value) for key, _ in current.value
                    if isinstance(key, yaml.ScalarNode)]
            for tag, value in keys:
                if keys.count((tag, value)) > 1:
                    raise InputError(f"{path}: the key {shown(value)} is there twice")
            left.extend(value for _, value in current.value)


def _one_line(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        what = error.problem or error.context or "syntax error"
        return what + (f" in line {mark.line + 1}, column {mark.column + 1}" if mark else "")
    return " ".join(str(error).split())


def checked(where: str, value: object, kind: type, *, low: float | None = None,
            high: float | None = None) -> object:
    """``value`` if it is of ``kind`` (int, float, bool or str) and ``low <= value <= high``.

    A whole number is a number too; true and false are not. Infinities and NaN are refused.
    ``where`` begins the message: the file and the key.
    """
    if kind is float:
        fits = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    else:
        fits = isinstance(value, kind)
    if not fits or (kind in (int, float) and isinstance(value, bool)):
        raise InputError(f"{where} must be {NAMES[kind]}, not {shown(value)}")
    if (low is not None and value < low) or (high is not None and value > high):  # type: ignore[operator]
        wanted = (f"{low}..{high}" if None not in (low, high)
                  else f"at least {low}" if high is None else f"at most {high}")
        raise InputError(f"{where} must be {wanted}, not {shown(value)}")
    return value


def checked_fields(where: str, values: object, kind: type, *,
                   ranges: Mapping[str, tuple[float, float]] | None = None) -> dict[str, object]:
    """``values`` if it is a mapping of fields of the dataclass ``kind``, each of its type.

    ``ranges`` are (least, most) of fields that the dataclass does not check itself. An empty
    section (None) is an empty mapping.
    """
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(f"{where} must be a mapping, not {shown(values)}")
    types = get_type_hints(kind)
    names = sorted(field.name for field in fields(kind))
    for name, value in values.items():
        if name not in names:
            raise InputError(f"{where}: unknown parameter {shown(name)}; known are "
                             f"{', '.join(names)}")
        low, high = (ranges or {}).get(name, (None, None))
        checked(f"{where}.{name}", value, types[name], low=low, high=high)
    return values
