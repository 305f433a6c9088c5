"""Frames to and from a device: each is repeated until it is answered, and every answer is checked.

A frame carries a CRC-32 and a sequence number both ways; one that is lost or damaged is sent again,
a bounded number of times. Everything the device does is idempotent, so a repetition is harmless.
Every answer also tells which session and run it belongs to, so that a device that restarted is
noticed with the first one.
"""

from dataclasses import dataclass
import logging
import os
import time

from gen.device.frame import ANSWER, decode_frame, decode_text, encode_frame, HEADER
from gen.device.port import LinkError
from gen.device.transport import Transport
from hw.register import (
    fields_of,
    Opcode,
    Refusal,
    REFUSED,
    Register,
    REPLY,
    Restart,
    SESSION_BITS,
    STATE_BITS,
)


__all__ = ["DeviceRestarted", "Link", "Request", "decode_state"]


logger = logging.getLogger(__name__)

CAUSES = {
    Restart.CONFIGURATION: "it was powered up or configured anew; look at supply and cable",
    Restart.HOST: "another program asked for it",
    Restart.ABORT: "another program aborted its run",
    Restart.BUTTON: "somebody pressed its button",
    Restart.WATCHDOG: "an image took longer than its watchdog allows, so the program hangs",
    Restart.LOCK: "a PLL lost its lock; look at supply and cable",
}
"""What each :class:`Restart` means to who did not ask for it."""

REFUSALS = {
    Refusal.MALFORMED: "it does not know such a frame; build and load a matching bitstream",
    Refusal.BUSY: "the core runs; wait for it, or abort it with a restart",
    Refusal.NOT_READY: "its memory cannot be used now; open the device again to hear why",
}


class DeviceRestarted(LinkError):
    """The device is no longer in the session that the host began: whatever it did since is void.

    ``cause`` is a :class:`Restart`, or None where another program opened the device.
    """

    def __init__(self, name, cause):
        if cause is None:
            text = f"{name} was opened by another program: end that, and run again"
        else:
            text = (f"{name} restarted: {CAUSES.get(cause, f'cause {cause}')}; its results "
                    "are void, run again")
        super().__init__(text)
        self.cause = cause


def decode_state(value):
    """Fields of ``Register.STATE`` by name; ``cause`` is a :class:`Restart` where it is known."""
    state = fields_of(STATE_BITS, value)
    if state["cause"] in CAUSES:
        state["cause"] = Restart(state["cause"])
    return state


@dataclass(kw_only=True)
class Request:
    """A frame to the device. ``answer_words`` is the number of words in its answer."""
    opcode: int
    length: int
    address: int
    data: bytes = b""
    sequence: int = 0
    tries: int = 0
    order: int = 0                              # of the last transmission, counted over all

    @property
    def answer_words(self):
        if self.opcode == Opcode.CRC_MEMORY:
            return 1
        return 0 if self.opcode & 1 else self.length

    def encode(self):
        return encode_frame(HEADER.pack(self.opcode, self.length, self.sequence, self.address)
                            + self.data)


class Link:
    """Exchanges frames with a device over a transport.

    Parameters
    ----------
    port, baud, timeout, tries
        As for :class:`gen.device.device.Device`.
    """

    def __init__(self, port, *, baud, timeout, tries):
        if timeout <= 0:
            raise ValueError(f"Timeout must be positive, not {timeout!r}")
        if tries < 1:
            raise ValueError(f"Tries must be at least 1, not {tries!r}")
        self._transport = Transport(port, baud=baud) if isinstance(port, str) else port
        self._timeout = timeout
        self._tries = tries
        # Not the numbers of an earlier program, whose answers may still be on their way.
        self._sequence = int.from_bytes(os.urandom(2), "little")
        self._order = 0
        self._received = bytearray()
        self._session = self._run = None        # None: nothing is required of answers
        self._seen = 0, 0                       # session and run of the last answer
        self.answered = 0
        """Answers received so far."""
        self.damaged = 0
        """Damaged frames received so far."""
        self.repeated = 0
        """Frames sent again so far."""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        self._transport.close()

    @property
    def timeout(self):
        """Seconds without an answer after which frames are sent again."""
        return self._timeout

    @property
    def name(self):
        """What messages call the device, at the beginning of a sentence."""
        return getattr(self._transport, "port", "The device")

    def _send(self, request):
        if request.tries >= self._tries:
            raise self._failure()
        if request.tries:
            self.repeated += 1
            logger.debug("sending frame %d again", request.sequence)
        request.tries += 1
        request.order = self._order
        self._order += 1
        self._transport.write((b"\0" if request.tries > 1 else b"") + request.encode())

    def _failure(self):
        if self.damaged:
            return LinkError(f"{self.name}: no intact answer after {self._tries} tries, "
                             f"{self.damaged} damaged frames received; check cable and baud rate")
        if self.answered:
            return LinkError(f"{self.name} stopped answering after {self.answered} answers, "
                             f"{self._tries} tries; is it still plugged in?")
        return LinkError(f"{self.name}: no answer after {self._tries} tries; is this the right "
                         f"port, and the board programmed?")

    def _frames(self, timeout):
        """Headers and data of intact frames that have arrived; waits for the first byte."""
        self._received += self._transport.read(timeout)
        *frames, self._received = self._received.split(b"\0")
        for frame in frames:
            if not frame:
                continue
            payload = decode_frame(frame)
            if payload is None and (text := decode_text(frame)) is not None:
                logger.info("%s says: %s", self.name, text.strip())
                continue
            if payload is None:
                self.damaged += 1
                continue
            yield *ANSWER.unpack_from(payload), payload[ANSWER.size:]

    def exchange(self, requests, window=1):
        """Send ``requests``, at most ``window`` of them unanswered; yields ``(request, data)``.

        Answers come in the order of the transmissions, so one that overtakes another tells that
        the other was lost; else a pause of ``timeout`` does.
        """
        requests = iter(requests)
        pending = {}
        exhausted = False
        deadline = time.monotonic() + self._timeout
        while True:
            while not exhausted and len(pending) < window:
                request = next(requests, None)
                if request is None:
                    exhausted = True
                    break
                request.sequence = self._sequence = (self._sequence + 1) % (1 << 16)
                pending[request.sequence] = request
                self._send(request)
                deadline = time.monotonic() + self._timeout
            if not pending:
                return
            for opcode, length, sequence, origin, data in \
                    self._frames(max(0.0, deadline - time.monotonic())):
                request = pending.get(sequence)
                if request is None or opcode & ~REFUSED != request.opcode | REPLY:
                    continue                    # answer to a frame that was sent twice
                self._check_answer(request, opcode, length, origin, data)
                del pending[sequence]
                self.answered += 1
                deadline = time.monotonic() + self._timeout
                yield request, data
                for other in list(pending.values()):
                    if other.order < request.order:
                        self._send(other)
            if time.monotonic() >= deadline:
                for request in list(pending.values()):
                    self._send(request)
                deadline = time.monotonic() + self._timeout

    def _check_answer(self, request, opcode, length, origin, data):
        session, run = origin & (1 << SESSION_BITS) - 1, origin >> SESSION_BITS
        if self._session is not None and session != self._session:
            raise DeviceRestarted(self.name, self._cause() if session == 0 else None)
        what = f"{Opcode(request.opcode).name} of {request.length} words at {request.address}"
        if opcode & REFUSED:
            reason = REFUSALS.get(length, f"for reason {length}, which is not known here")
            raise LinkError(f"The device refused {what}: {reason}")
        if self._run is not None and run != self._run:
            raise LinkError(f"The device is in run {run}, not {self._run} as it was told: its "
                            "results are void, run again")
        if length != request.length or len(data) != 8 * request.answer_words:
            raise LinkError(f"The device answered {what} with a frame of wrong length; load a "
                            "matching bitstream")
        self._seen = session, run

    def _cause(self):
        """Why the device restarted; nothing is required of its answers for that."""
        wanted = self._session, self._run
        self._session = self._run = None
        try:
            request = Request(opcode=Opcode.READ_REGISTER, length=1, address=Register.STATE)
            (_, data), = self.exchange([request])
        except LinkError:
            return Restart.CONFIGURATION        # it has not come back
        finally:
            self._session, self._run = wanted
        return decode_state(int.from_bytes(data, "little"))["cause"]
