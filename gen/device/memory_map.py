"""What a board found out about its SDRAM: the map of its settings, and tests of all of it."""

from dataclasses import dataclass
import time

from gen.device.port import LinkError
from hw.register import (
    fields_of,
    MAP_ROW_BIT,
    MEMORY_STATUS_BITS,
    MEMORY_TEST_BITS,
    MEMORY_TEST_COUNT_BITS,
    MemoryFault,
    MemoryTest,
    Register,
)


__all__ = ["MemoryMap", "MemoryTestResult", "read_memory_map", "run_memory_test"]


DELAYS = 1 << MEMORY_STATUS_BITS["delay"]

MOST_PHASES = 1 << MEMORY_STATUS_BITS["phase"]

DATA_PINS = 16

ALL_PINS = (1 << DATA_PINS) - 1

SIGNS = {"fails": ".", "passes": "+", "window": "=", "chosen": "O"}
"""A setting in the terminal, by what is known of it."""

COLOURS = {"fails": "#c9ced6", "passes": "#8fbf8f", "window": "#3c8d40", "chosen": "#1d3fbb"}


def _numbers(pins):
    return ", ".join(str(pin) for pin in range(DATA_PINS) if pins >> pin & 1)


@dataclass(frozen=True)
class MemoryMap:
    """Settings of clock phase and read delay that pass, and the one that was chosen.

    ``rows`` has for each phase the read delays that passed, bit n for delay n. ``status`` has the
    fields of :data:`hw.register.MEMORY_STATUS_BITS`. ``pins`` has a bit for each data pin that was
    never right: after a fault of the calibration only, else 0.
    """
    rows: tuple
    status: dict
    pins: int = 0

    def cells(self):
        """For each read delay the kind of each phase, one of :data:`SIGNS`. ``"window"`` passed
        and belongs to the window whose middle was chosen."""
        kinds = [["passes" if row >> delay & 1 else "fails" for row in self.rows]
                 for delay in range(DELAYS)]
        if self.status["fault"] != MemoryFault.CALIBRATION:
            chosen, phase, window = (kinds[self.status["delay"]], self.status["phase"],
                                     self.status["window"])
            last = phase + window // 2
            for k in range(last - window + 1, last + 1):
                chosen[k % len(chosen)] = "window"
            chosen[phase] = "chosen"
        return kinds

    def verdict(self):
        """One line: what the calibration found, and where it failed what to look at first."""
        status, phases = self.status, len(self.rows)
        setting = (f"read delay {status['delay']}, clock phase {status['phase']}, in a window of "
                   f"{status['window']} of {phases} phases")
        if status["fault"] == MemoryFault.GEOMETRY:
            return (f"works at {setting}, but address bit {status['address_bit']} of its words is "
                    "missing or stuck: look at that pin, or build for the part that is there")
        if status["fault"] != MemoryFault.CALIBRATION:
            return f"works at {setting}"
        least = -(-phases // 4)
        if status["window"] >= least:
            return (f"passes at {setting}, but not every time: look at its supply, and build with "
                    "a lower sdram_mhz")
        if any(self.rows):
            return (f"passes in a window of {status['window']} of {phases} phases, and "
                    f"{least} are needed: build with a lower sdram_mhz; if that does not "
                    "help, the data pins differ too much in their delays")
        if self.pins == ALL_PINS:
            return ("passes at no setting, and no data pin is ever right, as if the chip did not "
                    "answer: look at its supply, its clock and the pins CKE, RAS, CAS and WE")
        if self.pins:
            return ("passes at no setting, because words are never right at data pins "
                    f"{_numbers(self.pins)}: look at these solder joints")
        return ("passes at no setting, though each data pin is right at times: look at the pins of "
                "address and bank, and build with a lower sdram_mhz")

    def text(self):
        """The map for a terminal: a line for each read delay, a column for each phase."""
        lines = [f"delay {delay}  {''.join(SIGNS[kind] for kind in kinds)}"
                 for delay, kinds in enumerate(self.cells())]
        legend = ", ".join(f"{sign} {kind}" for kind, sign in SIGNS.items())
        return "\n".join([*lines, f"{len(self.rows)} clock phases from left to right: {legend}",
                          f"The SDRAM {self.verdict()}"])

    def html(self):
        """The map as one page that needs no other file."""
        size, left, below = 16, 64, 24
        width, height = left + size * len(self.rows), size * DELAYS + below
        boxes = [f'<rect x="{left + size * phase}" y="{size * delay}" width="{size - 2}" '
                 f'height="{size - 2}" fill="{COLOURS[kind]}"><title>delay {delay}, phase {phase}: '
                 f"{kind}</title></rect>"
                 for delay, kinds in enumerate(self.cells()) for phase, kind in enumerate(kinds)]
        boxes += [f'<text x="0" y="{size * delay + 12}">delay {delay}</text>'
                  for delay in range(DELAYS)]
        boxes += [f'<text x="{left + size * phase}" y="{height - 6}">{phase}</text>'
                  for phase in range(0, len(self.rows), 4)]
        legend = ", ".join(f'<b style="color:{COLOURS[kind]}">&#9632;</b> {kind}'
                           for kind in SIGNS)
        return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
                "<title>SDRAM: read delay and clock phase</title>"
                "<style>body{font:16px sans-serif;margin:24px} svg text{font-size:12px}</style>"
                "</head><body>\n<h1>SDRAM: read delay and clock phase</h1>\n"
                f"<p>The SDRAM {self.verdict()}.</p>\n"
                f'<svg width="{width}" height="{height}">{"".join(boxes)}</svg>\n'
                f"<p>Clock phases from left to right, {len(self.rows)} in a period: {legend}</p>\n"
                "</body></html>\n")


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
    pins = 0
    if status["fault"] == MemoryFault.CALIBRATION:
        pins, = device.read_registers(Register.MEMORY_TEST_PINS)
    return MemoryMap(tuple(rows), status, pins)


@dataclass(frozen=True)
class MemoryTestResult:
    """What a test of the whole memory found: words that differed (at most 2**16 - 1 are counted),
    the first one's address, and a bit for each data pin that was ever wrong."""
    test: MemoryTest
    errors: int
    address: int
    pins: int

    @property
    def passed(self):
        return not self.errors

    def text(self):
        """One line: what was found, and where."""
        if self.passed:
            return f"{self.test.name}: no error"
        most = (1 << MEMORY_TEST_COUNT_BITS) - 1
        return (f"{self.test.name}: {self.errors}{' or more' if self.errors == most else ''} words "
                f"differ, first at word {self.address:#x}, data pins {_numbers(self.pins)}")

    def advice(self):
        """One line: what to do next; empty after a test that was passed."""
        if self.passed:
            return ""
        if self.pins.bit_count() == 1:
            return (f"One data pin alone: look at the solder joint of data pin "
                    f"{_numbers(self.pins)}; few words that differ are weak cells of the chip")
        if self.test == MemoryTest.SWITCHING:
            return ("Many pins, when all switch at once: look at the supply of the chip and its "
                    "capacitors, and build with a lower sdram_mhz")
        if self.test == MemoryTest.RANDOM:
            return ("Many pins, in a scattered order: words took each other's place; look at the "
                    "pins of address and bank, and build with a lower sdram_mhz")
        return "Many pins: look at the supply of the chip, and build with a lower sdram_mhz"


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
        fields = fields_of(MEMORY_TEST_BITS, value)
        if fields["ended"] and not fields["running"] and fields["test"] == test:
            return MemoryTestResult(test, errors, address, pins)
        if not fields["running"] and fields["test"] != test:
            raise LinkError("The device has no test of its memory: its memory is no SDRAM")
        if time.monotonic() >= deadline:
            raise LinkError(f"The device's test {test.name} of its memory did not end in "
                            f"{timeout:g} s: its clock may not run; restart the board")
        time.sleep(interval)
