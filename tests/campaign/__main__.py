"""Random faults behind synthesis: `python -m tests.campaign BUILD --count 200 --seed 1`.

A third is planted where our passes work, between the netlist and placement; a third in the routed
design; a third in the bitstream. Of the first two the bitstream follows faithfully, so that only
what looks at the design can see them. Results go to docs/results/faults-MODEL.json and .md.

Both rungs are sums of local comparisons. A fault in a cell changes its own statements, and those of
cells that read a net without a name of it: only these are made again and compared
(`faults.Design`; tests/synth/test_gate.py holds that to a comparison of everything). In the
bitstream a fault changes a tile, or the contents of a block RAM.
"""

import argparse
from collections import Counter
import json
from pathlib import Path
import random
import sys
import time

from gen.flow.bitstream import unpack
from gen.proof.build import open_build
from gen.proof.trellis import parse_config, read_config
from model.files import write_atomic
from sim.gate.netlist import read_routed
from tests.campaign.faults import Bits, Design, PASS_FAULTS, plant, plant_bits, ROUTED_FAULTS


ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"
RUNGS = ("lvs", "bitstream")


def campaign(build, count, seed, say=print):
    """Plant and look. Returns the record."""
    started = time.monotonic()
    module = read_routed(build.routed)
    design = Design(read_routed(build.netlist), module)
    bits = Bits(module, read_config(build.config), parse_config(unpack(build.bit)))
    say(f"without a fault: {design.differences} and {bits.differences} differences")
    if design.differences or bits.differences:
        raise SystemExit("the build itself has differences: there is nothing to measure")
    rng, faults = random.Random(seed), []
    for number in range(count):
        place = ("passes", "routed", "bitstream")[number % 3]
        if place == "bitstream":
            kind, what, caught = plant_bits(bits, rng)
        else:
            kind, what, caught = plant(design, rng, PASS_FAULTS if place == "passes"
                                       else ROUTED_FAULTS)
        faults.append({"number": number, "place": place, "kind": kind, "what": what, **caught})
    return {"bitstream": build.bitstream, "model": build.report["model"],
            "board": build.report["board"], "seed": seed, "count": count,
            "seconds": round(time.monotonic() - started), "faults": faults}


def rates(faults):
    """``[(what, faults, caught by LVS, by the bitstream's rung, by either)]``."""
    rows = []
    for place in ("passes", "routed", "bitstream", "all"):
        group = [fault for fault in faults if place in ("all", fault["place"])]
        rows.append((place, len(group), sum(bool(fault["lvs"]) for fault in group),
                     sum(bool(fault["bitstream"]) for fault in group),
                     sum(bool(fault["lvs"] or fault["bitstream"]) for fault in group)))
    return rows


def page(record):
    faults = record["faults"]
    yield "# Planted faults behind synthesis"
    yield ""
    yield (f"Made by `python -m tests.campaign --count {record['count']} --seed {record['seed']}` "
           f"on {record['model']} for {record['board']}, bitstream SHA-256 "
           f"`{record['bitstream']}`, in {record['seconds']} s.")
    yield ("A third of the faults lies between the netlist and placement, where our passes work, a "
           "third in the routed design, a third in the bitstream. Of the first two the bitstream "
           "is taken to follow faithfully. The gate level was not run on them.")
    yield ""
    yield "| planted in | faults | caught by `lvs` | caught by `bitstream`, LVS off | LVS on |"
    yield "|---|---|---|---|---|"
    for place, count, lvs, bitstream, either in rates(faults):
        yield (f"| {place} | {count} | {lvs} | {bitstream} | {either} "
               f"({100 * either / max(count, 1):.1f} %) |")
    yield ""
    alone = [fault for fault in faults if fault["place"] == "bitstream"]
    yield (f"Of the {len(alone)} in the bitstream, {sum(fault['text'] for fault in alone)} differ "
           f"from what nextpnr wrote, and {sum(fault['design'] for fault in alone)} from the "
           "routed design itself.")
    yield ""
    yield "| kind | planted in | faults | caught |"
    yield "|---|---|---|---|"
    counts = Counter((fault["kind"], fault["place"]) for fault in faults)
    for (kind, place), count in sorted(counts.items()):
        caught = sum(bool(fault["lvs"] or fault["bitstream"]) for fault in faults
                     if (fault["kind"], fault["place"]) == (kind, place))
        yield f"| {kind} | {place} | {count} | {caught} |"
    yield ""
    yield "## Survivors"
    yield ""
    survivors = [fault for fault in faults if not (fault["lvs"] or fault["bitstream"])]
    if not survivors:
        yield "None: every fault is caught by a rung."
    for fault in survivors:
        yield (f"- {fault['number']}, {fault['kind']} in {fault['place']}: {fault['what']}; "
               f"{fault['why']}.")
    yield ""
    yield "## Caught in the bitstream, but not by the routed design alone"
    yield ""
    hidden = [fault for fault in alone if fault["text"] and not fault["design"]]
    if not hidden:
        yield "None."
    for fault in hidden:
        yield f"- {fault['number']}, {fault['kind']}: {fault['what']}."


def main(arguments):
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("build", type=Path, nargs="?",
                        default=ROOT / "build" / "ulx3s-85f-qsdt_nano")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    record = campaign(open_build(options.build), options.count, options.seed)
    path = RESULTS / f"faults-{record['model']}.json"
    write_atomic(path, json.dumps(record, indent=1) + "\n")
    write_atomic(path.with_suffix(".md"), "\n".join(page(record)) + "\n")
    for place, count, *caught in rates(record["faults"]):
        print(place, count, dict(zip((*RUNGS, "either"), caught, strict=True)))


if __name__ == "__main__":
    main(sys.argv[1:])
