"""Rough static timing of a synthesised netlist, in seconds and before placement.

`python -m gen.pnr.estimate NETLIST.json` lists the slowest paths of an ECP5
netlist that yosys wrote. Cell delays are about those of speed grade 6; a wire's delay grows with
its fan-out, because a net with many loads is long. The figures are no promise (nextpnr places and
routes); they show which nets to register before minutes are spent on a placement.
"""

from collections import defaultdict
import json
import math
from pathlib import Path
import re
import sys

from gen.pnr.ecp5 import CARRY_NS, launch_delay, LUT_NS
from gen.pnr.graph import main_module, net_names, sides
from model.command import ArgumentParser, called, main
from model.error import InputError, os_error_text


__all__ = ["cli", "worst_paths"]


SEQUENTIAL = frozenset({"TRELLIS_FF", "DP16KD", "TRELLIS_DPR16X4"})
"""Cells at which paths start and end."""

END_NS = 0.2
"""Setup time of any input of one."""

GLOBAL_LOADS = 15_000
"""Clock and reset of the design: these go over the chip's global nets."""


def _wire(loads):
    """Delay of a net in ns."""
    if loads >= GLOBAL_LOADS:
        return 2.0
    if loads < 40:
        return 0.6 + 0.3 * math.log2(loads + 1)
    return min(2.2 + 0.03 * (loads - 40), 7.0)


def _type(cell):
    return cell["type"].split("\\")[-1]


class _Graph:
    """Arcs between nets, launch times, and end points of one module."""

    def __init__(self, module):
        self.arcs = defaultdict(list)     # output net -> (input net, delay, through carry)
        self.launch = {}
        self.ends = []
        self.loads = defaultdict(int)
        for name, cell in module["cells"].items():
            self._add(name, _type(cell), cell)

    def _add(self, name, kind, cell):
        inputs, outputs = sides(cell)
        for _, bit in inputs:
            self.loads[bit] += 1
        if kind in SEQUENTIAL:
            parameters = cell.get("parameters", {})
            self.launch.update((bit, launch_delay(kind, parameters, port))
                               for port, bit in outputs)
            self.ends += [(bit, name, port) for port, bit in inputs
                          if not port.startswith(("CLK", "WCK", "RAD"))]
        if kind in LUT_NS:
            for target, out in outputs:
                for port, bit in inputs:
                    if kind == "TRELLIS_DPR16X4" and port != "RAD":
                        continue
                    carry = kind == "CCU2C" and port == "CIN"
                    delay = CARRY_NS if carry and target == "COUT" else LUT_NS[kind]
                    self.arcs[out].append((bit, delay, carry))

    def arrivals(self):
        """(arrival time, predecessor) of every net, in topological order."""
        waiting = {net: len(arcs) for net, arcs in self.arcs.items()}
        users = defaultdict(list)
        for net, arcs in self.arcs.items():
            for source, _, _ in arcs:
                users[source].append(net)
        time, before = {}, {}
        ready = [net for net in {*users, *self.launch} if net not in waiting]
        while ready:
            net = ready.pop()
            best, source_of = self.launch.get(net, 0.0), None
            for source, delay, carry in self.arcs.get(net, ()):
                arrival = time[source] + delay + (0.0 if carry else _wire(self.loads[source]))
                if arrival > best:
                    best, source_of = arrival, source
            time[net], before[net] = best, source_of
            for user in users[net]:
                waiting[user] -= 1
                if not waiting[user]:
                    ready.append(user)
        return time, before


def worst_paths(module, count):
    """Slowest paths of a module of a yosys JSON netlist, one for each starting signal.

    Returns
    -------
    list of (ns, end, list of (ns, loads, net))
    """
    graph, names = _Graph(module), net_names(module)
    time, before = graph.arrivals()
    found = sorted(((time[bit] + _wire(graph.loads[bit]) + END_NS, bit, cell, port)
                    for bit, cell, port in graph.ends if bit in time), reverse=True)
    paths, seen = [], set()
    for total, bit, cell, port in found:
        path = []
        while bit is not None:
            path.append((time[bit], graph.loads[bit], names.get(bit, str(bit))))
            bit = before[bit]
        start = re.sub(r"\[\d+\]|\d+", "", path[-1][2])
        if start not in seen:
            seen.add(start)
            paths.append((total, f"{cell}.{port}", path[::-1]))
            if len(paths) == count:
                break
    return paths


def _run(arguments):
    path = arguments.netlist
    try:
        module = main_module(json.loads(path.read_text()))
        paths = worst_paths(module, arguments.count)
    except OSError as error:
        raise InputError(os_error_text(error, path)) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: is not a netlist of yosys ({type(error).__name__}: {error}); "
                         "give a file that its write_json wrote after synth_ecp5") from error
    for total, end, path in paths:
        print(f"{total:6.2f} ns to {end}")
        for ns, loads, net in path:
            print(f"  {ns:6.2f}  {loads:5d} loads  {net}")


def cli(argv=None):
    parser = ArgumentParser(prog=called("gen.pnr.estimate"), description=__doc__.split("\n")[0])
    parser.add_argument("netlist", type=Path,
                        help="netlist of an ECP5 design that yosys' write_json wrote, e.g. "
                             "top.json of a build folder")
    parser.add_argument("--count", type=int, default=10, metavar="N",
                        help="paths to list (default: %(default)s)")
    return main(_run, parser, argv)


if __name__ == "__main__":
    sys.exit(cli())
