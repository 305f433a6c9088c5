"""gen.prove as a command: what it says of a build, and which folders it refuses.

The netlists are a flip-flop; what the rungs find on real ones, tests/synth/test_gate.py shows.
"""

from collections import Counter
from dataclasses import replace
import gzip
from importlib import resources
import json
import re
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pytest

from boards import find_board
from gen import build, ladder, prove
from gen.check.trace import Trace
from gen.compile.package import ProgramImage
from gen.compile.results import Result
from gen.flow.report import report_digest
from gen.flow.rtl import identity_of, MODULE
from gen.flow.step import run_step
from gen.proof import origin, static
from gen.proof.gate import BoardRun, difference
from gen.proof.passes import PassProof
from hw.register import identity_text
from model.code import commit
from model.files import digest_file


FF = {"type": "TRELLIS_FF", "parameters": {
          "CEMUX": "1 ", "CLKMUX": "CLK", "LSRMUX": "LSR", "REGSET": "RESET", "GSR": "DISABLED",
          "SD": "1 "},
      "connections": {"CLK": [1], "DI": [2], "Q": [3]},
      "port_directions": {"CLK": "input", "DI": "input", "Q": "output"}}
NETLIST = {"modules": {"top": {"cells": {"ff": FF}, "ports": {}, "netnames": {
    name: {"bits": [bit]} for name, bit in (("clk", 1), ("d", 2), ("q", 3))}}}}
RTL = "module \\top\nend\n"


def bitstream(identity, *, commit_=None, idcode="41113043"):
    """A bitstream file of this identity, as far as it is read here."""
    comments = f"Identity: {identity}\0Commit: {commit_ or commit()}\0".encode()
    return b"\xff\0" + comments + bytes.fromhex(f"ffffffbdb3e2000000{idcode}")


def step(folder, name, inputs, outputs, data):
    """A step that writes these outputs."""
    def work(place):
        for path, content in outputs.items():
            (place / path).write_bytes(content)
        return {"seconds": 1.0, **data}

    run_step(name, folder, inputs={key: folder / path for key, path in inputs.items()},
             depends={}, outputs=list(outputs), work=work, force=True)


def finish(folder, routed=NETLIST, synthesised=NETLIST):
    """Steps and report of a finished build whose netlists are these."""
    clocks = {"clk": {"achieved": 90.0, "constraint": 80.0}}
    used = {"TRELLIS_COMB": {"used": 5}, "DP16KD": {"used": 6}}
    report = json.loads((folder / "report.json").read_text())
    config = report["config"]
    identity = identity_of(RTL, "", board=find_board("ulx3s"), core_clock_hz=config["clock_hz"],
                           sdram_clock_hz=None, config=config)
    (folder / "top.il").write_text(RTL + MODULE.format(value=identity))
    (folder / "top.lpf").write_text("")
    replace(ProgramImage.load(folder / "program.img"), identity=identity).save(
        folder / "program.img")
    step(folder, "synth", {"top.il": "top.il"}, {
        "top.json": json.dumps(NETLIST).encode(),
        "synth.json.gz": gzip.compress(json.dumps(synthesised).encode(), mtime=0)}, {})
    step(folder, "route-1", {"top.json": "top.json", "top.lpf": "top.lpf"}, {
        "route-1.config": b"config", "route-1.json": json.dumps({"utilization": used}).encode(),
        "route-1.routed.json.gz": gzip.compress(json.dumps(routed).encode(), mtime=0)},
        {"clocks": clocks})
    step(folder, "pack", {"top.config": "route-1.config"},
         {"top.bit": bitstream(identity_text(identity))}, {})
    report |= {"until": "bitstream", "seed": 1, "command": "python -m gen.build …",
               "clocks": [{"name": name, **clock} for name, clock in clocks.items()],
               **{key: {"value": value, "tag": "routed"} for key, value in {
                   "fmax_mhz": 90.0, "comb": 5, "ff": 1, "ebr": 6, "dsp": 0, "seconds.rtl": 1,
                   "seconds.synth": 1, "seconds.route": 1, "seconds.pack": 1}.items()}}
    report["tools"] = {"yosys": {"version": "1", "origin": "native"}}
    report["digests"] |= {"bitstream": digest_file(folder / "top.bit"), "verify": "0" * 64}
    report |= {"identity": identity_text(identity), "commit": commit()}
    report["digest"] = report_digest(report)
    (folder / "report.json").write_text(json.dumps(report))


@pytest.fixture(scope="module")
def template(tmp_path_factory, cache_home):
    """A finished build of qsdt_nano for the 85F."""
    home = tmp_path_factory.mktemp("prove")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("XDG_CACHE_HOME", str(cache_home))
        assert build.cli(["--board", "ulx3s", "--model", "qsdt_nano", "--until", "config",
                          "-q"]) == 0
    folder = home / "build" / "ulx3s-85f-qsdt_nano"
    finish(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(template, tmp_path, monkeypatch, cache_home):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))
    for name, content in template.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_proof(folder, capsys):
    assert prove.cli([str(folder), "--only", "passes,lvs", "-q"]) == 0
    out = capsys.readouterr().out
    assert "passes: holds, 0 differences, 0 changed blocks proven, 1 cells as they were" in out
    assert "lvs: holds, 0 differences in 1 flip-flops" in out
    assert "gate: not run" in out and "unknown: not run" in out
    record = json.loads((folder / "proof.json").read_text())
    assert record["bitstream"] == digest_file(folder / "top.bit")
    assert [(rung["name"], rung["passed"]) for rung in record["rungs"]] == [
        ("passes", True), ("lvs", True), ("bitstream", None), ("gate", None), ("unknown", None),
        ("pads", None)]
    page = (folder / "proof.md").read_text()
    assert "| lvs | holds |" in page
    assert "Not run, and so not proven: bitstream, gate, unknown, pads." in page


def test_weights_of_a_file(folder, capsys):
    """A build of a file's weights is proven with that file; another network is refused."""
    qsd = resources.files("model") / "weights" / "qsdt_nano.qsd"
    assert prove.cli([str(folder), "--weights", str(qsd), "--only", "lvs"]) == 0
    assert f"--weights {qsd} --program" in capsys.readouterr().err
    assert prove.cli([str(folder), "--z-bits", "10", "--only", "lvs", "-q"]) == 1
    assert "this code compiles another program for qsdt_nano than the build has" in (
        capsys.readouterr().err)


def test_what_fails_is_said(folder, capsys):
    changed = json.loads(json.dumps(NETLIST))
    changed["modules"]["top"]["cells"]["ff"]["parameters"]["REGSET"] = "SET"
    finish(folder, changed)
    assert prove.cli([str(folder), "--only", "lvs", "-q"]) == 1
    out, err = capsys.readouterr()
    assert "lvs: FAILS, 1 differences" in out and "not the design" in err
    text = (folder / "proof.md").read_text()
    assert "| lvs | FAILS |" in text and "lvs, what differs first:" in text


def test_parts_of_a_rung(folder, capsys, monkeypatch):
    """A pass that loses an initial value; what is proven is said by block."""
    def found(before, after):
        proof = PassProof(5, differences=["rewritten cells: ff"])
        if before == after:
            proof = PassProof(5, Counter({"rewritten cells": 3}), Counter({"rewritten cells": 2}))
        return proof

    monkeypatch.setattr(static, "compare_passes", found)
    changed = json.loads(json.dumps(NETLIST))
    changed["modules"]["top"]["cells"]["ff"]["parameters"]["REGSET"] = "SET"
    finish(folder, synthesised=changed)
    assert prove.cli([str(folder), "--only", "passes", "-q"]) == 1
    assert "passes: FAILS, 1 differences" in capsys.readouterr().out
    finish(folder)
    assert prove.cli([str(folder), "--only", "passes", "-q"]) == 0
    part = {"what": "rewritten cells", "count": 3, "distinct": 2, "method": "yosys sat -tempinduct"}
    record = json.loads((folder / "proof.json").read_text())
    assert record["rungs"][0]["parts"] == [part]
    assert "passes: 3 blocks (rewritten cells; 2 distinct), yosys sat" in (
        folder / "proof.md").read_text()


def test_build_without_the_netlist_of_yosys(folder, capsys):
    step(folder, "synth", {"top.il": "top.il"}, {"top.json": json.dumps(NETLIST).encode()}, {})
    assert prove.cli([str(folder), "--only", "passes", "-q"]) == 1
    assert "has no synth.json.gz, which the rung passes reads: build again" in (
        capsys.readouterr().err)


def change(folder, name, edit):
    content = json.loads((folder / name).read_text())
    edit(content)
    (folder / name).write_text(json.dumps(content))


def other_comb(report):
    report["comb"]["value"] = 4


def other_clock(report):
    report["clocks"][0]["achieved"] = 120.0


def other_bit(report):
    report["digests"]["bitstream"] = "0" * 64


def only_routed(report):
    report["until"] = "route"


def other_speed(report):
    report["images_per_s"]["value"] *= 2


def other_tools(report):
    report["tools"]["yosys"]["version"] = "2"


def other_config(report):
    report["config"]["memory_words"] += 1


def other_commit(report):
    report["commit"] = "0" * 40


def other_identity(report):
    report["identity"] = "00000001"


def no_digest(report):
    del report["digest"]


def no_clocks(report):
    del report["clocks"][0]["name"]


def no_outputs(stamp):
    del stamp["outputs"]["top.json"]


def other_rtl(folder):
    """Synthesised and said to be of the build's identity, which it is not."""
    text = (folder / "top.il").read_text()
    (folder / "top.il").write_text("module \\other\nend\n" + text.removeprefix(RTL))
    step(folder, "synth", {"top.il": "top.il"}, {"top.json": json.dumps(NETLIST).encode()}, {})


def no_identity(folder):
    (folder / "top.il").write_text(RTL)
    step(folder, "synth", {"top.il": "top.il"}, {"top.json": json.dumps(NETLIST).encode()}, {})


def other_program(folder):
    replace(ProgramImage.load(folder / "program.img"), identity=1).save(folder / "program.img")


def other_comment(folder):
    step(folder, "pack", {"top.config": "route-1.config"}, {"top.bit": bitstream("00000001")}, {})
    change(folder, "report.json", lambda report: report["digests"].update(
        bitstream=digest_file(folder / "top.bit")))


@pytest.mark.parametrize("spoil, message", [
    (lambda folder: (folder / "report.json").unlink(), "no folder of qsdt build"),
    (lambda folder: (folder / "report.json").write_text("{"), "report.json is damaged"),
    (lambda folder: change(folder, "report.json", only_routed), "built up to 'route' only"),
    (lambda folder: change(folder, "report.json", other_comb), r"LUTs: 4, the files have 5"),
    (lambda folder: change(folder, "report.json", other_clock), "clocks: "),
    (lambda folder: change(folder, "report.json", other_bit), "does not belong to this build"),
    (lambda folder: (folder / "top.bit").write_bytes(bitstream("0")),
     "top.bit is not what step pack"),
    (lambda folder: (folder / "top.json").unlink(), "top.json is missing; build again: python"),
    (lambda folder: (folder / "route-1.stamp.json").unlink(), "route-1.stamp.json: No such file"),
    (lambda folder: step(folder, "synth", {"top.il": "top.il"}, {"top.json": b"{}"}, {}),
     "step route did not start from what synth has written"),
    (lambda folder: (folder / "program.img").write_bytes(b""), "not a complete program image"),
    (lambda folder: (folder / "top.il").unlink(), "top.il is missing"),
    (lambda folder: (folder / "top.il").write_text(RTL), "top.il is not what step synth started"),
    (lambda folder: (folder / "top.lpf").write_text("x"), "top.lpf is not what step route started"),
    (lambda folder: change(folder, "report.json", other_speed),
     "report.json was changed since the build wrote it; build again: py"),
    (lambda folder: change(folder, "report.json", other_tools), "was changed since"),
    (lambda folder: change(folder, "report.json", no_digest), "was changed since"),
    (lambda folder: change(folder, "report.json", other_config),
     "clocks and configuration have identity"),
    (lambda folder: change(folder, "report.json", other_commit), r"\(commit: 00000000"),
    (lambda folder: change(folder, "report.json", other_identity), r"\(identity: 00000001"),
    (lambda folder: change(folder, "report.json", no_clocks), "lacks 'name'; build again"),
    (lambda folder: change(folder, "synth.stamp.json", no_outputs), "did not start from what"),
    (lambda folder: change(folder, "synth.stamp.json", dict.clear), "stamp.json is damaged"),
    (lambda folder: (folder / "pack.stamp.json").write_text("[]"), "stamp.json is damaged"),
    (other_rtl, "clocks and configuration have identity"),
    (no_identity, "top.il has no constant with the design's identity"),
    (other_program, "program.img: was built for bitstream 00000001, the build's is"),
    (other_comment, "identity in the bitstream: .*, the files have 00000001"),
])
def test_build_that_is_refused(folder, capsys, spoil, message):
    spoil(folder)
    assert prove.cli([str(folder), "--only", "lvs", "-q"]) == 1
    err = capsys.readouterr().err
    assert re.search(message, err), err
    assert err.count("\n") == 1 and not (folder / "proof.json").exists()


def test_bitstream_of_another_board(folder, capsys):
    step(folder, "pack", {"top.config": "route-1.config"},
         {"top.bit": bitstream("0", idcode="21111043")}, {})
    assert prove.cli([str(folder), "--only", "lvs", "-q"]) == 1
    assert "is for IDCODE 0x21111043, ulx3s-85f has 0x41113043" in capsys.readouterr().err


def test_another_commit_and_other_tools(folder, capsys, monkeypatch):
    """Named, on the screen and in the files."""
    monkeypatch.setattr(origin, "commit", lambda: "1" * 40)
    assert prove.cli([str(folder), "--only", "lvs"]) == 0
    said = [f"built by commit {commit()}, checked by the code of commit {'1' * 40}",
            "built with yosys 1 (native), here is "]
    notes = json.loads((folder / "proof.json").read_text())["notes"]
    err, page = capsys.readouterr().err, (folder / "proof.md").read_text()
    for text, note in zip(said, notes, strict=True):
        assert note.startswith(text) and note in err and f"- {note}" in page


def test_rtl_of_another_commit(folder, capsys, monkeypatch):
    """A run of it would prove nothing of this code."""
    monkeypatch.setattr(origin, "write_rtl", lambda *arguments, **options: SimpleNamespace(
        data={"identity": 0x1a2b3c4d}))
    assert prove.cli([str(folder), "--only", "gate", "-q"]) == 1
    err = capsys.readouterr().err
    assert re.search(r"is design \w{8}, built by commit [\w-]+; the RTL of this code \(commit "
                     r"[\w-]+\) is 1a2b3c4d: check that commit out, or build again: py", err)
    assert err.count("\n") == 1 and not (folder / "proof.json").exists()


def test_build_and_prove(folder, capsys, monkeypatch, tmp_path_factory):
    """In one go; what is wrong with it is said before anything that takes long."""
    monkeypatch.chdir(tmp_path_factory.mktemp("one_go"))
    command = ["--board", "ulx3s", "--model", "qsdt_nano", "-q", "--prove"]
    assert build.cli([*command, "--until", "rtl"]) == 1
    assert "--prove needs the bitstream: leave out --until rtl" in capsys.readouterr().err
    report = json.loads((folder / "report.json").read_text())
    monkeypatch.setattr(build, "build", lambda *arguments, **options: (
        report, folder / "report.md"))
    monkeypatch.setattr(ladder, "check_tools", lambda memory: ["lvs"])
    assert build.cli(command) == 0
    assert "lvs: holds" in capsys.readouterr().out and (folder / "proof.json").is_file()
    changed = json.loads(json.dumps(NETLIST))
    changed["modules"]["top"]["cells"]["ff"]["parameters"]["REGSET"] = "SET"
    finish(folder, changed)
    assert build.cli(command) == 1
    assert "top.bit: the bitstream is not the design: see" in capsys.readouterr().err


def test_rungs_that_need_a_memory_on_chip(folder, capsys, monkeypatch):
    monkeypatch.setattr(prove, "check_tools", lambda memory, names: names[:1])
    assert prove.cli([str(folder), "--only", "lvs,gate", "-q"]) == 1
    assert "--only lvs,gate: gate cannot run here: gate and unknown run designs whose" in (
        capsys.readouterr().err)


def test_bad_options(folder, capsys):
    for arguments, message in ((["--only", "silicon"],
                                "known are passes, lvs, bitstream, gate, unknown, pads"),
                               (["--seeds", "0"], "--seeds must be at least 1")):
        assert prove.cli([str(folder), *arguments]) == 1
        assert message in capsys.readouterr().err


class Program:
    descriptors = ()
    results = (Result("logits", "head/u", 0, weight=np.eye(2, dtype=np.int8)),)
    maps = MappingProxyType({"head/u": None})


def run(*, acc=(1, 2), records=(), cycles=10):
    return BoardRun(np.array(acc), {"CYCLES": cycles}, np.array(records, np.uint64), 0)


def test_first_difference_of_a_run():
    iss = Trace([], np.array([1, 2]), [])
    assert difference(Program, iss, run(), run()) is None
    assert "logits, class 1" in difference(Program, iss, run(), run(acc=(1, 3)))
    assert difference(Program, iss, run(), run(cycles=11)) == "counter CYCLES: 11, in RTL 10"
    found = difference(Program, iss, run(records=[1, 2, 3, 4]), run(records=[1, 2, 3, 5]))
    assert "record of descriptor 1" in found
