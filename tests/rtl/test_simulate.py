"""Long runs in RTL: signatures, checkpoints, excerpts, and the word that is named at the end."""

from dataclasses import replace
from functools import partial
import re

import numpy as np
import pytest

from boards import find_board
from gen.check.compare import excerpt_cases, image_cases, verify
from gen.check.simulate import Checkpoints, controls_of, simulate
from gen.check.trace import first_difference, iss_trace, rtl_trace, rtl_writes
from gen.compile.compiler import compile_network
from gen.compile.excerpt import excerpt, PATTERNS
from gen.config.memory import sdram_config
from model.integer.random_network import random_network
import sim.rtl.core
from sim.rtl.core import NOTHING, RtlCore, twin_memory
from sim.twin.sdram_system import SdramSystem
from tests.rtl.test_networks import CORES


pytestmark = pytest.mark.rtl

ALL = ("integer", "iss", "rtl")


@pytest.fixture(scope="module")
def case():
    """A network and its program on a core that test_networks.py compiles, too."""
    config, params, twin = CORES["narrow"]
    found = random_network(23, params=params, max_size=10, max_dim=40)
    return found, compile_network(found.network, config), twin


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    monkeypatch.setattr(sim.rtl.core, "CHUNK", 5000)


@pytest.fixture
def options(case, request, tmp_path):
    return {"forms": ALL, "twin": case[2], "cache": request.config.cache.mkdir("rtl"),
            "checkpoints": tmp_path / "checkpoints", "every": 20_000}


SDRAM = sdram_config(find_board("ulx3s"), 130_000_000)


@pytest.mark.parametrize("memory", ["twin", "sdram"])
def test_interrupted_run_equals_uninterrupted(case, request, tmp_path, memory):
    """Behind the stalling twin, and the SDRAM's controller with its chip on a clock of its own."""
    found, program, twin = case
    options = {"memory": twin_memory(program.memory_words, **vars(twin))}
    if memory == "sdram":
        options = {"memory": partial(SdramSystem, SDRAM, verilog=True),
                   "clocks_hz": (80_000_000, SDRAM.clock_hz)}
    core = RtlCore(program.config, cache=request.config.cache.mkdir("rtl"), **options)
    image = found.images(1)[0]
    writes = [(0, program.payload), *rtl_writes(program, image)]
    options = {"limit": 10_000_000, "trace": NOTHING}
    with core:
        run = simulate(core, program, writes, **options)
        trace, records = rtl_trace(program, core, run)
    assert run.end.violations == 0 and run.counters["ERRORS"] == 0
    assert first_difference(program, iss_trace(program, image), trace) is None
    saved = Checkpoints.of(tmp_path, core, controls_of(program), writes, every=20_000)
    middle = run.cycles // 2
    with core:
        simulate(core, program, writes, checkpoints=saved, **options,
                 until=lambda state: state.cycles >= middle)
    last = max(saved.saved())
    assert len(saved.saved()) > 1 and 20_000 <= last < run.cycles
    seen = []
    with core:
        again = simulate(core, program, writes, checkpoints=saved, **options,
                         until=lambda state: seen.append(state.cycles))
        trace_again, records_again = rtl_trace(program, core, again)
    assert seen[0] == last + 1                              # continued, not begun anew
    np.testing.assert_array_equal(records, records_again)   # signatures, events and cycles
    np.testing.assert_array_equal(trace.acc, trace_again.acc)
    assert run.end == again.end
    # A finished run is not run again; that of another image starts anew.
    with core:
        assert simulate(core, program, writes, checkpoints=saved, **options).end == run.end
    other = [(0, program.payload), *rtl_writes(program, ~image)]
    assert Checkpoints.of(tmp_path, core, controls_of(program), other,
                          every=20_000).folder != saved.folder


def test_signatures(case, options):
    found, program, _ = case
    result = verify(found.network, program, found.images(2), compare="signatures", **options)
    assert not result.differences, result.lines
    assert all("by signatures" in line for line in result.lines)
    assert not any(options["checkpoints"].rglob("*.state"))


@pytest.mark.parametrize("compare", ["signatures", "tensors"])
@pytest.mark.parametrize("kind", ["level", "u"])
def test_names_the_element(case, options, compare, kind):
    found, program, _ = case
    # The last tensor of the kind that more than one descriptor writes.
    name = [o.tensor for d in program.descriptors for o in d.outputs
            if program.maps[o.tensor].kind == kind and o.first > 0][-1]
    whole, = image_cases(found.network, found.images(1))
    tensors = whole.tensors({})
    tensors[name] = tensors[name].copy()
    right = int(tensors[name][0, 1, -1, 0])
    tensors[name][0, 1, -1, 0] ^= 1
    changed = replace(whole, tensors=lambda stats: tensors)
    result = verify(found.network, program, [changed], compare=compare, **options)
    height = program.maps[name].height
    place = (rf"image 0, layer \S+, {kind} {re.escape(name)}, tile 0, channel 1 \(lane \d+\), "
             rf"position \({height - 1}, 0\): {right ^ 1} against {right}$")
    assert set(result.differences) == {("integer", "iss"), ("integer", "rtl")}
    for text in result.differences.values():
        assert re.match(place, text), text


def test_excerpts(case, options):
    found, program, _ = case
    network, images = found.network, found.images(1)
    layers = list(dict.fromkeys(d.layer for d in program.descriptors))
    for name in (layers[0], layers[1], "block3.0", layers[-2], "head"):
        part = excerpt(network, program, name)
        result = verify(network, part.program, excerpt_cases(part, images), **options)
        assert not result.differences, (name, result.lines)
    part = excerpt(network, program, "block4.0")
    result = verify(network, part.program, excerpt_cases(part, images, PATTERNS), **options)
    assert not result.differences, result.lines
