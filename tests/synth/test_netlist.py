# amaranth: UnusedElaboratable=no
"""What :mod:`gen.pnr.passes` changes does what it did before.

The netlists before and after run on the same random inputs in Icarus Verilog. yosys has no
simulation model of DP16KD; the one here has what this project uses (Lattice FPGA-TN-02204: 18 bits
true dual-port, 36 bits with one port for writing and one for reading, output registers with clock
enables), and so have those of the logic cells.
"""

import json
import random
import subprocess

from amaranth import *
from amaranth.back import rtlil
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
import pytest

from gen.flow.synth import collision_commands
from gen.flow.toolchain import find_toolchain, run_tool
from gen.pnr.passes import (
    absorb_operands,
    absorb_output_registers,
    fold_constant_inputs,
    fold_constant_registers,
)
from hw.lib.packed_add import guard_bit, packed_add


pytestmark = pytest.mark.synth


def _pins(side):
    names = [f"AD{side}{k}" for k in range(14)], [f"DI{side}{k}" for k in range(18)]
    inputs = [*names[0], *names[1], *(f"{pin}{side}" for pin in ("CLK", "CE", "OCE", "WE", "RST")),
              *(f"CS{side}{k}" for k in range(3))]
    return inputs, [f"DO{side}{k}" for k in range(18)]


def _bus(side, name, width):
    return "{" + ", ".join(f"{name}{side}{k}" for k in reversed(range(width))) + "}"


LOGIC = """
module LUT4(input A, B, C, D, output Z);
  parameter [15:0] INIT = 0;
  assign Z = INIT[{D, C, B, A}];
endmodule
module TRELLIS_FF(input CLK, LSR, CE, DI, output reg Q);
  parameter CEMUX = "", CLKMUX = "", GSR = "", LSRMUX = "", REGSET = "", SRMODE = "";
  initial Q = REGSET == "SET";
  always @(posedge CLK) if (CEMUX != "CE" || CE) Q <= DI;
endmodule
module CCU2C(input CIN, A0, B0, C0, D0, A1, B1, C1, D1, output S0, S1, COUT);
  parameter [15:0] INIT0 = 0, INIT1 = 0;
  parameter INJECT1_0 = "YES", INJECT1_1 = "YES";
  wire sum0 = INIT0[{D0, C0, B0, A0}], sum1 = INIT1[{D1, C1, B1, A1}];
  wire carry0 = INJECT1_0 != "YES" & INIT0[{B0, A0}];
  wire carry1 = INJECT1_1 != "YES" & INIT1[{B1, A1}];
  wire middle = sum0 ? CIN : carry0;
  assign COUT = sum1 ? middle : carry1;
  assign S0 = sum0 ^ (INJECT1_0 != "YES" & CIN);
  assign S1 = sum1 ^ (INJECT1_1 != "YES" & middle);
endmodule
"""
"""Flip-flops of this design are never reset."""


def dp16kd():
    """Verilog of a DP16KD that starts with zeros."""
    inputs, outputs = ([*a, *b] for a, b in zip(_pins("A"), _pins("B"), strict=True))
    return f"""
module DP16KD({", ".join(inputs + outputs)});
  parameter DATA_WIDTH_A = 18, DATA_WIDTH_B = 18, REGMODE_A = "NOREG", REGMODE_B = "NOREG";
  parameter CLKAMUX = "CLKA", CLKBMUX = "CLKB", CSDECODE_A = "", CSDECODE_B = "", GSR = "";
  parameter WRITEMODE_A = "", WRITEMODE_B = "", RESETMODE = "", ASYNC_RESET_RELEASE = "";
  {"".join(f"parameter [319:0] INITVAL_{k:02X} = 0;" for k in range(64))}
  input {", ".join(inputs)};
  output {", ".join(outputs)};
  reg [17:0] cells [0:1023];
  reg [17:0] latch_a = 0, latch_b = 0, register_a = 0, register_b = 0;
  localparam WIDE = DATA_WIDTH_B == 36;
  wire [13:0] a = {_bus("A", "AD", 14)}, b = {_bus("B", "AD", 14)};
  integer k;
  initial for (k = 0; k < 1024; k = k + 1) cells[k] = 0;
  always @(posedge CLKA) begin
    if (OCEA & !WIDE) register_a <= latch_a;
    if (CEA) begin
      if (WIDE & WEA) begin
        cells[{{a[13:5], 1'b0}}] <= {_bus("A", "DI", 18)};
        cells[{{a[13:5], 1'b1}}] <= {_bus("B", "DI", 18)};
      end else if (!WIDE) begin
        if (WEA) cells[a[13:4]] <= {_bus("A", "DI", 18)};
        else latch_a <= cells[a[13:4]];
      end
    end
  end
  always @(posedge CLKB) begin
    if (OCEB) register_b <= latch_b;
    if (OCEA & WIDE) register_a <= latch_a;
    if (CEB) begin
      if (WIDE) begin
        latch_b <= cells[{{b[13:5], 1'b0}}];
        latch_a <= cells[{{b[13:5], 1'b1}}];
      end else if (WEB) cells[b[13:4]] <= {_bus("B", "DI", 18)};
      else latch_b <= cells[b[13:4]];
    end
  end
  assign {_bus("A", "DO", 18)} = REGMODE_A == "OUTREG" ? register_a : latch_a;
  assign {_bus("B", "DO", 18)} = REGMODE_B == "OUTREG" ? register_b : latch_b;
endmodule
"""


class Registered(wiring.Component):
    """A memory, the register behind it, and a second memory whose output is also used raw."""

    def __init__(self, *, width, depth, enabled):
        self._width, self._depth, self._enabled = width, depth, enabled
        super().__init__({
            "write": In(1), "where": In(range(depth)), "value": In(width),
            "read": In(1), "take": In(1), "address": In(range(depth)),
            "o": Out(width), "raw": Out(width),
        })

    def elaborate(self, platform):
        m = Module()
        for name in ("ram", "other"):
            m.submodules[name] = memory = Memory(shape=self._width, depth=self._depth, init=[])
            write, read = memory.write_port(), memory.read_port()
            m.d.comb += [
                write.en.eq(self.write), write.addr.eq(self.where), write.data.eq(self.value),
                read.en.eq(self.read), read.addr.eq(self.address),
            ]
            register = Signal(self._width, name=f"register_{name}", reset_less=True)
            with m.If(self.take if self._enabled else 1):
                m.d.sync += register.eq(read.data)
            if name == "ram":
                m.d.comb += self.o.eq(register)
            else:
                m.d.comb += self.raw.eq(register ^ read.data)
        return m


class Packed(wiring.Component):
    """Two sums in one carry chain, kept apart by a register that stays 0."""

    def __init__(self):
        super().__init__({"a": In(16), "b": In(16), "o": Out(18)})

    def elaborate(self, platform):
        m = Module()
        guard = guard_bit(m, "guard", self.a[0])
        operands = [(Cat(self.a.word_select(k, 8), guard), self.b.word_select(k, 8))
                    for k in range(2)]
        m.d.sync += self.o.eq(Cat(packed_add(m, "adder", operands)))
        return m


class Accumulator(wiring.Component):
    """Adders whose operands are functions of two signals each, as in SpikeArray, or one of three,
    as in PartialSums; a counter that counts by a constant; a subtraction."""

    def __init__(self):
        super().__init__({"a": In(16), "b": In(16), "o": Out(18)})

    def elaborate(self, platform):
        m = Module()
        term, follow, negate = self.a[:8].as_signed(), self.b[0], self.b[1]
        acc = Signal(18, reset_less=True)
        addend = Signal(signed(18))
        m.d.comb += addend.eq((term ^ negate.replicate(8)).as_signed())
        with m.If(self.b[2]):
            m.d.sync += acc.eq(Cat(negate, acc[:-1] & follow.replicate(17)) + addend)
        count = Signal(18, reset_less=True)
        m.d.sync += count.eq(count + 0b1010000 - (self.a ^ self.b[3].replicate(16)))
        either = (self.a | self.b) + (self.a & ~self.b)
        chosen = Signal(16, reset_less=True)
        m.d.sync += chosen.eq(chosen + Mux(self.a[0] ^ self.b[4], self.a, self.b))
        select, wide = Signal(), Signal(17)
        m.d.sync += [select.eq(self.b[5]),
                     wide.eq(Mux(select, self.a, self.b) + chosen)]
        m.d.comb += self.o.eq(acc ^ count ^ either ^ wide)
        return m


def adder_bench(rng):
    lines = "".join(f"a = {rng.randrange(1 << 16)}; b = {rng.randrange(1 << 16)}; "
                    '#1 clk = 1; #1 clk = 0; $display("%h", o);' for _ in range(300))
    return f"""
module bench;
  reg clk = 0, rst = 0;
  reg [15:0] a, b;
  wire [17:0] o;
  top dut(.clk(clk), .rst(rst), .a(a), .b(b), .o(o));
  initial begin {lines} end
endmodule
"""


def bench(cycles, width, depth, rng):
    # A read never meets a write of its address in the same cycle: that is undefined.
    lines = []
    for _ in range(cycles):
        where, address = rng.sample(range(0, depth, depth // 16), 2)
        lines.append(f"write = {rng.randrange(2)}; where = {where}; address = {address}; "
                     f"value = {width}'d{rng.randrange(1 << width)}; read = {rng.randrange(2)}; "
                     f'take = {rng.randrange(2)}; #1 $display("%h %h", o, raw); '
                     "clk = 1; #1 clk = 0;")
    bits = (depth - 1).bit_length()
    newline = "\n    "
    return f"""
module bench;
  reg clk = 0, rst = 0, write, read, take;
  reg [{bits - 1}:0] where, address;
  reg [{width - 1}:0] value;
  wire [{width - 1}:0] o, raw;
  top dut(.clk(clk), .rst(rst), .write(write), .where(where), .value(value), .read(read),
          .take(take), .address(address), .o(o), .raw(raw));
  initial begin
    {newline.join(lines)}
  end
endmodule
"""


def run(folder, name, netlist, cycles_bench):
    yosys = find_toolchain("auto").yosys
    (folder / f"{name}.json").write_text(json.dumps(netlist))
    (folder / f"{name}.ys").write_text(
        f"read_json {name}.json\nwrite_verilog -noattr {name}.v\n")
    run_tool([*yosys.command, f"{name}.ys"], folder=folder, name="yosys",
             log_path=folder / f"{name}.log")
    (folder / f"{name}_bench.v").write_text(cycles_bench + LOGIC + dp16kd())
    subprocess.run(["iverilog", "-g2012", "-s", "bench", "-o", f"{name}.vvp", f"{name}.v",
                    f"{name}_bench.v"], cwd=folder, check=True)
    return subprocess.run(["vvp", "-n", f"{name}.vvp"], cwd=folder, check=True,
                          capture_output=True, text=True).stdout


def mapped(dut, folder):
    text = rtlil.convert(dut, name="top", emit_src=False)
    (folder / "top.il").write_text(text)
    (folder / "top.ys").write_text("\n".join(
        ["read_rtlil top.il", *collision_commands(text),
         "synth_ecp5 -top top -json top.json"]) + "\n")
    run_tool([*find_toolchain("auto").yosys.command, "top.ys"], folder=folder, name="yosys",
             log_path=folder / "synth.log")
    return json.loads((folder / "top.json").read_text())


def test_packed_adder_without_its_guard(tmp_path):
    netlist = mapped(Packed(), tmp_path)
    stimulus = adder_bench(random.Random(1))
    before = run(tmp_path, "before", netlist, stimulus)
    assert fold_constant_registers(netlist) == 1
    assert run(tmp_path, "after", netlist, stimulus) == before
    # 9 bits of each sum: the golden values come from the same generator.
    rng = random.Random(1)
    for line in before.split():
        a, b = rng.randrange(1 << 16), rng.randrange(1 << 16)
        assert int(line, 16) == (a % 256 + b % 256) | ((a >> 8) + (b >> 8)) << 9


def test_operands_in_adders(tmp_path):
    """Operands and constants leave the tables and wires before the adders; nothing else changes."""
    netlist = mapped(Accumulator(), tmp_path)
    stimulus = adder_bench(random.Random(2))
    before = run(tmp_path, "before", netlist, stimulus)
    assert absorb_operands(netlist) >= 8 + 17 + 16 + 16
    assert run(tmp_path, "operands", netlist, stimulus) == before
    assert fold_constant_inputs(netlist) > 10
    assert run(tmp_path, "constants", netlist, stimulus) == before
    assert len(set(before.split())) > 250


@pytest.mark.parametrize(("width", "depth", "enabled"), [
    (36, 512, False), (36, 512, True), (18, 1024, True)])
def test_netlist_is_equivalent(tmp_path, width, depth, enabled):
    netlist = mapped(Registered(width=width, depth=depth, enabled=enabled), tmp_path)
    stimulus = bench(300, width, depth, random.Random(width + enabled))
    before = run(tmp_path, "before", netlist, stimulus)
    assert absorb_output_registers(netlist) == width
    after = run(tmp_path, "after", netlist, stimulus)
    assert before == after
    assert len(set(before.split("\n"))) > 50
