"""A virtual board with a flash or a card at its pins."""

from functools import partial
import os
from pathlib import Path
import socket
import threading
import time

from hw.boot.card import CardSource
from hw.boot.flash import FlashSource
from hw.boot.master import BootMaster
from sim.rtl.virtual_board import VirtualBoard, VirtualTop


__all__ = ["BootBoard", "make_boot"]


WORLD = Path(__file__).with_name("spi_world.cpp")


def make_boot(source, *, half, slow, timeout_bits):
    """A boot master with its source, "flash" or "sd"; halves of a bit in cycles."""
    device = FlashSource(half=half) if source == "flash" else CardSource(half=half, slow=slow)
    return BootMaster(source=device, timeout_bits=timeout_bits)


class BootBoard(VirtualBoard):
    """:class:`sim.rtl.virtual_board.VirtualBoard` that boots from a device at its pins.

    Its line is one of bytes. It stands still until :meth:`power_up`.

    Parameters
    ----------
    config, memory, cache, core
        As there.
    boot : functools.partial
        Of :func:`make_boot`.
    device : object
        A twin: of :mod:`sim.twin.spi_flash` or :mod:`sim.twin.sd_card`.
    """

    SOURCES = (WORLD,)
    OPTIONS = ("-CFLAGS", "-DWORLD")

    def __init__(self, config, *, memory, cache, boot, device, core=None):
        self._top = partial(VirtualTop, config, memory=memory, divisor=None, boot=boot)
        if core is not None:
            self._top = self._top(core=core)
        self._prepare(None, cache)
        self._device = device
        self.sent = bytearray()
        """Bytes that the board has put on its line so far."""
        self.leds = []
        """LEDs, each time that they changed."""
        self._ours, self._theirs = socket.socketpair()
        self._changed = threading.Condition()

    def _surroundings(self):
        number = self._theirs.fileno()
        return (number,), {**os.environ, "SPI_SOCKET": str(number)}

    def start(self):
        super().start()
        self._theirs.close()

    def power_up(self):
        """Let the clocks run."""
        threading.Thread(target=self._serve, daemon=True).start()
        self._ours.sendall(b"!")

    def stop(self):
        self._ours.shutdown(socket.SHUT_RDWR)
        super().stop()
        self._ours.close()

    def _serve(self):
        stream = self._ours.makefile("rb")
        device = self._device
        while len(message := stream.read(2)) == 2:
            kind, value = message
            if kind in b"SX":
                found = device.select() if kind == ord("S") else device.exchange(value)
                self._ours.sendall(b"\0\0" if found is None else bytes([1, found]))
            elif kind == ord("D"):
                device.deselect(bool(value))
            elif kind == ord("C"):
                device.clocks(value)
            else:
                with self._changed:
                    if kind == ord("T"):
                        self.sent.append(value)
                    else:
                        self.leds.append(value)
                    self._changed.notify_all()

    def wait(self, there, *, seconds=120.0):
        """Until ``there()``, which looks at what the board has sent and at its LEDs.

        Raises :exc:`TimeoutError` with what it has sent instead.
        """
        deadline = time.monotonic() + seconds
        with self._changed:
            while not there():
                if not self._changed.wait(deadline - time.monotonic()):
                    raise TimeoutError(f"the board has sent {bytes(self.sent)!r}, and its LEDs "
                                       f"were {self.leds[-4:]}")
