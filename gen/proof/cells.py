"""Cells that are no logic, for layout versus schematic: what they say, and when that is the same.

Pads have registers and DDR outputs beside them, in an IOLOGIC (nextpnr, ecp5/pack.cc): a flip-flop
with ``syn_useioff`` in front of a pad is the output register there, the one in front of its
tristate the tristate register, the one behind it the input register. An ODDRX1F is the mode
IDDRX1_ODDRX1. The pad is then driven by IOLDO and IOLTO in place of I and T.
"""

from gen.proof.lut import control, number


__all__ = ["DDR_OUTPUT", "PAD_LOGIC", "about_block", "is_same", "is_same_block", "pad_logic",
           "shared_set_reset", "unpacked_pad"]


RENAMED = {"SGSR": ("GSR", {"SYNCMODE": "SYNC", "MODE": "ACTIVE_LOW"})}
"""Cells that nextpnr makes others of (ecp5/pack.cc)."""

IGNORED = {"EHXPLLL": ("FREQUENCY_", "ICP_CURRENT", "LPF_RESISTOR", "MFG_")}
"""Parameters that nextpnr adds for the bitstream: from the constraint and the divisors."""

PAD_LOGIC = ("IOLOGIC", "SIOLOGIC")

DDR_OUTPUT = ("D0", "D1", "SCLK", "RST")
"""Inputs of an ODDRX1F: data of the high and of the low half of the clock's period."""

REGISTERS = {"IOLDO": ("TXDATA0", "OUTREG", "O"), "IOLTO": ("TSDATA0", "TSREG", "O"),
             "INFF": ("PADDI", "FF", "I")}
"""{output: (data, first part of its parameters, letter of its multiplexers)}"""

UNUSED = {"MODDRX.MODE": "NONE", "MIDDRX.MODE": "NONE", "MTDDRX.MODE": "NONE",
          "ODDRXN.MODE": "NONE", "IDDRXN.MODE": "NONE", "MIDDRX_MODDRX.WRCLKMUX": "NONE",
          "MTDDRX.REGSET": "RESET", "MTDDRX.DQSW_INVERT": "DISABLED", "IOLTOMUX": "NONE",
          "DELAY.WAIT_FOR_EDGE": "DISABLED", "DELAY.OUTDEL": "DISABLED", "DELAY.DEL_VALUE": "0"}
"""Parameters of what no design here has: wider gears and delays."""


def is_same(wanted, found):
    """Whether a statement is the same: what is undefined before is any constant after."""
    if isinstance(wanted, tuple) and isinstance(found, tuple) and len(wanted) == len(found):
        return all(is_same(*pair) for pair in zip(wanted, found, strict=True))
    return wanted == found or (wanted == "x" and found in ("0", "1"))


def is_same_block(wanted, found, used):
    """Whether a cell is the same: what is open or undefined before has any constant after."""
    _, kind, values, inputs, outputs = wanted
    return (kind == found[1]
            and all(found[2].get(key, 0) == value for key, value in values.items())
            and all(found[3].get(port, inputs.get(port)) == inputs.get(port, value)
                    and (port in inputs or value in ("0", "1"))
                    for port, value in found[3].items())
            and all(port in found[3] for port in inputs)
            and all(found[4].get(port) == net for port, net in outputs.items() if net in used))


def about_block(cell, pin, tied):
    """Statement about any other cell: parameters, inputs, and nets that it drives."""
    kind, values, inputs, outputs = cell["type"], {}, {}, {}
    for key, value in cell["parameters"].items():
        if not key.endswith("MUX") and not key.startswith(IGNORED.get(kind, ("\0",))):
            text = str(value).strip()
            values[key] = number(text) if text and set(text) <= set("01x") else text
    for port, direction in cell["port_directions"].items():
        bits = cell["connections"].get(port)
        if direction == "output":
            outputs |= {port: pin(port)} if bits else {}
        elif bits:
            inputs[port] = control(pin(port), cell["parameters"].get(f"{port}MUX", port), port)
        elif tied is not None:
            inputs[port] = tied(cell, port)
    return "cell", *RENAMED.get(kind, (kind, values)), inputs, outputs


def pad_logic(cell, pin):
    """Statements of an IOLOGIC: ``(net, statement)`` pairs, the net as nextpnr numbers it, or what
    is strange in words.

    Parameters
    ----------
    cell : dict
        As nextpnr writes it.
    pin : callable
        ``pin(name, default)`` gives a net or a constant.
    """
    value = {key: str(text).strip() for key, text in cell["parameters"].items()}
    double = value.get("MODE") == "IDDRX1_ODDRX1"
    used = {"MODE", "GSR", "SRMODE", "CEMUX", "LSRMUX", "CEOMUX", "CEIMUX", "LSROMUX", "LSRIMUX",
            "CLKOMUX", "CLKIMUX"}
    for output, (data, unit, letter) in REGISTERS.items():
        bits = cell["connections"].get(output)
        if not bits:
            continue
        used |= {f"{unit}.REGSET", f"{unit}.{'IN' if letter == 'I' else 'OUT'}REGMODE"}
        if double and output == "IOLDO":
            yield bits[0], ("DDR output", pin("TXDATA0", "1"), pin("TXDATA1", "1"),
                            _control(pin, value, "CLK", letter),
                            _control(pin, value, "LSR", letter))
            continue
        mode = value.get(f"{unit}.{'IN' if letter == 'I' else 'OUT'}REGMODE", "FF")
        reset = _control(pin, value, "LSR", letter)
        yield bits[0], (
            "flip-flop" if mode == "FF" else mode, pin(data, "1"),
            _control(pin, value, "CE", letter), _control(pin, value, "CLK", letter), reset,
            value.get(f"{unit}.REGSET", "RESET"), value.get("GSR", "ENABLED"),
            value.get("SRMODE", "LSR_OVER_CE") if reset != "0" else "")
    for key, text in value.items():
        if key not in used and text.lstrip("0") != UNUSED.get(key, "").lstrip("0"):
            yield f"{key} {text} of IOLOGIC", ("setting", key, text)


def _control(pin, value, port, letter):
    """A clock, enable or reset behind the multiplexers of one direction."""
    own = value.get(f"{port}{letter}MUX", f"{port}MUX")
    if port == "CLK":    # it has no common one
        return control(pin(port, "1"), own, port)
    chosen = value.get(f"{port}MUX", port) if own == f"{port}MUX" else own
    return control(pin(port, "0" if port == "LSR" else "1"), chosen, port)


def unpacked_pad(cell):
    """A TRELLIS_IO as it was before its registers went beside it."""
    pins, value = dict(cell["connections"]), dict(cell["parameters"])
    oddr, oreg = (str(value.pop(f"DATAMUX_{name}", "PADDO")).strip() for name in ("ODDR", "OREG"))
    if "IOLDO" in (oddr, oreg) and pins.get("IOLDO"):
        pins["I"] = pins.pop("IOLDO")
    if str(value.pop("TRIMUX_TSREG", "PADDT")).strip() == "IOLTO" and pins.get("IOLTO"):
        pins["T"] = pins.pop("IOLTO")
    ways = {port: way for port, way in cell["port_directions"].items()
            if port not in ("IOLDO", "IOLTO") or port in pins}
    return {**cell, "connections": pins, "parameters": value,
            "port_directions": {**ways, **{port: "input" for port in "IT" if port in pins}}}


def shared_set_reset(cells):
    """Nets of tristate registers beside a DDR output.

    One IOLOGIC has one setting of global set/reset: nextpnr writes that of the DDR output. Amaranth
    makes that one without set/reset, so the register in front of the tristate loses its own.
    """
    double = {cell["connections"]["Q"][0] for cell in cells.values() if cell["type"] == "ODDRX1F"}
    return {bit for cell in cells.values() if cell["type"] == "TRELLIS_IO"
            and set(cell["connections"].get("I", ())) & double
            for bit in cell["connections"].get("T", ()) if not isinstance(bit, str)}
