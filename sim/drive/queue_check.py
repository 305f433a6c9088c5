"""Scoreboard of hw.sequencer.UnitQueue, for any simulator: drive inputs, sample outputs, step."""

from hw.config import MEMORY_BITS
from hw.descriptor import DESCRIPTOR_WORDS, Header, pack, WAIT_BITS


__all__ = ["QueueCheck", "INPUTS", "OUTPUTS"]


INPUTS = ("i__valid", "i__payload", "completed", "time", "unit__run__ready", "unit__done",
          "unit__sig", "unit__events", "record__ready")
OUTPUTS = ("i__ready", "unit__run__valid", "unit__run__payload", "record__valid",
           "record__payload", "done", "idle", "busy", "waiting")
"""Ports of the queue, named as in its Verilog; payloads as packed integers."""

_UNITS = 6
_FIELD_BITS = (DESCRIPTOR_WORDS - 1) * MEMORY_BITS
_WORD_BITS = MEMORY_BITS + 16       # with the descriptor's index
_BASE = 1000        # counts begin here and wrap at 1 << WAIT_BITS


class QueueCheck:
    """Feed a queue with descriptors, word by word, and check everything that it does.

    Set the queue's inputs to ``drive``, sample its outputs at the clock edge, give them to
    :meth:`step`, and so on until ``finished``. Counts of completed descriptors advance at random
    from just below the wrap of the counters, and may be up to 500 ahead of what a descriptor
    waits for.

    Parameters
    ----------
    rng : random.Random
    width : int
        Width of the unit's fields.
    depth : int
        Depth of the queue, in descriptors.
    count : int
        Descriptors; at most 60, to keep every wait comparable with the counts.
    stall : float
        Chance, per cycle, that an input is not valid or an output is not taken.
    pace : float
        Chance, per cycle and unit, that a count advances.
    """

    def __init__(self, *, rng, width, depth, count, stall, pace):
        self._rng, self._stall, self._pace, self._depth = rng, stall, pace, depth
        walk = [_BASE] * _UNITS
        self._entries = []
        for place in range(count):
            walk = [level + rng.choice((0, 0, 1, 5)) for level in walk]
            waits = [max(0, level - rng.choice((0, 0, 1, 200))) for level in walk]
            index = {0: 0, 1: 65535}.get(place, rng.randrange(1 << 16))
            self._entries.append((rng.getrandbits(_FIELD_BITS), waits, index))
        self._words = [word | index << MEMORY_BITS for fields, waits, index in self._entries
                       for word in self._descriptor(fields, waits)]
        self._mask = (1 << width) - 1
        self._final = walk
        self._counts = [_BASE] * _UNITS
        self.accepted = self.started = self.recorded = 0
        """Words accepted, descriptors started, descriptors recorded."""
        self.shortest_gap = self.shortest_start = 1 << 32
        """Fewest cycles from a completion to the next descriptor's start, and from the cycle that
        a descriptor's last word is accepted in to its start."""
        self.most_held = 0
        """Most words accepted of descriptors that have not started."""
        self._whole = []                # when the last word of each descriptor was accepted
        self._records = []
        self._left = 0                  # cycles that the stub unit still runs
        self._begun = self._ended = None
        self._offered = False
        self.drive = dict.fromkeys(INPUTS, 0) | {"time": (1 << 32) - 200}
        self._stimulate()

    @property
    def finished(self):
        return self.recorded == len(self._entries)

    def _descriptor(self, fields, waits):
        """Words of a descriptor; the queue has no use for the kind, nor for the bit beside it."""
        noise = self._rng.getrandbits(4)
        waits = [wait % (1 << WAIT_BITS) for wait in waits]
        return [pack(Header, waits=waits) | noise,
                *(fields >> start & (1 << MEMORY_BITS) - 1
                  for start in range(0, _FIELD_BITS, MEMORY_BITS))]

    def _stimulate(self):
        rng, drive = self._rng, self.drive
        drive["time"] = (drive["time"] + 1) % (1 << 32)
        for unit in range(_UNITS):
            if self._counts[unit] < self._final[unit] and rng.random() < self._pace:
                self._counts[unit] += 1
        drive["completed"] = sum((count % (1 << WAIT_BITS)) << (WAIT_BITS * unit)
                                 for unit, count in enumerate(self._counts))
        if not drive["i__valid"]:
            more = self.accepted < len(self._words)
            drive["i__valid"] = int(more and rng.random() >= self._stall)
        if drive["i__valid"]:
            drive["i__payload"] = self._words[self.accepted]
        else:
            drive["i__payload"] = rng.getrandbits(_WORD_BITS)
        # Once ready, a unit stays so until it is started.
        drive["unit__run__ready"] = int(not self._left and (
            drive["unit__run__ready"] or rng.random() >= self._stall))
        drive["unit__done"] = int(self._left == 1)
        drive["unit__sig"], drive["unit__events"] = rng.getrandbits(32), rng.getrandbits(32)
        drive["record__ready"] = int(rng.random() >= self._stall)

    def step(self, out):
        """Check one cycle's outputs (a dict over :data:`OUTPUTS`); choose the next inputs."""
        drive = self.drive
        now = drive["time"]
        finished = len(self._records)
        running = bool(self._left)
        assert out["idle"] == (self.accepted == self.recorded * DESCRIPTOR_WORDS), "idle"
        assert out["busy"] == running, "busy"
        assert out["done"] == (drive["unit__done"] and running), "done"
        assert not out["waiting"] or (not running and not out["unit__run__valid"]
                                      and self.started < len(self._whole)), "waiting"
        held = self.accepted - self.started * DESCRIPTOR_WORDS
        self.most_held = max(self.most_held, held)
        assert out["i__ready"] or held >= self._depth * DESCRIPTOR_WORDS, "refused with room left"

        if running:
            self._left -= 1
        if out["unit__run__valid"]:
            assert not running and self.started < len(self._whole), "started out of turn"
            fields, waits, index = self._entries[self.started]
            assert out["unit__run__payload"] == fields & self._mask, "fields"
            assert all(count >= wait for count, wait in zip(self._counts, waits, strict=True)), \
                f"descriptor {self.started} started before {waits}, at {self._counts}"
            assert self.recorded == finished, "started over an unwritten record"
            if not self._offered and self._ended is not None:
                self.shortest_gap = min(self.shortest_gap, (now - self._ended) % (1 << 32))
            if not self._offered:
                self.shortest_start = min(self.shortest_start,
                                          (now - self._whole[self.started]) % (1 << 32))
            self._offered = not drive["unit__run__ready"]
            if not self._offered:
                self._begun = now
                self.started += 1
                self._left = self._rng.choice((1, 2, 3, 20))
        else:
            assert not self._offered, "run withdrawn"

        assert out["record__valid"] == (self.recorded < finished), "record"
        if out["record__valid"]:
            assert out["record__payload"] == self._records[self.recorded], "record fields"
            self.recorded += drive["record__ready"]
        if drive["unit__done"]:
            index = self._entries[self.started - 1][2]
            self._records.append(drive["unit__sig"] | drive["unit__events"] << 32
                                 | self._begun << 64 | now << 96 | index << 128)
            self._ended = now
        if drive["i__valid"] and out["i__ready"]:
            self.accepted += 1
            if self.accepted % DESCRIPTOR_WORDS == 0:
                self._whole.append(now)
            drive["i__valid"] = 0
        self._stimulate()
