"""The bitstream is the routed design: wires, LUTs, flip-flops, block RAMs and other blocks.

nextpnr permutes the pins of LUTs when it writes their contents. Here the nets that arrive at a
LUT's wires and the contents in the bitstream must make the function that the cell has.

In logic tiles every bit is compared, elsewhere the connections and the settings that cells name.
"""

from collections import Counter
import json
import re

from gen.proof.bitstream import by_tile, Comparison
from gen.proof.lut import meaning
from gen.proof.lvs import RAMW_BLOCK
from gen.proof.trellis import database_folder, tile_bits, tile_kind, TileDatabase, tiles_at


__all__ = ["Fabric", "compare_design"]


SLICES = "ABCD"

LOGIC = "PLC2"

ALWAYS = re.compile(r"G_DCS\dCLK\d G_VPFN0000")
"""What nextpnr sets for the clock switches that nothing uses (ecp5/bitstream.cc)."""

OPEN = "1"
"""What an open wire reads."""

LESS_ONE = re.compile(r"CLK(I|FB|OP|OS\d?)_DIV")
"""Words of a PLL that hold their parameter less one."""


def compare_design(module, read):
    """Compare a routed design with the configuration in the bitstream.

    Parameters
    ----------
    module : dict
        Of :func:`sim.gate.netlist.read_routed`.
    read : gen.proof.trellis.Config

    Returns
    -------
    gen.proof.bitstream.Comparison
    """
    return Fabric(module, read.device).compare(read)


class Fabric:
    """What the bitstream of a routed design must be.

    Parameters
    ----------
    module : dict
        Of :func:`sim.gate.netlist.read_routed`.
    device : str
        As in :class:`gen.proof.trellis.Config`.

    Attributes
    ----------
    strange : list
        Differences (place, expected, found) within the design itself: a pin that is not on a wire
        of its net, a connection that the chip has not.
    compared : Counter
    """

    def __init__(self, module, device):
        self._device, self.compared, self.strange = device, Counter(), []
        self._tiles = tiles_at(device)
        # By tile: lines, LUTs and settings that it must have; by number: contents of block RAMs.
        self._lines, self._luts, self._values, self._memories = {}, {}, {}, {}
        self._nets, self._routed = {}, set()
        for entry in module["netnames"].values():
            if routing := entry["attributes"].get("ROUTING", "").strip():
                self._net(entry["bits"][0], routing.split(";"))
        self._taps()
        for name, cell in module["cells"].items():
            kind = cell["type"]
            column, row, bel = _place(cell)
            if kind in ("TRELLIS_COMB", "TRELLIS_FF", "TRELLIS_RAMW"):
                self._slice(name, cell, kind, (column, row), bel)
            else:
                self._block(name, cell, kind, (column, row), bel)

    def compare(self, read):
        """The :class:`gen.proof.bitstream.Comparison` with what was read in a bitstream."""
        tiles, _ = by_tile(read)
        names = sorted({*self._lines, *tiles})
        result = Comparison(compared=Counter(self.compared), differences=list(self.strange))
        result.compared["tiles"] = len(names)
        for name in names:
            result.differences += self.check_tile(name, tiles.get(name, []))
        for number in sorted({*self._memories, *read.memories}):
            result.differences += self.check_memory(number, read.memories.get(number))
        return result

    def check_tile(self, name, lines):
        """Differences in a tile that holds these lines: of no other tile's."""
        if tile_kind(name) == LOGIC:
            return self._check_logic(name, lines)
        return [*self._check_arcs(name, lines), *self._check_settings(name, lines)]

    def check_memory(self, number, words):
        """Differences in the contents of a block RAM."""
        name, contents = self._memories.get(number, (None, None))
        if words == contents:
            return []
        return [(name or f"block RAM {number}", contents and "its contents", f"those of {number}")]

    def _differ(self, place, wanted, found):
        self.strange.append((place, wanted, found))

    # Wires

    def _net(self, net, routing):
        """Take a net's wires, and expect the connections between them."""
        wires = {routing[place]: routing[place + 1] for place in range(0, len(routing) - 2, 3)}
        self._routed.add(net)
        names = {wire.rpartition("/")[2] for wire in wires}
        for wire, pip in wires.items():
            if self._nets.setdefault(wire, net) != net:
                self._differ(wire, f"net {net}", f"net {self._nets[wire]}")
            if pip:
                self._pip(net, wire, pip, wires, names)

    def _pip(self, net, wire, pip, wires, names):
        match = re.fullmatch(r"X(\d+)/Y(\d+)/(-?\d+)_(-?\d+)_(\w+)->(-?\d+)_(-?\d+)_(\w+)", pip)
        column, row, *ends = match.groups()
        column, row = int(column), int(row)
        (source, from_wire), (sink, to_wire) = (
            _end(column, row, int(ends[at]), int(ends[at + 1]), ends[at + 2]) for at in (0, 3))
        joined = from_wire in wires or self._clock_spine(source, names)
        if not joined or to_wire != wire:
            self._differ(wire, f"a connection of net {net}", pip)
        if (re.fullmatch(r"[A-D]\d_SLICE", sink) and re.fullmatch(r"[A-D]\d", source)
                and sink[1] == source[1]):
            self.compared["pins of LUTs"] += 1
            return
        for tile in self._tiles[column, row]:
            database = TileDatabase.of(tile_kind(tile))
            if (sink, source) in database.arcs:
                self._lines.setdefault(tile, []).append(f"arc: {sink} {source}")
                self.compared["connections"] += 1
                return
            if (sink, source) in database.fixed:
                self.compared["connections that no bit makes"] += 1
                return
        self._differ(pip, "a connection of the chip", None)

    @staticmethod
    def _clock_spine(source, names):
        """Whether a net has a clock's column, or its row: nextpnr names them in one place only."""
        row = re.fullmatch(r"G_HPRX(\d\d)00", source)
        return ((source.startswith("G_VPTX") and source in names)
                or (row and any(f"G_{quadrant}PCLK{int(row[1])}" in names
                               for quadrant in ("UL", "UR", "LL", "LR"))))

    def _taps(self):
        """A clock reaches a row's columns over the taps beside them: those must be connected."""
        ranges = json.loads((database_folder() / self._device / "globals.json").read_text())
        arcs = set()
        for wire in self._nets:
            match = re.fullmatch(r"X(\d+)/Y(\d+)/G_HPBX(\d\d)00", wire)
            if match:
                column, row, clock = int(match[1]), int(match[2]), match[3]
                for tap, span in ranges["taps"].items():
                    for side in "lr":
                        if span[f"{side}x0"] <= column <= span[f"{side}x1"]:
                            arcs.add(((int(tap[1:]), row),
                                      f"arc: {side.upper()}_HPBX{clock}00 G_VPTX{clock}00"))
        for place, line in sorted(arcs):
            self.compared["clock taps"] += 1
            if not any(line in self._lines.get(tile, ()) for tile in self._tiles[place]):
                self._differ(f"X{place[0]}/Y{place[1]}", line, None)

    def _at(self, place, wire):
        return self._nets.get(f"X{place[0]}/Y{place[1]}/{wire}", OPEN)

    def _pin(self, name, cell, place, port, wire):
        """A cell's pin must lie on a wire of its net."""
        bits = cell["connections"].get(port)
        if bits and cell["port_directions"][port] == "output" and bits[0] not in self._routed:
            self.compared["outputs that no wire takes"] += 1
        elif bits:
            self.compared["pins"] += 1
            if self._at(place, wire) != bits[0]:
                self._differ(f"{name}.{port}", f"net {bits[0]}", f"net {self._at(place, wire)}")

    # Logic

    def _slice(self, name, cell, kind, place, bel):
        letter, _, part = bel.removeprefix("SLICE").partition(".")
        tile = f"R{place[1]}C{place[0]}:{LOGIC}"
        lines = self._lines.setdefault(tile, [])
        if kind == "TRELLIS_RAMW":
            lines.append(f"enum: SLICE{letter}.MODE RAMW")
            for port in cell["connections"]:
                if cell["port_directions"][port] == "input":
                    self._pin(name, cell, place, port,
                              f"{port[0]}{2 * SLICES.index(letter) + int(port[1])}")
        elif kind == "TRELLIS_COMB":
            self._comb(name, cell, place, lines, (tile, letter, int(part[-1])))
        else:
            self._flip_flop(name, cell, place, lines, (letter, int(part[-1])))

    def _comb(self, name, cell, place, lines, where):
        tile, letter, half = where
        number = 2 * SLICES.index(letter) + half
        value = {key: str(text).strip() for key, text in cell["parameters"].items()}
        mode = value.get("MODE", "LOGIC")
        if mode == RAMW_BLOCK:
            lines.append(f"word: SLICE{letter}.K{half}.INIT {value['INITVAL']}")
            return
        if mode in ("CCU2", "DPRAM"):
            lines.append(f"enum: SLICE{letter}.MODE {mode}")
        if mode == "CCU2":
            lines.append(f"enum: SLICE{letter}.CCU2.INJECT1_{half} {value['CCU2_INJECT1']}")
            self._pin(name, cell, place, "FCI", f"FCI{letter}1_SLICE" if half else
                      "FCI_SLICE" if letter == "A" else f"FCI{letter}_SLICE")
        if mode == "DPRAM":
            lines += [f"enum: SLICEA.WREMUX {value['WREMUX']}",
                      f"enum: CLK1.CLKMUX {value['WCKMUX'].replace('WCK', 'CLK')}"]
        self._pin(name, cell, place, "F", f"F{number}_SLICE")
        self._pin(name, cell, place, "OFX", f"FX{letter}_SLICE" if half else f"F5{letter}_SLICE")
        self._pin(name, cell, place, "M", f"M{number}_SLICE")
        for port in ("FXA", "FXB"):
            self._pin(name, cell, place, port, f"{port}{letter}_SLICE")
        nets = [(cell["connections"].get(port) or [OPEN])[0] for port in "ABCD"]
        there = [self._at(place, f"{port}{number}") for port in "ABCD"]
        self.compared["LUTs"] += 1
        if mode != "DPRAM":
            lines += [f"enum: SLICE{letter}.{port}{half}MUX 1"
                      for port, net in zip("ABCD", there, strict=True) if net == OPEN]
        self._luts.setdefault(tile, {})[f"SLICE{letter}.K{half}.INIT"] = (
            name, mode, value.get("CCU2_INJECT1"), int(value.get("INITVAL", "0"), 2), nets, there)

    def _flip_flop(self, name, cell, place, lines, where):
        letter, half = where
        index = SLICES.index(letter)
        value = {key: str(text).strip() for key, text in cell["parameters"].items()}
        number = 2 * index + half
        lines += [f"enum: SLICE{letter}.REG{half}.SD {value.get('SD', '0')}",
                  f"enum: SLICE{letter}.REG{half}.REGSET {value.get('REGSET', 'RESET')}",
                  f"enum: SLICE{letter}.GSR {value.get('GSR', 'ENABLED')}",
                  f"enum: SLICE{letter}.CEMUX {value.get('CEMUX', '1')}"]
        for port in ("CLK", "LSR"):
            mux = next((line.split()[2] for line in lines
                        if line.startswith(f"arc: MUX{port}{index} ")), None)
            if mux:
                lines.append(f"enum: {mux}.{port}MUX {value.get(f'{port}MUX', port)}")
            free = [f"LSR{side}" for side in range(2) if port == "LSR" and not mux and not any(
                line.startswith(f"arc: LSR{side} ") for line in lines)]
            # Without a reset, nextpnr writes its mode for both that nothing uses.
            lines += [f"enum: {one}.SRMODE {value.get('SRMODE', 'LSR_OVER_CE')}"
                      for one in ([mux] if mux and port == "LSR" else free)]
        for port, wire in (("Q", f"Q{number}_SLICE"), ("M", f"M{number}_SLICE"),
                           ("DI", f"DI{number}_SLICE"), ("CLK", f"CLK{index}_SLICE"),
                           ("LSR", f"LSR{index}_SLICE"), ("CE", f"CE{index}_SLICE")):
            self._pin(name, cell, place, port, wire)
        self.compared["flip-flops"] += 1

    def _check_logic(self, name, lines):
        """Every bit of a logic tile, and the functions of its LUTs."""
        luts = self._luts.get(name, {})
        contents, rest, differences = dict.fromkeys(luts, 0xffff), [], []
        for line in lines:
            word, setting, *text = line.split()
            if word == "word:" and setting in luts:
                contents[setting] = int(text[0], 2)
            else:
                rest.append(line)
        for setting, found in contents.items():
            cell, mode, inject, wanted, nets, there = luts[setting]
            wanted, found = (meaning(mode, inject, *pair)
                             for pair in ((wanted, nets), (found, there)))
            if wanted != found:
                differences.append((f"{cell} in {name}", wanted, found))
        wanted, strange = tile_bits(LOGIC, self._lines.get(name, []))
        found, unread = tile_bits(LOGIC, rest)
        differences += [(name, line, None) for line in strange]
        differences += [(name, None, line) for line in unread]
        return differences + [(name, *(f"F{frame}B{bit} is {int((frame, bit) in ones)}"
                                       for ones in (wanted, found)))
                              for frame, bit in sorted(wanted ^ found)]

    def _check_arcs(self, name, lines):
        """Connections of another tile, by their bits."""
        tile = TileDatabase.of(tile_kind(name))
        wanted, found = (
            {(words[1], tile.arcs.get((words[1], words[2]), ((words[2], 0, True),)))
             for words in map(str.split, text)
             if words[0] == "arc:" and not ALWAYS.fullmatch(" ".join(words[1:]))}
            for text in (self._lines.get(name, []), lines))
        return [(name, *((text, None) if (sink, bits) in wanted else (None, text)))
                for sink, bits in sorted(wanted ^ found) if any(value for *_, value in bits)
                for text in (f"{sink} by {bits}",)]

    def _check_settings(self, name, lines):
        """Whether the bits of another tile's settings are as they should be."""
        if name not in self._values:
            return []
        found, _ = tile_bits(tile_kind(name), lines)
        return [(f"{cell} in {name}", text, f"bit {bit} is not so")
                for bit, (one, cell, text) in self._values[name].items() if one != (bit in found)]

    # Other blocks

    def _block(self, name, cell, kind, place, bel):
        value = {key: str(text).strip() for key, text in cell["parameters"].items()}
        suffix = {"DP16KD": "EBR", "MULT18X18D": "MULT18"}.get(kind)
        if suffix:
            for port in cell["connections"]:
                self._pin(name, cell, place, port, f"J{port}_{suffix}")
        if kind == "DP16KD":
            settings = self._memory(name, value, bel, int(cell["attributes"]["WID"], 2))
        elif kind == "MULT18X18D":
            settings = [(f"{bel}.{key}", text) for key, text in value.items()]
        elif kind == "EHXPLLL":
            settings = list((value | {"MODE": kind}).items())
        elif kind == "TRELLIS_IO":
            attributes = cell["attributes"]
            settings = [(f"{bel}.BASE_TYPE", f"{value['DIR']}_{attributes['IO_TYPE']}")]
            settings += [(f"{bel}.{key}", attributes[key]) for key in ("PULLMODE", "DRIVE")
                         if key in attributes]
        else:
            settings = []
        self._settings(name, settings, place, kind)

    def _settings(self, name, settings, place, kind):
        """Expect the bits of settings in all tiles that have them."""
        near = [tile for right in ((0,) if kind == "TRELLIS_IO" else range(-1, 5))
                for down in ((0, 1, 2) if kind == "TRELLIS_IO" else (0, 1))
                for tile in self._tiles.get((place[0] + right, place[1] + down), ())]
        for tile in near:
            database, values = TileDatabase.of(tile_kind(tile)), {}
            for key, text in settings:
                if key in database.enums and text in database.enums[key][1]:
                    bits = database.enums[key][1][text]
                elif key in database.words:
                    number = int(text, 2) - bool(LESS_ONE.fullmatch(key))
                    width = len(database.words[key][1])
                    bits = database.line_bits(f"word: {key} {number:0{width}b}")[1]
                else:
                    continue
                self.compared[f"settings of {kind}"] += 1
                values.update(((frame, bit), (one, name, f"{key} {text}"))
                              for frame, bit, one in bits)
            if values:
                self._values.setdefault(tile, {}).update(values)

    def _memory(self, name, value, bel, number):
        """Expect the contents: 32 half words of 9 bits for each INITVAL. Returns the settings."""
        contents = [0] * 2048
        for index in range(64):
            digits = value.get(f"INITVAL_{index:02X}", "").replace("x", "0")
            for at in range(32):
                contents[32 * index + at] = _half_word(int(digits or "0", 2), at)
        self.compared["words of block RAM"] += len(contents)
        self._memories[number] = name, contents
        widths = [int(value.get(f"DATA_WIDTH_{side}", "10010"), 2) for side in "AB"]
        wide = 36 in widths
        settings = [("MODE", "PDPW16KD" if wide else "DP16KD"), ("WID", f"{number:09b}"[::-1])]
        settings += [("PDPW16KD.DATA_WIDTH_R", str(widths[1]))] if wide else [
            (f"DP16KD.DATA_WIDTH_{side}", str(width)) for side, width in zip("AB", widths,
                                                                             strict=True)]
        for key, text in value.items():
            if key.startswith("CSDECODE"):
                settings.append((key, f"{7 - int(text, 2):03b}"))
            elif key.startswith("WRITEMODE"):
                settings.append((f"DP16KD.{key}", text))
            elif not re.match("INITVAL|DATA_WIDTH" + "|WE.MUX" * wide, key):
                settings.append((key, text))
        return [(f"{bel}.{key}", text) for key, text in settings]


def _half_word(bits, at):
    """Nine bits of 320: sixteen words of 18 bits, each in 20."""
    return bits >> (20 * (at // 2) + 9 * (at % 2)) & 0x1ff


def _place(cell):
    column, row, bel = re.fullmatch(r"X(\d+)/Y(\d+)/(.+)",
                                    cell["attributes"]["NEXTPNR_BEL"]).groups()
    return int(column), int(row), bel


def _end(column, row, right, down, wire):
    """(name in the tile, name in the chip) of a connection's end."""
    offset = ((f"N{-down}" if down < 0 else f"S{down}" if down else "")
              + (f"W{-right}" if right < 0 else f"E{right}" if right else ""))
    if wire.startswith("G_"):
        offset = ""
    return (f"{offset}_{wire}" if offset else wire), f"X{column + right}/Y{row + down}/{wire}"
