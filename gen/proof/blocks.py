"""Pairs of small circuits of ECP5 cells proven equal by yosys."""

from gen.flow.toolchain import find_toolchain, run_tool
from model.error import ToolFailed


__all__ = ["METHOD", "MODELS", "prove"]


METHOD = "yosys sat -tempinduct"

STEPS, SECONDS = 8, 60
"""Longest induction, and longest time of a block."""

MODELS = """
module qsdt_flip_flop(input CLK, LSR, CE, DI, gsr, output reg Q);
  parameter CEMUX = "1", CLKMUX = "CLK", LSRMUX = "LSR", REGSET = "RESET", GSR = "ENABLED";
  parameter SRMODE = "LSR_OVER_CE";
  localparam value = REGSET == "SET";
  wire enable = CEMUX == "1" ? 1'b1 : CEMUX == "0" ? 1'b0 : CEMUX == "INV" ? ~CE : CE;
  wire reset = LSRMUX == "INV" ? ~LSR : LSR, clock = CLKMUX == "INV" ? ~CLK : CLK;
  wire clear = GSR == "ENABLED" & ~gsr | SRMODE == "ASYNC" & reset;
  initial Q = value;
  always @(posedge clock, posedge clear)
    if (clear) Q <= value;
    else if (reset) Q <= value;
    else if (enable) Q <= DI;
endmodule
module qsdt_output_register(input CLK, OCE, D, gsr, output reg Q);
  parameter CLKMUX = "CLK", GSR = "DISABLED";
  wire clock = CLKMUX == "INV" ? ~CLK : CLK, clear = GSR == "ENABLED" & ~gsr;
  initial Q = 0;
  always @(posedge clock, posedge clear) if (clear) Q <= 0; else if (OCE) Q <= D;
endmodule
"""
"""What yosys has no model of: global set/reset, and the output register of a block RAM (Lattice
FPGA-TN-02204: it has a clock enable of its own)."""

UNEQUAL = {
    "LUT4 #(.INIT(16'h8000)) x(.A(a), .B(b), .C(c), .D(d), .Z(o));":
        "LUT4 #(.INIT(16'h8001)) x(.A(a), .B(b), .C(c), .D(d), .Z(o));",
    "PFUMX x(.ALUT(a), .BLUT(b), .C0(c), .Z(o));": "PFUMX x(.ALUT(b), .BLUT(a), .C0(c), .Z(o));",
    "L6MUX21 x(.D0(a), .D1(b), .SD(c), .Z(o));": "L6MUX21 x(.D0(b), .D1(a), .SD(c), .Z(o));",
    "CCU2C #(.INIT0(16'h8000), .INIT1(16'hffff)) x(.A0(a), .B0(b), .C0(c), .D0(d), .S0(o));":
        "CCU2C #(.INIT0(16'h8001), .INIT1(16'hffff)) x(.A0(a), .B0(b), .C0(c), .D0(d), .S0(o));",
    'qsdt_flip_flop #(.REGSET("SET")) x(.CLK(k), .LSR(a), .CE(b), .DI(d), .gsr(gsr), .Q(o));':
        "qsdt_flip_flop x(.CLK(k), .LSR(a), .CE(b), .DI(d), .gsr(gsr), .Q(o));",
    "qsdt_output_register x(.CLK(k), .OCE(a), .D(b), .gsr(gsr), .Q(o));":
        "qsdt_output_register x(.CLK(k), .OCE(1'b1), .D(b), .gsr(gsr), .Q(o));",
}
"""Unequal cells, which yosys must refute each time: a proof with models that mean nothing, as those
of a library read without their parameters, is none."""


def prove(texts, folder):
    """Whether yosys proves each pair of modules equal.

    Parameters
    ----------
    texts : list of str
        Verilog of the modules ``before_NUMBER`` and ``after_NUMBER``, with equal ports: of cells
        of yosys' library for the ECP5 and of :data:`MODELS`.
    folder : Path
        Where yosys runs.

    Returns
    -------
    list of bool
        False also where yosys found no proof within its limits.

    Raises
    ------
    model.error.ToolFailed
        yosys failed, or it says of unequal cells that they are equal.
    """
    if not texts:
        return []
    asked = len(texts)
    texts = [*texts, *("\n".join(
        f"module {name}_NUMBER(input a, b, c, d, k, gsr, output o); {cell} endmodule"
        for name, cell in zip(("before", "after"), pair, strict=True)) for pair in UNEQUAL.items())]
    (folder / "blocks.v").write_text(MODELS + "\n".join(
        text.replace("_NUMBER", f"_{number}") for number, text in enumerate(texts)))
    script = [
        "read_verilog +/ecp5/common_sim.vh +/ecp5/ccu2c_sim.vh", "read_verilog blocks.v",
        "hierarchy", "proc", "flatten before_* after_*", "opt_clean before_* after_*"]
    script += [f"miter -equiv -flatten before_{number} after_{number} miter_{number}"
               for number in range(len(texts))]
    script += ["clk2fflogic miter_*", "opt_clean miter_*"]
    for number in range(len(texts)):
        script += [f"log BLOCK {number}",
                   f"sat -tempinduct -maxsteps {STEPS} -timeout {SECONDS} -prove trigger 0 "
                   f"miter_{number}"]
    (folder / "blocks.ys").write_text("\n".join(script) + "\n")
    log = folder / "blocks.log"
    run_tool([*find_toolchain("auto").yosys.command, "blocks.ys"], folder=folder, name="yosys",
             log_path=log)
    verdicts = {}
    for part in log.read_text().split("\nBLOCK ")[1:]:
        verdicts[int(part.split(maxsplit=1)[0])] = part.count("proven: SUCCESS!") == 1
    if len(verdicts) != len(texts):
        raise ToolFailed("yosys said nothing about some blocks", log=log)
    if any(verdicts[number] for number in range(asked, len(texts))):
        raise ToolFailed("yosys holds unequal cells for equal; take another version of it", log=log)
    return [verdicts[number] for number in range(asked)]
