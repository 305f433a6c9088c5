"""Geometry and timing of a single-data-rate SDRAM, in nanoseconds and in clock cycles."""

from dataclasses import asdict, dataclass
from math import ceil, floor

from hw.config import MEMORY_BITS


__all__ = ["SdramConfig", "BEATS", "DATA_BITS"]


DATA_BITS = 16
"""Width of the data pins."""

BEATS = MEMORY_BITS // DATA_BITS
"""Transfers of a memory word, and the burst length in the chip's mode register."""


@dataclass(frozen=True, kw_only=True)
class SdramConfig:
    """What a controller is built for: the slowest times and smallest geometry of its parts.

    A word address is, from its lowest bit: ``column_bits - 2`` column bits, the bank, the row and,
    where ``optional_column``, the column bit that only the larger parts have. So consecutive
    words change the bank at each end of a row, and both sizes share one address map.

    Parameters
    ----------
    clock_hz : int
        Clock of the chip.
    bank_bits, row_bits, column_bits : int
        Of every part; columns are words of 16 bits.
    optional_column : bool
        Some parts have twice the columns: found out at boot.
    trcd_ns, trp_ns, tras_ns, trc_ns, trfc_ns, twr_ns, trrd_ns, tmrd_ns : float
        Least times of the data sheets (JESD79's names in lower case): ACTIVATE to READ or WRITE;
        PRECHARGE to ACTIVATE; ACTIVATE to PRECHARGE; ACTIVATE to ACTIVATE of a bank; REFRESH to
        any; last datum written to PRECHARGE; ACTIVATE to ACTIVATE of two banks; mode register
        to any. The last datum to PRECHARGE and the mode register take at least 2 cycles.
    refresh_ns : float
        Mean time between two REFRESH commands, at most.
    power_up_ns : float
        Least time with a stable clock before the first command. It is waited twice: once with
        CKE low and once with CKE high, because the makers ask for one or the other.
    """

    clock_hz: int
    trcd_ns: float
    trp_ns: float
    tras_ns: float
    trc_ns: float
    trfc_ns: float
    twr_ns: float
    trrd_ns: float
    tmrd_ns: float = 14
    refresh_ns: float = 7812.5
    power_up_ns: float = 200_000
    bank_bits: int = 2
    row_bits: int = 13
    column_bits: int = 9
    optional_column: bool = False

    def __post_init__(self):
        def require(condition, text, value):
            if not condition:
                raise ValueError(f"{text}, not {value!r}")

        require(10_000_000 <= self.clock_hz <= 200_000_000, "SDRAM clock must be 10..200 MHz",
                self.clock_hz)
        for name, value in asdict(self).items():
            if name.endswith("_ns"):
                require(value > 0, f"SDRAM time {name} must be positive", value)
        require(1 <= self.bank_bits <= 2, "SDRAM bank bits must be 1 or 2", self.bank_bits)
        require(1 <= self.row_bits <= 13, "SDRAM row bits must be 1..13", self.row_bits)
        require(4 <= self.column_bits <= 10 - self.optional_column,
                "SDRAM column bits must be 4..10 with the optional one", self.column_bits)
        require(self.words_bits + self.optional_column <= 24,
                "SDRAM must hold at most 2**24 words", 1 << self.words_bits)

    # Geometry

    @property
    def word_column_bits(self):
        """Bits of a word's place in a row."""
        return self.column_bits - 2

    @property
    def words_bits(self):
        """Address bits of the words that every part has."""
        return self.word_column_bits + self.bank_bits + self.row_bits

    @property
    def words(self):
        """Words that every part has."""
        return 1 << self.words_bits

    @property
    def row_words(self):
        """Words in a row, without the optional column bit."""
        return 1 << self.word_column_bits

    # Timing in clock cycles

    def cycles(self, ns):
        """Cycles that last at least ``ns``."""
        return ceil(ns * self.clock_hz / 1e9 - 1e-6)

    @property
    def cas_latency(self):
        """2 up to 100 MHz, else 3."""
        return 2 if self.clock_hz <= 100_000_000 else 3

    @property
    def trcd(self):
        return self.cycles(self.trcd_ns)

    @property
    def trp(self):
        return self.cycles(self.trp_ns)

    @property
    def tras(self):
        return self.cycles(self.tras_ns)

    @property
    def trc(self):
        return self.cycles(self.trc_ns)

    @property
    def trfc(self):
        return self.cycles(self.trfc_ns)

    @property
    def twr(self):
        return max(2, self.cycles(self.twr_ns))

    @property
    def trrd(self):
        return self.cycles(self.trrd_ns)

    @property
    def tmrd(self):
        return max(2, self.cycles(self.tmrd_ns))

    @property
    def refresh(self):
        """Cycles between two refreshes, rounded down."""
        return floor(self.refresh_ns * self.clock_hz / 1e9)

    @property
    def power_up(self):
        return self.cycles(self.power_up_ns)

    def to_dict(self):
        return asdict(self)
