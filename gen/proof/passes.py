"""The netlist passes leave the design as it was: equivalence of every block that they change.

Between yosys (``synth.json.gz``) and placement (``top.json``), gen/pnr/passes.py changes cells.
Cells that are the same in both files stand for themselves. The others are cut into blocks at the
nets that both netlists drive: a block's inputs are nets that it reads and does not drive alone, its
outputs the nets that it drives in both and something reads. Each block is proven by yosys
(``sat -tempinduct``): from their initial values on, for all inputs in all cycles, at all edges of
all clocks and of the global set/reset, both versions have equal outputs. Two networks of equal
blocks over the same nets are equal.

A block RAM is cut in two: memory and latches, which must be the same cell in both, and the output
register behind each latch, which is part of a block.

Global set/reset reaches two things in the netlist of yosys that the passes keep from it, as
:func:`gen.pnr.passes.retain` says: flip-flops that the RTL wants retained, and block RAMs with the
flip-flops that become their output registers. Both are compared without it, and counted.

Registers that the passes take away without another in their place must stay at their initial value:
that is an output, too.

Blocks of one text are proven once.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
import tempfile

from gen.proof.blocks import prove


__all__ = ["PassProof", "compare_passes"]


LIBRARY = {"LUT4": ("Z",), "PFUMX": ("Z",), "L6MUX21": ("Z",), "CCU2C": ("S0", "S1", "COUT")}
"""Cells whose model is yosys' own, and their outputs."""

FLIP_FLOP = {"CEMUX": "1", "CLKMUX": "CLK", "LSRMUX": "LSR", "REGSET": "RESET", "GSR": "ENABLED",
             "SRMODE": "LSR_OVER_CE"}
"""Parameters of a flip-flop, and what they are where the netlist does not say (yosys)."""

REGISTER = "output register"

SIDES = {f"DO{side}{bit}": (side, bit) for side in "AB" for bit in range(18)}


@dataclass
class PassProof:
    """What was found: cells that are the same, and the blocks that were proven, by their kind;
    distinct ones; differences in words; what global set/reset does no more, by its kind."""

    same: int
    blocks: Counter = field(default_factory=Counter)
    distinct: Counter = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)
    kept: Counter = field(default_factory=Counter)


class _Unmodelled(Exception):
    """A cell that was changed, and of which no model knows all."""


@dataclass(frozen=True)
class _Cell:
    """A cell of a block: Verilog of its module and parameters, its pins with their nets."""

    module: str
    inputs: tuple
    outputs: tuple


def compare_passes(before: Mapping, after: Mapping, folder: Path | None = None) -> PassProof:
    """Compare the netlist of yosys with the one that went into placement.

    Parameters
    ----------
    before, after : dict
        yosys' JSON.
    folder : Path
        Where yosys runs; a temporary one unless given.

    Raises
    ------
    model.error.ToolFailed
        yosys did.
    """
    old, new = before["modules"]["top"], after["modules"]["top"]
    same = {name: cell for name, cell in old["cells"].items() if new["cells"].get(name) == cell}
    proof = PassProof(len(same))
    for name in before["modules"].keys() | after["modules"].keys():
        if name != "top" and before["modules"].get(name) != after["modules"].get(name):
            proof.differences.append(f"module {name} was changed")
    if old["ports"] != new["ports"]:
        proof.differences.append("the ports were changed")
    versions = []
    for module in (old, new):
        try:
            versions.append(_Version(module, same))
        except _Unmodelled as error:
            proof.differences.append(str(error))
            return proof
    proof.kept = _keep(old, *versions)
    proof.differences += _connected(*versions)
    if proof.differences:
        return proof
    blocks = _blocks(*versions)
    texts: dict = defaultdict(list)
    for block in blocks:
        texts[block.text()].append(block)
    with tempfile.TemporaryDirectory() as temporary:
        verdicts = prove(list(texts), Path(folder or temporary))
    for of_text, holds in zip(texts.values(), verdicts, strict=True):
        kind = of_text[0].kind
        if holds:
            proof.blocks[kind] += len(of_text)
            proof.distinct[kind] += 1
        proof.differences += [] if holds else [
            f"{block.kind}: {block.name} is not shown to be what it was" for block in of_text]
    return proof


def _keep(module, old, new):
    """Take global set/reset, in yosys' netlist, from what the passes keep from it."""
    kept: Counter = Counter()
    retained = {bit for net in module.get("netnames", {}).values()
                if int(net.get("attributes", {}).get("retained", "0"), 2)
                for bit in net["bits"] if not isinstance(bit, str)}
    for name, (rest, parameters, pins) in old.block_rams.items():
        if new.block_rams.get(name, ("", {}))[1].get("GSR") == "DISABLED" != parameters.get("GSR"):
            old.block_rams[name] = rest, {**parameters, "GSR": "DISABLED"}, pins
            kept["block RAMs"] += 1
    for key, cell in old.cells.items():
        (_, net), = cell.outputs[:1] or (("", None),)
        if '.GSR("ENABLED")' not in cell.module or not isinstance(key, str):
            continue
        other = new.cells.get(new.drivers.get(net))
        taken = (other is not None and other.module.startswith("qsdt_output_register")
                 and '.GSR("DISABLED")' in other.module)
        if taken or net in retained:
            old.cells[key] = replace(cell, module=cell.module.replace(
                '.GSR("ENABLED")', '.GSR("DISABLED")'))
            kept["output registers" if taken else "retained registers"] += 1
    return kept


class _Version:
    """One of the two netlists: the cells that are changed, as models, and what is driven."""

    def __init__(self, module, same):
        self.cells, self.drivers, self.read, self.fixed = {}, {}, set(), set()
        self.outside = set()    # what cells that are the same read
        self.block_rams = {}
        self.twice = []
        for port in module["ports"].values():
            self._note(port["bits"], port["direction"] != "output")
        for name, cell in module["cells"].items():
            if name not in same:
                self._add(name, cell)
                continue
            for port, bits in cell["connections"].items():
                self._note(bits, cell["port_directions"][port] != "input")
        self.outside = set(self.read)
        for key, cell in self.cells.items():
            for _, net in cell.outputs:
                self.twice += [net] if net in self.drivers or net in self.fixed else []
                self.drivers[net] = key
            self.read.update(net for _, net in cell.inputs)

    def _note(self, bits, driven):
        nets = [bit for bit in bits if not isinstance(bit, str)]
        (self.fixed if driven else self.read).update(nets)

    @property
    def driven(self):
        return self.fixed | self.drivers.keys()

    def _add(self, name, cell):
        kind, parameters = cell["type"], cell["parameters"]
        pins = {}
        for port, bits in cell["connections"].items():
            if len(bits) != 1 and kind != "DP16KD":
                raise _Unmodelled(f"{kind} {name} was changed, which no block here covers")
            # An undefined input is any value, the same in both versions.
            pins |= {port: ("x", name, port) if bit == "x" else bit
                     for port, bit in zip([port], bits, strict=False)}
        if kind == "DP16KD":
            self._block_ram(name, cell, pins)
        elif kind == "TRELLIS_FF":
            self.cells[name] = _flip_flop(name, parameters, pins)
        elif kind in LIBRARY:
            values = ", ".join(f".{key}({_value(value)})" for key, value in sorted(
                parameters.items()))
            outputs = tuple((port, pins[port]) for port in LIBRARY[kind] if port in pins)
            inputs = tuple((port, net) for port, net in pins.items() if port not in LIBRARY[kind])
            self.cells[name] = _Cell(f"{kind} #({values})" if values else kind, inputs, outputs)
        else:
            raise _Unmodelled(f"{kind} {name} was changed, which no block here covers")

    def _block_ram(self, name, cell, pins):
        """The memory with its latches, which must be the same; a register behind each latch."""
        parameters = cell["parameters"]
        wide = int(str(parameters["DATA_WIDTH_B"]), 2) == 36
        mine = {*SIDES, "OCEA", "OCEB"}
        self.block_rams[name] = (
            {key: value for key, value in cell.items() if key not in ("parameters", "connections",
                                                                      "port_directions")},
            {key: value for key, value in parameters.items() if not key.startswith("REGMODE")},
            {key: value for key, value in pins.items() if key not in mine})
        self._note([pin for port, pin in pins.items() if port not in mine
                    and isinstance(pin, int)], False)
        for port, (side, bit) in SIDES.items():
            if port not in pins or isinstance(pins[port], tuple):
                continue
            latch = ("latch", name, side, bit)
            self.fixed.add(latch)
            clock = "B" if wide else side
            if parameters[f"REGMODE_{side}"] == "NOREG":
                cell = _Cell("qsdt_wire", (("D", latch),), (("Q", pins[port]),))
            else:
                if pins.get(f"RST{clock}", "0") != "0":
                    raise _Unmodelled(f"DP16KD {name}: a reset of its output register, which no "
                                      "block here covers")
                mux = parameters.get(f"CLK{clock}MUX", f"CLK{clock}")
                cell = _Cell(
                    f'qsdt_output_register #(.CLKMUX("{mux}"), '
                    f'.GSR("{parameters.get("GSR", "DISABLED")}"))',
                    (("CLK", pins[f"CLK{clock}"]), ("OCE", pins.get(f"OCE{side}", "1")),
                     ("D", latch)), (("Q", pins[port]),))
            self.cells[name, side, bit] = cell


def _flip_flop(name, parameters, pins):
    chosen = {key: str(parameters.get(key, value)).strip() for key, value in FLIP_FLOP.items()}
    if (chosen["SRMODE"] not in ("LSR_OVER_CE", "ASYNC")
            or str(parameters.get("LSRMODE", "LSR")).strip() != "LSR" or "M" in pins):
        raise _Unmodelled(f"TRELLIS_FF {name}: a mode which no block here covers")
    values = ", ".join(f'.{key}("{value}")' for key, value in chosen.items())
    # An enable that is not connected is not used, a reset that is not is never given.
    wired = {"LSR": "0", "CE": "1"} | pins
    return _Cell(f"qsdt_flip_flop #({values})",
                 tuple((port, wired[port]) for port in ("CLK", "LSR", "CE", "DI")),
                 (("Q", pins["Q"]),))


def _value(value):
    text = str(value)
    return f"{len(text)}'b{text}" if text and set(text) <= set("01x") else f'"{text.strip()}"'


def _connected(old, new):
    """What no block shows: nets driven twice or no more, memories that are not the same."""
    for net in new.twice:
        yield f"net {net} is driven twice"
    for net in new.read & (old.driven - new.driven):
        yield f"net {net} is read, and is driven no more"
    for net in new.outside & (new.driven - old.driven):
        yield f"net {net} is read, and was not driven"
    for name in old.block_rams.keys() | new.block_rams.keys():
        if old.block_rams.get(name) != new.block_rams.get(name):
            yield f"DP16KD {name}: more than its output registers was changed"


@dataclass
class _Block:
    """Cells of both versions, and the nets that both drive."""

    versions: tuple
    keys: list
    nets: list

    @property
    def kind(self):
        gone = [key for key in self.keys if key not in self.versions[1].cells]
        modules = {self.versions[0].cells[key].module.split()[0] for key in gone}
        if any(isinstance(key, tuple) for key in self.keys):
            return "output registers of block RAMs"
        if "qsdt_flip_flop" in modules:
            return "registers that stay constant"
        return "operands in carry cells" if gone else "rewritten cells"

    @property
    def name(self):
        return ", ".join(str(key if isinstance(key, str) else key[0])
                         for key in dict.fromkeys(self.keys))

    def text(self):
        """Verilog of the modules ``before`` and ``after``, whose names are open."""
        # Nets by the order in which the cells name them: blocks of one shape have one text.
        order: dict = {}
        alone = [{net for key in self.keys if key in version.cells
                  for _, net in version.cells[key].outputs if net not in self.nets}
                 for version in self.versions]
        constant = [(net, int('REGSET("SET")' in cell.module)) for key in self.keys
                    if (cell := self.versions[0].cells.get(key)) is not None
                    and cell.module.startswith("qsdt_flip_flop")
                    for _, net in cell.outputs if net in alone[0]]
        bodies = []
        for version, own in zip(self.versions, alone, strict=True):
            lines = []
            for key in self.keys:
                if key not in version.cells:
                    continue
                cell = version.cells[key]
                pins = [f".{port}({_named(net, 'w' if net in own else 'i', order)})"
                        for port, net in cell.inputs]
                pins += [f".{port}({_named(net, 'w' if net in own else 'd', order)})"
                         for port, net in cell.outputs]
                if cell.module == "qsdt_wire":
                    source, = (_named(net, "i", order) for _, net in cell.inputs)
                    target, = (_named(net, "w" if net in own else "d", order)
                               for _, net in cell.outputs)
                    lines.append(f"assign {target} = {source};")
                    continue
                if cell.module.startswith("qsdt"):
                    pins.append(".gsr(gsr)")
                lines.append(f"{cell.module} c{len(lines)}({', '.join(pins)});")
            bodies.append(lines)
        inputs = {f"i{number}" for number in order.values()}
        places = [f"o{place}" for place in range(len(self.nets) + len(constant))]
        head = (f"(input gsr, {', '.join(sorted(inputs))}, output {', '.join(places)});\n"
                + "".join(f"wire w{number}, d{number};\n" for number in order.values()))
        texts = []
        for version, (name, lines) in enumerate(zip(("before", "after"), bodies, strict=True)):
            ends = [f"assign o{place} = d{order[net]};" for place, net in enumerate(self.nets)]
            ends += [f"assign o{len(self.nets) + place} = "
                     + (f"1'b{value};" if version else f"w{order[net]};")
                     for place, (net, value) in enumerate(constant)]
            texts.append("\n".join([f"module {name}_NUMBER{head}", *lines, *ends, "endmodule"]))
        return "\n".join(texts)


def _named(net, letter, order):
    if isinstance(net, str):
        return f"1'b{net}"
    return f"{letter}{order.setdefault(net, len(order))}"


def _blocks(old, new):
    """The blocks: cells that nets connect which one version alone drives, or drive one net."""
    above: dict = {}

    def root(key):
        while above.setdefault(key, key) != key:
            above[key] = above[above[key]]
            key = above[key]
        return key

    shared, read = old.drivers.keys() & new.drivers.keys(), old.read | new.read
    for version in (old, new):
        for key, cell in version.cells.items():
            root(key)
            for _, net in cell.inputs:
                if net in version.drivers and net not in shared:
                    above[root(version.drivers[net])] = root(key)
    for net in shared:
        above[root(old.drivers[net])] = root(new.drivers[net])
    keys, nets = defaultdict(list), defaultdict(list)
    for key in dict.fromkeys((*new.cells, *old.cells)):
        keys[root(key)].append(key)
    for net, key in old.drivers.items():
        if net in shared and net in read:
            nets[root(key)].append(net)
    return [_Block((old, new), _ordered(of_block, old, shared), nets[at])
            for at, of_block in keys.items() if nets[at]
            and any(old.cells.get(key) != new.cells.get(key) for key in of_block)]


def _ordered(keys, old, shared):
    """Those that drive shared nets first, behind each what it reads: one order for one shape."""
    found: dict = {}
    wanted = [key for key in reversed(keys) if key not in old.cells or any(
        net in shared for _, net in old.cells[key].outputs)]
    while wanted:
        key = wanted.pop()
        if key in found:
            continue
        found[key] = None
        if key in old.cells:
            wanted += [old.drivers[net] for _, net in reversed(old.cells[key].inputs)
                       if net in old.drivers and net not in shared]
    return list(found) + [key for key in keys if key not in found]
