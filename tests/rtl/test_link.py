# amaranth: UnusedElaboratable=no
"""The link's blocks and the memory backends as Verilog, under cocotb."""
from amaranth import DomainRenamer, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
import pytest

from hw.link.command import CommandProcessor
from hw.link.frame import FrameReceiver, FrameTransmitter, FrameWord
from hw.link.register_file import RegisterFile
from hw.link.uart import UartReceiver, UartTransmitter
from hw.memory.onchip_memory import OnChipMemory
from hw.port import Memory
from hw.sdram_config import SdramConfig
from sim.benches import command_bench, memory_bench, uart_bench
from sim.rtl.runner import run_bench
from sim.twin.memory import MemoryTwin
from sim.twin.sdram import SdramTwin
from sim.twin.sdram_system import SdramSystem


pytestmark = pytest.mark.rtl

SDRAM = SdramConfig(clock_hz=133_000_000, trcd_ns=21, trp_ns=21, tras_ns=45, trc_ns=66, trfc_ns=70,
                    twr_ns=15, trrd_ns=15, power_up_ns=300, row_bits=3, column_bits=6)


class UartLoop(wiring.Component):
    i: In(stream.Signature(8))
    o: Out(stream.Signature(8))                 # ready is ignored; a constant cannot be a port

    def elaborate(self, platform):
        m = Module()
        m.submodules.tx = tx = UartTransmitter(divisor=uart_bench.DIVISOR)
        m.submodules.rx = rx = UartReceiver(divisor=uart_bench.DIVISOR)
        wiring.connect(m, wiring.flipped(self.i), tx.i)
        m.d.comb += [
            self.o.valid.eq(rx.o.valid),
            self.o.payload.eq(rx.o.payload),
            rx.rx.eq(tx.tx),
        ]
        return m


class FrameLoop(wiring.Component):
    """A byte passes in 16 cycles, so that the receiver can read a frame while it gets one."""
    i: In(stream.Signature(FrameWord))
    o: Out(stream.Signature(FrameWord))
    flip: In(8)
    line_valid: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.tx = tx = FrameTransmitter()
        m.submodules.rx = rx = FrameReceiver()
        wiring.connect(m, wiring.flipped(self.i), tx.i)
        wiring.connect(m, rx.o, wiring.flipped(self.o))
        timer = Signal(4)
        m.d.sync += timer.eq(timer + 1)
        m.d.comb += [
            tx.o.ready.eq((timer == 0) & (~rx.busy | self.o.ready)),
            self.line_valid.eq(tx.o.valid & tx.o.ready),
            rx.i.valid.eq(self.line_valid),
            rx.i.payload.eq(tx.o.payload ^ self.flip),
        ]
        return m


class CommandDevice(wiring.Component):
    i: In(stream.Signature(FrameWord))
    o: Out(stream.Signature(FrameWord))

    def elaborate(self, platform):
        m = Module()
        m.submodules.commands = commands = CommandProcessor()
        m.submodules.registers = registers = RegisterFile(config_digest=1, memory_words=1)
        m.submodules.memory = memory = MemoryTwin(words=command_bench.WORDS, stall=0.3)
        wiring.connect(m, commands.memory, memory.memory)
        wiring.connect(m, commands.registers, registers.bus)
        m.d.comb += [commands.session.eq(registers.session), commands.run.eq(registers.run),
                     commands.memory_ready.eq(1)]
        wiring.connect(m, wiring.flipped(self.i), commands.i)
        wiring.connect(m, commands.o, wiring.flipped(self.o))
        return m


class OneClockSdram(wiring.Component):
    """The SDRAM memory with its chip model, both clocks the same."""
    memory: In(Memory())

    def elaborate(self, platform):
        m = Module()
        system = SdramSystem(SDRAM)
        m.submodules.system = DomainRenamer({"sdram": "sync"})(system)
        wiring.connect(m, wiring.flipped(self.memory), system.memory)
        return m


@pytest.mark.parametrize("name, make, bench", [
    ("uart_loop", UartLoop, "uart"),
    ("frame_loop", FrameLoop, "frame"),
    ("command_device", CommandDevice, "command"),
    ("onchip_memory", lambda: OnChipMemory(words=memory_bench.WORDS), "memory"),
    ("memory_twin", lambda: MemoryTwin(words=memory_bench.WORDS, stall=0.3), "memory"),
    ("sdram_twin", lambda: SdramTwin(SDRAM, sync_hz=80_000_000), "memory"),
    ("sdram", OneClockSdram, "memory"),
])
def test_rtl(name, make, bench, tmp_path):
    # Icarus 11 lets a trusted write race with the clock edge that it follows.
    run_bench(make(), name, f"sim.benches.{bench}_bench", tmp_path,
              environment={"COCOTB_TRUST_INERTIAL_WRITES": "0"})
