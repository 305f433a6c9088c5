"""A small design through the real tools: the routed one is the netlist, and works as a board.

The shell with a core that copies, and a memory of block RAMs, some of 4 bits and some of 18.
"""

from copy import deepcopy
from pathlib import Path
import random
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest

from boards import find_board
from boards.ecp5_restart import ASK_BITS
from gen.device.device import Device
from gen.flow.bitstream import pack, unpack
from gen.flow.route import route
from gen.flow.rtl import read_identity, write_rtl
from gen.flow.synth import synthesize
from gen.flow.toolchain import find_toolchain
from gen.pnr import replicate
from gen.pnr.ecp5 import STATIC_CLOCK
from gen.pnr.place import read_design
from gen.proof.bitstream import compare_config
from gen.proof.fabric import compare_design
from gen.proof.lvs import compare
from gen.proof.trellis import parse_config, read_config
from hw.config import CoreConfig
from hw.memory.onchip_memory import OnChipMemory
from hw.register import Counter, Register, Restart
from hw.shell import Shell
from model.files import locked
from sim.gate.board import build_gates, GateBoard
from sim.gate.contents import read_words, word_pieces, write_contents
from sim.gate.netlist import GateNetlist, read_routed
from sim.rtl.stub_core import HUNG, StubCore
from tests.campaign import gate
from tests.campaign.faults import (
    Bits,
    Design,
    is_lut,
    PASS_FAULTS,
    PLANT,
    plant_bits,
    ROUTED_FAULTS,
    why,
)
from tests.campaign.lanes import compile_lanes, Lanes, with_fault


pytestmark = pytest.mark.synth

DIVISOR = 8
WORDS = 4096 + 1024
NONE, FAULTS, RAMS = 10, 50, 4
IMAGE, RESULT, COUNT = 4080, 100, 20


@pytest.fixture(scope="module")
def routed(cache_home):
    """(netlist, routed design), as modules, what lies in the bitstream, and the identity.

    The tools run once, also where these tests are spread over several processes.
    """
    folder = cache_home / "routed-stub"
    with locked(folder, wait=True):
        if not (folder / "top.bit").exists():
            board = find_board("ulx3s-12f")
            shell = Shell(CoreConfig(rows=16), memory=OnChipMemory(words=WORDS), divisor=DIVISOR,
                          core=StubCore())
            write_rtl(board, shell, folder, core_clock_hz=80_000_000)
            tools = find_toolchain("auto")
            synthesize(board, folder, tools)
            pack(board, folder, tools, route(board, folder, tools))
    return (read_routed(folder / "top.json"), read_routed(folder / "route-1.routed.json.gz"),
            read_config(folder / "route-1.config"), parse_config(unpack(folder / "top.bit")),
            read_identity((folder / "top.il").read_text())[1])


def test_layout_is_the_schematic(routed):
    result = compare(*routed[:2])
    assert not result.differences, result.differences[:3]
    assert result.compared["flip-flop"] > 1000 and result.compared["LUT"] > 1000
    assert {"LUT-RAM", "multiplexer", "cell"} <= set(result.compared)


def test_bitstream_is_the_routed_design(routed):
    _, design, written, read, _ = routed
    text = compare_config(written, read)
    assert not text.differences, text.differences[:3]
    assert text.compared["block RAMs"] and text.compared["bits that are 1"] > 10_000
    result = compare_design(design, read)
    assert not result.differences, result.differences[:3]
    assert result.compared["LUTs"] > 1000 and result.compared["words of block RAM"] > 2048


def test_copies_are_folded(routed, monkeypatch):
    """Replication that is forced; a copy that reads another net is found."""
    for name, value in (("REPLICATE_BELOW", 1e9), ("REPLICATE_GAIN", -1e9), ("REPLICA_SPAN", 4),
                        ("REPLICA_LOADS", 1)):
        monkeypatch.setattr(replicate, name, value)
    module = deepcopy(routed[1])
    copies = replicate.replicate(module, read_design(module,
                                                     {"clk": 80.0, "board_clk": 25.0}))
    assert copies > 50
    result = compare(routed[0], module)
    assert not result.differences and result.folded == copies
    one, other = [cell for name, cell in module["cells"].items() if "$copy" in name][:2]
    one["connections"]["M"] = other["connections"]["Q"]
    assert compare(routed[0], module).differences


@pytest.mark.parametrize("seed", [None, 1])
def test_routed_design_as_a_board(routed, request, tmp_path, seed):
    """Words that lie in its block RAMs are read, others written; the core copies, plus one."""
    rng = np.random.default_rng(0)
    words = rng.integers(0, 1 << 64, WORDS, dtype=np.uint64)
    board = GateBoard(routed[1], folder=tmp_path, divisor=DIVISOR, words=words.tolist(),
                      cache=request.config.cache.mkdir("rtl"), seed=seed)
    with board, Device(board.url, timeout=board.link_timeout) as device:
        assert device.info().identity == routed[4] > 0
        for address in (0, 1, 4093, 4096, WORDS - 3):
            np.testing.assert_array_equal(device.read(address, 3), words[address:address + 3])
        fresh = rng.integers(0, 1 << 64, 40, dtype=np.uint64)
        device.write(4080, fresh)
        device.start(image=4080, image_stride=20, result=100, result_stride=20, count=2)
        device.wait(timeout=60)
        np.testing.assert_array_equal(device.read(100, 40), fresh + np.uint64(1))
        assert device.counters()["IMAGES"] == 2
    # What its block RAMs hold at the end: what was there, was written, and is a result.
    end = np.array(board.words(0, WORDS), np.uint64)
    words[4080:4120], words[100:140] = fresh, fresh + np.uint64(1)
    np.testing.assert_array_equal(end, words)


def test_restart_of_the_routed_design(routed, request, tmp_path):
    """The answer leaves, the clocks stop, global set/reset, and everything begins anew: but for
    the memory, and what is retained. Its output registers hold random words."""
    board = GateBoard(routed[1], folder=tmp_path, divisor=DIVISOR, seed=2,
                      cache=request.config.cache.mkdir("rtl"))
    words = np.random.default_rng(0).integers(0, 1 << 64, 40, dtype=np.uint64)
    with board, Device(board.url, timeout=3) as device:
        device.write(4080, words)
        device.start(program=HUNG)
        for count, cause in enumerate((Restart.ABORT, Restart.HOST), 1):
            state = device.restart(cause)
            assert state == {"busy": 0, "lock_lost": 0, "cause": cause, "restarts": count}
            assert device.read_registers(Register.START) == [0]
            assert device.counters()["IMAGES"] == 0
            device.start(program=0, image=4080, image_stride=20, result=100, result_stride=20,
                         count=2)
            device.wait(timeout=60)
            np.testing.assert_array_equal(device.read(100, 40), words + np.uint64(1))
    assert board.cycles > 2 * (1 << ASK_BITS)


def test_retained_flip_flops(routed):
    """Those of the controller of restarts, and no other, are kept from global set/reset."""
    netlist, design = routed[:2]
    kept = {name for name, cell in design["cells"].items()
            if cell["type"] == "TRELLIS_FF" and cell["parameters"]["GSR"] == "DISABLED"}
    marked = {bit for net in netlist["netnames"].values()
              if int(net["attributes"].get("retained", "0"), 2) for bit in net["bits"]}
    assert len(kept) == len(marked - {"0", "1"}) > ASK_BITS + 8
    assert all(name.startswith("restart_controller.") for name in kept)
    # All flip-flops of the oscillator's clock are the controller's (gen.pnr.ecp5.STATIC_CLOCK).
    clock = {bit for name, net in design["netnames"].items()
             if name.removeprefix("$glbnet$") == STATIC_CLOCK for bit in net["bits"]}
    of_clock = {name for name, cell in design["cells"].items()
                if cell["type"] == "TRELLIS_FF" and set(cell["connections"]["CLK"]) & clock}
    assert len(of_clock) >= len(kept)
    assert all(name.startswith("restart_controller.") for name in of_clock)
    assert {cell["parameters"]["GSR"] for cell in design["cells"].values()
            if cell["type"] == "DP16KD"} == {"DISABLED"}


def test_planted_faults_are_found(routed):
    """Every one that changes the design at all; and what the campaign finds by comparing again
    only what a fault touches is what a comparison of everything finds."""
    netlist, module = routed[:2]
    design, rng = Design(netlist, module), random.Random(0)
    assert design.differences == 0
    kinds = sorted({*PASS_FAULTS, *ROUTED_FAULTS})
    for number in range(FAULTS):
        kind = kinds[number % len(kinds)]
        cells, also, what = PLANT[kind](design, rng)
        changed = {name: cell for name, cell in (module["cells"] | cells).items() if cell}
        found = bool(compare(netlist, {**module, "cells": changed}).differences)
        assert found == bool(design.look(cells, also)), (number, kind, what)
        none = changed == module["cells"] or why(design, cells).endswith("no fault")
        assert found or none, (number, kind, what)


def test_faults_in_the_bitstream_have_equivalents(routed):
    """What the routed design does not see changes none of its cells; what changes them, LVS sees
    in the design that has them."""
    netlist, module, written, read, _ = routed
    bits, design, rng = Bits(module, written, read), Design(netlist, module), random.Random(0)
    changed = 0
    for number in range(2 * FAULTS):
        kind, what, cells, said = plant_bits(bits, rng)
        assert said["design"] or not cells, (number, kind, what)
        assert cells or said["why"], (number, kind, what)
        assert not cells or design.look(cells), (number, kind, what)
        changed += bool(cells)
    assert changed > FAULTS


def planted(netlist, module):
    """Faults of all kinds, first some that are none: LUTs with two inputs exchanged; last contents
    of LUT-RAMs."""
    design, rng, faults = Design(netlist, module), random.Random(0), []
    for _ in range(NONE):
        name = design.pick(rng, is_lut)
        cell = deepcopy(design.cells[name])
        nets, table = cell["connections"], int(cell["parameters"]["INITVAL"], 2)
        nets["A"], nets["D"] = nets["D"], nets["A"]
        exchanged = (index & 6 | index >> 3 & 1 | (index & 1) << 3 for index in range(16))
        cell["parameters"]["INITVAL"] = "".join(
            str(table >> at & 1) for at in reversed(list(exchanged)))
        faults.append({name: cell})
    kinds = sorted({*PASS_FAULTS, *ROUTED_FAULTS})
    faults += [PLANT[kinds[number % len(kinds)]](design, rng)[0] for number in range(FAULTS)]
    for name in sorted(name for name, cell in design.cells.items()
                       if str(cell["parameters"].get("MODE", "")).strip() == "DPRAM")[:RAMS]:
        cell = deepcopy(design.cells[name])
        cell["parameters"]["INITVAL"] = "1" * 16
        faults.append({name: cell})
    return faults


BEFORE = np.random.default_rng(0).integers(0, 1 << 64, WORDS, dtype=np.uint64).tolist()
RIGHT = [(word + 1) % (1 << 64) for word in BEFORE[IMAGE:IMAGE + COUNT]]


def script():
    """Requests to the core that copies."""
    image = SimpleNamespace(program=0, log=0, image=IMAGE, image_words=COUNT, result=RESULT,
                            result_words=COUNT)
    return list(gate.requests(image, 500))


@pytest.fixture(scope="module")
def in_lanes(routed, request):
    """(faults, their run)"""
    netlist, module = routed[:2]
    faults = planted(netlist, module)
    lanes = Lanes(module, faults)
    numbers = {name: number for number, name in enumerate(lanes.memories)}
    watch = {"result": [[(numbers[name], *rest) for name, *rest in pieces]
                        for pieces in word_pieces(module, RESULT, COUNT)]}
    binary = compile_lanes(lanes, request.config.cache.mkdir("rtl"))
    return faults, gate.run_lanes(binary, lanes, module, script=script(), divisor=DIVISOR,
                                  words=BEFORE, watch=watch)


@pytest.mark.slow
def test_lanes(in_lanes):
    """Lane 0 answers, copies and counts; faults that are none are never seen, many others are."""
    faults, run = in_lanes
    assert run.words["result"] == RIGHT
    assert run.answers["counters"][Counter.IMAGES] == 1 and run.answers["end"] == [0]
    none = range(1, NONE + 1)
    assert not run.caught.keys() & set(none) and not run.stirred.keys() & set(none)
    assert len(run.caught) > FAULTS // 5
    assert run.caught.keys() <= run.stirred.keys()
    # What lies in a LUT-RAM at first is read before it is written, by some.
    assert run.stirred.keys() & set(range(NONE + FAULTS + 1, len(faults) + 1))


def replay(module, folder, cache):
    """Answers of a design in Verilator, bytes by request, and its result."""
    netlist = GateNetlist(module)
    binary = build_gates(netlist, Path(gate.__file__).with_name("replay.cpp"), cache).resolve()
    write_contents(folder, netlist, module, words=BEFORE)
    (folder / "script").write_text("".join(f"{line}\n" for line in script()))
    output = subprocess.run([binary, str(DIVISOR)], cwd=folder, text=True, check=True,
                            stdout=subprocess.PIPE).stdout
    answers = dict(line.split(" ")[1:] for line in output.splitlines())
    return ({label: bytes.fromhex(text) for label, text in answers.items()},
            read_words(folder, netlist, module, RESULT, COUNT))


@pytest.mark.slow
def test_lanes_are_verilator(routed, in_lanes, request, tmp_path):
    """Without a fault: every byte that is answered, and the result."""
    cache, (_, run) = request.config.cache.mkdir("rtl"), in_lanes
    answers, result = replay(routed[1], tmp_path, cache)
    assert result == run.words["result"] == RIGHT
    assert {label: gate.data_of(answer) for label, answer in answers.items()} == run.answers


@pytest.mark.slow
def test_lanes_are_the_faulty_netlists(routed, in_lanes, request):
    """A lane does what lane 0 does in the model of the netlist that has its fault: one of each kind
    that the run can see. Requests are sent at the same times, and every byte is the same: as many
    as had come when the lane was caught, or when the request had its answer."""
    module, (faults, run) = routed[1], in_lanes
    cache = request.config.cache.mkdir("rtl")
    kinds, seen = len({*PASS_FAULTS, *ROUTED_FAULTS}), {}
    answered = [lane for lane, (_, how) in run.caught.items() if how.endswith("another answer")]
    for lane in sorted(answered):
        seen.setdefault((lane - NONE - 1) % kinds if lane <= NONE + FAULTS else -1, lane)
    assert len(seen) >= 4
    for lane in seen.values():
        faulty = with_fault(module, faults[lane - 1])
        lanes = Lanes(faulty, [])
        alone = gate.run_lanes(compile_lanes(lanes, cache), lanes, faulty, script=script(),
                               divisor=DIVISOR, words=BEFORE, times=run.times)
        label = run.caught[lane][1].partition(":")[0]
        before = list(run.answers)[:list(run.answers).index(label)]
        assert [alone.times[one] for one in (*before, label)] == [
            run.times[one] for one in (*before, label)]
        assert [alone.sent[one] for one in before] == [run.sent[one] for one in before]
        both = min(len(alone.sent[label]), len(run.its[lane]))
        assert alone.sent[label][:both] == run.its[lane][:both] != run.sent[label][:both], lane
