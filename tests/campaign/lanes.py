"""A routed design with many faults at once: one C++ model, 256 lanes, each with its own fault.

The cells become logic operations on vectors of 256 bits, one for each lane: bit n of a net is its
value in the design with fault n, bit 0 that in the design without one. A fault is what
:mod:`tests.campaign.faults` plants: some cells in place of others. Where such a cell differs, its
lane is chosen from both. tests/synth/test_gate.py compares lanes with Verilator's model of the
netlist that has the fault.

A lane that does something else than lane 0 is caught, and becomes like lane 0: that costs nothing
from then on.
"""

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
import hashlib
from pathlib import Path
import re
import subprocess

from model.error import InputError
from model.files import make_folder, write_atomic
from sim.gate.netlist import DSP_REGISTERS, MODES, RAMW
from tests.campaign.logic import lut, select


LANES = 256
"""One of them is the design without a fault."""

SOURCES = [Path(__file__).with_name(name) for name in ("lanes.h", "lanes.cpp")]

COMPILER = ("g++", "-std=c++17", "-O1", "-march=native", "-Wno-psabi", "-fno-strict-aliasing")

FUNCTION = 40_000
"""Characters of a function of C++, more or less: compilers take long for large ones."""

FILE = 8
"""Functions in a file of C++."""

NET = re.compile(r"\bn(\d+)\b")
WEAK = re.compile(r"\bw(\d+)_(\d+)\b")

MODELLED = {"GSR", "INITVAL", "REGSET", "CEMUX", "SD", "LSRMUX", "REGMODE_A", "REGMODE_B"}
"""Parameters that a fault may change; the contents of a block RAM are another."""


@dataclass(frozen=True)
class Cell:
    """A cell in one lane or in all. Its nets are numbers; an open pin has none."""

    name: str
    kind: str
    parameters: dict
    nets: dict
    directions: dict

    def text(self, name, default=""):
        return str(self.parameters.get(name, default)).strip()

    def number(self, name, default=0):
        digits = self.text(name).replace("x", "0")
        return int(digits, 2) if digits else default

    def net(self, pin):
        return self.nets.get(pin)


class Lanes:
    """The C++ model of a routed design with faults.

    Parameters
    ----------
    module : dict
        Of :func:`sim.gate.netlist.read_routed`.
    faults : sequence of dict
        ``{name: cell or None}`` each; number n is in lane n + 1.

    Attributes
    ----------
    parts : list of str
        Texts of C++.
    memories : list of str
    lut_rams : list of (str, int)
        As of :class:`sim.gate.netlist.GateNetlist`.
    flips : list of (lane, memory, word, bit)
        What faults change in the initial contents of block RAMs.
    ram_flips : list of (lane, LUT-RAM, bit)
        And in those of LUT-RAMs.
    loops : int
        Nets at which a fault may close a loop of gates.

    Raises
    ------
    InputError
        A cell, a setting or a fault that no model here has.
    """

    def __init__(self, module, faults):
        if len(faults) >= LANES:
            raise InputError(f"{len(faults)} faults do not fit into {LANES} lanes")
        self.memories, self.lut_rams, self.flips, self.ram_flips = [], [], [], []
        self._statements = []    # (net, code): what is not clocked
        self._groups = defaultdict(list)    # (enable, reset): [(net, code, value)]
        self._writes, self._blocks = defaultdict(list), []
        self._rx = self._tx = self._gsr = None
        self._restarted = []    # (net, value) of what global set/reset reaches
        self._read(module, faults)
        self._clocks = self._clock_nets()
        self._set_reset()
        emitters = {"TRELLIS_COMB": self._comb, "TRELLIS_FF": self._flip_flop,
                    "TRELLIS_RAMW": self._ramw, "DP16KD": self._block_ram,
                    "MULT18X18D": self._multiplier, "DCCA": self._nothing,
                    "EHXPLLL": self._pll, "TRELLIS_IO": self._pad,
                    "GSR": self._nothing}
        for cell in self._cells:
            if cell.kind not in emitters:
                raise InputError(f"no model of {cell.kind} (cell {cell.name}) in lanes")
            emitters[cell.kind](cell)
        self.parts = self._emit()

    # Cells and faults

    def _read(self, module, faults):
        driven = {bits[0] for cell in module["cells"].values()
                  for port, bits in cell["connections"].items()
                  if bits and cell["port_directions"][port] != "input"}
        self._fresh = 1 + max(bit for cell in module["cells"].values()
                              for bits in cell["connections"].values() for bit in bits)
        self._cells = [_cell(name, cell, driven.__contains__, {})
                       for name, cell in module["cells"].items()]
        self._pads = {bits["bits"][0]: name for name, bits in module["ports"].items()}
        self._others = defaultdict(list)
        for lane, cells in enumerate(faults, 1):
            own = {}    # nets that come with the fault
            for name, cell in cells.items():
                if cell is None and name in module["cells"]:
                    raise InputError(f"fault {lane} takes cell {name} away: no lane does that")
                for port, bits in (cell["connections"] if cell else {}).items():
                    if bits and bits[0] not in driven and cell["port_directions"][port] == "output":
                        own[bits[0]] = self._fresh
                        self._fresh += 1
            for name, cell in cells.items():
                if cell is None:
                    continue
                made = _cell(name, cell, lambda net, own=own: net in driven or net in own, own)
                if name in module["cells"]:
                    self._others[name].append((lane, made))
                else:
                    self._cells.append(Cell(f"{name} of fault {lane}", made.kind, made.parameters,
                                            made.nets, made.directions))
        self._check(module)

    def _check(self, module):
        for name, others in self._others.items():
            before = {key: str(value).strip()
                      for key, value in module["cells"][name]["parameters"].items()}
            for lane, cell in others:
                after = {key: str(value).strip() for key, value in cell.parameters.items()}
                for key in before.keys() | after.keys():
                    if before.get(key) != after.get(key) and key not in MODELLED and not (
                            key.startswith("INITVAL_")):
                        raise InputError(f"fault {lane} changes {key} of {name}: no lane does that")

    def _clock_nets(self):
        """``{net: code of the enable that its gate has}`` of nets that carry the clock."""
        clocks, more = {}, True
        gates = [cell for cell in self._cells if cell.kind == "DCCA"]
        for cell in self._cells:
            if cell.kind == "EHXPLLL":
                clocks |= {cell.net(pin): "ONES" for pin in ("CLKOP", "CLKOS", "CLKOS2", "CLKOS3")}
            if cell.kind == "TRELLIS_IO" and cell.text("DIR") == "INPUT":
                port = self._pads[cell.net("B")]
                if not (port.endswith("__rx__io") or port.startswith("button_")):
                    clocks[cell.net("O")] = "ONES"
        while more:
            more = False
            for cell in gates:
                if cell.net("CLKI") in clocks and cell.net("CLKO") not in clocks:
                    enable = clocks[cell.net("CLKI")]
                    if cell.net("CE") is not None:
                        enable = _and(enable, f"n{cell.net('CE')}")
                    clocks[cell.net("CLKO")] = enable
                    more = True
        clocks.pop(None, None)
        return clocks

    def _set_reset(self):
        """Global set/reset, as sim/gate/cells.v has it."""
        for cell in self._cells:
            if cell.kind == "GSR":
                late = cell.text("SYNCMODE", "ASYNC") == "SYNC"
                clock = self._clock(cell, "CLK") if late else "ZERO"
                self._gsr = self._pin(cell, "GSR"), late, clock

    def _pin(self, cell, pin, default="ONES"):
        """Code of an input, in every lane that of its own cell."""
        base = cell.net(pin)
        code = default if base is None else f"n{base}"
        for lane, other in self._others.get(cell.name, ()):
            net = other.net(pin)
            if net != base:
                code = select(f"M[{lane}]", default if net is None else f"w{net}_{lane}", code)
        return code

    def _by_lane(self, cell, code_of):
        """``code_of(cell)``, in every lane that of its own cell."""
        code = code_of(cell)
        for lane, other in self._others.get(cell.name, ()):
            its = code_of(other)
            if its != code_of(cell):
                code = select(f"M[{lane}]", its, code)
        return code

    def _is(self, cell, pin, code):
        if cell.net(pin) is not None:
            self._statements.append((cell.net(pin), code))

    @staticmethod
    def _refuse(cell, what):
        raise InputError(f"{cell.kind} {cell.name}: {what} is not modelled in lanes")

    def _clock(self, cell, pin, mux=""):
        """Code of the enable that its clock has; ZERO where nothing clocks it."""
        def one_clock(one):
            if one.net(pin) is None:
                return "ZERO"
            if one.text(mux) == "INV":
                self._refuse(one, "an inverted clock")
            if one.net(pin) not in self._clocks:
                self._refuse(one, f"clock net {one.net(pin)}")
            return self._clocks[one.net(pin)]
        return self._by_lane(cell, one_clock)

    # Logic

    def _comb(self, cell):
        mode = cell.text("MODE", "LOGIC")
        if mode == "RAMW_BLOCK":
            return
        pins = [self._lut_pin(cell, pin) for pin in "ABCD"]
        if mode == "DPRAM":
            output = self._lut_ram(cell)
        elif mode == "CCU2":
            output = self._carry(cell, pins)
        elif mode == "LOGIC":
            output = self._by_lane(cell, lambda one: lut(one.number("INITVAL"), pins))
        else:
            self._refuse(cell, f"mode {mode}")
        self._is(cell, "F", output)
        if cell.net("OFX") is not None:
            wide = cell.net("FXA") is not None or cell.net("FXB") is not None
            high, low = (self._pin(cell, pin) for pin in (("FXB", "FXA") if wide else ("F1", "F")))
            self._is(cell, "OFX", select(self._pin(cell, "M"), high, low))

    def _lut_pin(self, cell, pin):
        """None where it is open in all lanes."""
        code = self._pin(cell, pin)
        return None if code == "ONES" else code

    def _carry(self, cell, pins):
        code = self._by_lane(cell, lambda one: lut(one.number("INITVAL"), pins))
        half = self._by_lane(cell, lambda one: lut(one.number("INITVAL") & 15, pins[:2]))
        carry = self._pin(cell, "FCI", "ZERO")
        inject = cell.text("CCU2_INJECT1", "YES") == "YES"
        self._is(cell, "FCO", select(code, carry, "ZERO" if inject else half))
        return code if inject else f"({code} ^ {carry})"

    def _lut_ram(self, cell):
        number = len(self.lut_rams)
        self.lut_rams.append((cell.name, cell.number("INITVAL")))
        for lane, other in self._others.get(cell.name, ()):
            changed = other.number("INITVAL") ^ cell.number("INITVAL")
            self.ram_flips += [(lane, number, bit) for bit in range(16) if changed >> bit & 1]
        wre = self._pin(cell, "WRE")
        enable = _enable(cell.text("WREMUX", "WRE"), "WRE", wre)
        clock = self._clock(cell, "WCK", "WCKMUX")
        place = ", ".join(self._pin(cell, f"WAD{bit}") for bit in range(4))
        self._writes[_and(clock, enable), place].append((number, self._pin(cell, "WD")))
        # As sim/gate/netlist.py has it: address bits are D, B, C, A, the lowest first.
        return f"ram_read(R[{number}], " + ", ".join(self._pin(cell, pin) for pin in "DBCA") + ")"

    def _ramw(self, cell):
        for output, pin in RAMW.items():
            self._is(cell, output, self._pin(cell, pin))

    def _flip_flop(self, cell):
        if cell.net("Q") is None:
            return
        clock = self._clock(cell, "CLK", "CLKMUX")
        ce, lsr = self._pin(cell, "CE"), self._pin(cell, "LSR", "ZERO")
        enable = self._by_lane(cell, lambda one: _enable(one.text("CEMUX", "1"), "CE", ce))
        reset = self._by_lane(
            cell, lambda one: _not(lsr) if one.text("LSRMUX", "LSR") == "INV" else lsr)
        if cell.text("SRMODE", "LSR_OVER_CE") != "LSR_OVER_CE" and reset != "ZERO":
            self._refuse(cell, f"SRMODE {cell.text('SRMODE')}")
        pins = {pin: self._pin(cell, pin) for pin in ("DI", "M")}
        data = self._by_lane(cell, lambda one: pins["DI" if one.text("SD", "0") == "1" else "M"])
        value = self._by_lane(
            cell, lambda one: "ONES" if one.text("REGSET", "RESET") == "SET" else "ZERO")
        enable, reset = _and(clock, enable), _and(clock, reset)
        restarts = self._by_lane(
            cell, lambda one: "ONES" if one.text("GSR", "ENABLED") == "ENABLED" else "ZERO")
        if self._gsr and restarts != "ZERO":
            off = _and("~released()", restarts)
            reset = off if reset == "ZERO" else f"({reset} | {off})"
            self._restarted.append((cell.net("Q"), value, restarts))
        self._groups[enable, reset].append((cell.net("Q"), data, value))

    # Larger cells

    def _block_ram(self, cell):
        number = len(self.memories)
        self.memories.append(cell.name)
        for pin in ("RSTA", "RSTB", *(f"CS{side}{bit}" for side in "AB" for bit in range(3))):
            if cell.net(pin) is not None:
                self._refuse(cell, f"a net at {pin}")
        clocks = {side: self._clock(cell, f"CLK{side}", f"CLK{side}MUX")
                  for side in "AB"}
        pins = []
        for pin in ("CEA", "CEB", "OCEA", "OCEB", "WEA", "WEB"):
            code = self._tied(cell, pin)
            pins.append(code if pin.startswith("WE") else _and(clocks[pin[-1]], code))
        for bus, width in (("ADA", 14), ("ADB", 14), ("DIA", 18), ("DIB", 18)):
            codes = []
            for bit in range(width):
                one = int(cell.text(f"{bus}{bit}MUX") == "1")
                codes.append(self._pin(cell, f"{bus}{bit}", "ONES" if one else "ZERO"))
            pins.append("{" + ", ".join(codes) + "}")
        widths = [cell.number(f"DATA_WIDTH_{side}", 18) for side in "AB"]
        if 36 in widths and widths != [36, 36]:
            self._refuse(cell, f"widths {widths[0]} and {widths[1]}")
        modes = [MODES[cell.text(f"WRITEMODE_{side}", "NORMAL")] for side in "AB"]
        if 36 in widths:    # OCEA is of the port that reads, as both output registers are
            pins[2] = _and(clocks["B"], self._tied(cell, "OCEA"))
        self._blocks.append(([*widths, *modes], pins))
        for side in (0, 1):
            output = self._by_lane(cell, lambda one, side=side: str(
                side + 2 * (one.text(f"REGMODE_{'AB'[side]}") == "OUTREG")))
            for bit in range(18):
                code = re.sub(r"(?<!\[)\b[0-3]\b",
                              lambda found, bit=bit: f"blocks[{number}].outputs[{found[0]}][{bit}]",
                              output)
                self._is(cell, f"DO{'AB'[side]}{bit}", code)
        for lane, other in self._others.get(cell.name, ()):
            self.flips += [(lane, number, word, bit) for word, bit in _flips(cell, other)]

    def _tied(self, cell, pin):
        """An enable of a block RAM behind its multiplexer, as sim/gate/netlist.py has it."""
        net = cell.net(pin)
        mux = cell.text(f"{pin}MUX", "INV" if net is None and pin.startswith("WE") else pin)
        code = self._pin(cell, pin)
        return _not(code) if mux == "INV" else code

    def _multiplier(self, cell):
        for name in DSP_REGISTERS:
            if cell.text(f"REG_{name}_CLK", "NONE") != "NONE":
                self._refuse(cell, f"register {name}")
        numbers = []
        for side in "AB":
            codes = [self._pin(cell, f"{side}{bit}", self._constant(cell, f"{side}{bit}"))
                     for bit in range(18)]
            numbers.append("{" + ", ".join(codes) + "}")
        signs = [self._pin(cell, f"SIGNED{side}", self._constant(cell, f"SIGNED{side}"))
                 for side in "AB"]
        nets = [cell.net(f"P{bit}") for bit in range(36)]
        stores = " ".join(f"n{net} = p[{bit}];" for bit, net in enumerate(nets) if net is not None)
        self._statements.append((
            tuple(net for net in nets if net is not None),
            f"{{ const V a[18] = {numbers[0]}, b[18] = {numbers[1]}; V p[36]; "
            f"multiply(a, b, {signs[0]}, {signs[1]}, p); {stores} }}"))

    @staticmethod
    def _constant(cell, pin):
        return "ONES" if cell.text(f"{pin}MUX") == "1" else "ZERO"

    def _nothing(self, cell):
        """A clock buffer: its clock is an enable."""

    def _pll(self, cell):
        self._is(cell, "LOCK", "ONES")

    def _pad(self, cell):
        port = self._pads[cell.net("B")]
        if cell.text("DIR") == "INPUT" and port.endswith("__rx__io"):
            self._rx = cell.net("O")
        elif port.startswith("button_"):
            self._is(cell, "O", "ZERO")
        elif port.endswith("__tx__io"):
            self._tx = f"({self._pin(cell, 'I')} | {self._pin(cell, 'T', 'ZERO')})"
        elif cell.text("DIR") == "BIDIR":    # nothing on the bus: pulled up
            self._is(cell, "O", select(self._pin(cell, "T", "ZERO"), "ONES", self._pin(cell, "I")))

    # C++

    def _order(self):
        """Statements in an order in which each comes behind what it reads; reads of a fault that
        would close a loop are cut, and become those of ``B``."""
        producer = {net: number for number, (nets, _) in enumerate(self._statements)
                    for net in (nets if isinstance(nets, tuple) else (nets,))}
        needs = [{producer[int(net)] for net in NET.findall(code) if int(net) in producer}
                 - ({number} if isinstance(nets, tuple) else set())
                 for number, (nets, code) in enumerate(self._statements)]
        users = defaultdict(set)
        for number, some in enumerate(needs):
            for one in some:
                users[one].add(number)
        self._cut = []
        for number, (nets, code) in enumerate(self._statements):
            for net, lane in sorted(set(WEAK.findall(code))):
                source = producer.get(int(net))
                if source is not None and _reaches(users, number, source):
                    code = re.sub(rf"\bw{net}_{lane}\b", f"B[{len(self._cut)}]", code)
                    self._cut.append((int(net), int(lane)))
                elif source is not None:
                    needs[number].add(source)
                    users[source].add(number)
            self._statements[number] = nets, code
        left = [len(some) for some in needs]
        ready = [number for number, count in enumerate(left) if not count]
        for number in ready:
            for user in sorted(users[number]):
                left[user] -= 1
                if not left[user]:
                    ready.append(user)
        if len(ready) != len(self._statements):
            raise InputError("the design has a loop of gates")
        return [self._statements[number] for number in ready]

    def _emit(self):
        ordered = self._order()
        index = {}
        for group in self._groups.values():
            for net, *_ in group:
                index[net] = len(index)
        registers = len(index)
        for nets, _ in ordered:
            for net in nets if isinstance(nets, tuple) else (nets,):
                index[net] = len(index)
        if self._rx is not None:
            index[self._rx] = len(index)

        def named(code):
            code = WEAK.sub(lambda found: f"n{found[1]}", code)
            return NET.sub(lambda found: f"N[{index[int(found[1])]}]", code)

        settle = [named(code if isinstance(nets, tuple) else f"n{nets} = {code};")
                  for nets, code in ordered]
        first, second, start = [], [], []
        place = 0
        for number, ((enable, reset), group) in enumerate(self._groups.items()):
            texts = [f"const V e = {enable}, r = {reset};", f"if ((G[{number}] = any(e | r))) {{"]
            for at, (net, data, value) in enumerate(group):
                code = data if enable == "ONES" else select("e", data, f"n{net}")
                if reset != "ZERO":
                    code = select("r", value, code)
                texts.append(f"X[{place + at}] = {code};")
                start.append(f"N[{place + at}] = {value};")
            first += [named("{ " + " ".join([*texts[:2], *part, "} }"]))
                      for part in _cut(texts[2:], FUNCTION)]
            second.append(f"if (G[{number}]) memcpy(&N[{place}], &X[{place}], "
                          f"{len(group)} * sizeof(V));")
            place += len(group)
        for (enable, where), group in self._writes.items():
            writes = " ".join(f"ram_write(R[{number}], e, p, {data});" for number, data in group)
            first.append(named(f"{{ const V e = {enable}; if (any(e)) {{ "
                               f"const V p[4] = {{{where}}}; {writes} }} }}"))
        first += [named(f"{{ const Pins p = {{{', '.join(pins)}}}; block_step(blocks[{number}], p);"
                        " }") for number, (_, pins) in enumerate(self._blocks)]
        gsr, late, clock = self._gsr or ("ONES", False, "ZERO")
        # The clock that releases it; before the registers change.
        first.insert(0, named(f"{{ const V c = {clock}; was_released = {'E[1]' if late else gsr}; "
                              f"E[1] = sel(c, E[0], E[1]); E[0] = sel(c, {gsr}, E[0]); }}"))
        begun = [named(f"{{ const V v = sel(off & {which}, {value}, n{net}); "
                       f"changed |= v ^ n{net}; n{net} = v; }}")
                 for net, value, which in self._restarted]
        start += [f"blocks[{number}].{name} = {value};"
                  for number, (values, _) in enumerate(self._blocks)
                  for name, value in zip(("width_a", "width_b", "mode_a", "mode_b"), values,
                                         strict=True)]
        cut = [f"{{ const V d = (N[{index[net]}] ^ B[{number}]) & M[{lane}]; found |= d; "
               f"B[{number}] = N[{index[net]}]; }}" for number, (net, lane) in enumerate(self._cut)]
        sites = sorted({(lane, index[net]) for name, others in self._others.items()
                        for lane, cell in others for pin, net in cell.nets.items()
                        if net in index and cell.directions[pin] == "output"})
        rx = index[self._rx] if self._rx is not None else -1
        head = "\n".join([
            '#include "lanes.h"', f"V N[{len(index)}], X[{registers + 1}], B[{len(cut) + 1}], "
            f"M[LANES], R[{len(self.lut_rams) + 1}][16];",
            f"Block blocks[{len(self._blocks) + 1}];",
            f"bool G[{len(self._groups) + 1}];", f"const int net_count = {len(index)}, "
            f"loop_count = {len(cut)}, ram_count = {len(self.lut_rams)}, "
            f"block_count = {len(self._blocks)}, rx_net = {rx};",
            f"V sent() {{ return {named(self._tx or 'ONES')}; }}",
            f"V loops() {{ V found = ZERO; {' '.join(cut)} return found; }}",
            "V E[2] = {ONES, ONES}, was_released = ONES;",
            "V released() { return was_released; }",
            "bool restart() {", named(f"E[0] &= {gsr}; E[1] &= {gsr};"),
            named(f"const V off = ~({'E[1]' if late else gsr});"),
            "if (!any(off)) return false; V changed = ZERO;", *begun, "return any(changed); }",
            "V stirred() { V found = ZERO;",
            *(f"found |= (N[{net}] ^ first(N[{net}])) & M[{lane}];" for lane, net in sites),
            "return found; }"])
        self.loops = len(cut)
        return self._files(head, {"settle": settle, "clock_edge": first, "start": start}, second)

    @staticmethod
    def _files(head, bodies, commit):
        """Texts: one with the data, others with functions of some statements each."""
        functions, calls = [], {}
        for name, statements in bodies.items():
            calls[name] = []
            for part in _cut(statements, FUNCTION):
                calls[name].append(f"{name}_{len(calls[name])}")
                functions.append("\n".join([f"void {calls[name][-1]}() {{", *part, "}", ""]))
        lines = [head]
        for name, some in calls.items():
            lines += [f"void {part}();" for part in some]
            lines.append(f"void {name}() {{ {' '.join(f'{part}();' for part in some)} "
                         + (" ".join(commit) if name == "clock_edge" else "") + " }")
        shared = "extern V X[], was_released; extern bool G[]; V released();"
        texts = ["\n".join(['#include "lanes.h"', shared, *functions[at:at + FILE]])
                 for at in range(0, len(functions), FILE)]
        return ["\n".join([*lines, ""]), *texts]


def _cell(name, cell, exists, own):
    """The :class:`Cell`; a pin whose net nothing drives is open."""
    nets = {}
    for pin, bits in cell["connections"].items():
        if bits and (cell["port_directions"][pin] != "input" or exists(bits[0])):
            nets[pin] = own.get(bits[0], bits[0])
    return Cell(name, cell["type"], cell["parameters"], nets, cell["port_directions"])


def _and(one, other):
    if "ZERO" in (one, other):
        return "ZERO"
    return other if one == "ONES" else one if other == "ONES" else f"({one} & {other})"


def _not(code):
    return {"ONES": "ZERO", "ZERO": "ONES"}.get(code, f"~{code}")


def _enable(mux, pin, code):
    return {pin: code, "INV": _not(code), "1": "ONES", "0": "ZERO"}[mux]


def _cut(statements, length):
    """Statements in lists of some characters."""
    part, size = [], 0
    for statement in statements:
        part.append(statement)
        size += len(statement)
        if size > length:
            yield part
            part, size = [], 0
    if part:
        yield part


def _reaches(users, start, goal):
    """Whether a statement is behind another one."""
    seen, waiting = {start}, [start]
    while waiting:
        one = waiting.pop()
        if one == goal:
            return True
        fresh = users[one] - seen
        seen |= fresh
        waiting += fresh
    return False


def _flips(cell, other):
    """(word, bit) at which the contents of a block RAM differ."""
    for part in range(64):
        key = f"INITVAL_{part:02X}"
        change = cell.number(key) ^ other.number(key)
        for at in range(320):
            if change >> at & 1:
                yield 16 * part + at // 20, at % 20


def with_fault(module, cells):
    """The routed design with a fault; pins whose net nothing drives are open, as in a lane."""
    changed = {name: cell for name, cell in (module["cells"] | cells).items() if cell}
    driven = {bits[0] for cell in changed.values() for port, bits in cell["connections"].items()
              if bits and cell["port_directions"][port] != "input"}
    for name in cells.keys() & changed.keys():
        cell = changed[name]
        changed[name] = {**cell, "connections": {
            port: bits if bits and bits[0] in driven else []
            for port, bits in cell["connections"].items()}}
    return {**module, "cells": changed}


def compile_lanes(lanes, cache, *, jobs=2):
    """Path of the executable, taken from ``cache`` (Path) where it was compiled before."""
    sources = {path.name: path.read_text() for path in SOURCES}
    sources |= {f"part{number}.cpp": text for number, text in enumerate(lanes.parts)}
    digest = hashlib.blake2s("\0".join([*COMPILER, *sources.values()]).encode()).hexdigest()[:20]
    folder = make_folder(Path(cache) / f"lanes-{digest}")
    product = folder / "lanes"
    if product.exists():
        return product
    for name, text in sources.items():
        write_atomic(folder / name, text)

    def compiled(name):
        subprocess.run([*COMPILER, "-c", name, "-o", f"{name}.o"], cwd=folder, check=True)
        return f"{name}.o"

    with ThreadPoolExecutor(jobs) as pool:
        objects = list(pool.map(compiled, [name for name in sources if name.endswith(".cpp")]))
    subprocess.run([*COMPILER, *objects, "-o", "lanes.new"], cwd=folder, check=True)
    (folder / "lanes.new").rename(product)
    for name in objects:
        (folder / name).unlink()
    return product
