"""Layout versus schematic: the routed design is the netlist that went into placement.

Both are read into statements, one for each net that a cell drives: what drives it, from which
nets. nextpnr packs LUTs, carry chains and LUT-RAM into slices, folds constants, and inserts
buffers for clocks; all of that is undone by rule, nothing by name but the nets themselves. It
keeps their names.
"""

from dataclasses import dataclass, field
import re

from gen.proof.cells import (
    about_block,
    DDR_OUTPUT,
    is_same,
    is_same_block,
    PAD_LOGIC,
    pad_logic,
    shared_set_reset,
    unpacked_pad,
)
from gen.proof.lut import control, function, halves, number, tied
from model.error import InputError


__all__ = ["Layout", "Lvs", "Schematic", "compare", "differences"]


SELECT = {"LUT4": "ABCD", "PFUMX": ("BLUT", "ALUT", "C0"), "L6MUX21": ("D0", "D1", "SD")}

RAMW = {"WADO0": "D0", "WADO1": "B0", "WADO2": "C0", "WADO3": "A0",
        "WDO0": "C1", "WDO1": "A1", "WDO2": "D1", "WDO3": "B1"}
"""What a slice hands on to the LUT-RAM beside it."""

RAMW_BLOCK = "RAMW_BLOCK"
"""Mode of a LUT that nextpnr keeps free, because the write port beside it takes its pins."""

RAM_READ = "DBCA"
"""Pins of a LUT that its RAM is read by, the lowest address bit first (nextpnr, ecp5/pack.cc)."""

COPY = re.compile(r"(.+)\$copy\d+")
"""Name of a copy of a flip-flop (gen/pnr/replicate.py), and of the flip-flop."""

@dataclass
class Lvs:
    """Result of :func:`compare`: how many statements of each kind were compared, and differences:
    (net or cell, what the netlist says, what the routed design says), None where it is missing;
    folded, how many copies of flip-flops are like the one that they were made of; shared, how many
    tristate registers are kept from global set/reset (:func:`gen.proof.cells.shared_set_reset`)."""

    compared: dict = field(default_factory=dict)
    folded: int = 0
    shared: int = 0
    differences: list = field(default_factory=list)


def compare(netlist, routed):
    """Compare two modules of nextpnr's or yosys' JSON.

    Parameters
    ----------
    netlist, routed : dict
        The module before and after placement and routing.

    Returns
    -------
    Lvs
    """
    before = Schematic(netlist)
    after = Layout(routed, before)
    result = Lvs(folded=after.folded, shared=before.shared)
    for kind, *_ in before.statements.values():
        result.compared[kind] = result.compared.get(kind, 0) + 1
    result.differences = differences(before, before.statements, after.statements)
    return result


def differences(schematic, wanted, found):
    """Statements that differ, as in :class:`Lvs`; ``wanted`` and ``found`` are of both sides."""
    def same(place):
        one, other = wanted[place], found.get(place)
        if one[0] == "cell" and other is not None:
            return is_same_block(one, other, schematic.used)
        return is_same(one, other)

    return ([(place, statement, found.get(place)) for place, statement in wanted.items()
             if not same(place)]
            + [(place, None, statement) for place, statement in found.items()
               if place not in wanted])


class _Netlist:
    """Nets and cells of a module, and the statements that cells make about nets."""

    def __init__(self, module):
        self.cells, self.statements = module["cells"], {}

    def _say(self, net, statement):
        if net in self.statements:
            raise InputError(f"net {net} is driven twice")
        self.statements[net] = statement

    def _flip_flop(self, cell, pin):
        """Statement about a TRELLIS_FF; ``pin(name)`` gives a net or a constant."""
        value = {key: str(text).strip() for key, text in cell["parameters"].items()}
        data = "DI" if value.get("SD", "1") == "1" else "M"
        reset = control(pin("LSR", "0"), value.get("LSRMUX", "LSR"), "LSR")
        return ("flip-flop", pin(data), control(pin("CE"), value.get("CEMUX", "CE"), "CE"),
                control(pin("CLK"), value.get("CLKMUX", "CLK"), "CLK"), reset,
                value.get("REGSET", "RESET"), value.get("GSR", "ENABLED"),
                value.get("SRMODE", "LSR_OVER_CE") if reset != "0" else "")

class Schematic(_Netlist):
    """What yosys wrote, after the passes. statements, ``{net or cell: what drives it}``."""

    def __init__(self, module):
        super().__init__(module)
        self.bits, self.used = {}, set()
        for name, entry in module["netnames"].items():
            bits, start = entry["bits"], entry.get("offset", 0)
            for place, bit in enumerate(bits):
                if not isinstance(bit, str):
                    self.bits[name if len(bits) == 1 else f"{name}[{start + place}]"] = bit
        self._drivers = {cell["connections"]["COUT"][0]: name for name, cell in self.cells.items()
                         if cell["type"] == "CCU2C" and cell["connections"].get("COUT")}
        self._chains = {}
        self._shared, self.shared = shared_set_reset(self.cells), 0
        for name, cell in self.cells.items():
            self._cell(name, cell, cell["type"])

    def _pin(self, cell):
        def read(port, default="1"):
            bits = cell["connections"].get(port)
            if not bits:
                return default
            return "0" if bits[0] == "x" else self.drives(bits[0])
        return read

    def drives(self, bit):
        """A net, or the carry that is behind it."""
        return self._chain(bit)[1] if bit in self._drivers else bit

    def _cell(self, name, cell, kind):
        pin, out = self._pin(cell), cell["connections"]
        if kind == "LUT4":
            self._say(out["Z"][0], ("LUT", function(number(cell["parameters"]["INIT"]),
                                                    [pin(p) for p in "ABCD"])))
        elif kind in ("PFUMX", "L6MUX21"):
            self._say(out["Z"][0], ("multiplexer", *(pin(port) for port in SELECT[kind])))
        elif kind == "CCU2C":
            sums, _ = self._halves(name)
            for half, value in enumerate(sums):
                if out.get(f"S{half}"):
                    self._say(out[f"S{half}"][0], ("LUT", value))
        elif kind == "TRELLIS_FF":
            said = self._flip_flop(cell, pin)
            if out["Q"][0] in self._shared and said[6] != "DISABLED":
                said, self.shared = (*said[:6], "DISABLED", said[7]), self.shared + 1
            self._say(out["Q"][0], said)
        elif kind == "TRELLIS_DPR16X4":
            self._lut_ram(cell)
        elif kind == "ODDRX1F":
            self._say(out["Q"][0], ("DDR output", *(pin(port) for port in DDR_OUTPUT[:2]),
                                    *(control(pin(port), port, port) for port in DDR_OUTPUT[2:])))
        else:
            self._say(name, about_block(cell, pin, None))
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] != "output":
                self.used.update(bits)

    def _chain(self, bit):
        return self._halves(self._drivers[bit])

    def _halves(self, name):
        """((S0, S1), carry out) of a CCU2C. The chain before it is worked out first, in a loop:
        chains are longer than calls may nest."""
        waiting = [name]
        while waiting:
            cell = self.cells[waiting[-1]]
            carry = cell["connections"]["CIN"][0]
            before = self._drivers.get(carry)
            if before is not None and before not in self._chains:
                waiting.append(before)
                continue
            value = self._chains[before][1] if before is not None else carry
            sums = []
            for half in "01":
                pins = [cell["connections"][p + half][0] for p in "ABCD"]
                total, value = halves(number(cell["parameters"][f"INIT{half}"]),
                                       ["0" if p == "x" else p for p in pins],
                                       cell["parameters"][f"INJECT1_{half}"] == "YES", value)
                sums.append(total)
            self._chains[waiting.pop()] = tuple(sums), value
        return self._chains[name]

    def _lut_ram(self, cell):
        ports, values = cell["connections"], cell["parameters"]
        contents = number(values["INITVAL"])
        enable = control(ports["WRE"][0], values["WREMUX"], "WRE")
        clock = control(ports["WCK"][0], values["WCKMUX"], "WCK")
        for bit, net in enumerate(ports["DO"]):
            self._say(net, ("LUT-RAM", contents >> 16 * bit & 0xffff, tuple(ports["RAD"]),
                            tuple(ports["WAD"]), ports["DI"][bit], enable, clock))


class Layout(_Netlist):
    """What nextpnr wrote, with nets as the schematic numbers them."""

    def __init__(self, module, schematic):
        super().__init__(module)
        self._names = {}
        for name, entry in module["netnames"].items():
            for bit in entry["bits"]:
                self._names.setdefault(bit, []).append(name)
        self._known = {name: schematic.drives(bit) for name, bit in schematic.bits.items()}
        self._drivers = {bits[0]: (name, port) for name, cell in self.cells.items()
                         for port, bits in cell["connections"].items()
                         if bits and cell["port_directions"][port] == "output"}
        self._values, self._copies, self.folded = {}, {}, 0
        for name in self.cells:
            original = None if name in schematic.cells else self._original(name)
            if original is not None:
                self._copies[name] = original
        for name, cell in self.cells.items():
            self._cell(name, cell, cell["type"])
        for name in self._copies:
            self._fold(name)

    def is_known(self, bit):
        """Whether the schematic has a net of one of its names."""
        return any(name in self._known for name in self._names.get(bit, ()))

    def restate(self, cells, affected):
        """Make the statements of the cells ``affected`` alone, when ``cells`` are others (None: not
        there). For a shallow copy of the layout, which stays as it is."""
        self.cells = {name: cell for name, cell in {**self.cells, **cells}.items()
                      if cell is not None}
        self._drivers = self._drivers | {
            bits[0]: (name, port) for name, cell in cells.items() if cell is not None
            for port, bits in cell["connections"].items()
            if bits and cell["port_directions"][port] == "output"}
        self.statements, self._values = {}, {}
        fresh = {name: self._original(name) for name in cells if name in self.cells}
        self._copies = self._copies | {name: one for name, one in fresh.items() if one is not None}
        there = [name for name in affected if name in self.cells]
        for name in there:
            self._cell(name, self.cells[name], self.cells[name]["type"])
        for name in set(there) & set(self._copies):
            self._fold(name)
        return self.statements

    def _original(self, name):
        """What a flip-flop is a copy of, by its name; None where it is none."""
        match = COPY.fullmatch(name)
        original = self.cells.get(match[1]) if match else None
        if (original is None or {original["type"], self.cells[name]["type"]} != {"TRELLIS_FF"}
                or not all(self.cells[cell]["connections"].get("Q") for cell in (name, match[1]))):
            return None
        return match[1]

    def _fold(self, name):
        """A copy says the same as what it was made of; one that does not stays."""
        cell = self.cells[name]
        said = self._about_flip_flop(cell, self._pin(cell))
        if said == self.statements.get(self._net(cell["connections"]["Q"][0])):
            self.folded += 1
        else:
            self._say(f"copy {name}", said)

    def _net(self, bit):
        """What the schematic has in place of a net: its own net, or what drives it."""
        if bit not in self._values:
            waiting = [bit]
            while waiting:
                needed = self._resolve(waiting[-1])
                if needed is None:
                    waiting.pop()
                elif needed in waiting:
                    raise InputError(f"nets in a circle: {self._names[needed][0]}")
                else:
                    waiting.append(needed)
        return self._values[bit]

    def _resolve(self, bit):
        """Work out a net: None, or the net that must be worked out before."""
        known = next((self._known[name] for name in self._names.get(bit, ())
                      if name in self._known), None)
        name, port = self._drivers.get(bit, (None, None))
        cell = self.cells.get(name)
        kind = cell["type"] if cell else ""
        if name in self._copies and port == "Q":
            original = self.cells[self._copies[name]]["connections"]["Q"][0]
            if original not in self._values:
                return original
            self._values[bit] = self._values[original]
        elif known is not None and not (kind == "TRELLIS_COMB" and port == "FCO"):
            self._values[bit] = known
        elif kind == "TRELLIS_COMB" and port in ("F", "FCO"):
            needed = [bits[0] for pin in ("A", "B", "C", "D", "FCI")
                      if (bits := cell["connections"].get(pin))]
            for other in needed:
                if other not in self._values:
                    return other
            total, carry = self._half(cell)
            value = carry if port == "FCO" else total
            self._values[bit] = value if not isinstance(value, tuple) else f"net of {name}"
        elif kind == "TRELLIS_RAMW":
            source = cell["connections"].get(RAMW[port])
            if source and source[0] not in self._values:
                return source[0]
            self._values[bit] = self._values[source[0]] if source else "1"
        elif kind == "DCCA" and not cell["connections"].get("CE"):
            source = cell["connections"]["CLKI"][0]
            if source not in self._values:
                return source
            self._values[bit] = self._values[source]
        else:
            self._values[bit] = f"net of {name} {port}"
        return None

    def _pin(self, cell):
        def read(port, default="1"):
            bits = cell["connections"].get(port)
            return self._net(bits[0]) if bits else default
        return read

    def _half(self, cell):
        pin = self._pin(cell)
        pins = [pin(port) for port in "ABCD"]
        contents = number(cell["parameters"].get("INITVAL", "0"))
        if str(cell["parameters"].get("MODE", "LOGIC")).strip() != "CCU2":
            return function(contents, pins), "0"
        return halves(contents, pins, cell["parameters"].get("CCU2_INJECT1") == "YES",
                       pin("FCI", "0"))

    def _cell(self, name, cell, kind):
        pin, out = self._pin(cell), cell["connections"]
        if kind == "TRELLIS_COMB":
            self._comb(name, cell, pin, out)
        elif kind == "TRELLIS_FF":
            if name not in self._copies:
                self._about(out["Q"][0], self._about_flip_flop(cell, pin))
        elif kind in PAD_LOGIC:
            for bit, statement in pad_logic(cell, pin):
                self._say(self._net(bit) if isinstance(bit, int) else f"{bit} {name}", statement)
        elif kind != "TRELLIS_RAMW" and not (kind == "DCCA" and not out.get("CE")):
            pad = unpacked_pad(cell) if kind == "TRELLIS_IO" else cell
            self._say(name, about_block(pad, pin if pad is cell else self._pin(pad), tied))

    def _about_flip_flop(self, cell, pin):
        return self._flip_flop(
            {**cell, "parameters": {"SD": "0", "CEMUX": "1", **cell["parameters"]}}, pin)

    def _about(self, bit, statement):
        self._say(self._net(bit), statement)

    def _comb(self, name, cell, pin, out):
        mode = str(cell["parameters"].get("MODE", "LOGIC")).strip()
        if mode == RAMW_BLOCK:
            return
        if out.get("F"):
            net = self._net(out["F"][0])
            if mode == "DPRAM":
                values = cell["parameters"]
                self._say(net, (
                    "LUT-RAM", number(values.get("INITVAL", "0")),
                    tuple(pin(port) for port in RAM_READ),
                    tuple(pin(f"WAD{bit}") for bit in range(4)), pin("WD"),
                    control(pin("WRE"), values.get("WREMUX", "WRE"), "WRE"),
                    control(pin("WCK"), values.get("WCKMUX", "WCK"), "WCK")))
            elif isinstance(net, int):
                self._say(net, ("LUT", self._half(cell)[0]))
            elif net != (total := self._half(cell)[0]):
                self._say(f"net of {name}", ("LUT", total))
        if out.get("OFX"):
            wide = bool(out.get("FXA") or out.get("FXB"))
            self._about(out["OFX"][0], ("multiplexer", *(
                pin(port) for port in (("FXA", "FXB", "M") if wide else ("F", "F1", "M")))))
