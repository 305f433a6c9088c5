"""The rungs of a proof, from a netlist to the bitstream, and what they show of a build."""

import logging
from pathlib import Path
import tempfile
import time

import numpy as np

from gen.api import samples
from gen.check.simulate import reported
from gen.config.memory import sdram_config, twin_memory
from gen.config.shell import make_shell
from gen.device.port import LinkError
from gen.flow.synth import SYNTHESISED
from gen.proof.gate import difference, memory_words, run_gates, run_on
from gen.proof.origin import check_rtl, notes
from gen.proof.pads import run_layer, small_layer
from gen.proof.record import Rung, write_proof
from gen.proof.static import bitstream, lvs, passes
from hw.register import identity_text
from model.command import require
from model.error import InputError, VerificationFailed
from model.progress import Progress
from model.zoo import shipped
from sim.gate.board import GateBoard
from sim.gate.netlist import read_routed
from sim.gate.sdram_board import PadTimes, SdramGateBoard
from sim.rtl.verilator import require_tools, SIMULATORS
from sim.rtl.virtual_board import VirtualBoard
from sim.twin.sdram_chip import broken_rules


__all__ = ["RUNGS", "SIMULATED", "check_tools", "prove"]


log = logging.getLogger(__name__)


RUNGS = {
    "passes": "what went into placement is what yosys wrote: every block that the netlist passes "
              "changed is proven equal, with enables, resets and initial values",
    "lvs": "layout versus schematic: every cell and net of the routed design against the netlist",
    "bitstream": "every bit and block RAM word that is read back from top.bit against what nextpnr "
                 "wrote, and against the routed design: its wires, LUTs, flip-flops, block RAMs "
                 "and settings",
    "gate": "gate level: the routed design runs one image; results, counters and the log with "
            "its times equal those of the RTL",
    "unknown": "the same with random values wherever nothing defines one, with several seeds",
    "pads": "the routed design boots with a model of the SDRAM chip, finds phase and delay though "
            "every wire has a delay of its own, and runs its smallest layer: signatures equal "
            "those of the instruction-set simulator, no rule of the chip is broken",
}
"""The ladder: what each rung shows."""

SIMULATED = {"gate": "onchip", "unknown": "onchip", "pads": "sdram"}
"""Rungs that run a design, and the memory that they are for."""


WHERE = {"onchip": "on chip", "sdram": "not on chip"}


class _Ladder:
    """The rungs of one build. Each gives whether it holds, a figure, and perhaps its parts."""

    def __init__(self, build, design, cache, seeds):
        self._build, self._design, self._cache, self._seeds = build, design, cache, seeds
        self._routed = read_routed(build.routed)
        self._values = _image(design)
        self._rtl = self._iss = None

    def passes(self, say):
        return _said_of(passes(self._build.synthesised, self._build.netlist, say))

    def lvs(self, say):
        return _said_of(lvs(read_routed(self._build.netlist), self._routed, say))

    def bitstream(self, say):
        return _said_of(bitstream(self._build.bit, self._build.config, self._routed, say))

    def gate(self, say):
        found = self._run(None, say)
        return found is None, found or self._said()

    def unknown(self, say):
        for seed in range(1, self._seeds + 1):
            found = self._run(seed, say)
            if found is not None:
                return False, f"seed {seed}: {found}"
        return True, f"{self._seeds} seeds: {self._said()}"

    def pads(self, say):
        """One layer behind the pads of an SDRAM."""
        design = self._design
        part, words, wanted = small_layer(design.network, design.program, self._values)
        config, hz = design.config, design.config.sdram_clock_hz
        _, divisor = design.board.link(config.clock_hz)
        say(f"routed design, layer {part.name}")
        with tempfile.TemporaryDirectory() as folder, reported():
            board = SdramGateBoard(
                self._routed, folder=Path(folder), divisor=divisor, cache=self._cache, seed=1,
                chip=sdram_config(design.board, hz), times=PadTimes(1),
                clocks={"board": design.board.clock_hz, "sync": config.clock_hz, "sdram": hz},
                phases=design.board.sdram_phases(hz))
            try:
                found = run_layer(board, part.program, words, say=say)
            except LinkError as error:
                return False, str(error)
        broken = ", ".join(broken_rules(board.violations))
        differs = found.difference(wanted) or (f"rules of the chip broken: {broken}" if broken
                                               else None)
        return differs is None, differs or (
            f"{found.memory['window']} of {design.board.sdram_phases(hz)} phases pass, layer "
            f"{part.name}: {len(found.sigs)} signatures equal, "
            f"{found.counters['CYCLES']:,} cycles, no rule broken")

    def _said(self):
        return (f"{self._rtl.counters['CYCLES']:,} cycles, {len(self._rtl.records) // 2} "
                "completion records, all counters and logits equal")

    def _run(self, seed, say):
        """The first difference of a run at gate level, None without one."""
        design, build = self._design, self._build
        if self._rtl is None:
            from gen.check.trace import iss_trace

            say("instruction-set simulator")
            self._iss = iss_trace(design.program, self._values).signatures()
            say("RTL")
            memory = twin_memory(design.board, design.config)
            with reported():
                self._rtl = run_on(VirtualBoard(design.config.core, memory=memory,
                                                cache=self._cache),
                                   build.image, self._values)
        what = "routed design" if seed is None else f"routed design, seed {seed}"
        say(what)
        _, divisor = design.board.link(design.config.clock_hz)
        with tempfile.TemporaryDirectory() as folder, reported():
            board = GateBoard(self._routed, folder=Path(folder), divisor=divisor,
                              cache=self._cache, seed=seed,
                              words=memory_words(build.image, self._values))
            try:
                found = run_gates(board, build.image, say=lambda text: say(f"{what}: {text}"))
            except LinkError as error:
                return str(error)
        if found.identity != build.identity:
            return (f"register IDENTITY: {identity_text(found.identity)}, in RTL "
                    f"{identity_text(build.identity)}")
        return difference(design.program, self._iss, self._rtl, found)


def _image(design):
    """The image that is run: int8 (C, H, W), one that comes with the network, else a random one."""
    if design.name in shipped():
        images, _ = samples(design.name)
        if images.shape[1:] == design.network.input_shape:
            return images[0]
    return np.random.default_rng(0).integers(-128, 128, design.network.input_shape, dtype=np.int8)


def _said_of(finding):
    return not finding.differences, finding.figure, finding.parts, finding.first


def check_tools(memory, names=tuple(RUNGS)):
    """The rungs of ``names`` that belong to a design with this memory, whose tools are there.

    Raises :class:`model.error.ToolMissing`.
    """
    chosen = [name for name in names if SIMULATED.get(name, memory) == memory]
    if set(chosen) & set(SIMULATED):
        require("serial", what="the link to the simulated board")
        with reported():
            require_tools()
    return chosen


def prove(build, design, names, *, command, seeds=5, cache=SIMULATORS):
    """Run some rungs, write ``proof.json`` and ``proof.md``, and print what was found.

    Parameters
    ----------
    build : gen.proof.build.Build
    design : gen.api.Design
        What the build was made of.
    names : sequence of str
        Of :data:`RUNGS`.
    command : str
        The command line, for the record.
    seeds : int
        Of the rung unknown.
    cache : Path
        Compiled simulators.

    Raises
    ------
    VerificationFailed
        A rung does not hold; the files say which.
    InputError
        The RTL of this code is another design.
    """
    if "passes" in names and build.synthesised is None:
        raise InputError(f"{build.folder} has no {SYNTHESISED}, which the rung passes reads: build "
                         f"again: {build.report['command']}")
    said = notes(build)
    for note in said:
        log.warning("%s: %s", build.folder, note)
    progress, rungs = Progress(len(names)), []
    if set(names) & set(SIMULATED):
        log.info("RTL of this code, to compare with the build's")
        check_rtl(build, design, make_shell(design.board, design.config))
    ladder = _Ladder(build, design, cache, seeds)
    for name, text in RUNGS.items():
        if name not in names:
            memory = design.config.memory
            other = SIMULATED.get(name, memory) != memory
            rungs.append(Rung(name, None, f"the memory is {WHERE[memory]}" if other else "", text))
            continue
        started = time.monotonic()
        with progress.step(name):
            passed, figure, *parts = getattr(ladder, name)(progress.update)
            progress.note("holds" if passed else "FAILS")
        rungs.append(Rung(name, passed, figure, text, round(time.monotonic() - started, 1),
                          *parts))
    path = write_proof(build.folder, build, rungs, command, said)
    for rung in rungs:
        print(f"{rung.name}: {rung.verdict}{f', {rung.figure}' if rung.figure else ''}")
    print(path)
    if any(rung.passed is False for rung in rungs):
        raise VerificationFailed(f"{build.bit}: the bitstream is not the design: see {path}")
