"""What a fault in the bitstream does to the routed design: the cells that change, and how."""

from collections import defaultdict
from copy import deepcopy
import re

from gen.proof.fabric import _end, Fabric, LOGIC, OPEN, SLICES
from gen.proof.lut import meaning
from gen.proof.trellis import tile_bits, tile_kind, TileDatabase


CLOCKS = {"CLK", "WCK", "CLKA", "CLKB"}

PIP = re.compile(r"X(\d+)/Y(\d+)/(-?\d+)_(-?\d+)_(\w+)->(-?\d+)_(-?\d+)_(\w+)")

WIRE = re.compile(r"(?:([NS])(\d+))?(?:([EW])(\d+))?_(\w+)")
"""How a tile names a wire that begins in another one."""

LUT_WIRE = re.compile(r"X(\d+)/Y(\d+)/([A-D])([0-7])")


class NoEquivalent(Exception):
    """The routed design has nothing that says what the fault does."""


class Chip(Fabric):
    """:class:`gen.proof.fabric.Fabric`, which also knows what lies behind each wire."""

    def __init__(self, module, read):
        self._cells, self._read = module["cells"], read
        self._behind, self._pins = defaultdict(list), defaultdict(list)
        self._registers = {}
        super().__init__(module, read.device)
        self._lut_at = {}    # by place and number of the LUT: tile, setting, what is known of it
        for tile, luts in self._luts.items():
            row, column = map(int, re.match(r"R(\d+)C(\d+)", tile).groups())
            for setting, known in luts.items():
                letter, half = re.match(r"SLICE(.)\.K(\d)", setting).groups()
                self._lut_at[column, row, 2 * SLICES.index(letter) + int(half)] = (tile, setting,
                                                                                  known)
        self._one = next(cell["connections"]["F"] for cell in self._cells.values()
                         if cell["type"] == "TRELLIS_COMB" and cell["connections"].get("F")
                         and cell["parameters"].get("INITVAL") == "1" * 16
                         and not any(cell["connections"].get(pin) for pin in "ABCD"))
        self._has_gsr = any(cell["type"] == "GSR" for cell in self._cells.values())

    def _pip(self, net, wire, pip, wires, names):
        column, row, right, down, source = PIP.fullmatch(pip).groups()[:5]
        self._behind[_end(int(column), int(row), int(right), int(down), source)[1]].append(wire)
        super()._pip(net, wire, pip, wires, names)

    def _pin(self, name, cell, place, port, wire):
        if cell["connections"].get(port) and cell["port_directions"][port] == "input":
            self._pins[f"X{place[0]}/Y{place[1]}/{wire}"].append((name, port))
        super()._pin(name, cell, place, port, wire)

    def _flip_flop(self, name, cell, place, lines, where):
        self._registers[place, *where] = name
        super()._flip_flop(name, cell, place, lines, where)

    def memory_equivalent(self, number, words):
        """Cells that change where a block RAM has other contents."""
        name, contents = self._memories[number]
        cell = deepcopy(self._cells[name])
        for at, (before, after) in enumerate(zip(contents, words, strict=True)):
            if before != after:
                key, half = f"INITVAL_{at // 32:02X}", at % 32
                bits = int(str(cell["parameters"].get(key, "0")).replace("x", "0"), 2)
                bits ^= (before ^ after) << 20 * (half // 2) + 9 * (half % 2)
                cell["parameters"][key] = f"{bits:0320b}"
        return {name: cell}

    def equivalent(self, tile, before, after):
        """``{name: cell}`` that change where a tile holds other lines; empty where nothing of the
        design is there.

        Raises
        ------
        NoEquivalent
        """
        kind, place = tile_kind(tile), _place(tile)
        database, change = TileDatabase.of(kind), _Change(self._cells)
        ones = [tile_bits(kind, lines)[0] for lines in (before, after)]
        changed = ones[0] ^ ones[1]
        for sink in sorted({sink for (sink, _), bits in database.arcs.items()
                            if _touches(bits, changed)}):
            old, new = (_sources(database, sink, some) for some in ones)
            if old != new and _wire(place, sink) in self._nets:
                self._connect(change, place, sink, new)
        for name, (_, groups) in sorted(database.words.items()):
            if any(_touches(bits, changed) for bits in groups):
                if kind != LOGIC:
                    raise NoEquivalent(f"word {name} of a tile {kind}")
                if name in self._luts.get(tile, {}):
                    known = self._luts[tile][name]
                    change.luts.setdefault(known[0], (tile, name, known, list(known[-1])))
        for name, (_, values) in sorted(database.enums.items()):
            if any(_touches(bits, changed) for bits in values.values()):
                old, new = (_setting(values, some) for some in ones)
                if old != new:
                    if kind != LOGIC:
                        raise NoEquivalent(f"setting {name} of a tile {kind}: {old} -> {new}")
                    self._set(change, place, before, name, new)
        for where, setting, known, there in change.luts.values():
            self._lut(change, where, setting, known, there, ones[1] if where == tile else None)
        return {name: cell for name, cell in change.made.items() if cell != self._cells[name]}

    def _connect(self, change, place, sink, sources):
        """What lies behind a wire has another net."""
        if sink.startswith("G_") or len(sources) > 1:
            raise NoEquivalent("a clock's spine" if sink.startswith("G_") else
                               f"two wires drive {sink}: {' and '.join(sources)}")
        net = self._nets.get(_wire(place, sources[0]), OPEN) if sources else OPEN
        waiting, seen = [_wire(place, sink)], set()
        while waiting:
            wire = waiting.pop()
            if wire in seen:
                continue
            seen.add(wire)
            waiting += self._behind[wire]
            if (match := LUT_WIRE.fullmatch(wire)):
                column, row, pin, number = match.groups()
                tile, setting, known = self._lut_at.get((int(column), int(row), int(number)),
                                                        (None, None, None))
                if known:
                    there = change.luts.setdefault(known[0], (tile, setting, known,
                                                              list(known[-1])))[3]
                    there["ABCD".index(pin)] = net
            for name, port in self._pins[wire]:
                bits = self._one if net == OPEN else [net]
                if port in CLOCKS and net == OPEN:
                    bits = []
                change.of(name)["connections"][port] = bits

    def _lut(self, change, tile, setting, known, there, ones):
        """A LUT with its inputs as its wires are."""
        name, mode, inject, contents, nets, _ = known
        if ones is not None:
            groups = TileDatabase.of(LOGIC).words[setting][1]
            found = sum(_holds(bits, ones) << at for at, bits in enumerate(groups))
        else:
            found = next((int(line.split()[2], 2) for line in self._read.tiles.get(tile, ())
                          if line.startswith(f"word: {setting} ")), 0xffff)
        if meaning(mode, inject, contents, nets) == meaning(mode, inject, found, there):
            return
        cell = change.of(name)
        cell["parameters"]["INITVAL"] = f"{found:016b}"
        for pin, net in zip("ABCD", there, strict=True):
            cell["connections"][pin] = [] if net == OPEN else [net]

    def _set(self, change, place, before, name, new):
        """A setting of a logic tile."""
        match = re.fullmatch(r"SLICE(.)\.(?:REG(\d)\.)?(SD|REGSET|CEMUX|GSR|[A-D]\dMUX)", name)
        if match and re.fullmatch(r"[A-D]\dMUX", match[3]):
            pin, half = match[3][0], int(match[3][1])
            tile, setting, known = self._lut_at.get(
                (*place, 2 * SLICES.index(match[1]) + half), (None, None, None))
            if known and new == "1":
                change.luts.setdefault(known[0], (tile, setting, known, list(known[-1])))[3][
                    "ABCD".index(pin)] = OPEN
        elif match and match[3] == "GSR" and not self._has_gsr:
            return
        elif match:
            for half in (int(match[2]),) if match[2] else (0, 1):
                register = self._registers.get((place, match[1], half))
                if register and new is None:
                    raise NoEquivalent(f"setting {name} without a meaning")
                if register and not (new == "CE" and self._is_always_on(register)):
                    change.of(register)["parameters"][match[3]] = new
        elif self._is_used(place, before, name):
            raise NoEquivalent(f"setting {name}: {new}")

    def _is_always_on(self, register):
        """Whether a flip-flop has no enable. What nothing drives is 1, and so is an open enable."""
        cell = self._cells[register]
        return (not cell["connections"].get("CE")
                and str(cell["parameters"].get("CEMUX", "1")).strip() in ("1", "CE"))

    def _is_used(self, place, before, name):
        """Whether something of the design has a setting of a slice, or of a clock or reset."""
        if name.startswith("SLICE"):
            letter = name[5]
            return any((place, letter, half) in self._registers
                       or (*place, 2 * SLICES.index(letter) + half) in self._lut_at
                       for half in (0, 1))
        return any(line.split()[2] == name.partition(".")[0] for line in before
                   if line.startswith("arc: MUX"))


class _Change:
    """Cells that change: made, copies by name; luts, those with other inputs or contents."""

    def __init__(self, cells):
        self._cells, self.made, self.luts = cells, {}, {}

    def of(self, name):
        return self.made.setdefault(name, deepcopy(self._cells[name]))


def _place(tile):
    row, column = re.match(r"\w*?R(\d+)C(\d+)", tile).groups()
    return int(column), int(row)


def _wire(place, name):
    """Name in the chip of a wire that a tile names."""
    match = WIRE.fullmatch(name)
    if match is None or name.startswith("G_"):
        return f"X{place[0]}/Y{place[1]}/{name}"
    up, rows, side, columns, wire = match.groups()
    row = place[1] + int(rows or 0) * (-1 if up == "N" else 1)
    column = place[0] + int(columns or 0) * (-1 if side == "W" else 1)
    return f"X{column}/Y{row}/{wire}"


def _touches(bits, changed):
    return any((frame, bit) in changed for frame, bit, _ in bits)


def _holds(bits, ones):
    return all(((frame, bit) in ones) == value for frame, bit, value in bits)


def _most(found):
    """Of settings that hold those whose ones are no part of another's."""
    ones = {name: {(frame, bit) for frame, bit, value in bits if value}
            for name, bits in found.items()}
    return sorted(name for name in ones
                  if not any(ones[name] < other for other in ones.values()))


def _sources(database, sink, ones):
    """Wires that are connected to one."""
    return _most({source: bits for (end, source), bits in database.arcs.items()
                  if end == sink and _holds(bits, ones) and any(value for *_, value in bits)})


def _setting(values, ones):
    """The value that a setting has; None where the bits are none."""
    found = _most({value: bits for value, bits in values.items() if _holds(bits, ones)})
    return found[0] if found else None
