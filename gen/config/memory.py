"""The memory behind the core, as its configuration asks for it: in hardware and in simulation."""

from functools import partial

from hw.sdram_config import SdramConfig


__all__ = ["make_memory", "twin_memory", "rtl_memory", "sdram_config"]


def sdram_config(board, clock_hz):
    """Geometry and timing of a board's SDRAM: the slowest times and least size of its parts.

    Raises :exc:`ValueError` for a clock that the board cannot make.
    """
    spec = board.sdram
    if clock_hz not in spec.clocks_hz:
        known = ", ".join(f"{hz / 1e6:g}" for hz in spec.clocks_hz)
        raise ValueError(f"SDRAM clock of {board.name} must be one of {known} MHz, "
                         f"not {clock_hz / 1e6:g} MHz")
    return SdramConfig(
        clock_hz=clock_hz, **spec.times, refresh_ns=spec.refresh_ns,
        power_up_ns=spec.power_up_ns, bank_bits=spec.banks.bit_length() - 1,
        row_bits=spec.rows.bit_length() - 1, column_bits=spec.columns.bit_length() - 1,
        optional_column=any(part.columns > spec.columns for part in spec.parts))


def _on_chip_memory(config):
    """Makes the memory of block RAMs of an ``AcceleratorConfig``."""
    from hw.memory.onchip_memory import OnChipMemory

    return partial(OnChipMemory, words=config.memory_words)


def make_memory(board, config):
    """The memory backend of an ``AcceleratorConfig``, for the board's top."""
    if config.memory == "onchip":
        return _on_chip_memory(config)()
    from hw.sdram.memory import SdramMemory

    return SdramMemory(sdram_config(board, config.sdram_clock_hz),
                       phases=board.sdram_phases(config.sdram_clock_hz))


def twin_memory(board, config):
    """Makes (functools.partial) the same for a simulation in Verilator: an SDRAM as a twin with
    its pace.

    A design with it needs :data:`sim.twin.storage.STORAGE_VERILOG` among its sources.
    """
    if config.memory == "onchip":
        return _on_chip_memory(config)
    from sim.twin.sdram import SdramTwin

    return partial(SdramTwin, sdram_config(board, config.sdram_clock_hz),
                   sync_hz=config.clock_hz, verilog=True)


def rtl_memory(board, config, *, twin=None, chip=False):
    """What a simulation of the core alone (:class:`sim.rtl.core.RtlCore`) has as its memory.

    Parameters
    ----------
    config : gen.config.derive.AcceleratorConfig
    twin : gen.config.spec.TwinSpec or None
        A memory twin of this behaviour in place of what the configuration asks for.
    chip : bool
        For an SDRAM its controller and a model of the chip, in place of the controller's twin.

    Returns
    -------
    (text, options)
        In words, and options of :func:`gen.check.compare.verify`.
    """
    if twin is not None:
        return ", ".join(f"{key} {value:g}" for key, value in vars(twin).items()), {"twin": twin}
    if config.memory == "onchip":
        return "on chip", {}
    sdram = sdram_config(board, config.sdram_clock_hz)
    where = f"SDRAM at {config.sdram_clock_hz / 1e6:g} MHz"
    if chip:
        from sim.twin.sdram_system import SdramSystem

        return f"{where}, controller and chip", {
            "memory": partial(SdramSystem, sdram, verilog=True),
            "clocks_hz": (config.clock_hz, config.sdram_clock_hz)}
    return f"{where}, its twin", {"memory": twin_memory(board, config)}
