"""Mutations of input files: of bytes, of text and of plain data (JSON, YAML)."""

import json
import random

import yaml


EDGES = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\n", b"")

TOKENS = (
    "nan", ".nan", "inf", "-.inf", "1e400", "-1", "0", "1" * 400, "2**64", "18446744073709551616",
    "null", "true", "[]", "{}", "''", "&a [*a]", "*a", "!!python/object:os.system", "!!binary AAAA",
    "<<: {}", "? ", "- - - -", "[" * 200, "{" * 200, "\t", "\u0000", "\ufeff", "\u202e", "é", "💥",
    "../../etc/passwd", "%s%s%n", "9" * 5000, "0x10", "0o17", "1_000", "1:30", "2026-01-01", "~",
)

VALUES = (None, True, -1, 0, 1, 2**31, 2**64, -(2**63), 0.5, 1e308, float("inf"), float("nan"), "",
          "x", "1", "💥", [], {}, [[]], {"": 0}, [0] * 50, "\u0000")


def flip(data: bytes, rng: random.Random) -> bytes:
    """One to eight bytes changed by a bit or replaced."""
    result = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        if not result:
            break
        place = rng.randrange(len(result))
        result[place] = (result[place] ^ 1 << rng.randrange(8) if rng.random() < 0.5
                         else rng.randrange(256))
    return bytes(result)


def cut(data: bytes, rng: random.Random) -> bytes:
    """The beginning, the end or all but a part in the middle."""
    a, b = sorted(rng.randint(0, len(data)) for _ in range(2))
    return rng.choice((data[:a], data[a:], data[:a] + data[b:]))


def insert(data: bytes, rng: random.Random) -> bytes:
    """Bytes of the file, of an edge case or of a token come in once more, somewhere."""
    a, b = sorted(rng.randint(0, len(data)) for _ in range(2))
    part = rng.choice((data[a:min(b, a + 2000)], rng.choice(EDGES),
                       rng.choice(TOKENS).encode(), rng.randbytes(rng.randint(1, 64))))
    place = rng.randint(0, len(data))
    return data[:place] + part + data[place:]


def early(data: bytes, rng: random.Random) -> bytes:
    """A byte of the first 512 changes: headers are where formats say how large they are."""
    if not data:
        return data
    result = bytearray(data)
    place = rng.randrange(min(len(result), 512))
    result[place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(result)


def of_bytes(data: bytes, rng: random.Random) -> bytes:
    """One or two mutations of bytes."""
    for _ in range(rng.randint(1, 2)):
        data = rng.choice((flip, cut, insert, early))(data, rng)
    return data


def of_text(data: bytes, rng: random.Random) -> bytes:
    """A token in place of a word, a line twice, gone or moved, another encoding, or bytes."""
    choice = rng.random()
    if choice < 0.25:
        return of_bytes(data, rng)
    lines = data.decode("utf-8", "replace").split("\n")
    if choice < 0.6:
        index = rng.randrange(len(lines))
        words = lines[index].split(" ")
        words[rng.randrange(len(words))] = rng.choice(TOKENS)
        lines[index] = " ".join(words)
    elif choice < 0.85:
        index = rng.randrange(len(lines))
        rng.choice((lambda: lines.insert(index, rng.choice(lines)), lambda: lines.pop(index),
                    lambda: rng.shuffle(lines)))()
    text = "\n".join(lines)
    return text.encode(rng.choice(("utf-8",) * 6 + ("utf-16", "latin-1")), "replace")


def _places(value, path=()):
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from _places(value[key], (*path, key))
    elif isinstance(value, list):
        for index in range(len(value)):
            yield from _places(value[index], (*path, index))


def changed(value, rng: random.Random):
    """Plain data with one place replaced, removed, renamed or nested."""
    places = list(_places(value))
    path = rng.choice(places)
    new = rng.choice(VALUES)
    if rng.random() < 0.1:
        for _ in range(rng.choice((5, 60, 3000))):
            new = [new]
    if not path:
        return new
    value = json.loads(json.dumps(value))
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    last = path[-1]
    if isinstance(holder, dict) and rng.random() < 0.2:
        if rng.random() < 0.5:
            del holder[last]
        else:
            holder[str(new)[:50]] = holder.pop(last)
    else:
        holder[last] = new
    return value


def of_json(data: bytes, rng: random.Random) -> bytes:
    """Plain data changed, or its text."""
    if rng.random() < 0.3:
        return of_text(data, rng)
    try:
        return json.dumps(changed(json.loads(data), rng)).encode()
    except RecursionError:
        return b"[" * 5000


def of_yaml(data: bytes, rng: random.Random) -> bytes:
    """The same for YAML."""
    if rng.random() < 0.4:
        return of_text(data, rng)
    try:
        return yaml.safe_dump(changed(yaml.safe_load(data), rng)).encode()
    except (RecursionError, yaml.YAMLError):
        return b"{" * 3000
