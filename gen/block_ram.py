"""Output registers of block RAMs, moved from flip-flops of the fabric into the blocks.

An ECP5 block RAM needs 5.8 ns (speed grade 6) from its clock to its outputs, 0.95 ns when its own
output register is on (REGMODE; Lattice FPGA-TN-02204 "ECP5 Memory Usage Guide"; figures from the
timing database of Project Trellis). yosys never turns it on: it maps the register that every
memory of this design has behind it to flip-flops, up to 36 a block, each with a wire of its own
that starts 5.8 ns late. :func:`absorb_output_registers` makes the replacement in the netlist.
"""

from collections import defaultdict


__all__ = ["absorb_output_registers"]


_OUTPUTS = {side: [f"DO{side}{bit}" for bit in range(18)] for side in "AB"}
_PLAIN = {"CLKMUX": "CLK", "LSRMUX": "LSR", "REGSET": "RESET"}
"""What a flip-flop must be for a block's register to do the same: rising edge, starts at zero."""


def absorb_output_registers(netlist: dict) -> int:
    """Let the block RAMs of a netlist register their outputs.

    A port (both halves together where the block is 36 bits wide) takes over its flip-flops when
    every output in use goes to exactly one load, and those loads are flip-flops of the port's clock
    that share one enable, are never reset and start at zero, as the block's register does.

    Parameters
    ----------
    netlist : dict
        Of ``synth_ecp5``, as ``write_json`` writes it. Changed in place: flip-flops go, their
        outputs become the block's.

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
    loads = defaultdict(list)
    for name, cell in cells.items():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "input":
                for bit in bits:
                    loads[bit].append((name, port))
    for port in module["ports"].values():
        for bit in port["bits"]:
            loads[bit].append((None, None))

    absorbed = 0
    for block in blocks.values():
        # In 36-bit mode the outputs of both halves belong to the read port, which is B.
        wide = int(block["parameters"]["DATA_WIDTH_B"], 2) == 36
        for sides, clock in (("AB", "B"),) if wide else (("A", "A"), ("B", "B")):
            absorbed += _absorb_port(cells, loads, block, sides, clock)
    return absorbed


def _absorb_port(cells, loads, block, sides, clock) -> int:
    pins = block["connections"]
    if block["parameters"].get(f"CLK{clock}MUX", f"CLK{clock}") != f"CLK{clock}":
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
        block["parameters"][f"REGMODE_{side}"] = "OUTREG"
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
