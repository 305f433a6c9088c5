"""Compare the forms of a network on the same inputs: integer model, ISS, RTL.

Every level map, z and membrane is compared as the units write it, or for large networks the
signature of each descriptor first; the first difference is named by layer, tile, channel and
position.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import combinations
import logging
from pathlib import Path

import numpy as np

from gen.check.simulate import Checkpoints, controls_of, Meter, simulate
from gen.check.trace import (
    first_difference,
    integer_trace,
    iss_trace,
    rtl_trace,
    rtl_writes,
    traced_words,
    written_words,
)
from gen.compile.excerpt import excerpt, pattern
from gen.machine.cost import layer_cycles, ON_CHIP, spans
from model.error import VerificationFailed
from model.progress import track
from sim.rtl.core import EVERYTHING, NOTHING, RtlCore, RtlTimeout, twin_memory
from sim.rtl.verilator import SIMULATORS
from sim.twin.sdram_chip import broken_rules


__all__ = ["COMPARISONS", "FORMS", "Case", "Verification", "compares_whole", "excerpt_cases",
           "image_cases", "parts", "verify"]


log = logging.getLogger(__name__)


FORMS = ("integer", "iss", "rtl")

COMPARISONS = ("tensors", "signatures")

NO_STALLS = {"latency": 2}
"""The memory twin that is never in the way."""

LIMIT = 50_000_000
"""Cycles in which the RTL must finish an image."""

WHOLE_WORDS = 1_000_000
"""Pool words written per image up to which every one is compared."""

CHECKPOINT_CYCLES = 2_000_000

TRACE_AHEAD = 64
"""Cycles before the recorded start of a descriptor where tracing it may begin: the record counts
from a few cycles after the run's start."""


@dataclass
class Verification:
    """Outcome of :func:`verify`: one line per compared pair, the first difference of each, and
    figures of the runs."""

    lines: list
    differences: dict
    figures: dict


@dataclass(frozen=True)
class Case:
    """One run to compare: an image int8 (C, H, W) or sample (T, C, H, W), other inputs as (address,
    memory words), and the integer model, which makes its tensors (adding to the counters that it is
    given)."""

    title: str
    image: np.ndarray
    presets: list
    tensors: Callable


def image_cases(network, images):
    """The whole network on images int8 (N, C, H, W) or samples (N, T, C, H, W)."""
    return [Case(f"image {k}", images[k], [],
                 lambda stats, k=k: network.run(images[k:k + 1], stats=stats))
            for k in range(len(images))]


def excerpt_cases(part, images, patterns=()):
    """An excerpt on the integer model's tensors for images, or on patterns."""
    cases = []
    for title, inputs in [*((f"pattern {name}", part.pattern(name)) for name in patterns),
                          *((f"image {k}", part.tensors(images[k]))
                            for k in range(0 if patterns else len(images)))]:
        image = inputs.get("image", np.zeros((1, *part.network.input_shape[-3:]), np.int8))[0]
        cases.append(Case(title, image, part.presets(inputs),
                          lambda stats, inputs=inputs: part.run(inputs, stats=stats)))
    return cases


class _Rtl:
    """The RTL as a form: compiled once; traced whole, or only where signatures differ.

    Traced whole, one simulator takes all cases, one after the other, as a board does. Else each
    case has a fresh one, so that its run can be continued and repeated in part.
    """

    def __init__(self, program, *, core, whole, checkpoints, every, limit, timing):
        self.program, self.core, self.whole = program, core, whole
        self._root, self._every = checkpoints, every
        self._limit, self._timing = limit, timing
        self._stack = ExitStack()
        self.checkpoints = []

    def __enter__(self):
        if self.whole:
            self._stack.enter_context(self.core)
            self.core.write(0, self.program.payload)
        return self

    def __exit__(self, *exception):
        self._stack.close()

    def run(self, case):
        """(Trace, records, RtlRun) of a case."""
        try:
            return self._run(case)
        except RtlTimeout as error:
            raise VerificationFailed(f"rtl: {error}") from None

    def _run(self, case):
        program, core = self.program, self.core
        self._writes = rtl_writes(program, case.image, case.presets)
        if self.whole:
            run = simulate(core, program, self._writes, limit=self._limit, trace=EVERYTHING)
            trace, self._records = rtl_trace(program, core, run)
        else:
            self._writes.insert(0, (0, program.payload))
            saved = Checkpoints.of(self._root, core, controls_of(program), self._writes,
                                   every=self._every)
            self.checkpoints.append(saved)
            with core:
                run = simulate(core, program, self._writes, limit=self._limit, trace=NOTHING,
                               checkpoints=saved,
                               meter=Meter(program, self._timing, f"rtl, {case.title}"))
                trace, self._records = rtl_trace(program, core, run)
        if run.counters["ERRORS"]:
            raise VerificationFailed(f"rtl: memory collision flags {run.counters['ERRORS']:#x} "
                                     f"on {case.title}")
        if run.end.violations:
            raise VerificationFailed(f"rtl: SDRAM rules broken on {case.title}: "
                                     f"{', '.join(broken_rules(run.end.violations))}")
        return trace, self._records, run

    def trace_descriptor(self, trace, index):
        """Add the words of one descriptor to the trace of the last case, by running it again."""
        places, _ = traced_words(self.program)
        first, count = places[index], written_words(self.program.descriptors[index])
        log.info("rtl: running again, to trace descriptor %d", index)
        start, _ = spans(self._records)[index]
        with self.core:
            run = simulate(self.core, self.program, self._writes, limit=self._limit,
                           trace=(first, count), checkpoints=self.checkpoints[-1],
                           before=max(0, start - TRACE_AHEAD),
                           until=lambda state: state.written >= first + count)
        trace.addresses[index], trace.words[index] = run.addresses, run.words


def _tensor_counts(program):
    kinds = {}
    for descriptor in program.descriptors:
        for output in descriptor.outputs:
            kinds.setdefault(program.maps[output.tensor].kind, set()).add(output.tensor)
    raw = {result.tensor: result.name for result in program.results}
    outputs = [raw[name] for name in raw if name in kinds.setdefault("u", set())
               and name == f"{raw[name]}_acc"]
    kinds.setdefault("u", set()).difference_update(f"{name}_acc" for name in outputs)
    names = {"level": "level maps", "z": "z maps", "u": "membranes"}
    return ", ".join([*(f"{len(kinds.get(kind, ()))} {text}" for kind, text in names.items()),
                      *outputs])


def parts(network, program, images, *, layers=(), patterns=()):
    """What is verified: the whole network, some of its layers, or either on patterns.

    Parameters
    ----------
    images : int8 (N, C, H, W) or None
        None for patterns.
    layers : iterable of str
        Names of layers or modules (:func:`gen.compile.excerpt.excerpt`).
    patterns : iterable of str
        Of :data:`gen.compile.excerpt.PATTERNS`.

    Yields
    ------
    (name, program, cases)
        The name is empty for the whole network.
    """
    if layers:
        for name in layers:
            part = excerpt(network, program, name)
            yield part.name, part.program, excerpt_cases(part, images, patterns)
    elif patterns:
        shape, params = network.input_shape, network.params
        found = np.stack([pattern(name, "image", shape, params).astype(np.int8)
                          for name in patterns])
        yield "", program, [replace(case, title=f"pattern {name}") for name, case in zip(
            patterns, image_cases(network, found), strict=True)]
    else:
        yield "", program, image_cases(network, images)


def compares_whole(program):
    """Whether every word is compared unless asked otherwise: where there are few."""
    return traced_words(program)[1] <= WHOLE_WORDS


def verify(network, program, cases, *, forms, twin=None, memory=None, clocks_hz=None,
           compare=None, waveform=None, cache=SIMULATORS, checkpoints=Path("build/checkpoints"),
           every=CHECKPOINT_CYCLES, timing=ON_CHIP, progress=lambda *_: None, limit=LIMIT):
    """Run the forms on every case and compare each pair.

    Parameters
    ----------
    network : IntegerNetwork
    program : gen.isa.program.Program
    cases : int8 (N, C, H, W) or list of Case
        Images, or what :func:`image_cases` and :func:`excerpt_cases` make.
    forms : iterable of str
        Of :data:`FORMS`.
    twin : gen.config.spec.TwinSpec or None
        Memory twin behind the RTL (None: one without stalls), unless ``memory`` and ``clocks_hz``
        are given (:class:`sim.rtl.core.RtlCore`).
    compare : str or None
        One of :data:`COMPARISONS`: "tensors" compares every word that a unit writes;
        "signatures" compares those of the descriptors first and the words of the first that
        differs, saving the RTL's state every ``every`` cycles under ``checkpoints``. None
        compares tensors if there are at most :data:`WHOLE_WORDS` words.
    waveform : sim.rtl.core.Waveform or None
        Where to record the signals of the RTL, for a single case; tensors are compared.
    timing : gen.machine.cost.MemoryTiming
        For estimates of the time left.
    limit : int
        Cycles of the RTL for a case.

    Returns
    -------
    Verification
    """
    stats, figures, differences = {}, {}, {}
    cases = cases if isinstance(cases, list) else image_cases(network, cases)
    pairs = list(combinations([f for f in FORMS if f in forms], 2))
    whole = compares_whole(program) if compare is None else compare == "tensors"
    if waveform is not None:
        if len(cases) != 1:
            raise ValueError(f"A waveform is of a single run, not of {len(cases)}")
        whole = True
    with ExitStack() as stack:
        rtl = None
        if "rtl" in forms:
            core = RtlCore(program.config, clocks_hz=clocks_hz, cache=cache,
                           memory=memory or twin_memory(
                               program.memory_words, **(vars(twin) if twin else NO_STALLS)),
                           waveform=waveform)
            rtl = stack.enter_context(_Rtl(program, core=core, whole=whole, timing=timing,
                                           checkpoints=checkpoints, every=every, limit=limit))
        cycles, spikes, counters, records = [], [], {}, None
        for case in cases:
            traces = {}
            if "integer" in forms:
                traces["integer"] = integer_trace(program, case.tensors(stats), 0)
            if "iss" in forms:
                with track(f"iss, {case.title}", len(program.descriptors), "descriptors") as task:
                    traces["iss"] = iss_trace(program, case.image, case.presets,
                                              progress=task.update)
            if rtl is not None:
                traces["rtl"], records, run = rtl.run(case)
                cycles.append(run.cycles)
                spikes.append(run.counters["SPIKE_EVENTS"])
                counters = run.counters
            for a, b in pairs:
                if (a, b) in differences:
                    continue
                found = first_difference(program, traces[a], traces[b])
                if found and not found.traced:
                    rtl.trace_descriptor(traces["rtl"], found.index)
                    found = first_difference(program, traces[a], traces[b])
                if found:
                    differences[a, b] = f"{case.title}, {found.text}"
            progress(1)
        if cycles:
            layers = layer_cycles(program, spans(records))
            figures |= {"cycles": cycles, "spike_events": spikes,
                        "counters": {k: v for k, v in counters.items() if v},
                        "layer_cycles": {name: cost.cycles for name, cost in layers.items()}}
        if rtl is not None and not differences:
            for saved in rtl.checkpoints:
                saved.remove()
    figures["stats"] = stats
    counts = _tensor_counts(program) + ("" if whole else "; by signatures")
    lines = []
    for a, b in pairs:
        text = differences.get((a, b))
        lines.append(f"{a} = {b}: " + (f"DIFFERENT, {text}" if text else
                     f"equal on {cases[0].title.split()[0]}s: {len(cases)} ({counts})"))
    return Verification(lines, differences, figures)
