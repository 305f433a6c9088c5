"""Bytes to and from a device, over a serial port or what stands for one."""

import select
import time

from gen.device.port import LinkError, open_port


__all__ = ["Transport"]


class Transport:
    """Byte stream to the device: a serial port.

    Parameters
    ----------
    port : str
        Anything that pyserial opens: ``/dev/ttyUSB0``, a pseudo-terminal, ``socket://host:port``.
    baud : int
        Bits per second; must be what the bitstream was built for.
    """

    def __init__(self, port, *, baud=3_000_000):
        self.port = port
        self._serial = open_port(port, baud=baud)
        try:
            # An FTDI chip otherwise holds back short answers for 16 ms.
            self._serial.set_low_latency_mode(True)
        except (AttributeError, NotImplementedError, OSError, ValueError):
            pass

    def write(self, data):
        """Send all of ``data``."""
        # Here: a command that only says what it does needs no pyserial.
        import serial

        try:
            self._serial.write(data)
        except serial.SerialTimeoutException as error:
            raise LinkError(f"{self.port} takes no data") from error
        except OSError as error:    # the base of pyserial's own
            raise LinkError(f"Lost {self.port} (unplugged?): {error}") from error

    def read(self, timeout):
        """Bytes that have arrived; waits up to ``timeout`` seconds for the first."""
        try:
            data = self._serial.read(65536)
            if not data and timeout > 0:
                self._await_data(timeout)
                data = self._serial.read(65536)
        except (OSError, TypeError) as error:
            # TypeError: pyserial's own failure when the port is closed under it.
            raise LinkError(f"Lost {self.port} (unplugged?): {error}") from error
        return data

    def _await_data(self, timeout):
        try:
            handle = self._serial.fileno()
        except (AttributeError, OSError):       # Windows, rfc2217://: nothing to select on
            deadline = time.monotonic() + timeout
            while not self._serial.in_waiting and time.monotonic() < deadline:
                time.sleep(0.001)
        else:
            select.select([handle], [], [], timeout)

    def close(self):
        self._serial.close()
