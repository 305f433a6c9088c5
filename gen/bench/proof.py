"""Whether the small bitstream is the design that was synthesised: rungs of qsdt prove."""

from collections.abc import Callable
from pathlib import Path
import time
from typing import Any

from gen.flow.synth import SYNTHESISED
from gen.proof.static import bitstream, lvs, passes
from sim.gate.netlist import read_routed


__all__ = ["prove_small"]


def prove_small(folder: Path, seed: int, *, say: Callable[[str], Any] = print) -> list[dict]:
    """Run the rungs ``passes``, ``lvs`` and ``bitstream`` of :mod:`gen.prove` on a build.

    Returns for each its ``rung``, the ``differences``, its ``figure``, and ``seconds``.
    """
    netlist = folder / "top.json"
    routed = read_routed(folder / f"route-{seed}.routed.json.gz")
    rungs = {"passes": lambda: passes(folder / SYNTHESISED, netlist, say),
             "lvs": lambda: lvs(read_routed(netlist), routed, say),
             "bitstream": lambda: bitstream(folder / "top.bit", folder / f"route-{seed}.config",
                                            routed, say)}
    found = []
    for rung, run in rungs.items():
        started = time.monotonic()
        finding = run()
        found.append({"rung": rung, "differences": finding.differences, "figure": finding.figure,
                      "seconds": round(time.monotonic() - started, 1)})
        say(f"{rung}: {finding.figure}")
    return found
