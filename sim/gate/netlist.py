"""A routed design as Verilog: what nextpnr-ecp5 writes, over behavioural models of its cells."""

from collections import defaultdict
from dataclasses import dataclass
import gzip
import json
from pathlib import Path
import zlib

from model.error import InputError
from sim.gate.pads import ddr_output, pad_net, pad_registers


__all__ = ["CELLS", "GateNetlist", "read_routed"]


CELLS = Path(__file__).with_name("cells.v")
"""Models of the cells that are modules of their own."""

MODES = {"NORMAL": 0, "WRITETHROUGH": 1, "READBEFOREWRITE": 2}

RAMW = {"WADO0": "D0", "WADO1": "B0", "WADO2": "C0", "WADO3": "A0",
        "WDO0": "C1", "WDO1": "A1", "WDO2": "D1", "WDO3": "B1"}
"""Which pin of a slice a write port of its LUT-RAM passes on (nextpnr, ecp5/pack.cc)."""

BIT_0 = "1'b0"

BLOCK = 500
"""Registers in a block at most: compilers take long for large functions."""

DSP_REGISTERS = ("INPUTA", "INPUTB", "INPUTC", "PIPELINE", "OUTPUT")


def read_routed(path, top="top"):
    """The module ``top`` of a file that nextpnr-ecp5 wrote (``--write``), perhaps compressed.

    Raises
    ------
    InputError
        It is none, or it has no such module.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        return json.loads(content)["modules"][top]
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, EOFError, zlib.error):
        raise InputError(f"{path} is not a netlist of nextpnr with a module {top!r}; build again"
                         ) from None


@dataclass(frozen=True)
class _Cell:
    """A cell of the netlist, whose open inputs have their default."""

    name: str
    kind: str
    parameters: dict
    connections: dict

    def text(self, name, default=""):
        return str(self.parameters.get(name, default)).strip()

    def number(self, name, default=0):
        """A parameter in binary digits, as nextpnr writes numbers."""
        value = self.text(name)
        return int(value, 2) if value else default

    def net(self, pin):
        """Number of the net at a pin; None where it is open."""
        bits = self.connections.get(pin)
        return bits[0] if bits else None

    def input(self, pin, default="1'b1"):
        bit = self.net(pin)
        return default if bit is None else f"n{bit}"


class GateNetlist:
    """Verilog of a routed design.

    Its module ``gate`` has the design's ports, and as further inputs what every PLL puts out:
    ``{cell}_{port}``, with dots as underscores; where a PLL's phase can be moved, PHASESTEP is an
    output. A port of several bits is several ports, each with its number behind its name; one that
    goes both ways is three, ``{port}_i``, ``{port}_o`` and ``{port}_t`` (1: not driven). LUTs,
    carry chains, LUT-RAM, flip-flops and the registers of pads become
    expressions; the rest are modules of :data:`CELLS`. An open input is 1, as on the chip.

    Parameters
    ----------
    module : dict
        Of :func:`read_routed`.

    Attributes
    ----------
    text : str
    ports : dict
        ``{port: "input" or "output"}`` of the module.
    memories : list of str
        Block RAMs. Contents and output registers of number k are read from ``k.cells`` (1024 words
        of 18 bits, hexadecimal) and ``k.outputs`` (4 words) in the working folder; the end
        of the simulation writes its contents to ``k.end``.
    lut_rams : list of (str, int)
        LUTs that are 16 bits of memory, and what the bitstream gives them. They start with the
        words of the file ``lut_rams`` (hexadecimal, in this order) in the working folder.
    kinds : dict
        How many cells there are of each kind.

    Raises
    ------
    InputError
        A cell or a setting that no model here has.
    """

    def __init__(self, module):
        self._body, self._clocked = [], defaultdict(list)
        self._declared, self._written = set(), defaultdict(list)
        self.ports, self.memories, self.lut_rams = {}, [], []
        self.kinds = defaultdict(int)
        self._pads = {}
        for name, port in module["ports"].items():
            for place, bit in enumerate(port["bits"]):
                one = name if len(port["bits"]) == 1 else f"{name}{place}"
                self._pads[bit] = one
                self.ports |= ({one: port["direction"]} if port["direction"] != "inout" else
                               {f"{one}_i": "input", f"{one}_o": "output", f"{one}_t": "output"})
        self._zeros, self._ones = ({
            cell["connections"]["F"][0] for cell in module["cells"].values()
            if cell["type"] == "TRELLIS_COMB" and cell["connections"].get("F")
            and set(str(cell["parameters"].get("INITVAL", "?")).strip()) == {digit}
            and str(cell["parameters"].get("MODE", "LOGIC")).strip() == "LOGIC"} for digit in "01")
        emitters = {"TRELLIS_COMB": self._comb, "TRELLIS_FF": self._flip_flop,
                    "TRELLIS_RAMW": self._ramw, "DP16KD": self._block_ram,
                    "MULT18X18D": self._multiplier, "DCCA": self._clock_buffer,
                    "EHXPLLL": self._pll, "TRELLIS_IO": self._pad, "GSR": self._set_reset,
                    "IOLOGIC": self._pad_logic, "SIOLOGIC": self._pad_logic}
        self._released = any(cell["type"] == "GSR" for cell in module["cells"].values())
        for name, cell in module["cells"].items():
            kind = cell["type"]
            self.kinds[kind] += 1
            if kind not in emitters:
                raise InputError(f"no model of {kind} (cell {name}) for the gate level")
            emitters[kind](_Cell(name, kind, cell["parameters"], cell["connections"]))
            self._nets(cell)
        self.text = self._join()

    def _nets(self, cell):
        for bits in cell["connections"].values():
            self._declared.update(bits)

    def _assign(self, cell, pin, value):
        if cell.net(pin) is not None:
            self._body.append(f"assign n{cell.net(pin)} = {value};")

    def _refuse(self, cell, what):
        raise InputError(f"{cell.kind} {cell.name}: {what} is not modelled at the gate level")

    # LUTs, carry, LUT-RAM

    def _comb(self, cell):
        mode = cell.text("MODE", "LOGIC")
        if mode == "RAMW_BLOCK":    # kept free: the write port beside it takes its pins
            return
        if mode == "DPRAM":
            output = self._lut_ram(cell)
        elif mode == "CCU2":
            output = self._carry(cell)
        elif mode == "LOGIC":
            output = _lut(cell.number("INITVAL"), [cell.net(pin) for pin in "ABCD"])
        else:
            self._refuse(cell, f"mode {mode}")
        self._assign(cell, "F", output)
        if cell.net("OFX") is not None:
            wide = cell.net("FXA") is not None or cell.net("FXB") is not None
            high, low = (cell.input(pin) for pin in (("FXB", "FXA") if wide else ("F1", "F")))
            self._assign(cell, "OFX", f"{cell.input('M')} ? {high} : {low}")

    def _carry(self, cell):
        """One half of a CCU2C: ``sum = LUT ^ carry in``, ``carry = LUT ? carry in : LUT at
        C = D = 0``; CCU2_INJECT1 takes 0 for the carry in and for that half of the LUT."""
        contents = cell.number("INITVAL")
        lut = _lut(contents, [cell.net(pin) for pin in "ABCD"])
        half = _lut(contents & 0xf, [cell.net(pin) for pin in "AB"])
        inject = cell.text("CCU2_INJECT1", "YES") == "YES"
        carry = cell.input("FCI", "1'b0")
        self._assign(cell, "FCO", f"({lut}) ? {carry} : " + ("1'b0" if inject else half))
        return f"({lut})" if inject else f"({lut}) ^ {carry}"

    def _lut_ram(self, cell):
        memory = f"r{len(self.lut_rams)}"
        self.lut_rams.append((cell.name, cell.number("INITVAL")))
        self._body.append(f"reg [15:0] {memory};")
        enable, wre = cell.text("WREMUX", "WRE"), cell.input("WRE")
        enable = {"WRE": wre, "INV": f"~{wre}", "1": "1'b1", "0": "1'b0"}[enable]
        clock = cell.input("WCK")
        edge = "negedge" if cell.text("WCKMUX", "WCK") == "INV" else "posedge"
        where = ", ".join(cell.input(f"WAD{bit}") for bit in (3, 2, 1, 0))
        self._written[clock, edge, enable, where].append((memory, cell.input("WD")))
        return f"{memory}[{{{', '.join(cell.input(pin) for pin in 'ACBD')}}}]"

    def _ramw(self, cell):
        for output, pin in RAMW.items():
            self._assign(cell, output, cell.input(pin))

    def _flip_flop(self, cell):
        if cell.net("Q") is None:
            return
        enable, reset = cell.text("CEMUX", "1"), cell.input("LSR", "1'b0")
        ce = cell.input("CE")
        enable = {"CE": ce, "INV": f"~{ce}", "1": "1'b1", "0": "1'b0"}[enable]
        if cell.text("LSRMUX", "LSR") == "INV":
            reset = f"~{reset}"
        edge = "negedge" if cell.text("CLKMUX", "CLK") == "INV" else "posedge"
        data = cell.input("DI" if cell.text("SD", "0") == "1" else "M")
        value = int(cell.text("REGSET", "RESET") == "SET")
        late = cell.text("SRMODE", "LSR_OVER_CE") == "LSR_OVER_CE"
        if not late and reset != "1'b0":
            self._refuse(cell, f"SRMODE {cell.text('SRMODE')}")
        restarts = self._released and cell.text("GSR", "ENABLED") == "ENABLED"
        self._clocked[cell.input("CLK"), edge, enable, reset, restarts].append(
            (cell.net("Q"), value, data))

    # Modules of cells.v

    def _block_ram(self, cell):
        number = len(self.memories)
        self.memories.append(cell.name)
        for pin in ("RSTA", "RSTB", *(f"CS{side}{bit}" for side in "AB" for bit in range(3))):
            if cell.net(pin) is not None:
                self._refuse(cell, f"a net at {pin}")
        if self._released and cell.text("GSR", "DISABLED") != "DISABLED":
            self._refuse(cell, "global set/reset")
        pins = [f".{pin.lower()}({_enable(cell, pin)})"
                for pin in ("CLKA", "CLKB", "CEA", "CEB", "OCEA", "OCEB", "WEA", "WEB")]
        pins += [f".{bus.lower()}({_bus(cell, bus, width)})"
                 for bus, width in (("ADA", 14), ("ADB", 14), ("DIA", 18), ("DIB", 18))]
        for bus in ("DOA", "DOB"):
            self._body.append(f"wire [17:0] m{number}_{bus.lower()};")
            pins.append(f".{bus.lower()}(m{number}_{bus.lower()})")
            for bit in range(18):
                self._assign(cell, f"{bus}{bit}", f"m{number}_{bus.lower()}[{bit}]")
        widths = [cell.number(f"DATA_WIDTH_{side}", 18) for side in "AB"]
        if 36 in widths and widths != [36, 36]:
            self._refuse(cell, f"widths {widths[0]} and {widths[1]}")
        values = []
        for side in "AB":
            values += [f".WIDTH_{side}({cell.number(f'DATA_WIDTH_{side}', 18)})",
                       f".OUTREG_{side}({int(cell.text(f'REGMODE_{side}') == 'OUTREG')})",
                       f".MODE_{side}({MODES[cell.text(f'WRITEMODE_{side}', 'NORMAL')]})"]
        self._body.append(f"gate_dp16kd #({', '.join(values)}) m{number}({', '.join(pins)});")
        self._body.append(f'initial begin $readmemh("{number}.cells", m{number}.cells); '
                          f'$readmemh("{number}.outputs", m{number}.outputs); end')
        self._body.append(f'final $writememh("{number}.end", m{number}.cells);')

    def _multiplier(self, cell):
        for name in DSP_REGISTERS:
            clock = cell.text(f"REG_{name}_CLK", "NONE")
            if clock != "NONE":
                self._refuse(cell, f"register {name} on {clock}")
        number = self.kinds[cell.kind]
        buses = [f".{bus.lower()}({_bus(cell, bus, 18)})" for bus in "AB"]
        signs = [f".signed{side.lower()}({_data(cell, f'SIGNED{side}')})" for side in "AB"]
        self._body.append(f"wire [35:0] x{number}_p;")
        self._body.append(f"gate_mult18x18d x{number}({', '.join([*buses, *signs])}, "
                          f".p(x{number}_p));")
        for bit in range(36):
            self._assign(cell, f"P{bit}", f"x{number}_p[{bit}]")

    def _clock_buffer(self, cell):
        if cell.net("CE") is None:
            self._assign(cell, "CLKO", cell.input("CLKI"))
        else:
            self._body.append(f"gate_dcca g{self.kinds[cell.kind]}(.clki({cell.input('CLKI')}), "
                              f".ce({cell.input('CE')}), .clko({cell.input('CLKO')}));")

    def _set_reset(self, cell):
        """The global set/reset: flip-flops with GSR="ENABLED" start anew while it is low."""
        if cell.text("MODE", "ACTIVE_LOW") != "ACTIVE_LOW":
            self._refuse(cell, f"mode {cell.text('MODE')}")
        if self.kinds[cell.kind] > 1:
            self._refuse(cell, "another one beside it")
        late = int(cell.text("SYNCMODE", "ASYNC") == "SYNC")
        self._body.append(f"wire released; gate_gsr #(.SYNC({late})) set_reset("
                          f".gsr({cell.input('GSR')}), .clk({cell.input('CLK')}), "
                          ".released(released));")

    def _pll(self, cell):
        """Its outputs are inputs of the module."""
        for pin in ("CLKOP", "CLKOS", "CLKOS2", "CLKOS3", "LOCK"):
            if cell.net(pin) is not None:
                port = f"{cell.name.replace('.', '_')}_{pin}"
                self.ports[port] = "input"
                self._assign(cell, pin, port)
        if cell.text("DPHASE_SOURCE") == "ENABLED":
            for pin in ("PHASEDIR", "PHASELOADREG", "PHASESEL0", "PHASESEL1"):
                if cell.net(pin) not in self._zeros:
                    self._refuse(cell, f"{pin} that is not 0")
            port = f"{cell.name.replace('.', '_')}_PHASESTEP"
            self.ports[port] = "output"
            self._body.append(f"assign {port} = {cell.input('PHASESTEP')};")

    def _pad(self, cell):
        direction = cell.text("DIR")
        port = self._pads[cell.net("B")]
        driven, kept = pad_net(cell, "I"), pad_net(cell, "T")
        if direction == "INPUT":
            self._assign(cell, "O", port)
        elif direction == "OUTPUT":
            # One that is not driven is pulled up.
            self._body.append(f"assign {port} = {driven} | {kept};")
        elif direction == "BIDIR":
            self._body.append(f"assign {port}_o = {driven}, {port}_t = {kept};")
            self._assign(cell, "O", f"{kept} ? {port}_i : {driven}")
        else:
            self._refuse(cell, f"direction {direction}")

    def _pad_logic(self, cell):
        restarts = self._released and cell.text("GSR", "ENABLED") == "ENABLED"
        for one in pad_registers(cell, self._zeros):
            self._clocked[one.clock, one.edge, one.enable, one.reset, restarts].append(
                (one.net, one.value, one.data))
        double = ddr_output(cell, self._zeros, self._ones)
        if double is not None:
            self._body.append(f"assign n{double[0]} = {double[1]};")

    def _join(self):
        registers = [(net, value) for group in self._clocked.values() for net, value, _ in group]
        names = {net for net, _ in registers}
        lines = [f"module gate({', '.join(f'{way} {name}' for name, way in self.ports.items())});"]
        lines += [f"reg n{net} = {value};" for net, value in registers]
        lines += [f"wire n{net};" for net in sorted(self._declared - names)]
        lines += self._body
        if self.lut_rams:
            count = len(self.lut_rams)
            lines += [f"reg [15:0] lut_rams [0:{count - 1}];",
                      'initial begin $readmemh("lut_rams", lut_rams);',
                      *(f"r{number} = lut_rams[{number}];" for number in range(count)), "end"]
        for (clock, edge, enable, reset, restarts), group in self._clocked.items():
            for start in range(0, len(group), BLOCK):
                part = group[start:start + BLOCK]
                also = " or negedge released" if restarts else ""
                lines.append(f"always @({edge} {clock}{also}) begin")
                if restarts:
                    lines += ["if (!released) begin",
                              *(f"n{net} <= {value};" for net, value, _ in part), "end else"]
                if reset != BIT_0:
                    lines += [f"if ({reset}) begin",
                              *(f"n{net} <= {value};" for net, value, _ in part), "end else"]
                lines += [f"if ({enable}) begin",
                          *(f"n{net} <= {data};" for net, _, data in part), "end end"]
        for (clock, edge, enable, where), group in self._written.items():
            lines += [f"always @({edge} {clock}) if ({enable}) begin",
                      *(f"{memory}[{{{where}}}] <= {data};" for memory, data in group), "end"]
        return "\n".join([*lines, "endmodule", ""])


def _lut(contents, nets):
    """Expression of a LUT; ``nets`` are those at its address bits, the lowest first."""
    used = [bit for bit, net in enumerate(nets) if net is not None]
    fixed = sum(1 << bit for bit, net in enumerate(nets) if net is None)
    table = [contents >> (fixed + sum((index >> place & 1) << bit
                                      for place, bit in enumerate(used))) & 1
             for index in range(1 << len(used))]
    if len(set(table)) == 1:
        return f"1'b{table[0]}"
    if len(used) == 1:
        return f"{'' if table[1] else '~'}n{nets[used[0]]}"
    value = sum(bit << index for index, bit in enumerate(table))
    where = ", ".join(f"n{nets[bit]}" for bit in reversed(used))
    return f"1'(({len(table)}'d{value} >> {{{where}}}) & 1)"


def _bus(cell, name, width):
    return "{" + ", ".join(_data(cell, f"{name}{bit}") for bit in reversed(range(width))) + "}"


def _enable(cell, pin):
    """A clock or an enable of a block RAM. Where it is open nextpnr ties it to 1 and, of a clock or
    a write enable, inverts that unless the multiplexer is set (ecp5/bitstream.cc)."""
    net = cell.net(pin)
    mux = cell.text(f"{pin}MUX", "INV" if net is None and pin[:-1] in ("CLK", "WE") else pin)
    return ("~" if mux == "INV" else "") + ("1'b1" if net is None else f"n{net}")


def _data(cell, pin):
    """Another input of a block RAM or of a multiplier: an open one is 0 unless set to 1."""
    net = cell.net(pin)
    return f"1'b{int(cell.text(f'{pin}MUX') == '1')}" if net is None else f"n{net}"
