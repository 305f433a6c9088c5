"""What a board is: plain data about its chip, clock, link and memory."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields

from amaranth.build import Platform


__all__ = ["CORE_25F", "BoardSpec", "SdramPart", "SdramSpec"]


CORE_25F = {"neuron_lanes": 1, "queue_depth": 2, "pool_banks": 4, "pool_bank_words": 4096}
"""Parameters of a core on an LFE5U-25F, whose LUTs and wires are short (decision 0007)."""


@dataclass(frozen=True, kw_only=True)
class SdramPart:
    """One SDRAM chip that is found on a board: its size, and the times of its data sheet."""

    name: str
    columns: int
    """Columns of a row, in words: what tells 32 MB from 64 MB modules."""
    max_mhz: int
    trcd_ns: float
    """ACTIVATE to READ or WRITE."""
    trp_ns: float
    """PRECHARGE to ACTIVATE."""
    tras_ns: float
    """ACTIVATE to PRECHARGE."""
    trc_ns: float
    """ACTIVATE to ACTIVATE in one bank."""
    trfc_ns: float
    """REFRESH to any command."""
    twr_ns: float
    """Last datum written to PRECHARGE."""
    trrd_ns: float
    """ACTIVATE to ACTIVATE in two banks."""
    tmrd_ns: float
    """Mode register to any command."""

    @property
    def times(self) -> dict[str, float]:
        """Every time by its name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name.endswith("_ns")}


@dataclass(frozen=True, kw_only=True)
class SdramSpec:
    """A board's single-data-rate SDRAM: the parts that were shipped with it.

    ``rows * banks * columns`` words of ``data_bits`` each.
    """

    parts: tuple[SdramPart, ...]
    data_bits: int
    banks: int
    rows: int
    refresh_ns: float
    """Mean time between two refresh commands."""
    power_up_ns: float
    clocks_hz: tuple[int, ...]
    """Clocks that the board top can make."""
    target_hz: int
    """The clock that is built when nothing else is asked for."""

    def __post_init__(self) -> None:
        fastest = min(part.max_mhz for part in self.parts) * 1_000_000
        for clock_hz in (self.target_hz, *self.clocks_hz):
            if clock_hz not in self.clocks_hz or clock_hz > fastest:
                raise ValueError(f"SDRAM clock must be one of {self.clocks_hz} and at most "
                                 f"{fastest} Hz, not {clock_hz!r}")

    @property
    def times(self) -> dict[str, float]:
        """The slowest of each time, so that one controller fits every board."""
        return {name: max(part.times[name] for part in self.parts) for name in self.parts[0].times}

    @property
    def columns(self) -> int:
        """Columns that every part has."""
        return min(part.columns for part in self.parts)

    @property
    def size_bytes(self) -> int:
        """Bytes that every part has."""
        return self.rows * self.banks * self.columns * self.data_bits // 8


@dataclass(frozen=True, kw_only=True)
class BoardSpec:
    """One board with one FPGA, as the generator sees it.

    Parameters
    ----------
    name : str
        Name on the command line.
    part, package, speed : str
        Device (``LFE5U-85F``), package as nextpnr names it and speed grade.
    device_option : str
        nextpnr's option that selects the die.
    idcode : int
        JTAG IDCODE of the chip; checked before a bitstream is loaded.
    clock_hz : int
        The board's oscillator.
    core_clocks_hz : tuple of int
        Core clocks that the board top can make.
    target_hz : int
        The core clock that is built when nothing else is asked for; one of ``core_clocks_hz``.
    baud_rates : tuple of int
        Link speeds that the board's USB serial bridge reaches, the preferred one first.
    comb, ff, ebr, dsp : int
        LUT4s, flip-flops, 18-kbit block RAMs and 18x18 multipliers of the chip.
    comb_limit : float
        Share of ``comb`` that a configuration may be chosen for, from its estimated size.
    core : mapping of str to int
        Parameters of the core (:class:`hw.config.CoreConfig`) that are not what is derived
        otherwise; a configuration's own go before them.
    sdram : SdramSpec or None
    platform : type
        amaranth-boards platform class.
    top : callable
        ``top(shell, core_clock_hz=..., sdram_clock_hz=...)``: the component that wires a core
        shell (``rx``, ``tx``, ``leds`` and perhaps SDRAM ``pins``) to the board's pins and clocks.
    sdram_phases : callable
        ``sdram_phases(sdram_clock_hz)``: steps of the chip's clock phase that the top can make.
    meter : bool
        Whether a build has the port of a power monitor unless its configuration says otherwise.
    flash_bytes : int
        Size of the configuration flash as far as 24 bits of address reach; 0 where unknown.
    loader : tuple of str
        openFPGALoader's options that select the board: its name there (``-b``), or the cable.
    usb : tuple of (int, int)
        USB vendor and product of the programming port.
    usb_port : str
        What that port is called, in messages: ``"US1"``.
    button : str or None
        What the button that restarts the board is called; None where there is none.
    alive_led : str
        What the LED that shows bit 7 of the shell is called.
    """

    name: str
    part: str
    package: str
    speed: str
    device_option: str
    idcode: int
    clock_hz: int
    core_clocks_hz: tuple[int, ...]
    target_hz: int
    baud_rates: tuple[int, ...]
    comb: int
    ff: int
    ebr: int
    dsp: int
    comb_limit: float
    core: Mapping[str, int] = field(default_factory=dict)
    sdram: SdramSpec | None
    platform: type[Platform]
    top: Callable
    sdram_phases: Callable[[int], int]
    meter: bool = False
    flash_bytes: int = 0
    loader: tuple[str, ...]
    usb: tuple[int, int]
    usb_port: str
    button: str | None
    alive_led: str

    def __post_init__(self) -> None:
        if self.target_hz not in self.core_clocks_hz:
            raise ValueError(f"Target clock must be one of {self.core_clocks_hz}, "
                             f"not {self.target_hz!r}")

    def check_core_clock(self, core_clock_hz: int) -> int:
        """Return ``core_clock_hz`` if the board can make it."""
        if core_clock_hz not in self.core_clocks_hz:
            known = ", ".join(f"{hz / 1e6:g}" for hz in self.core_clocks_hz)
            raise ValueError(f"Core clock of {self.name} must be one of {known} MHz, "
                             f"not {core_clock_hz / 1e6:g} MHz")
        return core_clock_hz

    def link(self, core_clock_hz: int) -> tuple[int, int]:
        """The link's ``(baud, divisor)`` at a core clock: the first rate that divides it exactly.

        An exact divisor leaves the whole sampling margin to the cable and the bridge.
        """
        for baud in self.baud_rates:
            if core_clock_hz % baud == 0:
                return baud, core_clock_hz // baud
        raise ValueError(f"No link speed of {self.name} ({self.baud_rates} baud) divides a core "
                         f"clock of {core_clock_hz} Hz")
