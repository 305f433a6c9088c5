"""Layout versus schematic: the routed design is the netlist that went into placement.

Both are read into statements, one for each net that a cell drives: what drives it, from which
nets. nextpnr packs LUTs, carry chains and LUT-RAM into slices, folds constants, and inserts
buffers for clocks; all of that is undone by rule, nothing by name but the nets themselves. It
keeps their names.
"""

from dataclasses import dataclass, field
import hashlib

from model.error import InputError


__all__ = ["Lvs", "compare"]


SELECT = {"LUT4": "ABCD", "PFUMX": ("BLUT", "ALUT", "C0"), "L6MUX21": ("D0", "D1", "SD")}

RAMW = {"WADO0": "D0", "WADO1": "B0", "WADO2": "C0", "WADO3": "A0",
        "WDO0": "C1", "WDO1": "A1", "WDO2": "D1", "WDO3": "B1"}
"""What a slice hands on to the LUT-RAM beside it."""

RAMW_BLOCK = "RAMW_BLOCK"
"""Mode of a LUT that nextpnr keeps free, because the write port beside it takes its pins."""

RAM_READ = "DBCA"
"""Pins of a LUT that its RAM is read by, the lowest address bit first (nextpnr, ecp5/pack.cc)."""

IGNORED = {"EHXPLLL": ("FREQUENCY_", "ICP_CURRENT", "LPF_RESISTOR", "MFG_")}
"""Parameters that nextpnr adds for the bitstream: from the constraint and the divisors."""




@dataclass
class Lvs:
    """Result of :func:`compare`: how many statements of each kind were compared, and differences:
    (net or cell, what the netlist says, what the routed design says), None where it is missing."""

    compared: dict = field(default_factory=dict)
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
    before = _Schematic(netlist)
    after = _Layout(routed, before)
    result = Lvs()
    for place, wanted in before.statements.items():
        found = after.statements.pop(place, None)
        result.compared[wanted[0]] = result.compared.get(wanted[0], 0) + 1
        same = (found is not None and _same_block(wanted, found, before.used)
                if wanted[0] == "cell" else _same(wanted, found))
        if not same:
            result.differences.append((place, wanted, found))
    result.differences += [(place, None, found) for place, found in after.statements.items()]
    return result


def _same(wanted, found):
    """Whether a statement is the same: what is undefined before is any constant after."""
    if isinstance(wanted, tuple) and isinstance(found, tuple) and len(wanted) == len(found):
        return all(_same(*pair) for pair in zip(wanted, found, strict=True))
    return wanted == found or (wanted == "x" and found in ("0", "1"))


def _same_block(wanted, found, used):
    """Whether a cell is the same: what is open or undefined before has any constant after."""
    _, kind, values, inputs, outputs = wanted
    return (kind == found[1]
            and all(found[2].get(key, 0) == value for key, value in values.items())
            and all(found[3].get(port, inputs.get(port)) == inputs.get(port, value)
                    and (port in inputs or value in ("0", "1"))
                    for port, value in found[3].items())
            and all(port in found[3] for port in inputs)
            and all(found[4].get(port) == net for port, net in outputs.items() if net in used))


def function(contents, pins):
    """Canonical form of a LUT.

    Parameters
    ----------
    contents : int
        16 bits or 4.
    pins : sequence
        What its address bits are, the lowest first: "0", "1" or a net.

    Returns
    -------
    "0", "1", a net, or ("lut", nets, table)
        Nets that matter, in order; the table's address bits are theirs.
    """
    nets = sorted({pin for pin in pins if pin not in ("0", "1")}, key=str)
    while True:
        table = []
        for index in range(1 << len(nets)):
            value = {net: index >> place & 1 for place, net in enumerate(nets)}
            address = sum((value[pin] if pin in value else int(pin)) << bit
                          for bit, pin in enumerate(pins))
            table.append(contents >> address & 1)
        idle = [net for place, net in enumerate(nets)
                if all(table[index] == table[index ^ 1 << place] for index in range(len(table)))]
        if not idle:
            break
        nets.remove(idle[0])
        pins = ["1" if pin == idle[0] else pin for pin in pins]
    if not nets:
        return str(table[0])
    if table == [0, 1]:
        return nets[0]
    return "lut", tuple(nets), tuple(table)


def _carry(lut, half, carry):
    """Carry out of half a CCU2C; a digest where it is none of its inputs."""
    if lut == "1":
        return carry
    if lut == "0" or half == carry:
        return half
    return "carry " + hashlib.blake2s(repr((lut, half, carry)).encode()).hexdigest()


def _sum(lut, carry):
    """What drives the sum of half a CCU2C."""
    if carry == "0":
        return lut
    if lut == "0":
        return carry
    return "sum", lut, carry


def _halves(contents, pins, inject, carry):
    """(sum, carry out) of half a CCU2C from its LUT, its pins A to D, and the carry in."""
    lut = function(contents, pins)
    if inject:
        return lut, _carry(lut, "0", carry)
    return _sum(lut, carry), _carry(lut, function(contents & 15, pins[:2]), carry)


def _number(value):
    """A parameter in binary digits; what is undefined is 0, as in the bitstream."""
    return int(str(value).strip().replace("x", "0") or "0", 2)


def _control(value, mux, pin):
    """(net or constant, inverted) of a clock, an enable or a reset behind its multiplexer."""
    mux = str(mux).strip()
    if mux in ("0", "1"):
        return mux
    if value in ("0", "1"):
        return str(int(value) ^ (mux == "INV"))
    return value, mux == "INV"


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
        reset = _control(pin("LSR", "0"), value.get("LSRMUX", "LSR"), "LSR")
        return ("flip-flop", pin(data), _control(pin("CE"), value.get("CEMUX", "CE"), "CE"),
                _control(pin("CLK"), value.get("CLKMUX", "CLK"), "CLK"), reset,
                value.get("REGSET", "RESET"), value.get("GSR", "ENABLED"),
                value.get("SRMODE", "LSR_OVER_CE") if reset != "0" else "")

    def _block(self, cell, pin, tied):
        """Statement about any other cell: parameters, inputs, and nets that it drives."""
        kind, values, inputs, outputs = cell["type"], {}, {}, {}
        for key, value in cell["parameters"].items():
            if not key.endswith("MUX") and not key.startswith(IGNORED.get(kind, ("\0",))):
                text = str(value).strip()
                values[key] = _number(text) if text and set(text) <= set("01x") else text
        for port, direction in cell["port_directions"].items():
            bits = cell["connections"].get(port)
            if direction == "output":
                outputs |= {port: pin(port)} if bits else {}
            elif bits:
                inputs[port] = _control(pin(port), cell["parameters"].get(f"{port}MUX", port), port)
            elif tied is not None:
                inputs[port] = tied(cell, port)
        return "cell", kind, values, inputs, outputs


class _Schematic(_Netlist):
    """What yosys wrote, after the passes."""

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
            self._say(out["Z"][0], ("LUT", function(_number(cell["parameters"]["INIT"]),
                                                    [pin(p) for p in "ABCD"])))
        elif kind in ("PFUMX", "L6MUX21"):
            self._say(out["Z"][0], ("multiplexer", *(pin(port) for port in SELECT[kind])))
        elif kind == "CCU2C":
            sums, _ = self._halves(name)
            for half, value in enumerate(sums):
                if out.get(f"S{half}"):
                    self._say(out[f"S{half}"][0], ("LUT", value))
        elif kind == "TRELLIS_FF":
            self._say(out["Q"][0], self._flip_flop(cell, pin))
        elif kind == "TRELLIS_DPR16X4":
            self._lut_ram(cell)
        else:
            self._say(name, self._block(cell, pin, None))
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
                total, value = _halves(_number(cell["parameters"][f"INIT{half}"]),
                                       ["0" if p == "x" else p for p in pins],
                                       cell["parameters"][f"INJECT1_{half}"] == "YES", value)
                sums.append(total)
            self._chains[waiting.pop()] = tuple(sums), value
        return self._chains[name]

    def _lut_ram(self, cell):
        ports, values = cell["connections"], cell["parameters"]
        contents = _number(values["INITVAL"])
        enable = _control(ports["WRE"][0], values["WREMUX"], "WRE")
        clock = _control(ports["WCK"][0], values["WCKMUX"], "WCK")
        for bit, net in enumerate(ports["DO"]):
            self._say(net, ("LUT-RAM", contents >> 16 * bit & 0xffff, tuple(ports["RAD"]),
                            tuple(ports["WAD"]), ports["DI"][bit], enable, clock))


class _Layout(_Netlist):
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
        self._values = {}
        for name, cell in self.cells.items():
            self._cell(name, cell, cell["type"])

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
        if known is not None and not (kind == "TRELLIS_COMB" and port == "FCO"):
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
        contents = _number(cell["parameters"].get("INITVAL", "0"))
        if str(cell["parameters"].get("MODE", "LOGIC")).strip() != "CCU2":
            return function(contents, pins), "0"
        return _halves(contents, pins, cell["parameters"].get("CCU2_INJECT1") == "YES",
                       pin("FCI", "0"))

    def _cell(self, name, cell, kind):
        pin, out = self._pin(cell), cell["connections"]
        if kind == "TRELLIS_COMB":
            self._comb(name, cell, pin, out)
        elif kind == "TRELLIS_FF":
            self._about(out["Q"][0], self._flip_flop(
                {**cell, "parameters": {"SD": "0", "CEMUX": "1", **cell["parameters"]}}, pin))
        elif kind != "TRELLIS_RAMW" and not (kind == "DCCA" and not out.get("CE")):
            self._say(name, self._block(cell, pin, _tied))

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
                    "LUT-RAM", _number(values.get("INITVAL", "0")),
                    tuple(pin(port) for port in RAM_READ),
                    tuple(pin(f"WAD{bit}") for bit in range(4)), pin("WD"),
                    _control(pin("WRE"), values.get("WREMUX", "WRE"), "WRE"),
                    _control(pin("WCK"), values.get("WCKMUX", "WCK"), "WCK")))
            elif isinstance(net, int):
                self._say(net, ("LUT", self._half(cell)[0]))
            elif net != (total := self._half(cell)[0]):
                self._say(f"net of {name}", ("LUT", total))
        if out.get("OFX"):
            wide = bool(out.get("FXA") or out.get("FXB"))
            self._about(out["OFX"][0], ("multiplexer", *(
                pin(port) for port in (("FXA", "FXB", "M") if wide else ("F", "F1", "M")))))


def _tied(cell, port):
    """Value of an open input of a block RAM or another large cell (nextpnr,
    ecp5/bitstream.cc)."""
    mux = str(cell["parameters"].get(f"{port}MUX", "")).strip()
    if cell["type"] == "DP16KD" and port[:-1] in ("CLK", "WE", "RST", "CE", "OCE"):
        default = "INV" if port[:-1] in ("CLK", "WE", "RST") else port
        return "0" if (mux or default) == "INV" else "1"
    if cell["type"] == "DP16KD" and port[:2] == "CS":
        return "0" if mux in ("", "INV") else "1"
    return "1" if mux == "1" else "0"
