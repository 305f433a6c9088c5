# amaranth: UnusedElaboratable=no
"""The memory of a configuration: which backend, which parameters, and in the board's top."""
import re

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
import pytest

from boards import find_board
from gen.config.memory import make_memory, sdram_config, twin_memory
from gen.config.spec import AcceleratorConfig
from hw.config import CoreConfig
from hw.memory.onchip_memory import OnChipMemory
from hw.sdram.memory import SdramMemory
from sim.twin.sdram import SdramTwin


BOARD = find_board("ulx3s")

ON_CHIP = AcceleratorConfig(board=BOARD.name, clock_hz=80_000_000, core=CoreConfig(rows=16),
                            memory_words=512)

SDRAM = AcceleratorConfig(board=BOARD.name, clock_hz=80_000_000, core=CoreConfig(rows=16),
                          memory="sdram", memory_words=1 << 22, sdram_clock_hz=130_000_000)


def test_backends():
    assert isinstance(make_memory(BOARD, ON_CHIP), OnChipMemory)
    assert isinstance(twin_memory(BOARD, ON_CHIP)(), OnChipMemory)
    memory, twin = make_memory(BOARD, SDRAM), twin_memory(BOARD, SDRAM)()
    assert isinstance(memory, SdramMemory) and isinstance(twin, SdramTwin)
    assert memory.words == twin.words == BOARD.sdram.size_bytes // 8
    assert memory.phases == BOARD.sdram_phases(130_000_000) == 40


def test_config_covers_every_part():
    config = sdram_config(BOARD, 130_000_000)
    assert (config.bank_bits, config.row_bits, config.column_bits) == (2, 13, 9)
    assert config.optional_column
    for part in BOARD.sdram.parts:
        for name, value in part.times.items():
            assert getattr(config, name) >= value


def test_clock_that_the_board_cannot_make():
    with pytest.raises(ValueError, match="^SDRAM clock of ulx3s-85f must be one of 50, 75, 100, "
                                         "125, 130, 135 MHz, not 131 MHz$"):
        sdram_config(BOARD, 131_000_000)


class WithPins(wiring.Component):
    """The smallest shell with SDRAM pins."""

    def __init__(self, memory):
        self._memory = memory
        super().__init__({"rx": In(1), "tx": Out(1, init=1), "leds": Out(8),
                          "pins": Out(memory.signature.members["pins"].signature)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = self._memory
        wiring.connect(m, memory.pins, wiring.flipped(self.pins))
        m.d.comb += [self.tx.eq(memory.memory.r_data.valid), self.leds.eq(memory.status.window)]
        return m


def test_pins_on_the_board():
    shell = WithPins(make_memory(BOARD, SDRAM))
    top = BOARD.top(shell, core_clock_hz=80_000_000, sdram_clock_hz=130_000_000)
    content = BOARD.platform().prepare(top, emit_src=False).files
    located = dict(re.findall(r'LOCATE COMP "(\S+)" SITE "(\S+)"', content["top.lpf"]))
    sdram = [name for name in located if name.startswith("sdram_0")]
    assert len(sdram) == 39
    assert located["sdram_0__clk__io"] == "F19"
    il = content["top.il"]
    il = il.decode() if isinstance(il, bytes) else il
    assert len(re.findall(r"cell \\EHXPLLL ", il)) == 2
    # Every pin of the chip leaves or enters through a register of its pad.
    assert len(re.findall(r"cell \\ODDRX1F ", il)) == 1
    assert len(re.findall(r"cell \\IFS1P3DX ", il)) == 16
    assert len(re.findall(r"cell \\OFS1P3DX ", il)) >= 38 + 16
