"""Plant faults while a network runs: ``python -m gen.faults --model qsdt_nano --out DIR``."""

from functools import cache, partial
from pathlib import Path
import sys

import numpy as np

from boards import DEFAULT
from gen.api import configure, VIRTUAL
from gen.campaign.board import on_shelf
from gen.campaign.fault import KINDS, MODES, TURNS
from gen.campaign.measure import measure
from gen.campaign.run import Campaign
from gen.campaign.trial import Reference, Trial, Trials
from gen.check.simulate import reported
from gen.compile.results import raw_of
from gen.config.spec import read_overrides
from gen.device.device import CRC_WORDS
from gen.inputs import (
    add_image_options,
    add_network_options,
    load_images,
    load_network,
    network_words,
)
from gen.machine.iss import Iss
from model.command import add_verbosity, ArgumentParser, called, main, next_step, require
from model.error import as_input_error, InputError, known, VerificationFailed
from model.files import check_folder
from sim.rtl.verilator import require_tools, SIMULATORS


__all__ = ["cli"]


CYCLES_S = 20_000
"""Cycles in a second of a simulator on a busy machine."""

ANSWER_S, CRC_S = 10.0, 30.0
"""Without an answer, after which a frame is sent again: simulated time passes slowly, and a CRC of
``CRC_WORDS`` words takes that much more."""


def _parser():
    parser = ArgumentParser(
        prog=called("gen.faults"),
        description="Plant faults while a network runs on the virtual board, and count what comes "
                    "of them. Kinds: "
                    + "; ".join(f"{name}: {text}" for name, text in KINDS.items())
                    + ". Each runs with one of the checks of qsdt run.",
        epilog="Ends with 1 if a wrong result was returned as right where a check covers the "
               "fault, or if something hung. An interrupted campaign goes on where it was.")
    add_network_options(parser)
    add_image_options(parser)
    parser.set_defaults(count=100)
    parser.add_argument("--board", default=DEFAULT, metavar="NAME",
                        help="whose core runs on the virtual board (default: %(default)s)")
    parser.add_argument("--config", metavar="C.yaml", help="overrides of the configuration")
    parser.add_argument("--seed", type=int, default=1, metavar="S",
                        help="of all that is drawn (default: %(default)s)")
    parser.add_argument("--kinds", metavar="K,…", help="some kinds only (default: all)")
    parser.add_argument("--check", metavar="C,…",
                        help=f"some of {', '.join(MODES)} only (default: all, in turn)")
    parser.add_argument("--pictures", type=int, default=4, metavar="N",
                        help="images that take turns (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, metavar="N",
                        help="faults at a time (default: %(default)s)")
    parser.add_argument("--note", default="", metavar="TEXT", help="a sentence for the page")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR",
                        help="folder of the campaign")
    parser.add_argument("--cache", default=SIMULATORS, type=Path, metavar="DIR",
                        help="compiled simulators (default: %(default)s)")
    add_verbosity(parser)
    return parser


def _chosen(text, what, names):
    """Some of ``names``, in their order."""
    if text is None:
        return tuple(names)
    chosen = {known(what, name.strip(), names) for name in text.split(",")}
    return tuple(name for name in names if name in chosen)


def _reference(design, images):
    @cache
    def simulated(words):
        image = np.frombuffer(words, np.int8).reshape(design.network.input_shape)
        acc, _, outcomes = Iss(design.program).run(image)
        return [outcome.write_hash for outcome in outcomes], acc.reshape(-1)

    return Reference(images, raw_of(design.network, images),
                     lambda image: simulated(image.tobytes()))


def _check(arguments):
    for name in ("count", "pictures", "jobs"):
        if getattr(arguments, name) < 1:
            raise InputError(f"--{name} must be at least 1, not {getattr(arguments, name)}")
    require("serial", what="the link to the virtual board")
    check_folder(arguments.out)
    with reported():
        require_tools()


def _run(arguments):
    kinds = _chosen(arguments.kinds, "kind", KINDS)
    turns = tuple(kind for kind in TURNS if kind in kinds)
    modes = _chosen(arguments.check, "check", MODES)
    _check(arguments)
    overrides = read_overrides(arguments.config)
    name, network = load_network(arguments)
    images = load_images(arguments.images, network, model=arguments.model,
                         count=arguments.pictures, dataset=arguments.data,
                         data_dir=arguments.data_dir, fit=arguments.fit,
                         background=arguments.background).image_q
    with as_input_error():
        design = configure(network, board=arguments.board, name=name, overrides=overrides)
    cycles = design.prediction.cycles
    with on_shelf(design.board, design.config, design.image, arguments.cache) as shelf:
        patience = max(60.0, 20 * cycles / CYCLES_S)
        timeout = ANSWER_S + CRC_S * min(1, len(design.image.payload) / CRC_WORDS)
        make = partial(Trial, shelf, design.image, _reference(design, images), timeout=timeout,
                       patience=patience, board=design.board)
        space = measure(shelf, design.program, make(), images=len(images), cycles=cycles)
        settings = {
            "command": arguments.command_line, "model": name, "board": design.board.name,
            "core": f"{design.config.core.rows}x{design.config.core.rows} lanes, memory "
                    + ("on chip" if design.config.memory == "onchip" else "SDRAM"),
            "payload": design.image.payload_digest, "config": design.config.to_dict(),
            "seed": arguments.seed, "kinds": turns, "modes": modes, "cycles": space.cycles,
            "count": arguments.count, "note": arguments.note}
        trials = Trials(make, timeout=timeout, limit=20 * timeout + 10 * patience)
        found = Campaign(arguments.out, settings).run(
            space, trials.run, count=arguments.count, seed=arguments.seed, kinds=turns,
            modes=modes, jobs=arguments.jobs, stop=trials.stop)
    print(f"{found['faults']} faults: "
          + ", ".join(f"{count} {outcome}" for outcome, count in _totals(found).items()))
    print(arguments.out / "campaign.md")
    next_step("gen.measure", "--board", VIRTUAL, *network_words(arguments), "--meter", "simulated")
    if found["broken_promises"]:
        raise VerificationFailed(f"{len(found['broken_promises'])} results that must not be: see "
                                 f"{arguments.out / 'campaign.md'}")


def _totals(found):
    totals = {}
    for rows in found["counts"].values():
        for row in rows.values():
            for outcome, count in row.items():
                totals[outcome] = totals.get(outcome, 0) + count
    return totals


def cli(argv=None):
    return main(_run, _parser(), argv)


if __name__ == "__main__":
    sys.exit(cli())
