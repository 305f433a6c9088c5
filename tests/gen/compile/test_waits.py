"""Waits are sufficient: every access of a unit is ordered after those of others it depends on.

What a descriptor reads and writes is recorded while the ISS runs it, word by word, and does not
come from the compiler. Units run concurrently, each in program order; a descriptor starts when the
units have completed as many descriptors as its waits name. From that alone follows what has
happened before it starts, and every word that it reads, writes or overwrites must be older.
"""

import numpy as np
import pytest

from gen.machine.iss import Iss
from hw.descriptor import Destination, UnitKind
from sim.reference.state import Memories
from tests.gen.random_cases import compile_case


UNITS = len(UnitKind) - 1


class Recorder(Memories):
    """Memories that note which words of pool and partial sums are read and written."""

    def __init__(self, memories):
        super().__init__(**{name: getattr(memories, name) for name in (
            "pool", "psum", "repeats", "rows", "acc_bits", "attention_bits", "strict")})
        self.writing = self.counting = False
        self.begin()

    def begin(self):
        self.accesses = {("pool", "read"): [], ("pool", "write"): [],
                         ("psum", "read"): [], ("psum", "write"): []}

    def _note(self, resource, how, words):
        self.accesses[resource, how].append(np.unique(np.asarray(words).reshape(-1)))

    def at(self, addresses):
        found = super().at(addresses)
        if not self.counting:
            self._note("pool", "write" if self.writing else "read", found)
        return found

    def write(self, addresses, words, **outcome):
        self.writing = True
        try:
            return super().write(addresses, words, **outcome)
        finally:
            self.writing = False

    def count_repeats(self, addresses, words):
        self.counting = True
        try:
            super().count_repeats(addresses, words)
        finally:
            self.counting = False

    def sums(self, first, count):
        self._note("psum", "read", np.arange(first, first + count))
        return super().sums(first, count)

    def put_sums(self, first, values, *, add=False):
        self._note("psum", "write", np.arange(first, first + len(values)))
        super().put_sums(first, values, add=add)


class RecordingIss(Iss):
    """Yields accesses of each descriptor: {(resource, "read" or "write"): words}."""

    def __init__(self, program):
        super().__init__(program)
        self.memories = Recorder(self.memories)
        self.records = []

    def _execute(self, unit, fields):
        self.memories.begin()
        outcome = super()._execute(unit, fields)
        found = {key: np.concatenate(parts) if parts else np.zeros(0, np.int64)
                 for key, parts in self.memories.accesses.items()}
        if unit in (UnitKind.LOAD, UnitKind.STORE) and not fields["image"]:
            rows = (fields["memory_address"]
                    + fields["memory_stride"] * np.arange(fields["count"])[:, None]
                    + np.arange(fields["length"]))
            how = "read" if unit is UnitKind.LOAD else "write"
            stream = fields.get("destination", Destination.POOL) != Destination.POOL
            # Weights and constants are never written.
            found["memory", how] = np.zeros(0, np.int64) if stream else rows.reshape(-1)
        self.records.append((unit, found))
        return outcome


def unordered(program, image):
    """(descriptor, resource) of accesses that the waits leave in no order."""
    core = RecordingIss(program)
    core.run(image)
    before = [[] for _ in range(UNITS)]     # by unit: what has happened before each of its own
    last_write, last_read, found = {}, {}, []
    for index, (descriptor, (unit, accesses)) in enumerate(
            zip(program.descriptors, core.records, strict=True)):
        mine = unit.value
        assert descriptor.unit is unit
        # Completed before it starts, by unit: as waited for, and what those had waited for.
        known = np.array(descriptor.waits, np.int64)
        known[mine] = len(before[mine])
        for other in range(UNITS):
            if known[other]:
                known = np.maximum(known, before[other][known[other] - 1])
        known[mine] = len(before[mine])
        before[mine].append(known.copy())
        number = len(before[mine])          # this one, counted from 1
        for (resource, how), words in accesses.items():
            size = 1 + int(words.max(initial=0))
            for table in (last_write, last_read):
                old = table.get(resource)
                if old is None or old.shape[1] < size:
                    new = np.zeros((UNITS, max(size, 1 << 12)), np.int64)
                    if old is not None:
                        new[:, :old.shape[1]] = old
                    table[resource] = new
            tables = [last_write] if how == "read" else [last_write, last_read]
            for table in tables:
                seen = table[resource][:, words].max(axis=1, initial=0)
                seen[mine] = 0
                if (seen > known).any():
                    found.append((index, resource, how))
        for (resource, how), words in accesses.items():
            (last_read if how == "read" else last_write)[resource][mine, words] = number
    return found


@pytest.mark.parametrize("seed", range(12))
def test_every_access_is_ordered(seed):
    network, program = compile_case(seed)
    shape = network.network.input_shape
    image = np.random.default_rng(seed).integers(-128, 128, shape, dtype=np.int8)
    assert unordered(program, image) == []


@pytest.mark.parametrize("forgotten", ["read", "write"])
def test_a_forgotten_hazard_is_found(monkeypatch, forgotten):
    """The check sees what it is for: reads, or writes, that the compiler does not remember."""
    from gen.compile.hazard import Hazards

    issue = Hazards.issue

    def forgetful(self, unit, reads, writes):
        waits = issue(self, unit, reads, writes)
        table = self._read if forgotten == "read" else self._written
        for name, start, end, *_ in reads if forgotten == "read" else writes:
            table[name][unit, start:end] = 0
        return waits

    monkeypatch.setattr(Hazards, "issue", forgetful)
    found = []
    for seed in range(4):
        network, program = compile_case(seed)
        image = np.zeros(network.network.input_shape, np.int8)
        found += unordered(program, image)
    assert found
