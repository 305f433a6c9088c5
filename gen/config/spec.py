"""What is chosen before synthesis, and the file with which a user chooses."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from boards import BoardSpec
from gen.compile.compiler import FOLD
from gen.config.find import find_config
from gen.isa.limits import STRIP_ROWS
from gen.machine.cost import MemoryTiming, ON_CHIP
from hw.boot_layout import SOURCES
from hw.config import CoreConfig
from model.error import as_input_error, InputError
from model.yaml_file import checked, checked_fields, load, shown


__all__ = ["AcceleratorConfig", "BOOTS", "MEMORIES", "TwinSpec", "chosen_clock",
           "chosen_sdram_clock", "read_overrides"]


MEMORIES = ("onchip", "sdram")
"""Where program, weights and what the pool cannot hold live."""

BOOTS = ("none", *SOURCES)
"""Where a board boots from by itself (:mod:`hw.boot_layout`), if from anything."""

MEGABYTE = 1_000_000

MAX_MHZ = 1000
"""Above every clock of an ECP5."""


@dataclass(frozen=True, kw_only=True)
class TwinSpec:
    """Memory that a verification runs with.

    ``latency`` cycles from a read command to its data, at least; ``stall`` the chance that a
    stream pauses in a cycle, drawn from ``seed``; at most ``words_per_cycle`` pass, and none in
    the ``refresh_cycles`` after every ``refresh_interval`` cycles
    (:class:`sim.twin.memory.MemoryTwin`).
    """

    latency: int = 2
    stall: float = 0.0
    seed: int = 1
    words_per_cycle: float = 1.0
    refresh_interval: int = 0
    refresh_cycles: int = 0


@dataclass(frozen=True, kw_only=True)
class AcceleratorConfig:
    """Everything that is chosen before synthesis.

    Attributes
    ----------
    board : str
    clock_hz : int
        Of the engine.
    core : CoreConfig
    memory : str
        One of :data:`MEMORIES`.
    memory_words : int
        Memory behind the core, 64-bit words.
    sdram_clock_hz : int or None
        Of an SDRAM; None on chip.
    meter : bool
        Whether there is the port of a power monitor (:mod:`hw.meter.power_meter`).
    boot : str
        Where the board boots from: one of :data:`BOOTS`.
    """

    board: str
    clock_hz: int
    core: CoreConfig
    memory: str = "onchip"
    memory_words: int
    sdram_clock_hz: int | None = None
    meter: bool = False
    boot: str = "none"

    def __post_init__(self):
        if self.memory not in MEMORIES:
            raise ValueError(f"Memory must be one of {', '.join(MEMORIES)}, not {self.memory!r}")
        if self.boot not in BOOTS:
            raise ValueError(f"Boot must be one of {', '.join(BOOTS)}, not {self.boot!r}")
        if (self.memory == "sdram") != (self.sdram_clock_hz is not None):
            raise ValueError(f"An SDRAM clock goes with the memory sdram, not {self.memory!r}")
        if not 0 < self.memory_words <= 1 << self.core.address_bits:
            raise ValueError(f"Memory must be 1..2**{self.core.address_bits} words, "
                             f"not {self.memory_words!r}")

    @property
    def timing(self):
        """The memory for the cost model, a :class:`gen.machine.cost.MemoryTiming`."""
        if self.memory == "onchip":
            return ON_CHIP
        return MemoryTiming.of_sdram(clock_hz=self.sdram_clock_hz, engine_hz=self.clock_hz)

    @property
    def onchip_words(self):
        """Memory words in block RAM."""
        return self.memory_words if self.memory == "onchip" else 0

    def to_dict(self):
        return {"board": self.board, "clock_hz": self.clock_hz, "memory": self.memory,
                "memory_words": self.memory_words, "sdram_clock_hz": self.sdram_clock_hz,
                "meter": self.meter,
                # Without it a design is what it was before this choice came, and so its identity.
                **({} if self.boot == "none" else {"boot": self.boot}),
                "core": self.core.to_dict()}

    def describe(self):
        """The choices in a line."""
        core = self.core
        where = (f"{self.memory_words} memory words on chip" if self.memory == "onchip" else
                 f"SDRAM of {8 * self.memory_words / MEGABYTE:.1f} MB at "
                 f"{self.sdram_clock_hz / 1e6:g} MHz")
        return (f"rows {core.rows}, pool {core.pool_banks} x {core.pool_bank_words} words, "
                f"{where}, {self.clock_hz / 1e6:g} MHz")


def read_overrides(path: str | Path | None) -> dict[str, Any]:
    """Overrides from a YAML file, checked as far as that needs no board and no network.

    ``core`` (fields of CoreConfig), ``clock_mhz``, ``memory`` (onchip or sdram), ``sdram_mhz``,
    ``memory_words``, ``strip_rows`` and ``fold`` (of
    :func:`gen.compile.compiler.compile_network`), ``meter`` (true or
    false), ``boot`` (one of :data:`BOOTS`) and ``twin`` (fields of TwinSpec); all optional.

    Raises
    ------
    InputError
        Naming the file, the key and what it must hold.
    """
    if path is None:
        return {}
    path = find_config(path)
    content = load(path)
    numbers = {"clock_mhz": (float, 1, MAX_MHZ), "sdram_mhz": (float, 1, MAX_MHZ),
               "memory_words": (int, 1, 1 << CoreConfig().address_bits),
               "strip_rows": (int, 1, STRIP_ROWS), "fold": (int, 1, FOLD)}
    known = ("core", "twin", "memory", "meter", "boot", *numbers)
    for key, value in content.items():
        if key not in known:
            raise InputError(f"{path}: unknown key {shown(key)}; known are {', '.join(known)}")
        if key in numbers:
            kind, low, high = numbers[key]
            checked(f"{path}: {key}", value, kind, low=low, high=high)
    if "meter" in content:
        checked(f"{path}: meter", content["meter"], bool)
    for key, choices in (("memory", MEMORIES), ("boot", BOOTS)):
        if key in content and content[key] not in choices:
            raise InputError(f"{path}: {key} must be one of {', '.join(choices)}, "
                             f"not {shown(content[key])}")
    if "core" in content:
        checked_fields(f"{path}: core", content["core"], CoreConfig)
    if "twin" in content:
        twin = checked_fields(f"{path}: twin", content["twin"], TwinSpec)
        # The memory itself knows its ranges.
        from sim.twin.memory import MemoryTwin

        with as_input_error(f"{path}: twin"):
            MemoryTwin(words=1, **asdict(TwinSpec(**twin)))  # type: ignore[arg-type]
    return content


def chosen_clock(board: BoardSpec, overrides: dict[str, Any]) -> int:
    """The engine's clock in Hz."""
    return round(overrides.get("clock_mhz", board.target_hz / 1e6) * 1e6)


def chosen_sdram_clock(board: BoardSpec, overrides: dict[str, Any]) -> int:
    """The SDRAM's clock in Hz; InputError where the board cannot make it."""
    sdram = board.sdram
    if sdram is None:
        raise InputError(f"{board.name} has no SDRAM")
    hz = round(overrides.get("sdram_mhz", sdram.target_hz / 1e6) * 1e6)
    if hz not in sdram.clocks_hz:
        possible = ", ".join(f"{clock / 1e6:g}" for clock in sdram.clocks_hz)
        raise InputError(f"SDRAM clock of {board.name} must be one of {possible} MHz, "
                         f"not {hz / 1e6:g} MHz")
    return hz
