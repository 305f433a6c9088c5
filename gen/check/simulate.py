"""One run of a program in RTL: resumable by checkpoints, with a line of progress."""

from contextlib import contextmanager
from dataclasses import dataclass, field
import logging
from pathlib import Path
import shutil

import numpy as np

from gen.machine.cost import predict
from model.error import ToolFailed, ToolMissing
from model.files import digest_bytes
from model.progress import track
from sim.rtl.verilator import SimulatorFailed, SimulatorMissing


__all__ = ["Checkpoints", "Meter", "reported", "simulate"]


log = logging.getLogger(__name__)


@contextmanager
def reported():
    """Report what a simulator of the block lacks, or its failure, as every command does."""
    try:
        yield
    except SimulatorMissing as error:
        raise ToolMissing(error.tool, install=error.install) from None
    except SimulatorFailed as error:
        raise ToolFailed(str(error), log=error.log) from None


@dataclass
class Checkpoints:
    """States of one run in a folder of its own, one file every ``every`` cycles and at the end.

    The folder is named by all that decides how the run goes, so that a state never continues
    another run.
    """

    folder: Path
    every: int

    @classmethod
    def of(cls, root, core, controls, writes, *, every):
        """Those of a run of ``core`` (:class:`sim.rtl.core.RtlCore`) that starts with
        ``writes``."""
        parts = [str(core.identity).encode(), str(controls).encode()]
        for address, words in writes:
            parts += [str(address).encode(), np.ascontiguousarray(words, np.uint64).tobytes()]
        return cls(Path(root) / digest_bytes(*parts)[:20], every)

    def saved(self):
        """Cycles -> path, in order."""
        return {int(path.stem): path for path in sorted(self.folder.glob("*.state"))}

    def before(self, cycle=None):
        """Path of the last state before ``cycle`` (or of all), else None."""
        fitting = [at for at in self.saved() if cycle is None or at < cycle]
        return self.saved()[fitting[-1]] if fitting else None

    def save(self, core, state):
        """Keep the state of a core that is at ``state`` (:class:`sim.rtl.core.RtlProgress`)."""
        core.save(self.folder / f"{state.cycles:012}.state")

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass
class Meter:
    """Progress of a long run: cycles, the layer, and the time to its end.

    The end is estimated from the cost model's times: how much longer than predicted the run took
    so far, it will take to the end.
    """

    program: object
    timing: object
    title: str = "rtl"
    _ends: list = field(init=False, repr=False)

    def __post_init__(self):
        self._ends = sorted(end for _, end in predict(self.program, self.timing).times)

    def expected(self, state):
        """Estimated cycles of the whole run."""
        done = min(state.descriptors, len(self._ends))
        if done == 0:
            return self._ends[-1]
        return max(state.cycles, round(self._ends[-1] * state.cycles / self._ends[done - 1]))

    def layer(self, state):
        """Layer of the descriptor that completes next, about."""
        descriptors = self.program.descriptors
        return descriptors[min(state.descriptors, len(descriptors) - 1)].layer

    @contextmanager
    def watching(self):
        """A function to call with every :class:`sim.rtl.core.RtlProgress`."""
        with track(self.title, None, "cycles") as task:
            def watch(state):
                if task.first is None:
                    task.first = state.cycles    # a continued run begins in the middle
                task.reach(state.cycles, self.expected(state))
                task.text = self.layer(state)

            yield watch


def simulate(core, program, writes, *, limit, trace, checkpoints=None, before=None, until=None,
             meter=None):
    """Run a program once, or go on with it from its last checkpoint.

    Parameters
    ----------
    core : sim.rtl.core.RtlCore
        Entered; with ``checkpoints`` a fresh one.
    program : gen.isa.program.Program
    writes : list of (int, array)
        What memory needs beside the payload, which is there.
    limit : int
        Cycles.
    trace : (int, int)
        See :meth:`sim.rtl.core.RtlCore.advance`. Words before a checkpoint are not seen again.
    checkpoints : Checkpoints or None
    before : int or None
        Start from a state before this cycle, or from the beginning.
    until : callable or None
        Ends the run early where it returns True for an :class:`sim.rtl.core.RtlProgress`.
    meter : Meter or None

    Returns
    -------
    sim.rtl.core.RtlRun
    """
    saved = checkpoints.before(before) if checkpoints else None
    if saved is not None:
        core.restore(saved)
        log.info("rtl: continued from cycle %d", int(saved.stem))
    else:
        for address, words in writes:
            core.write(address, words)
        core.start(**controls_of(program))
    due = None

    def watch(state):
        nonlocal due
        if show is not None:
            show(state)
        if until is not None and until(state):
            return True
        if checkpoints:
            if due is not None and before is None and (state.finished or state.cycles >= due):
                checkpoints.save(core, state)
            if due is None or state.cycles >= due:
                due = (state.cycles // checkpoints.every + 1) * checkpoints.every
        return False

    if meter is None:
        show = None
        return core.finish(limit=limit, trace=trace, watch=watch)
    with meter.watching() as show:
        return core.finish(limit=limit, trace=trace, watch=watch)


def controls_of(program):
    """Controls of a core (:data:`sim.rtl.top.CONTROLS`) for one image."""
    return {"program": program.program, "image": program.image, "result": program.result,
            "log": program.log}
