"""gen.prove as a command: what it says of a build, and which folders it refuses.

The netlists are a flip-flop; what the rungs find on real ones, tests/synth/test_gate.py shows.
"""

from collections import Counter
import gzip
import json
import re

import numpy as np
import pytest

from gen import build, prove
from gen.check.trace import Trace
from gen.flow.step import run_step
from gen.proof.gate import BoardRun, difference
from gen.proof.passes import PassProof
from model.files import digest_file


FF = {"type": "TRELLIS_FF", "parameters": {
          "CEMUX": "1 ", "CLKMUX": "CLK", "LSRMUX": "LSR", "REGSET": "RESET", "GSR": "DISABLED",
          "SD": "1 "},
      "connections": {"CLK": [1], "DI": [2], "Q": [3]},
      "port_directions": {"CLK": "input", "DI": "input", "Q": "output"}}
NETLIST = {"modules": {"top": {"cells": {"ff": FF}, "ports": {}, "netnames": {
    name: {"bits": [bit]} for name, bit in (("clk", 1), ("d", 2), ("q", 3))}}}}
BIT = bytes.fromhex("ff00ffffbdb3e200000041113043")


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
    step(folder, "synth", {}, {
        "top.json": json.dumps(NETLIST).encode(),
        "synth.json.gz": gzip.compress(json.dumps(synthesised).encode(), mtime=0)}, {})
    step(folder, "route-1", {"top.json": "top.json"}, {
        "route-1.config": b"config", "route-1.json": json.dumps({"utilization": used}).encode(),
        "route-1.routed.json.gz": gzip.compress(json.dumps(routed).encode(), mtime=0)},
        {"clocks": clocks})
    step(folder, "pack", {"top.config": "route-1.config"}, {"top.bit": BIT}, {})
    report = json.loads((folder / "report.json").read_text())
    report |= {"until": "bitstream", "seed": 1, "command": "python -m gen.build …",
               "clocks": [{"name": name, **clock} for name, clock in clocks.items()],
               **{key: {"value": value, "tag": "routed"} for key, value in {
                   "fmax_mhz": 90.0, "comb": 5, "ff": 1, "ebr": 6, "dsp": 0, "seconds.rtl": 1,
                   "seconds.synth": 1, "seconds.route": 1, "seconds.pack": 1}.items()}}
    report["tools"] = {"yosys": {"version": "1", "origin": "native"}}
    report["digests"] |= {"bitstream": digest_file(folder / "top.bit"), "verify": "0" * 64}
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
        ("passes", True), ("lvs", True), ("bitstream", None), ("gate", None), ("unknown", None)]
    page = (folder / "proof.md").read_text()
    assert "| lvs | holds |" in page
    assert "Not run, and so not proven: bitstream, gate, unknown." in page


def test_what_fails_is_said(folder, capsys):
    changed = json.loads(json.dumps(NETLIST))
    changed["modules"]["top"]["cells"]["ff"]["parameters"]["REGSET"] = "SET"
    finish(folder, changed)
    assert prove.cli([str(folder), "--only", "lvs", "-q"]) == 1
    out, err = capsys.readouterr()
    assert "lvs: FAILS, 1 differences" in out and "not the design" in err
    assert "| lvs | FAILS |" in (folder / "proof.md").read_text()


def test_parts_of_a_rung(folder, capsys, monkeypatch):
    """A pass that loses an initial value; what is proven is said by block."""
    def found(before, after):
        proof = PassProof(5, differences=["rewritten cells: ff"])
        if before == after:
            proof = PassProof(5, Counter({"rewritten cells": 3}), Counter({"rewritten cells": 2}))
        return proof

    monkeypatch.setattr(prove, "compare_passes", found)
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
    step(folder, "synth", {}, {"top.json": json.dumps(NETLIST).encode()}, {})
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


@pytest.mark.parametrize("spoil, message", [
    (lambda folder: (folder / "report.json").unlink(), "no folder of qsdt build"),
    (lambda folder: (folder / "report.json").write_text("{"), "report.json is damaged"),
    (lambda folder: change(folder, "report.json", only_routed), "built up to 'route' only"),
    (lambda folder: change(folder, "report.json", other_comb), r"LUTs: 4, the files have 5"),
    (lambda folder: change(folder, "report.json", other_clock), "clocks: "),
    (lambda folder: change(folder, "report.json", other_bit), "does not belong to this build"),
    (lambda folder: (folder / "top.bit").write_bytes(BIT + b"\0"), "top.bit is not what step pack"),
    (lambda folder: (folder / "top.json").unlink(), "top.json is missing; build again: python"),
    (lambda folder: (folder / "route-1.stamp.json").unlink(), "route-1.stamp.json: No such file"),
    (lambda folder: step(folder, "synth", {}, {"top.json": b"{}"}, {}),
     "step route did not start from what synth has written"),
    (lambda folder: (folder / "program.img").write_bytes(b""), "not a complete program image"),
])
def test_build_that_is_refused(folder, capsys, spoil, message):
    spoil(folder)
    assert prove.cli([str(folder), "--only", "lvs", "-q"]) == 1
    err = capsys.readouterr().err
    assert re.search(message, err), err
    assert err.count("\n") == 1 and not (folder / "proof.json").exists()


def test_bitstream_of_another_board(folder, capsys):
    step(folder, "pack", {"top.config": "route-1.config"},
         {"top.bit": BIT[:-4] + bytes.fromhex("21111043")}, {})
    assert prove.cli([str(folder), "--only", "lvs", "-q"]) == 1
    assert "is for IDCODE 0x21111043, ulx3s-85f has 0x41113043" in capsys.readouterr().err


def test_bad_options(folder, capsys):
    for arguments, message in ((["--only", "silicon"],
                                "known are passes, lvs, bitstream, gate, unknown"),
                               (["--seeds", "0"], "--seeds must be at least 1")):
        assert prove.cli([str(folder), *arguments]) == 1
        assert message in capsys.readouterr().err


class Program:
    descriptors = ()


def run(*, acc=(1, 2), records=(), cycles=10):
    return BoardRun(np.array(acc), {"CYCLES": cycles}, np.array(records, np.uint64), 0)


def test_first_difference_of_a_run():
    iss = Trace([], np.array([1, 2]), [])
    assert difference(Program, iss, run(), run()) is None
    assert "logits, class 1" in difference(Program, iss, run(), run(acc=(1, 3)))
    assert difference(Program, iss, run(), run(cycles=11)) == "counter CYCLES: 11, in RTL 10"
    found = difference(Program, iss, run(records=[1, 2, 3, 4]), run(records=[1, 2, 3, 5]))
    assert "record of descriptor 1" in found
