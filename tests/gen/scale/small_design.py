"""A design that routes in seconds: frames that come are sent back, on the smallest board.

``python -m tests.gen.scale.small_design FOLDER`` makes RTL and netlist, for ``qsdt sweep route``.
"""

from pathlib import Path
import sys

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from boards import find_board
from gen.flow.rtl import write_rtl
from gen.flow.synth import synthesize
from gen.flow.toolchain import find_toolchain
from hw.link.frame import FrameReceiver, FrameTransmitter
from hw.link.uart import UartReceiver, UartTransmitter
from model.files import make_folder


__all__ = ["BOARD", "FrameEcho", "make"]


BOARD = find_board("ulx3s-12f")


class FrameEcho(wiring.Component):
    """Receiver and transmitter of frames, back to back."""

    rx: In(1, init=1)
    tx: Out(1, init=1)
    leds: Out(2)

    def elaborate(self, platform):
        m = Module()
        _, divisor = BOARD.link(BOARD.target_hz)
        m.submodules.uart_receiver = receiver = UartReceiver(divisor=divisor)
        m.submodules.uart_transmitter = transmitter = UartTransmitter(divisor=divisor)
        m.submodules.frame_receiver = frames_in = FrameReceiver()
        m.submodules.frame_transmitter = frames_out = FrameTransmitter()
        wiring.connect(m, receiver.o, frames_in.i)
        wiring.connect(m, frames_in.o, frames_out.i)
        wiring.connect(m, frames_out.o, transmitter.i)
        m.d.comb += [receiver.rx.eq(self.rx), self.tx.eq(transmitter.tx),
                     self.leds.eq(frames_in.error << 1 | frames_in.busy)]
        return m


def make(folder):
    """Make its RTL and its netlist."""
    make_folder(folder)
    write_rtl(BOARD, FrameEcho(), folder, core_clock_hz=BOARD.target_hz)
    synthesize(BOARD, folder, find_toolchain())


if __name__ == "__main__":
    make(Path(sys.argv[1]))
