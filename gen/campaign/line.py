"""A line to a board that loses, changes, repeats and delays what passes."""

import random
import time
from typing import Any

from gen.device.port import LinkError


__all__ = ["FaultyLine"]


class FaultyLine:
    """A :class:`gen.device.transport.Transport` with faults, once :meth:`begin` was called.

    What passes is taken as the pieces that the host writes, one frame each, and those that it
    reads. Order is kept but for ``reorder``: a frame may be overtaken by those that are on their
    way at the same time, and one that arrives twice does so before what the host sends after its
    answer, as on a cable whose driver repeats a transfer.

    Parameters
    ----------
    transport : Transport
        What it passes through; closed with it.
    """

    def __init__(self, transport: Any):
        self._transport = transport
        self.port = transport.port
        self._kind, self._rate = "", 0.0
        self._rng = random.Random(0)
        self._held = b""
        self._longest = 0.0
        self._cut_at: int | None = None
        self.mute = False
        """Whether the port is there but nothing behind it."""
        self.written = 0
        """Bytes that the host has written so far."""
        self.faults = 0
        """Faults that came about so far."""

    def begin(self, kind: str, rate: float, seed: int, *, longest: float = 0.0) -> None:
        """From now on a piece has a fault with chance ``rate``: ``loss``, ``flip``, ``duplicate``,
        ``reorder``, or ``delay`` of up to ``longest`` seconds."""
        self._kind, self._rate, self._longest = kind, rate, longest
        self._rng = random.Random(seed)

    def cut_after(self, count: int) -> None:
        """Lose the port when the host has written so many more bytes."""
        self._cut_at = self.written + count

    def end(self) -> None:
        """No faults from now on."""
        self._kind = ""
        self._flush()

    def write(self, data: bytes) -> None:
        self._check()
        self.written += len(data)
        if self.mute:
            return
        hit = bool(self._kind) and self._rng.random() < self._rate
        held, self._held = self._held, b""
        if hit and self._kind == "reorder" and not held:
            self.faults += 1
            self._held = bytes(data)
            return
        for piece in self._faulty(data) if hit and self._kind != "reorder" else (data,):
            self._transport.write(piece)
        if held:
            self._transport.write(held)
        self._check()

    def read(self, timeout: float) -> bytes:
        self._check()
        if self.mute:
            time.sleep(min(timeout, 0.05))
            return b""
        self._flush()
        data = self._transport.read(timeout)
        if data and self._kind not in ("", "reorder") and self._rng.random() < self._rate:
            data = b"".join(self._faulty(data))
        return data

    def close(self) -> None:
        self._transport.close()

    def _flush(self) -> None:
        held, self._held = self._held, b""
        if held:
            self._transport.write(held)

    def _check(self) -> None:
        if self._cut_at is not None and self.written >= self._cut_at:
            self.faults += 1
            self.close()
            raise LinkError(f"Lost {self.port} (unplugged?)")

    def _faulty(self, data: bytes) -> tuple[bytes, ...]:
        """The pieces that arrive in place of one."""
        self.faults += 1
        rng = self._rng
        if self._kind == "duplicate":
            return data, data
        if self._kind == "delay":
            time.sleep(self._longest * rng.random() ** 3)    # mostly less than the host waits
            return (data,)
        at = rng.randrange(len(data))
        if self._kind == "flip":
            changed = bytearray(data)
            for bit in rng.sample(range(8 * len(data)), rng.randint(1, 3)):
                changed[bit // 8] ^= 1 << bit % 8
            return (bytes(changed),)
        if rng.random() < 0.5:                  # loss of all of it, or of some bytes
            return ()
        return (data[:at] + data[at + rng.randint(1, 8):],)
