"""Whether the small bitstream is the design that was synthesised: rungs of qsdt prove."""

from collections.abc import Callable, Mapping
import gzip
import json
from pathlib import Path
import time
from typing import Any

from gen.flow.bitstream import unpack
from gen.flow.synth import SYNTHESISED
from gen.proof.bitstream import compare_config
from gen.proof.fabric import compare_design
from gen.proof.lvs import compare
from gen.proof.passes import compare_passes
from gen.proof.trellis import parse_config, read_config
from sim.gate.netlist import read_routed


__all__ = ["prove_small"]


def _counts(compared: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in compared.items())


def _passes(folder: Path, name: str) -> tuple[int, str]:
    found = compare_passes(json.loads(gzip.decompress((folder / SYNTHESISED).read_bytes())),
                           json.loads((folder / "top.json").read_text()))
    return len(found.differences), f"{found.blocks.total():,} changed blocks proven"


def _lvs(folder: Path, name: str) -> tuple[int, str]:
    found = compare(read_routed(folder / "top.json"),
                    read_routed(folder / f"{name}.routed.json.gz"))
    return len(found.differences), _counts(found.compared)


def _bitstream(folder: Path, name: str) -> tuple[int, str]:
    read = parse_config(unpack(folder / "top.bit"))
    text = compare_config(read_config(folder / f"{name}.config"), read)
    design = compare_design(read_routed(folder / f"{name}.routed.json.gz"), read)
    return (len(text.differences) + len(design.differences),
            f"{_counts(text.compared)}; {_counts(design.compared)}")


RUNGS = {"passes": _passes, "lvs": _lvs, "bitstream": _bitstream}


def prove_small(folder: Path, seed: int, *, say: Callable[[str], Any] = print) -> list[dict]:
    """Run the rungs ``passes``, ``lvs`` and ``bitstream`` of :mod:`gen.prove` on a build.

    Returns for each its ``rung``, the ``differences``, what was ``compared``, and ``seconds``.
    """
    found = []
    for rung, run in RUNGS.items():
        started = time.monotonic()
        differences, compared = run(folder, f"route-{seed}")
        found.append({"rung": rung, "differences": differences, "compared": compared,
                      "seconds": round(time.monotonic() - started, 1)})
        say(f"{rung}: {differences} differences in {compared}")
    return found
