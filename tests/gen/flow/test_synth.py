# amaranth: UnusedElaboratable=no
import json

from amaranth import *
from amaranth.back import rtlil
from amaranth.lib import memory, wiring
from amaranth.lib.fifo import AsyncFIFO, SyncFIFOBuffered
from amaranth.lib.wiring import In, Out
import pytest

from boards import find_board
from gen.flow.synth import collision_commands, is_congested, synthesize
from gen.flow.toolchain import find_toolchain
from model.error import DoesNotFit, ToolFailed


BOARD = find_board("ulx3s-12f")


def test_collision_commands():
    commands = collision_commands(
        "parameter \\COLLISION_X_MASK 1'0\nparameter \\COLLISION_X_MASK 2'00\n"
        "parameter \\COLLISION_X_MASK 1'0\nparameter \\COLLISION_X_MASK 0'\n")
    assert len(commands) == 2
    assert commands[0].startswith("setparam -set COLLISION_X_MASK 1'1 t:$memrd_v2 ")
    assert commands[1].startswith("setparam -set COLLISION_X_MASK 2'11 t:$memrd_v2 ")
    assert "r:TRANSPARENCY_MASK=2'00" in commands[1]
    assert collision_commands("module \\top\nend\n") == []


def test_collision_commands_leave_crossing_memories_alone():
    """One FIFO within a clock domain, one between two: only the first may be set."""
    class Fifos(Elaboratable):
        def elaborate(self, platform):
            m = Module()
            m.domains.other = ClockDomain()
            m.submodules.near = SyncFIFOBuffered(width=8, depth=64)
            m.submodules.far = AsyncFIFO(width=8, depth=64, w_domain="sync", r_domain="other")
            return m

    command, = collision_commands(rtlil.convert(Fifos(), ports=[], emit_src=False))
    assert command.endswith(" %i top.far/* %d")


@pytest.mark.parametrize("cells,text", [
    ({"DP16KD": 57}, r"block RAMs \(DP16KD\) of ulx3s-12f: 57 needed, 56 available"),
    ({"MULT18X18D": 29}, r"multipliers \(MULT18X18D\) of ulx3s-12f: 29 needed, 28 available"),
    ({"LUT4": 20000, "CCU2C": 2145}, "24290 needed, 24288 available"),
])
def test_netlist_does_not_fit(fake, folder, cells, text):
    with pytest.raises(DoesNotFit, match=text):
        synthesize(BOARD, folder, fake(cells=cells))


def test_crowded_chip_is_warned_of(fake, folder, caplog):
    synthesize(BOARD, folder, fake(cells={"LUT4": 20000}))
    assert ("20000 of 24288 LUTs: placement and routing often take long above 55 %"
            in caplog.text)


@pytest.mark.parametrize("name, luts, congested", [
    ("ulx3s-85f", 50_000, True), ("ulx3s-85f", 40_000, False), ("ulx3s-12f", 10_000, False),
    ("icepi-zero", 20_000, True)])
def test_congested_chip(fake, folder, name, luts, congested):
    board = find_board(name)
    assert is_congested(board, {"LUT4": luts}) == congested
    assert synthesize(board, folder, fake(cells={"LUT4": luts})).data["congested"] == congested


def test_yosys_fails(fake, folder):
    (folder / "top.json").write_text("good")
    with pytest.raises(ToolFailed, match="yosys ended with exit code 5; log: .*synth.failed.log"):
        synthesize(BOARD, folder, fake(yosys="echo partial > top.json; exit 5"))
    assert (folder / "top.json").read_text() == "good"


class Memories(wiring.Component):
    """One memory of each kind that the collision mask must tell apart."""

    write: In(9)
    read: In(9)
    data: In(36)
    outputs: Out(36)

    def elaborate(self, platform):
        m = Module()
        plain = memory.Memory(shape=36, depth=512, init=[])
        rom = memory.Memory(shape=36, depth=512,
                            init=[pow(n + 3, 9, 1 << 36) for n in range(512)])
        lutram = memory.Memory(shape=36, depth=16, init=[], attrs={"ram_style": "distributed"})
        transparent = memory.Memory(shape=36, depth=512, init=[])
        ports = []
        for name, item in (("plain", plain), ("lutram", lutram), ("transparent", transparent)):
            m.submodules[name] = item
            write = item.write_port()
            m.d.comb += [write.addr.eq(self.write), write.data.eq(self.data), write.en.eq(1)]
            ports.append(item.read_port(domain="comb" if item is lutram else "sync",
                                        transparent_for=[write] if item is transparent else []))
        m.submodules.rom = rom
        ports.append(rom.read_port())
        m.d.comb += [port.addr.eq(self.read) for port in ports]
        total = 0
        for port in ports:
            total ^= port.data
        m.d.comb += self.outputs.eq(total)
        return m


@pytest.mark.synth
def test_collision_mask_on_every_kind_of_memory(tmp_path):
    """The plain block RAM costs no fabric; the transparent one keeps its bypass."""
    (tmp_path / "top.il").write_text(rtlil.convert(Memories(), name="top", emit_src=False))
    result = synthesize(BOARD, tmp_path, find_toolchain())
    cells = result.data["cells"]
    assert cells["DP16KD"] == 3
    assert cells["TRELLIS_DPR16X4"] == 9
    # Of the three block RAMs only the transparent one is given a bypass (37; 84 without the mask).
    assert 36 <= cells["TRELLIS_FF"] < 60


@pytest.mark.synth
def test_output_registers(tmp_path):
    """A registered read: in the block RAM, or in flip-flops; asked for again, made again."""
    class Registered(wiring.Component):
        read: In(9)
        word: Out(18)

        def elaborate(self, platform):
            m = Module()
            m.submodules.rom = rom = memory.Memory(
                shape=18, depth=512, init=[pow(n + 3, 5, 1 << 18) for n in range(512)])
            port = rom.read_port()
            m.d.comb += port.addr.eq(self.read)
            held = Signal(18, reset_less=True)
            m.d.sync += held.eq(port.data)
            m.d.comb += self.word.eq(held)
            return m

    (tmp_path / "top.il").write_text(rtlil.convert(Registered(), name="top", emit_src=False))
    for wanted in (False, True):
        result = synthesize(BOARD, tmp_path, find_toolchain(), output_registers=wanted)
        assert not result.reused
        assert result.data["absorbed_ff"] == (18 if wanted else 0)
        block, = (cell for cell in json.loads((tmp_path / "top.json").read_text())
                  ["modules"]["top"]["cells"].values() if cell["type"] == "DP16KD")
        assert ("OUTREG" in block["parameters"].values()) == wanted
