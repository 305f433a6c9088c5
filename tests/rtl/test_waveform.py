"""Waveforms of a run in RTL: files that say what the core did, and no trace in what it computes."""

import re

import pytest

from gen import verify
from gen.check.compare import image_cases
from gen.check.compare import verify as compare
from gen.compile.compiler import compile_network
from model.integer.random_network import random_network
from sim.rtl import verilator
from sim.rtl.core import Waveform
from tests.rtl.test_networks import CORES


pytestmark = pytest.mark.rtl


@pytest.fixture(scope="module")
def case():
    config, params, twin = CORES["narrow"]
    found = random_network(23, params=params, max_size=10, max_dim=40)
    return found, compile_network(found.network, config), twin


def test_vcd_of_an_image(case, request, tmp_path, monkeypatch):
    """The cycles asked for and no others; a value that is known: busy, from the first cycle on."""
    found, program, twin = case
    # A single short run: the compiler's time is what it costs.
    monkeypatch.setattr(verilator, "FLAGS", [flag.replace("OPT_FAST=-O2", "OPT_FAST=-O0")
                                             for flag in verilator.FLAGS])
    path = tmp_path / "a wave.vcd"
    result = compare(found.network, program, found.images(1), forms=("integer", "rtl"), twin=twin,
                     cache=request.config.cache.mkdir("rtl"),
                     waveform=Waveform(path, "vcd", 100, 400))
    assert not result.differences, result.lines
    text = path.read_text()
    times = [int(time) for time in re.findall(r"^#(\d+)$", text, re.MULTILINE)]
    # The rising edge that ends cycle c of the run is at time 2 * (c + 1).
    assert times[0] == 202 and 798 <= times[-1] <= 801 and times == sorted(times)
    for name in ("clk", "busy", "trace_valid", "program"):
        assert re.search(rf"\$var \S+ +\d+ \S+ {name} ", text), name
    # The first of that name is the top's; others lie deeper.
    busy = re.search(r"\$var \S+ +1 (\S+) busy ", text)[1]
    assert re.search(rf"^1{re.escape(busy)}$", text, re.MULTILINE)
    assert [p.name for p in tmp_path.iterdir()] == ["a wave.vcd"]


def test_one_run_only(case, tmp_path):
    found, program, twin = case
    with pytest.raises(ValueError, match="of a single run, not of 2"):
        compare(found.network, program, image_cases(found.network, found.images(2)),
                forms=("integer", "rtl"), twin=twin, waveform=Waveform(tmp_path / "x", "vcd"))


@pytest.mark.slow
def test_fst_of_a_layer(request, tmp_path, monkeypatch, capsys):
    """The command, on a layer of the shipped network: some seconds once it is compiled."""
    monkeypatch.chdir(tmp_path)
    assert verify.cli(["--model", "qsdt_nano", "--forms", "integer,rtl", "--count", "1", "-q",
                       "--layers", "head", "--fst", "head.fst",
                       "--cache", str(request.config.cache.mkdir("rtl"))]) == 0
    assert re.search(r"head\.fst: \d+\.\d MB of signals", capsys.readouterr().out)
    # The first block of an .fst file is its header: type 0, 329 bytes in big endian.
    assert (tmp_path / "head.fst").read_bytes()[:9] == bytes([0, 0, 0, 0, 0, 0, 0, 1, 73])
