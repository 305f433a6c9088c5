"""What yosys leaves undone: changes of an ECP5 netlist between synthesis and placement.

A netlist is the dict of yosys' ``write_json`` after ``synth_ecp5``; the functions change it in
place. :func:`improve` does all of them.
"""

from collections import defaultdict


__all__ = ["absorb_output_registers", "fold_constant_registers", "improve"]


_INPUTS = {"LUT4": {port: ("INIT", bit) for bit, port in enumerate("ABCD")},
           "CCU2C": {f"{port}{half}": (f"INIT{half}", bit)
                     for half in range(2) for bit, port in enumerate("ABCD")}}
"""Where the inputs of look-up tables stand in their contents."""

_OUTPUTS = {side: [f"DO{side}{bit}" for bit in range(18)] for side in "AB"}
_PLAIN = {"CLKMUX": "CLK", "LSRMUX": "LSR", "REGSET": "RESET"}
"""What a flip-flop must be for a block's register to do the same: rising edge, starts at zero."""


def improve(netlist: dict) -> dict[str, int]:
    """Apply all changes; returns the flip-flops that each of them took away."""
    return {"absorbed_ff": absorb_output_registers(netlist),
            "constant_ff": fold_constant_registers(netlist)}


def _loads(module):
    """``{net: [(cell, port), ...]}``; outputs of the module count with the cell None."""
    loads = defaultdict(list)
    for name, cell in module["cells"].items():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "input":
                for bit in bits:
                    loads[bit].append((name, port))
    for port in module["ports"].values():
        for bit in port["bits"]:
            loads[bit].append((None, None))
    return loads


def fold_constant_registers(netlist: dict) -> int:
    """Replace registers that stay 0 by what they mean.

    :func:`hw.packed_add.guard_bit` keeps yosys from splitting packed adders with registers of the
    form ``zero <= zero & x``. Once mapped they have done their work, and would only be long wires:
    every table that one goes to is rewritten not to depend on it.

    Returns
    -------
    int
        Registers taken away.
    """
    return sum(_fold_in_module(module) for module in netlist["modules"].values())


def _fold_in_module(module) -> int:
    cells = module["cells"]
    drivers = {bit: name for name, cell in cells.items() if cell["type"] == "LUT4"
               for bit in cell["connections"]["Z"]}
    loads = None
    folded = 0
    for name, cell in list(cells.items()):
        if cell["type"] != "TRELLIS_FF" or cell["parameters"]["REGSET"] != "RESET":
            continue
        zero, source = cell["connections"]["Q"][0], cell["connections"]["DI"][0]
        table = cells.get(drivers.get(source))
        if table is None or not _zero_stays(table, zero):
            continue
        loads = loads or _loads(module)
        users = [user for user in loads[zero] if user[0] != drivers[source]]
        if loads[source] != [(name, "DI")] or not all(
                user in cells and port in _INPUTS.get(cells[user]["type"], {})
                for user, port in users):
            continue
        for user, port in users:
            _ignore(cells[user], port)
        del cells[drivers[source]], cells[name]
        folded += 1
    return folded


def _zero_stays(table, net) -> bool:
    """Whether a LUT4 gives 0 whenever ``net``, one of its inputs, is 0."""
    pins = [bit for bit, port in enumerate("ABCD") if table["connections"][port] == [net]]
    contents = int(table["parameters"]["INIT"], 2)
    return bool(pins) and not any(contents >> index & 1 for index in range(16)
                                  if not any(index >> pin & 1 for pin in pins))


def _ignore(table, port):
    """Rewrite a table for an input that is always 0, and leave the input at 1, which is free."""
    parameter, bit = _INPUTS[table["type"]][port]
    contents = int(table["parameters"][parameter], 2)
    table["parameters"][parameter] = "".join(
        str(contents >> (index & ~(1 << bit)) & 1) for index in reversed(range(16)))
    table["connections"][port] = ["1"]


def absorb_output_registers(netlist: dict) -> int:
    """Let the block RAMs register their outputs.

    An ECP5 block RAM needs 5.8 ns (speed grade 6) from its clock to its outputs, 0.95 ns when its
    own output register is on (REGMODE; Lattice FPGA-TN-02204 "ECP5 Memory Usage Guide"; figures
    from the timing database of Project Trellis). yosys never turns it on: it maps the register
    that every memory of this design has behind it to flip-flops, up to 36 a block, each with a
    wire of its own that starts 5.8 ns late.

    A port (both halves together where the block is 36 bits wide) takes over its flip-flops when
    every output in use goes to exactly one load, and those loads are flip-flops of the port's clock
    that share one enable, are never reset and start at zero, as the block's register does.

    Returns
    -------
    int
        Flip-flops taken over.
    """
    return sum(_absorb_in_module(module) for module in netlist["modules"].values())


def _absorb_in_module(module) -> int:
    cells = module["cells"]
    blocks = {name: cell for name, cell in cells.items() if cell["type"] == "DP16KD"}
    if not blocks:
        return 0
    loads = _loads(module)
    absorbed = 0
    for block in blocks.values():
        # In 36-bit mode the outputs of both halves belong to the read port, which is B.
        wide = int(block["parameters"]["DATA_WIDTH_B"], 2) == 36
        for sides, clock in (("AB", "B"),) if wide else (("A", "A"), ("B", "B")):
            absorbed += _absorb_port(cells, loads, block, sides, clock)
    return absorbed


def _absorb_port(cells, loads, block, sides, clock) -> int:
    pins = block["connections"]
    parameters = block["parameters"]
    if (parameters.get(f"CLK{clock}MUX", f"CLK{clock}") != f"CLK{clock}"
            or parameters[f"REGMODE_{clock}"] != "NOREG"):
        return 0
    registers = {}
    enables = set()
    for output in (output for side in sides for output in _OUTPUTS[side]):
        for bit in pins.get(output, []):
            if not loads[bit]:
                continue
            name, port = loads[bit][0]
            if len(loads[bit]) > 1 or port != "DI" or not _replaceable(cells[name], pins, clock):
                return 0
            registers[output] = name
            enables.add(_enable(cells[name]))
    if len(enables) != 1:
        return 0
    enable, = enables
    for output, name in registers.items():
        pins[output] = cells.pop(name)["connections"]["Q"]
    for side in sides:
        parameters[f"REGMODE_{side}"] = "OUTREG"
        pins[f"OCE{side}"] = [enable]
    return len(registers)


def _enable(flip_flop):
    if flip_flop["parameters"]["CEMUX"] == "CE":
        return flip_flop["connections"]["CE"][0]
    return "1"


def _replaceable(cell, pins, clock) -> bool:
    if cell["type"] != "TRELLIS_FF":
        return False
    parameters, wires = cell["parameters"], cell["connections"]
    return (parameters["CEMUX"].strip() in ("1", "CE")
            and all(parameters[key] == value for key, value in _PLAIN.items())
            and wires["CLK"] == pins[f"CLK{clock}"]
            and wires.get("LSR", ["0"]) == ["0"])
