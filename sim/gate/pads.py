"""Registers and DDR outputs beside the pads of a routed design (IOLOGIC), as nextpnr packs them.

Lattice FPGA-TN-02032 ("ECP5 sysI/O", registers) and FPGA-TN-02035 (generic DDR).
"""

from typing import NamedTuple

from model.error import InputError


__all__ = ["PadRegister", "ddr_output", "pad_net", "pad_registers"]


REGISTERS = {"IOLDO": ("TXDATA0", "OUTREG", "OUT", "O"), "IOLTO": ("TSDATA0", "TSREG", "OUT", "O"),
             "INFF": ("PADDI", "FF", "IN", "I")}
"""{output: (data, first part of its parameters, its mode, letter of its multiplexers)}"""

MODES = ("IREG_OREG", "IDDRX1_ODDRX1")


class PadRegister(NamedTuple):
    """A register: nets of its output and data, and expressions of Verilog."""
    net: int
    data: str
    clock: str
    edge: str
    enable: str
    reset: str
    value: int


def pad_registers(cell, zeros):
    """The registers in use of an IOLOGIC, as :class:`PadRegister`.

    Parameters
    ----------
    cell : sim.gate.netlist cell
    zeros : set of int
        Nets that are constant 0: a reset must be one of them.
    """
    if cell.text("MODE") not in MODES or cell.text("DELAY.DEL_VALUE", "0").strip("0"):
        raise InputError(f"{cell.kind} {cell.name}: mode {cell.text('MODE')} or a delay is not "
                         "modelled at the gate level")
    for output, (data, unit, way, letter) in REGISTERS.items():
        if cell.net(output) is None or (output == "IOLDO" and _is_double(cell)):
            continue
        if cell.text(f"{unit}.{way}REGMODE", "FF") != "FF":
            raise InputError(f"{cell.kind} {cell.name}: a latch is not modelled at the gate level")
        enable = cell.text(f"CE{letter}MUX", "CEMUX")
        enable = cell.text("CEMUX", "CE") if enable == "CEMUX" else enable
        ce = cell.input("CE")
        _no_reset(cell, letter, zeros)
        yield PadRegister(
            cell.net(output), cell.input(data), cell.input("CLK"),
            "negedge" if cell.text(f"CLK{letter}MUX", "CLK") == "INV" else "posedge",
            {"CE": ce, "INV": f"~{ce}", "1": "1'b1", "0": "1'b0"}[enable], "1'b0",
            int(cell.text(f"{unit}.REGSET", "RESET") == "SET"))


def ddr_output(cell, zeros, ones):
    """``(net, expression)`` of an IOLOGIC's ODDRX1F; None where it has none.

    In the high half of its clock it gives D0, in the low half D1. When it takes them is not told
    here: they must be constant, as those of a clock are.
    """
    if cell.net("IOLDO") is None or not _is_double(cell):
        return None
    _no_reset(cell, "O", zeros)
    values = []
    for pin in ("TXDATA0", "TXDATA1"):
        net = cell.net(pin)
        if net is not None and net not in zeros | ones:
            raise InputError(f"{cell.kind} {cell.name}: a DDR output of data that change is not "
                             "modelled at the gate level")
        values.append("1'b0" if net in zeros else "1'b1")
    if cell.text("CLKOMUX", "CLK") == "INV":
        values.reverse()
    return cell.net("IOLDO"), f"{cell.input('CLK')} ? {values[0]} : {values[1]}"


def pad_net(cell, pin):
    """Expression of what drives a pad (I) or keeps it from that (T): the fabric or its IOLOGIC."""
    muxes, behind = ((("DATAMUX_ODDR", "DATAMUX_OREG"), "IOLDO") if pin == "I" else
                     (("TRIMUX_TSREG",), "IOLTO"))
    if behind in [cell.text(mux) for mux in muxes]:
        return cell.input(behind)
    return cell.input(pin, "1'b1" if pin == "I" else "1'b0")


def _is_double(cell):
    return cell.text("MODE") == "IDDRX1_ODDRX1"


def _no_reset(cell, letter, zeros):
    own = cell.text(f"LSR{letter}MUX", "LSRMUX")
    net = cell.net("LSR")
    if own == "0" or (cell.text("LSRMUX", "LSR") == "LSR" and (net is None or net in zeros)):
        return
    raise InputError(f"{cell.kind} {cell.name}: a reset is not modelled at the gate level")
