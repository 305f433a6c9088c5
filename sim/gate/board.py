"""A routed design as a virtual board."""

from pathlib import Path

from sim.gate.contents import read_words, write_contents
from sim.gate.netlist import CELLS, GateNetlist
from sim.rtl.verilator import build_simulator
from sim.rtl.virtual_board import HARNESS, VirtualBoard


__all__ = ["GateBoard", "build_gates", "connected"]


TOP = """
module top(input clk, input rst, input rx, output tx, output busy, output [2:0] restart,
           input [11:0] state);
{wires}
gate gate({pins});
assign busy = 1'b1;
assign restart = 0;
endmodule
"""


class GateBoard(VirtualBoard):
    """:class:`sim.rtl.virtual_board.VirtualBoard` of a routed design with one clock.

    All its clocks are the simulation's, its PLL is locked from the start, and no button is
    pressed.

    Parameters
    ----------
    module : dict
        Of :func:`sim.gate.netlist.read_routed`.
    folder : Path
        For the contents of its memories; exists.
    divisor : int
        Cycles of a bit on its UART.
    cache : Path
        Folder of compiled simulators.
    words, seed
        As for :func:`sim.gate.contents.write_contents`.
    """

    link_timeout = 600.0
    """As of a virtual board; an answer takes some 20,000 cycles."""

    def __init__(self, module, *, folder, divisor, cache, words=(), seed=None):
        self._prepare(divisor, cache)
        self._folder, self._module = Path(folder), module
        self.netlist = GateNetlist(module)
        write_contents(self._folder, self.netlist, module, words=words, seed=seed)

    def words(self, first, count):
        """``count`` words (list of int) of the memory behind the core from address ``first``,
        after the board was stopped."""
        return read_words(self._folder, self.netlist, self._module, first, count)

    def _build(self):
        return build_gates(self.netlist, HARNESS, self._cache)


def build_gates(netlist, harness, cache):
    """Path of the executable of a :class:`sim.gate.netlist.GateNetlist` with the ports of a virtual
    board, driven by ``harness``."""
    return build_simulator(netlist.text + _top(netlist), harness, cache, sources=[CELLS],
                           options=["--output-split-cfuncs", "2000"])


def _top(netlist):
    """Verilog that gives the design the ports of a virtual board."""
    return TOP.format(**connected(netlist, lambda port: None, clock=lambda port: "clk"))


def connected(netlist, special, *, clock):
    """``{"pins": ..., "wires": ...}``, Verilog of what a design's ports are connected to.

    ``special`` gives the net of a port, or None for what every board has: the UART, locked PLLs,
    buttons that nobody presses, outputs that nothing takes, and otherwise ``clock(port)``.
    """
    pins, wires = [], []
    for number, (port, way) in enumerate(netlist.ports.items()):
        if (net := special(port)) is not None:
            pass
        elif way == "output":
            wires.append(f"wire out{number};")
            net = "tx" if port.endswith("__tx__io") else f"out{number}"
        elif port.endswith("__rx__io"):
            net = "rx"
        elif port.endswith("_LOCK"):
            net = "1'b1"
        elif port.startswith("button_"):
            net = "1'b0"
        elif port.endswith(("__scl__io_i", "__sda__io_i")):     # nothing on the bus
            net = "1'b1"
        else:
            net = clock(port)
        pins.append(f".{port}({net})")
    return {"pins": ", ".join(pins), "wires": "\n".join(wires)}
