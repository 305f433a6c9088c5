"""What yosys leaves undone: changes of an ECP5 netlist between synthesis and placement.

A netlist is the dict of yosys' ``write_json`` after ``synth_ecp5``; the functions change it in
place. :func:`improve` does all of them.
"""

from collections import defaultdict
from itertools import permutations, product

from gen.pnr.ecp5 import LUT_INPUTS
from gen.pnr.graph import loads as read_loads


__all__ = ["absorb_operands", "absorb_output_registers", "fold_constant_inputs",
           "fold_constant_registers", "improve", "retain"]


_OUTPUTS = {side: [f"DO{side}{bit}" for bit in range(18)] for side in "AB"}
_PLAIN = {"CLKMUX": "CLK", "LSRMUX": "LSR", "REGSET": "RESET"}
"""What a flip-flop must be for a block's register to do the same: rising edge, starts at zero."""


def improve(netlist: dict, *, output_registers: bool = True) -> dict[str, int]:
    """Apply all changes; returns what each of them took away: flip-flops, LUTs, inputs
    that are constant. Without ``output_registers``, those of block RAMs stay flip-flops."""
    retain(netlist)
    return {"absorbed_ff": absorb_output_registers(netlist) if output_registers else 0,
            "constant_ff": fold_constant_registers(netlist),
            "absorbed_lut": absorb_operands(netlist),
            "constant_inputs": fold_constant_inputs(netlist)}


def retain(netlist: dict) -> int:
    """Keep global set/reset from every block RAM, and from the flip-flops of every net with the
    attribute ``retained``.

    On a block RAM it would reset the registers at the outputs. They need no reset: they, and
    those that :func:`absorb_output_registers` adds, hold words that were read and nothing that
    says whether a word is valid, which is a flip-flop's own affair and starts anew. The latch in
    front of them keeps its word in any case, as the contents do, so a design that a word left
    over could mislead would be wrong without output registers as well. That none does is checked
    on the routed design, which runs with random words in all of them (``sim.gate``, ``seed``).

    Returns
    -------
    int
        Flip-flops that are kept from it.

    Raises
    ------
    ValueError
        A bit of such a net is no flip-flop's: it would be lost.
    """
    kept = 0
    for module in netlist["modules"].values():
        for cell in module["cells"].values():
            if cell["type"] == "DP16KD":
                cell["parameters"]["GSR"] = "DISABLED"
        registers = {cell["connections"]["Q"][0]: cell for cell in module["cells"].values()
                     if cell["type"] == "TRELLIS_FF"}
        bits: dict[int, str] = {}
        for name, net in module.get("netnames", {}).items():
            if int(net["attributes"].get("retained", "0"), 2):
                bits |= {bit: name for bit in net["bits"] if not isinstance(bit, str)}
        for bit, name in bits.items():
            if bit not in registers:
                raise ValueError(f"{name}: bit {bit} is to be retained, but is no flip-flop")
            registers[bit]["parameters"]["GSR"] = "DISABLED"
            kept += 1
    return kept


def fold_constant_registers(netlist: dict) -> int:
    """Replace registers that stay 0 by what they mean.

    :func:`hw.lib.packed_add.guard_bit` keeps yosys from splitting packed adders with registers of
    the form ``zero <= zero & x``. Once mapped they have done their work, and would only be long
    wires: every LUT that one goes to is rewritten not to depend on it.

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
        lut = cells.get(drivers.get(source))
        if lut is None or not _zero_stays(lut, zero):
            continue
        loads = loads or read_loads(module)
        users = [user for user in loads[zero] if user[0] != drivers[source]]
        if loads[source] != [(name, "DI")] or not all(
                user in cells and port in LUT_INPUTS.get(cells[user]["type"], {})
                for user, port in users):
            continue
        for user, port in users:
            _ignore(cells[user], port)
        del cells[drivers[source]], cells[name]
        folded += 1
    return folded


def _zero_stays(lut, net) -> bool:
    """Whether a LUT4 gives 0 whenever ``net``, one of its inputs, is 0."""
    pins = [bit for bit, port in enumerate("ABCD") if lut["connections"][port] == [net]]
    contents = int(lut["parameters"]["INIT"], 2)
    return bool(pins) and not any(contents >> index & 1 for index in range(16)
                                  if not any(index >> pin & 1 for pin in pins))


def _ignore(lut, port):
    """Rewrite a LUT for an input that is always 0, and leave the input at 1, which is free."""
    parameter, bit = LUT_INPUTS[lut["type"]][port]
    contents = int(lut["parameters"][parameter], 2)
    lut["parameters"][parameter] = "".join(
        str(contents >> (index & ~(1 << bit)) & 1) for index in reversed(range(16)))
    lut["connections"][port] = ["1"]


def fold_constant_inputs(netlist: dict) -> int:
    """Rewrite the LUTs of carry cells not to depend on inputs that are constant 0.

    There is no constant 0 beside the cells: nextpnr wires each such input to a LUT
    that gives it, all over the chip. An input left open is 1.

    Returns
    -------
    int
        Inputs that need no wire any more.
    """
    folded = 0
    for module in netlist["modules"].values():
        for cell in module["cells"].values():
            for port in LUT_INPUTS["CCU2C"] if cell["type"] == "CCU2C" else ():
                if cell["connections"][port] == ["0"]:
                    _ignore(cell, port)
                    folded += 1
    return folded


def absorb_operands(netlist: dict) -> int:
    """Compute the operands of adders in the adders' own LUTs.

    yosys maps ``a + b`` to carry cells (CCU2C) that use two of the four inputs of each bit's LUT.
    What ``a`` and ``b`` are, such as ``x ^ negate`` or ``y & follow``, becomes LUTs in front of
    them. A bit takes over its operands if they are functions of at most four nets together. A and
    B alone decide about the carry generated: one of the operands lies there, or that much of it as
    is left when C and D are 0.

    A LUT in front goes when nothing uses it any more; only those that drive nothing but operands
    are looked at.

    Returns
    -------
    int
        LUTs (LUT4) taken away.
    """
    return sum(_absorb_operands_in_module(module) for module in netlist["modules"].values())


def _absorb_operands_in_module(module) -> int:
    cells = module["cells"]
    loads = read_loads(module)
    luts = {}
    for name, cell in cells.items():
        if cell["type"] == "LUT4":
            output = cell["connections"]["Z"][0]
            if all(user in cells and cells[user]["type"] == "CCU2C" and port[0] in "AB"
                   for user, port in loads[output]):
                luts[output] = name
    candidates = [(cell, half) for cell in cells.values() if cell["type"] == "CCU2C"
                  for half in "01"]
    used = defaultdict(int, {output: len(loads[output]) for output in luts})
    for cell, half in candidates:
        pins = cell["connections"]
        operands = [pins[port + half][0] for port in "AB"]
        if (not any(operand in luts for operand in operands)
                or any(not isinstance(pins[port + half][0], str) for port in "CD")):
            continue
        # Both operands, else one of them.
        for absorbed in (operands, operands[:1], operands[1:]):
            functions = [_function(cells[luts[operand]] if operand in luts
                                   and operand in absorbed else None, operand)
                         for operand in operands]
            if _merge(cell, half, functions):
                for operand in absorbed:
                    used[operand] -= 1
                break
    gone = [name for output, name in luts.items() if used[output] == 0]
    for name in gone:
        del cells[name]
    return len(gone)


def _function(lut, net):
    """``(nets, values)`` of a LUT4, or of ``net`` itself: values by the bits of the nets."""
    if lut is None:
        return ((), [int(net == "1")]) if isinstance(net, str) else ((net,), [0, 1])
    pins = [lut["connections"][port][0] for port in "ABCD"]
    nets = tuple(dict.fromkeys(pin for pin in pins if not isinstance(pin, str)))
    contents = int(lut["parameters"]["INIT"], 2)
    values = []
    for index in range(1 << len(nets)):
        known = {net: index >> place & 1 for place, net in enumerate(nets)}
        address = sum(known.get(pin, int(pin == "1")) << bit for bit, pin in enumerate(pins))
        values.append(contents >> address & 1)
    return nets, values


def _merge(cell, half, functions) -> bool:
    """Rewrite one bit of a carry cell for operands that are functions of nets; False if it cannot.

    The carry is ``LUT ? carry in : LUT at C = D = 0``: where that row is used as a sum as well,
    both readings must agree.
    """
    nets = tuple(dict.fromkeys(net for operand, _ in functions for net in operand))
    if len(nets) > 4:
        return False
    contents = int(cell["parameters"][f"INIT{half}"], 2)
    constant = sum(int(cell["connections"][port + half][0] == "1") << bit
                   for bit, port in ((2, "C"), (3, "D")))
    # Inputs that nothing needs are 1.
    for order in permutations([*nets, *[None] * (4 - len(nets))]):
        sums: dict = {}
        carries: dict = {}
        for pins in product(*((1,) if net is None else (0, 1) for net in order)):
            known = dict(zip(order, pins, strict=True))
            row = sum(values[sum(known[net] << place for place, net in enumerate(operand))] << bit
                      for bit, (operand, values) in enumerate(functions))
            sums[pins] = contents >> (row | constant) & 1
            if not sums[pins]:
                carries.setdefault(pins[:2], set()).add(contents >> row & 1)
        new = {**{(*pins, 0, 0): min(values) for pins, values in carries.items()}, **sums}
        if all(values == {new[*pins, 0, 0]} for pins, values in carries.items()):
            cell["parameters"][f"INIT{half}"] = "".join(
                str(new.get(tuple(index >> bit & 1 for bit in range(4)), 0))
                for index in reversed(range(16)))
            for port, net in zip("ABCD", order, strict=True):
                cell["connections"][port + half] = ["1" if net is None else net]
            return True
    return False


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
    loads = read_loads(module)
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
