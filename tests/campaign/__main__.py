"""Random faults behind synthesis: `python -m tests.campaign BUILD --count 200 --seed 1`.

A third is planted where our passes work, between the netlist and placement; a third in the routed
design; a third in the bitstream. Of the first two the bitstream follows faithfully, so that only
what looks at the design can see them. Results go to docs/results/faults-MODEL.json and .md.

The rungs lvs and bitstream are sums of local comparisons. A fault in a cell changes its own
statements, and those of cells that read a net without a name of it: only these are made again and
compared (`faults.Design`; tests/synth/test_gate.py holds that to a comparison of everything). In
the bitstream a fault changes a tile, or the contents of a block RAM.

The rungs gate and unknown run all faults at once, each in a lane of one model (lanes.py). What a
fault in the bitstream does to the routed design is worked out from the wires (chip.py).
"""

import argparse
import json
from pathlib import Path
import random
import sys
import time
from typing import NamedTuple

import numpy as np

from gen.api import configure, load, samples
from gen.check.trace import first_difference, iss_trace
from gen.compile.package import logits_of
from gen.flow.bitstream import unpack
from gen.proof.build import open_build
from gen.proof.gate import BoardRun, memory_words
from gen.proof.trellis import parse_config, read_config
from hw.register import Counter
from model.files import write_atomic
from sim.gate.netlist import read_routed
from sim.rtl.verilator import SIMULATORS
from tests.campaign.faults import Bits, Design, PASS_FAULTS, plant, plant_bits, ROUTED_FAULTS
from tests.campaign.gate import requests, run_lanes, watched
from tests.campaign.lanes import compile_lanes, Lanes
from tests.campaign.page import page, rates


ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"

PLACES = ("passes", "routed", "bitstream")

SPARE = 8192
"""Cycles that a run may take longer than the report says, and that pass before it is asked."""


class Planted(NamedTuple):
    """A fault: what is written down of it, and the cells that it changes."""

    record: dict
    cells: dict | None


def plant_all(build, module, count, seed, say):
    """List of :class:`Planted`: a fault with what the rungs lvs and bitstream say of it, and the
    cells of the routed design that it changes; None where that has no such cells."""
    design = Design(read_routed(build.netlist), module)
    bits = Bits(module, read_config(build.config), parse_config(unpack(build.bit)))
    say(f"without a fault: {design.differences} and {bits.differences} differences")
    if design.differences or bits.differences:
        raise SystemExit("the build itself has differences: there is nothing to measure")
    rng, planted = random.Random(seed), []
    for number in range(count):
        place = PLACES[number % 3]
        if place == "bitstream":
            kind, what, cells, said = plant_bits(bits, rng)
        else:
            kind, what, cells, said = plant(design, rng, PASS_FAULTS if place == "passes"
                                            else ROUTED_FAULTS)
        planted.append(Planted({"number": number, "place": place, "kind": kind, "what": what,
                                "gate": None, "unknown": None, "stirred": None, **said}, cells))
    return planted


def run_all(build, module, planted, seeds, cache, say, save):
    """Run one image on all faults that change cells, with defined and with random values; writes
    into their records what was caught, and calls ``save(seeds)`` behind each run."""
    runnable = [fault for fault in planted if fault.cells]
    lanes = Lanes(module, [fault.cells for fault in runnable])
    say(f"{len(runnable)} faults in lanes, {lanes.loops} possible loops; compiling")
    binary = compile_lanes(lanes, cache).resolve()
    image, report = build.image, build.report
    values = samples(report["model"])[0][0]
    _, divisor = build.board.link(report["config"]["clock_hz"])
    script = list(requests(image, report["cycles"]["value"] + SPARE))
    for seed in (None, *range(1, seeds + 1)):
        started = time.monotonic()
        run = run_lanes(binary, lanes, module, script=script, divisor=divisor, seed=seed,
                        words=memory_words(image, values),
                        watch=watched(module, lanes.memories, image))
        _check(build, values, run)
        for lane, fault in enumerate(runnable, 1):
            rung = "gate" if seed is None else "unknown"
            if lane in run.caught and not fault.record[rung]:
                cycle, how = run.caught[lane]
                fault.record[rung] = {"cycle": cycle, "how": how, "seed": seed}
            if seed is None:
                fault.record["stirred"] = run.stirred.get(lane, (0, 0))
        say(f"seed {seed}: {len(run.caught)} of {len(runnable)} caught, {run.cycles:,} cycles, "
            f"{time.monotonic() - started:.0f} s")
        save(seed or 0)


def _check(build, values, run):
    """Raise unless lane 0, the design without a fault, does what the instruction-set simulator
    does."""
    report = build.report
    if not run.answers.get("counters"):
        raise SystemExit("the design without a fault does not answer")
    design = configure(load(report["model"]), board=report["board"], name=report["model"])
    if design.image.payload_digest != build.image.payload_digest:
        raise SystemExit("the build has another program than this code compiles")
    counters = {counter.name: value
                for counter, value in zip(Counter, run.answers["counters"], strict=True)}
    acc, _ = logits_of(build.image, np.array(run.words["result"], np.uint64))
    found = BoardRun(acc, counters, np.array(run.words["records"], np.uint64), run.cycles)
    wrong = first_difference(design.program, iss_trace(design.program, values).signatures(),
                             found.trace())
    if wrong is not None:
        raise SystemExit(f"the design without a fault: {wrong.text}")


def main(arguments):
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("build", type=Path, nargs="?",
                        default=ROOT / "build" / "ulx3s-85f-qsdt_nano")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=2, help="of the rung unknown")
    parser.add_argument("--cache", type=Path, default=SIMULATORS)
    options = parser.parse_args(arguments)
    started = time.monotonic()
    build = open_build(options.build)
    module = read_routed(build.routed)

    def say(text):
        print(f"{time.monotonic() - started:.0f} s: {text}", flush=True)

    def save(seeds):
        record = {"bitstream": build.bitstream, "model": build.report["model"],
                  "board": build.report["board"], "seed": options.seed, "count": options.count,
                  "seeds": seeds, "seconds": round(time.monotonic() - started),
                  "faults": [fault.record for fault in planted]}
        path = RESULTS / f"faults-{record['model']}.json"
        write_atomic(path, json.dumps(record, indent=1) + "\n")
        write_atomic(path.with_suffix(".md"), "\n".join(page(record)) + "\n")

    planted = plant_all(build, module, options.count, options.seed, say)
    run_all(build, module, planted, options.seeds, options.cache, say, save)
    for row in rates([fault.record for fault in planted]):
        print(*row)


if __name__ == "__main__":
    main(sys.argv[1:])
