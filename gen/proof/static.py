"""The rungs that run nothing: netlist passes, layout versus schematic, the bits read back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
import gzip
import json
from pathlib import Path

from gen.flow.bitstream import unpack
from gen.proof.bitstream import compare_config
from gen.proof.blocks import METHOD
from gen.proof.fabric import compare_design
from gen.proof.lvs import compare
from gen.proof.passes import compare_passes
from gen.proof.trellis import parse_config, read_config


__all__ = ["Finding", "bitstream", "lvs", "passes"]


FIRST, CHARACTERS = 20, 400
"""Differences that are told one by one, and how much of each."""


@dataclass(frozen=True)
class Finding:
    """What a rung found: ``differences`` (int), ``figure`` (str, what was compared, with them),
    ``parts`` (list of dict, of what it consists), and ``first`` (list of str, the first
    :data:`FIRST` differences)."""

    differences: int
    figure: str
    parts: list = field(default_factory=list)
    first: list = field(default_factory=list)


def passes(synthesised: Path, netlist: Path, say: Callable[[str], object]) -> Finding:
    """What went into placement against what yosys wrote (``.json.gz``): the blocks by their kind.

    ``say`` is called with the first differences.
    """
    proof = compare_passes(json.loads(gzip.decompress(synthesised.read_bytes())),
                           json.loads(netlist.read_text()))
    for text in proof.differences[:3]:
        say(text)
    kept = f" (global set/reset kept from {_counts(proof.kept)})" if proof.kept else ""
    return Finding(len(proof.differences),
                   f"{len(proof.differences)} differences, {proof.blocks.total():,} changed blocks "
                   f"proven, {proof.same:,} cells as they were{kept}",
                   [{"what": kind, "count": count, "distinct": proof.distinct[kind],
                     "method": METHOD} for kind, count in proof.blocks.items()],
                   _first(proof.differences))


def lvs(netlist: dict, routed: dict, say: Callable[[str], object]) -> Finding:
    """A routed design against its netlist; both are of :func:`sim.gate.netlist.read_routed`."""
    result = compare(netlist, routed)
    parts = ", ".join(f"{count:,} {kind}s" for kind, count in result.compared.items())
    say(parts)
    copies = f", {result.folded:,} copies folded" if result.folded else ""
    shared = (f" (global set/reset kept from {result.shared:,} tristate registers beside DDR "
              "outputs)" if result.shared else "")
    return Finding(len(result.differences),
                   f"{len(result.differences)} differences in {parts}{copies}{shared}",
                   first=_first(result.differences))


def bitstream(bit: Path, config: Path, routed: dict, say: Callable[[str], object]) -> Finding:
    """Every bit of a bitstream against nextpnr's text ``config``, and against the routed design."""
    read = parse_config(unpack(bit))
    text = compare_config(read_config(config), read)
    say(f"{len(text.differences)} differences to what nextpnr wrote")
    design = compare_design(routed, read)
    said = "; ".join(f"{why}: {count:,}" for why, count in text.explained.most_common())
    return Finding(len(text.differences) + len(design.differences),
                   f"{len(text.differences)} differences in {_counts(text.compared)}"
                   + (f" (written differently, bits equal: {said})" if said else "")
                   + f"; {len(design.differences)} to the routed design in "
                   + _counts(design.compared),
                   first=_first([*text.differences[:FIRST], *design.differences[:FIRST]]))


def _first(differences):
    return [str(difference)[:CHARACTERS] for difference in differences[:FIRST]]


def _counts(compared: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in compared.items())
