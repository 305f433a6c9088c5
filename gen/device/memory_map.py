"""What a board found out about its SDRAM: the map of its settings, and tests of all of it."""

from dataclasses import dataclass
import time

from gen.device.port import LinkError
from hw.register import MAP_ROW_BIT, MEMORY_STATUS_BITS, MEMORY_TEST_BITS, MemoryTest, Register


__all__ = ["MemoryMap", "MemoryTestResult", "read_memory_map", "run_memory_test"]


DELAYS = 1 << MEMORY_STATUS_BITS["delay"]

MOST_PHASES = 1 << MEMORY_STATUS_BITS["phase"]

SIGNS = {"fails": ".", "passes": "+", "window": "=", "chosen": "O"}
"""A setting in the terminal, by what is known of it."""

COLOURS = {"fails": "#c9ced6", "passes": "#8fbf8f", "window": "#3c8d40", "chosen": "#1d3fbb"}


@dataclass(frozen=True)
class MemoryMap:
    """Settings of clock phase and read delay that pass, and the one that was chosen.

    ``rows`` has for each phase the read delays that passed, bit n for delay n. ``status`` has the
    fields of :data:`hw.register.MEMORY_STATUS_BITS`.
    """
    rows: tuple
    status: dict

    def cells(self):
        """For each read delay the kind of each phase, one of :data:`SIGNS`. ``"window"`` passed
        and belongs to the window whose middle was chosen."""
        kinds = [["passes" if row >> delay & 1 else "fails" for row in self.rows]
                 for delay in range(DELAYS)]
        if not self.status["fault"]:
            chosen, phase, window = (kinds[self.status["delay"]], self.status["phase"],
                                     self.status["window"])
            last = phase + window // 2
            for k in range(last - window + 1, last + 1):
                chosen[k % len(chosen)] = "window"
            chosen[phase] = "chosen"
        return kinds

    def text(self):
        """The map for a terminal: a line for each read delay, a column for each phase."""
        lines = [f"delay {delay}  {''.join(SIGNS[kind] for kind in kinds)}"
                 for delay, kinds in enumerate(self.cells())]
        legend = ", ".join(f"{sign} {kind}" for kind, sign in SIGNS.items())
        return "\n".join([*lines, f"{len(self.rows)} clock phases from left to right: {legend}"])

    def html(self):
        """The map as one page that needs no other file."""
        size = 14
        boxes = "".join(
            f'<rect x="{size * phase}" y="{size * delay}" width="{size - 2}" height="{size - 2}" '
            f'fill="{COLOURS[kind]}"><title>delay {delay}, phase {phase}: {kind}</title></rect>'
            for delay, kinds in enumerate(self.cells()) for phase, kind in enumerate(kinds))
        legend = ", ".join(f'<b style="color:{COLOURS[kind]}">&#9632;</b> {kind}'
                           for kind in SIGNS)
        return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
                "<title>SDRAM: read delay and clock phase</title></head><body>\n"
                "<h1>SDRAM: read delay (down) and clock phase (across)</h1>\n"
                f'<svg width="{size * len(self.rows)}" height="{size * DELAYS}">{boxes}</svg>\n'
                f"<p>{legend}</p>\n</body></html>\n")


def read_memory_map(device, status):
    """The :class:`MemoryMap` of a device; ``status`` as in :class:`gen.device.device.DeviceInfo`.

    Raises :exc:`LinkError` for a device that has none.
    """
    rows = []
    for phase in range(MOST_PHASES):
        device.write_register(Register.MEMORY_MAP, phase)
        row, = device.read_registers(Register.MEMORY_MAP)
        if not row >> MAP_ROW_BIT & 1:
            break
        rows.append(row & (1 << DELAYS) - 1)
    if not rows:
        raise LinkError("The device has no map of its memory's settings: its memory is no SDRAM")
    return MemoryMap(tuple(rows), status)


@dataclass(frozen=True)
class MemoryTestResult:
    """What a test of the whole memory found: words that differed, the first one's address, and a
    bit for each data pin that was ever wrong."""
    test: MemoryTest
    errors: int
    address: int
    pins: int

    def text(self):
        if not self.errors:
            return f"{self.test.name}: no error"
        pins = ", ".join(str(pin) for pin in range(16) if self.pins >> pin & 1)
        return (f"{self.test.name}: {self.errors} words differ, first at word {self.address:#x}, "
                f"data pins {pins}")


def run_memory_test(device, test, *, timeout=60.0, interval=0.05):
    """Run a :class:`hw.register.MemoryTest`, which overwrites the memory; a
    :class:`MemoryTestResult`.

    Raises :exc:`LinkError` if the device refuses it, or after ``timeout`` seconds.
    """
    test = MemoryTest(test)
    device.write_register(Register.MEMORY_TEST, test)
    deadline = time.monotonic() + timeout
    while True:
        value, errors, address, pins = device.read_registers(Register.MEMORY_TEST, 4)
        fields = {}
        for name, bits in MEMORY_TEST_BITS.items():
            fields[name] = value & (1 << bits) - 1
            value >>= bits
        if fields["ended"] and not fields["running"] and fields["test"] == test:
            return MemoryTestResult(test, errors, address, pins)
        if not fields["running"] and fields["test"] != test:
            raise LinkError("The device has no test of its memory: its memory is no SDRAM")
        if time.monotonic() >= deadline:
            raise LinkError(f"The device's test {test.name} of its memory did not end in "
                            f"{timeout:g} s: its clock may not run")
        time.sleep(interval)
