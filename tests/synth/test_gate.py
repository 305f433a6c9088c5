"""A small design through the real tools: the routed one is the netlist, and works as a board.

The shell with a core that copies, and a memory of block RAMs, some of 4 bits and some of 18.
"""

from copy import deepcopy
import random

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
from gen.pnr.place import read_design
from gen.proof.bitstream import compare_config
from gen.proof.fabric import compare_design
from gen.proof.lvs import compare
from gen.proof.trellis import parse_config, read_config
from hw.config import CoreConfig
from hw.memory.onchip_memory import OnChipMemory
from hw.register import Register, Restart
from hw.shell import Shell
from model.files import locked
from sim.gate.board import GateBoard
from sim.gate.netlist import read_routed
from sim.rtl.stub_core import HUNG, StubCore
from tests.campaign.faults import Design, PASS_FAULTS, PLANT, ROUTED_FAULTS, why


pytestmark = pytest.mark.synth

DIVISOR = 8
WORDS = 4096 + 1024
FAULTS = 50


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
