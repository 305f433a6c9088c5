"""Read the JSON netlists of yosys and nextpnr: which cells a net connects.

Nets are numbers; the constants "0", "1" and "x" are strings. A cell may be given by its name or by
its number, whichever the caller's collection has.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence


__all__ = ["drivers_and_sinks", "loads", "main_module", "net_names", "net_of", "pins",
           "sides"]


def main_module(netlist: Mapping) -> dict:
    """The module with most cells: the design, beside modules of the vendor's library."""
    return max(netlist["modules"].values(), key=lambda module: len(module["cells"]))


def pins(cell: Mapping) -> Iterator[tuple[str, int]]:
    """``(port, net)`` of everything that a cell is connected to but constants."""
    for port, bits in cell["connections"].items():
        for bit in bits:
            if not isinstance(bit, str):
                yield port, bit


def sides(cell: Mapping) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Pins of a cell's inputs, and of its outputs."""
    inputs: list[tuple[str, int]] = []
    outputs: list[tuple[str, int]] = []
    for port, net in pins(cell):
        (outputs if cell["port_directions"][port] == "output" else inputs).append((port, net))
    return inputs, outputs


def net_of(cell: Mapping, port: str) -> int | None:
    """Net of a port of one bit; None if there is none."""
    bits = cell["connections"].get(port)
    return bits[0] if bits and not isinstance(bits[0], str) else None


def drivers_and_sinks(cells: Sequence[Mapping]) -> tuple[dict, dict]:
    """``{net: (cell, port)}`` of every net that is driven, and ``{net: [(cell, port), ...]}`` of
    what reads it; cells are numbers."""
    driver: dict[int, tuple[int, str]] = {}
    sinks: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for number, cell in enumerate(cells):
        for port, net in pins(cell):
            if cell["port_directions"][port] == "output":
                driver[net] = number, port
            else:
                sinks[net].append((number, port))
    return driver, sinks


def loads(module: Mapping) -> dict:
    """``{net: [(cell name, port), ...]}`` of the inputs on every net and constant; ports of the
    module count with the cell None."""
    found: dict = defaultdict(list)
    for name, cell in module["cells"].items():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "input":
                for bit in bits:
                    found[bit].append((name, port))
    for port in module["ports"].values():
        for bit in port["bits"]:
            found[bit].append((None, None))
    return found


def net_names(module: Mapping) -> dict[int, str]:
    """Shortest given name of every net."""
    names: dict[int, str] = {}
    for name, net in module["netnames"].items():
        for index, bit in enumerate(net["bits"]):
            text = f"{name}[{index}]" if len(net["bits"]) > 1 else name
            if isinstance(bit, int) and (bit not in names or len(text) < len(names[bit])):
                names[bit] = text
    return names
