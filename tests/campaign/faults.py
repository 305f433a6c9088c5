"""Faults, and the comparisons that they touch."""

from copy import copy, deepcopy

from gen.proof.bitstream import by_tile, compare_config
from gen.proof.lut import function
from gen.proof.lvs import differences, Layout, Schematic
from gen.proof.trellis import tile_bits, tile_kind, TileDatabase
from model.error import InputError
from tests.campaign.chip import Chip, NoEquivalent


PASS_FAULTS = ("swapped nets", "inverted enable", "wrong copy", "dropped copy", "wrong input")
ROUTED_FAULTS = ("LUT bit", "swapped nets", "open input", "start value", "inverted enable",
                 "block RAM word", "mode")


def is_lut(cell):
    return (cell["type"] == "TRELLIS_COMB"
            and str(cell["parameters"].get("MODE", "LOGIC")).strip() == "LOGIC"
            and sum(bool(cell["connections"].get(pin)) for pin in "ABCD") > 1)


def has_enable(cell):
    return cell["type"] == "TRELLIS_FF" and bool(cell["connections"].get("CE"))


def has_data(cell):
    return cell["type"] == "TRELLIS_FF" and bool(cell["connections"].get("M"))


def is_memory(cell):
    return cell["type"] == "DP16KD"


class Design:
    """A netlist and the routed design; what differs when some of its cells change.

    differences, how many there are without a fault.
    """

    def __init__(self, netlist, module):
        self.schematic, self.module = Schematic(netlist), module
        self.cells = module["cells"]
        self.base = Layout(module, self.schematic)
        self.differences = len(differences(self.schematic, self.schematic.statements,
                                           self.base.statements))
        self.users = {}
        for name, cell in self.cells.items():
            for port, bits in cell["connections"].items():
                if bits and cell["port_directions"][port] == "input":
                    self.users.setdefault(bits[0], set()).add(name)
        self.names = {kind: [name for name, cell in self.cells.items() if kind(cell)]
                      for kind in (is_lut, has_enable, has_data, is_memory)}
        self.next_net = 1 + max(bit for entry in module["netnames"].values()
                                for bit in entry["bits"])

    def pick(self, rng, kind):
        return rng.choice(self.names[kind])

    def readers(self, name):
        """Cells whose statements depend on a cell's: those that read a net which the schematic has
        no name for, and so on."""
        found, waiting = {name}, [name]
        while waiting:
            cell = self.cells.get(waiting.pop())
            for port, bits in (cell["connections"] if cell else {}).items():
                if bits and cell["port_directions"][port] == "output" and (
                        port == "FCO" or not self.base.is_known(bits[0])):
                    fresh = self.users.get(bits[0], set()) - found
                    found |= fresh
                    waiting += fresh
        return found

    def look(self, cells, also=()):
        """Differences when these cells, ``{name: cell or None}``, take the place of those of the
        design, come to it, or go."""
        affected = set(also)
        for name in cells:
            affected |= self.readers(name)
        before = copy(self.base).restate({}, affected)
        try:
            after = copy(self.base).restate(cells, affected)
        except InputError as error:
            return [str(error)]
        places = {*before, *after}
        twice = [place for place in after if place not in before and place in self.base.statements]
        return twice or differences(self.schematic,
                                    {place: self.schematic.statements[place] for place in places
                                     if place in self.schematic.statements}, after)


class Bits:
    """The bitstream of a routed design; what differs when a tile or a block RAM of it changes."""

    def __init__(self, module, written, read):
        self.written, self.read = written, read
        self.fabric = Chip(module, read)
        self.wanted, _ = by_tile(written)
        self.differences = (len(compare_config(written, read).differences)
                            + len(self.fabric.compare(read).differences))
        self.tiles = sorted(name for name, lines in read.tiles.items() if lines)
        self.logic = [name for name in self.tiles if tile_kind(name) == "PLC2"]

    def look(self, tile, lines):
        """(whether nextpnr's text says other bits, whether the routed design does)."""
        kind = tile_kind(tile)
        text = tile_bits(kind, self.wanted.get(tile, [])) != tile_bits(kind, lines)
        return text, bool(self.fabric.check_tile(tile, lines))

    def look_at_memory(self, number, words):
        """The same of the contents of a block RAM."""
        return words != self.written.memories.get(number), bool(self.fabric.check_memory(number,
                                                                                         words))


def plant(design, rng, kinds):
    """One fault of a kind in the design: (kind, what it is, its cells, what the rungs say)."""
    while True:
        kind = rng.choice(kinds)
        cells, also, what = PLANT[kind](design, rng)
        if any(cell != design.cells.get(name) for name, cell in cells.items()):
            break
    found = design.look(cells, also)
    return kind, what, cells, {"lvs": bool(found), "bitstream": False, "why": why(design, cells)}


def why(design, cells):
    """Why a fault is none; "" where it is one."""
    for name, cell in cells.items():
        if name in design.cells and cell and is_lut(cell):
            pins = [[(one["connections"].get(pin) or ["1"])[0] for pin in "ABCD"]
                    for one in (cell, design.cells[name])]
            tables = [int(one["parameters"]["INITVAL"], 2) for one in (cell, design.cells[name])]
            if function(tables[0], pins[0]) == function(tables[1], pins[1]):
                return "the function of the LUT is the same: no fault"
        if name in design.cells and cell and is_memory(cell):
            for side in "AB":
                mode = f"REGMODE_{side}"
                if cell["parameters"].get(mode) != design.cells[name]["parameters"].get(mode) and (
                        not any(bits and design.users.get(bits[0])
                                for pin, bits in cell["connections"].items()
                                if pin.startswith(f"DO{side}"))):
                    return f"nothing reads the outputs of port {side}: no fault"
    return ""


def _swapped(design, rng):
    one, other = design.pick(rng, is_lut), design.pick(rng, is_lut)
    cells = {name: deepcopy(design.cells[name]) for name in (one, other)}
    pins = [rng.choice([pin for pin in "ABCD" if cells[name]["connections"].get(pin)])
            for name in (one, other)]
    nets = [cells[name]["connections"][pin] for name, pin in zip((one, other), pins, strict=True)]
    cells[one]["connections"][pins[0]] = nets[1]
    cells[other]["connections"][pins[1]] = nets[0]
    return cells, (), f"{one}.{pins[0]} and {other}.{pins[1]}"


def _lut_bit(design, rng):
    name = design.pick(rng, is_lut)
    cell = deepcopy(design.cells[name])
    bit = rng.randrange(16)
    cell["parameters"]["INITVAL"] = f"{int(cell['parameters']['INITVAL'], 2) ^ 1 << bit:016b}"
    return {name: cell}, (), f"bit {bit} of {name}"


def _open_input(design, rng):
    name = design.pick(rng, is_lut)
    cell = deepcopy(design.cells[name])
    pin = rng.choice([pin for pin in "ABCD" if cell["connections"].get(pin)])
    cell["connections"][pin] = []
    return {name: cell}, (), f"{name}.{pin}"


def _parameter(kind, key, values):
    def make(design, rng):
        name = design.pick(rng, kind)
        cell = deepcopy(design.cells[name])
        place = rng.choice(key) if isinstance(key, tuple) else key
        before = str(cell["parameters"].get(place, "")).strip()
        cell["parameters"][place] = rng.choice([value for value in values if value != before])
        return {name: cell}, (), f"{place} of {name}: {before} -> {cell['parameters'][place]}"
    return make


def _wrong_input(design, rng):
    name, other = design.pick(rng, has_data), design.pick(rng, has_data)
    cell = deepcopy(design.cells[name])
    cell["connections"]["M"] = design.cells[other]["connections"]["M"]
    return {name: cell}, (), f"{name} reads what {other} reads"


def _memory_word(design, rng):
    name = design.pick(rng, is_memory)
    cell = deepcopy(design.cells[name])
    key = f"INITVAL_{rng.randrange(64):02X}"
    before = str(cell["parameters"].get(key, "0" * 320)).replace("x", "0")
    word, bit = rng.randrange(16), rng.randrange(18)
    cell["parameters"][key] = f"{int(before, 2) ^ 1 << 20 * word + bit:0320b}"
    return {name: cell}, (), f"bit {bit} of word {word} of {key} of {name}"


def _copied(design, rng, spoil):
    """A copy of a flip-flop takes one of its loads, as gen/pnr/replicate.py makes them."""
    while True:
        name = design.pick(rng, has_data)
        net = design.cells[name]["connections"]["Q"][0]
        loads = sorted(user for user in design.users.get(net, ())
                       if user != name and is_lut(design.cells[user]))
        if loads:
            break
    load = rng.choice(loads)
    twin, reader = deepcopy(design.cells[name]), deepcopy(design.cells[load])
    twin["connections"]["Q"] = [design.next_net]
    pin = next(pin for pin in "ABCD" if reader["connections"].get(pin) == [net])
    reader["connections"][pin] = [design.next_net]
    twin = spoil(twin, design, rng)
    return ({f"{name}$copy0": twin, load: reader}, (name,), f"copy of {name} for {load}.{pin}")


def _other_data(twin, design, rng):
    own = twin["connections"]["M"]
    while twin["connections"]["M"] == own:
        twin["connections"]["M"] = design.cells[design.pick(rng, has_data)]["connections"]["M"]
    return twin


PLANT = {
    "swapped nets": _swapped,
    "LUT bit": _lut_bit,
    "open input": _open_input,
    "start value": _parameter(has_data, "REGSET", ("SET", "RESET")),
    "inverted enable": _parameter(has_enable, "CEMUX", ("CE", "INV")),
    "wrong input": _wrong_input,
    "wrong copy": lambda design, rng: _copied(design, rng, _other_data),
    "dropped copy": lambda design, rng: _copied(design, rng, lambda *_: None),
    "block RAM word": _memory_word,
    "mode": _parameter(is_memory, ("REGMODE_A", "REGMODE_B"), ("OUTREG", "NOREG")),
}


def plant_bits(bits, rng):
    """One fault in the bitstream: (kind, what it is, the cells of the routed design that it
    changes, what the rungs say)."""
    while True:
        kind = rng.choice(("LUT bit", "connection", "lost connection", "mode bit", "any bit",
                           "block RAM word"))
        if kind == "block RAM word":
            number = rng.choice(sorted(bits.read.memories))
            words = list(bits.read.memories[number])
            word, bit = rng.randrange(len(words)), rng.randrange(9)
            words[word] ^= 1 << bit
            what, found = (f"bit {bit} of word {word} of block RAM {number}",
                           bits.look_at_memory(number, words))
            cells, reason = bits.fabric.memory_equivalent(number, words), ""
            break
        tile = rng.choice(bits.tiles if kind == "any bit" else bits.logic)
        lines = _spoil_tile(kind, tile, list(bits.read.tiles[tile]), rng)
        if lines is not None:
            before, after = (tile_bits(tile_kind(tile), some)[0]
                             for some in (bits.read.tiles[tile], lines))
            if before != after:
                what = f"{tile}: " + " ".join(
                    f"F{frame}B{bit}" for frame, bit in sorted(before ^ after))
                found = bits.look(tile, lines)
                cells, reason = _equivalent(bits, tile, lines)
                break
    text, design = found
    return kind, what, cells, {"lvs": False, "bitstream": text or design, "text": text,
                               "design": design, "why": reason}


def _equivalent(bits, tile, lines):
    """(cells that a fault changes, why there are none)."""
    try:
        cells = bits.fabric.equivalent(tile, bits.read.tiles[tile], lines)
    except NoEquivalent as error:
        return None, f"not run, {error}"
    return cells, "" if cells else "nothing of the design changes"


def _spoil_tile(kind, tile, lines, rng):
    """Lines of a tile with a fault; None where it has nothing of the kind."""
    database = TileDatabase.of(tile_kind(tile))
    start = {"LUT bit": "word: ", "connection": "arc: ", "lost connection": "arc: ",
             "mode bit": "enum: "}.get(kind)
    if start is None:
        places = {(frame, bit) for groups in (database.arcs.values(), *(
            values.values() for _, values in database.enums.values())) for group in groups
            for frame, bit, _ in group}
        frame, bit = rng.choice(sorted(places))
        ones, _ = tile_bits(tile_kind(tile), lines)
        # A bit goes from 0 to 1: what is 1 is part of a line.
        return None if (frame, bit) in ones else [*lines, f"unknown: F{frame}B{bit}"]
    found = [index for index, line in enumerate(lines) if line.startswith(start)]
    if not found:
        return None
    index = rng.choice(found)
    word, name, value = lines[index].split()
    if kind == "LUT bit":
        bit = rng.randrange(len(value))
        value = value[:bit] + ("1" if value[bit] == "0" else "0") + value[bit + 1:]
    elif kind == "connection":
        value = rng.choice(sorted(source for sink, source in database.arcs if sink == name))
    elif kind == "mode bit":
        value = rng.choice(sorted(database.enums[name][1]))
    lines[index:index + 1] = [] if kind == "lost connection" else [f"{word} {name} {value}"]
    return lines
