"""Memory behind a core, cycle by cycle and strict: one protocol for both simulators."""

from collections import deque

from hw.descriptor import unpack
from hw.port import MemoryCommand


__all__ = ["MemoryServer"]


class MemoryServer:
    """Bursts in order on the dict ``content`` (address: word), with stalls at random.

    Commands are taken ahead of their data, as a real memory takes them, or, with stalls, refused
    for long times. The first word of a read comes 1 to ``latency`` cycles after its command. Words
    that are not in ``content`` read as noise. What a master offered and was refused must stay.
    :func:`sim.drive.ports.serve_memory` and :func:`sim.drive.cocotb_ports.serve_memory` bring the
    signals.

    Parameters
    ----------
    content : dict
        Changed in place.
    rng : random.Random
    stall : float
        Chance, per cycle, that a command or a word has to wait.
    latency : int
        At least 1.
    name : str
        Of the port, for messages.
    """

    def __init__(self, content, *, rng, stall, latency=4, name="memory"):
        self._content, self._rng, self._stall = content, rng, stall
        self._latency, self._name = latency, name
        self._words = deque()           # (address, is a write, earliest cycle)
        self._now = self._refuse_until = 0
        self._refused = {"commands": None, "w_data": None}
        self.commands_ready = self.w_ready = self.r_valid = False
        """What the memory shows in the cycle to come, and ``r_payload``."""
        self.r_payload = 0

    @property
    def idle(self):
        """Whether every burst that was taken is done."""
        return not self._words

    def step(self, *, command, w_data, r_ready):
        """Judge a cycle in which the memory showed its outputs, and choose the next ones.

        Parameters
        ----------
        command, w_data : int or None
            Packed payload of a valid offer.
        r_ready : bool

        Raises
        ------
        AssertionError
            For a master that breaks the protocol.
        """
        self._now += 1
        self._judge("commands", command, self.commands_ready)
        self._judge("w_data", w_data, self.w_ready)
        if self.r_valid and r_ready:
            self._words.popleft()
            self.r_valid = False
        if self.w_ready and w_data is not None:
            self._content[self._words.popleft()[0]] = w_data
        if self.commands_ready and command is not None:
            self._take(unpack(MemoryCommand, command))
        self._choose()

    def _judge(self, stream, offer, taken):
        before = self._refused[stream]
        if before not in (None, offer):
            raise AssertionError(f"{self._name} {stream}: an offer did not stay")
        self._refused[stream] = None if taken else offer

    def _take(self, burst):
        if burst["length"] < 1:
            raise AssertionError(f"{self._name}: a burst of no words")
        due = self._now + self._rng.randint(1, self._latency)
        self._words.extend(((burst["address"] + k) % (1 << 24), burst["write"], due)
                           for k in range(burst["length"]))

    def _choose(self):
        rng, stall = self._rng, self._stall
        if rng.random() < stall / 20:
            self._refuse_until = self._now + rng.randrange(60)
        self.commands_ready = self._now >= self._refuse_until and rng.random() >= stall
        go = bool(self._words) and self._words[0][2] <= self._now and rng.random() >= stall
        self.w_ready = go and bool(self._words[0][1])
        if not self.r_valid and go and not self._words[0][1]:
            word = self._content.get(self._words[0][0])
            self.r_payload = rng.getrandbits(64) if word is None else word
            self.r_valid = True
