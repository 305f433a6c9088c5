"""Derive the accelerator's configuration from board and model; let the user override it."""

from dataclasses import dataclass, fields
import logging

import yaml

from gen.compile.compiler import compile_network
from gen.config.find import find_config
from gen.machine.cost import MemoryTiming, ON_CHIP, predict
from hw.config import CoreConfig, MEMORY_BITS
from hw.lib.plane_repeat import PLANES_MIN, REPEAT_BITS
from model.error import DoesNotFit, InputError
from model.graph import Attention, Pool, RepConv


__all__ = ["AcceleratorConfig", "TwinSpec", "MEMORIES", "block_rams", "derive", "read_overrides"]


log = logging.getLogger(__name__)


COMB_OF_ROWS = {16: 15_000, 32: 31_800, 64: 61_400}
"""LUTs of a whole design by array side. 32 and 64: as packed by nextpnr (docs/results); 16:
estimated from the units' parts that scale with the rows."""

MEMORIES = ("onchip", "sdram")
"""Where program, weights and what the pool cannot hold live."""

POOL_BANK_WORDS = (512, 1024, 2048, 4096, 8192)

BUFFER_WORDS = 512
"""Depth of the stream buffers for an SDRAM: that of a block RAM at its widest, which takes no
more of them than a shorter one."""

SDRAM_WORD_CYCLES = 9
"""What a word of SDRAM traffic is worth to the compiler, in cycles. A word takes about 3; traffic
comes before cycles, because stages 3 and 4 wait for their weights whatever the compiler does."""

DESCRIPTORS = 1 << 16
"""Completion records are numbered in 16 bits."""

MEGABYTE = 1_000_000


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
    """

    board: str
    clock_hz: int
    core: CoreConfig
    memory: str = "onchip"
    memory_words: int
    sdram_clock_hz: int | None = None

    def __post_init__(self):
        if self.memory not in MEMORIES:
            raise ValueError(f"Memory must be one of {', '.join(MEMORIES)}, not {self.memory!r}")
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
                "core": self.core.to_dict()}

    def describe(self):
        """The choices in a line."""
        core = self.core
        where = (f"{self.memory_words} memory words on chip" if self.memory == "onchip" else
                 f"SDRAM of {8 * self.memory_words / MEGABYTE:.1f} MB at "
                 f"{self.sdram_clock_hz / 1e6:g} MHz")
        return (f"rows {core.rows}, pool {core.pool_banks} x {core.pool_bank_words} words, "
                f"{where}, {self.clock_hz / 1e6:g} MHz")


def _ram_blocks(width, depth):
    """18-kbit block RAMs (DP16KD) of a simple dual-port memory."""
    shapes = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
    return min(-(-depth // d) * -(-width // w) for d, w in shapes)


def block_rams(core, memory_words):
    """Block RAMs by use; ``memory_words`` are those on chip."""
    return {
        "memory": _ram_blocks(MEMORY_BITS, memory_words),
        "pool": core.pool_banks * _ram_blocks(core.rows, core.pool_bank_words),
        # Two memories of a quarter of the rows; a row takes two words.
        "partial sums": 2 * _ram_blocks(core.rows // 4 * core.acc_bits, 2 * core.psum_words),
        "attention": _ram_blocks(core.rows * 8, core.head_words * core.rows),
        "stream buffers": _ram_blocks(core.weight_bits,
                                      core.weight_fifo_words // core.tile_header_words)
        + sum(_ram_blocks(MEMORY_BITS, words)
              for words in (core.const_fifo_words, core.depthwise_fifo_words)),
        "link": 2,
        **({"planes to skip": _ram_blocks(REPEAT_BITS, core.pool_words // PLANES_MIN)}
           if core.plane_skip else {}),
    }


def read_overrides(path):
    """Overrides from a YAML file: ``core`` (fields of CoreConfig), ``clock_mhz``, ``memory``
    (onchip or sdram), ``sdram_mhz``, ``memory_words``, ``strip_rows`` and ``fold`` (of
    :func:`gen.compile.compiler.compile_network`) and ``twin`` (fields of TwinSpec); all
    optional."""
    if path is None:
        return {}
    path = find_config(path)
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a mapping")
    known = {"core": {f.name for f in fields(CoreConfig)},
             "twin": {f.name for f in fields(TwinSpec)}, "clock_mhz": None, "memory": None,
             "sdram_mhz": None, "memory_words": None, "strip_rows": None,
             "fold": None}
    for key, value in content.items():
        if key not in known:
            raise InputError(f"{path}: unknown key {key!r}; known are {', '.join(known)}")
        if known[key] is not None:
            for name in value or {}:
                if name not in known[key]:
                    raise InputError(f"{path}: unknown {key} parameter {name!r}; known are "
                                     f"{', '.join(sorted(known[key]))}")
    if content.get("memory") not in (None, *MEMORIES):
        raise InputError(f"{path}: memory must be one of {', '.join(MEMORIES)}, "
                         f"not {content['memory']!r}")
    return content


def weight_words(network):
    """Memory words of the weights alone, the least that any program of the network needs."""
    count = 0
    for op in network.ops:
        if isinstance(op, RepConv):
            count += op.pointwise.size + op.depthwise.size
        elif not isinstance(op, Attention | Pool):
            count += op.weight.size
    return -(-count * 4 // MEMORY_BITS)


class _Search:
    """The configurations that board, network and overrides leave open."""

    def __init__(self, board, network, overrides):
        self.board, self.network, self.overrides = board, network, overrides
        self.core_overrides = dict(overrides.get("core") or {})
        self.clock_hz = round(overrides.get("clock_mhz", board.target_hz / 1e6) * 1e6)
        self.memory_words = overrides.get("memory_words")

    def rows(self):
        """Array sides, the largest first, whose logic the board can place."""
        if "rows" in self.core_overrides:
            return [self.core_overrides["rows"]]
        limit = round(self.board.comb * self.board.comb_limit)
        found = [rows for rows in sorted(COMB_OF_ROWS, reverse=True) if COMB_OF_ROWS[rows] <= limit]
        if not found:
            raise DoesNotFit(f"LUTs of {self.board.name}", needed=COMB_OF_ROWS[16],
                             available=limit)
        return found

    def banks(self):
        """Pool sizes, the smallest first."""
        fixed = self.core_overrides.get("pool_bank_words")
        return (fixed,) if fixed else POOL_BANK_WORDS

    def core(self, rows, bank_words, **values):
        params = self.network.params
        values = {"rows": rows, "load_rows": max(4, rows // 4),
                  "neuron_lanes": max(2, rows // 8), "pool_bank_words": bank_words,
                  "acc_bits": params.acc_bits, "membrane_frac": params.u_frac,
                  "z_bits": params.z_bits, "multiplier_bits": max(8, params.mult_bits),
                  **values, **self.core_overrides}
        try:
            return CoreConfig(**values)
        except (TypeError, ValueError) as error:
            raise InputError(f"Configuration: {error}") from error

    def check_blocks(self, core, words):
        """Raise DoesNotFit where the block RAMs are not enough."""
        blocks_of = block_rams(core, words)
        blocks = sum(blocks_of.values())
        if blocks > self.board.ebr:
            raise DoesNotFit(f"block RAMs (DP16KD) of {self.board.name}", needed=blocks,
                             available=self.board.ebr,
                             hint=", ".join(f"{k} {v}" for k, v in blocks_of.items()))

    def config(self, core, memory, words):
        sdram_hz = None
        if memory == "sdram":
            sdram = self.board.sdram
            sdram_hz = round(self.overrides.get("sdram_mhz", sdram.target_hz / 1e6) * 1e6)
            if sdram_hz not in sdram.clocks_hz:
                known = ", ".join(f"{hz / 1e6:g}" for hz in sdram.clocks_hz)
                raise InputError(f"SDRAM clock of {self.board.name} must be one of {known} MHz, "
                                 f"not {sdram_hz / 1e6:g} MHz")
        try:
            return AcceleratorConfig(board=self.board.name, clock_hz=self.clock_hz, core=core,
                                     memory=memory, memory_words=words, sdram_clock_hz=sdram_hz)
        except (TypeError, ValueError) as error:
            raise InputError(f"Configuration: {error}") from error

    def compile(self, config, **options):
        if config.memory == "sdram":
            options["word_cycles"] = SDRAM_WORD_CYCLES
        options |= {name: self.overrides[name] for name in ("strip_rows", "fold")
                    if name in self.overrides}
        # What running a depthwise convolution apart costs elsewhere, only the cost model knows.
        programs, failure = [], None
        for apart in (False, True):
            try:
                programs.append(compile_network(self.network, config.core, apart=apart, **options))
            except DoesNotFit as error:
                failure = error
        if not programs:
            raise failure
        program = min(programs, key=lambda found: predict(found, config.timing).cycles)
        if len(program.descriptors) >= DESCRIPTORS:
            raise DoesNotFit("descriptors of a program", needed=len(program.descriptors),
                             available=DESCRIPTORS - 1, hint=config.describe())
        return program

    def on_chip(self):
        """The largest array, with the smallest pool that keeps every tensor on chip (or the
        largest that fits), and program and weights in block RAM."""
        failure = None
        outside = bool(self.overrides.get("twin"))  # a memory outside the chip stands for ours
        for rows in self.rows():
            best = None
            for bank_words in self.banks():
                core = self.core(rows, bank_words)
                try:
                    words = self.memory_words or weight_words(self.network)
                    self.check_blocks(core, 0 if outside else words)
                    limit = self.memory_words or 1 << core.address_bits
                    config = self.config(core, "onchip", limit)
                    program = self.compile(config, memory_words=limit)
                    words = self.memory_words or -(-program.memory_words // 1024) * 1024
                    self.check_blocks(core, 0 if outside else words)
                except DoesNotFit as error:
                    failure = error
                    continue
                best = self.config(core, "onchip", words), program
                if not any(home == "memory" and name not in ("image", "logits_acc")
                           for name, (home, _) in program.homes.items()):
                    break
            if best is not None:
                return best
        raise failure

    def sdram(self):
        """The largest array with the largest pool; program, weights and the rest in SDRAM."""
        board, failure = self.board, None
        if board.sdram is None:
            raise DoesNotFit(f"SDRAM words of {board.name}", needed=weight_words(self.network),
                             available=0)
        words = self.memory_words or board.sdram.size_bytes * 8 // MEMORY_BITS
        self.check_sdram(weight_words(self.network), words, "weights alone")
        for rows in self.rows():
            try:
                core = self._largest_pool(rows)
                config = self.config(core, "sdram", words)
                program = self.compile(config)
            except DoesNotFit as error:
                failure = failure or error
                continue
            self.check_sdram(program.memory_words, words, (
                f"weights and constants {_megabytes(program.program)}, program "
                f"{_megabytes(program.spill - program.program)}, spilled tensors "
                f"{_megabytes(program.image - program.spill)}, image, result and log "
                f"{_megabytes(program.memory_words - program.image)}"))
            return config, program
        raise failure

    def _largest_pool(self, rows):
        """The core whose pool is the largest that the block RAMs hold."""
        for bank_words in reversed(self.banks()):
            wide = self.core(rows, bank_words).tile_header_words
            core = self.core(rows, bank_words, weight_fifo_words=wide * BUFFER_WORDS,
                             const_fifo_words=BUFFER_WORDS, depthwise_fifo_words=BUFFER_WORDS)
            try:
                self.check_blocks(core, 0)
            except DoesNotFit as error:
                smallest = error
                continue
            return core
        raise smallest

    def check_sdram(self, needed, available, what):
        """Raise DoesNotFit where a program is larger than the SDRAM: by how much, and which part
        of the board's would hold it."""
        if needed <= available:
            return
        sdram = self.board.sdram
        words = {part.name: sdram.rows * sdram.banks * part.columns * sdram.data_bits // MEMORY_BITS
                 for part in sdram.parts}
        larger = [name for name, words_of_part in words.items() if words_of_part >= needed]
        nearest = (f"boards with {larger[0]} hold it: memory_words: {words[larger[0]]}"
                   if larger else "no memory of this board is large enough")
        raise DoesNotFit(f"SDRAM words of 64 bits ({self.board.name})", needed=needed,
                         available=available,
                         hint=f"{_megabytes(needed - available)} too much: {what}; {nearest}")


def _megabytes(words):
    return f"{8 * words / MEGABYTE:.1f} MB"


def derive(board, network, overrides=None):
    """Choose a configuration and compile for it.

    On chip where program, weights and spilled tensors fit the block RAMs, else from the board's
    SDRAM. Either way the array is the largest whose logic fits the board's placement limit and
    whose memories fit its block RAMs. Widths come from the network.

    Returns
    -------
    (AcceleratorConfig, gen.compile.compiler.Program)

    Raises
    ------
    DoesNotFit
        Which resource, how much is needed and available, and the nearest configuration that
        fits: the first that changes a single override, else the one without any.
    InputError
    """
    overrides = overrides or {}
    try:
        return _derive(board, network, overrides)
    except DoesNotFit as error:
        nearest = _nearest(board, network, overrides)
        if nearest is None:
            raise
        raise DoesNotFit(error.resource, needed=error.needed, available=error.available,
                         hint="; ".join(filter(None, (error.hint, nearest)))) from error


def _derive(board, network, overrides):
    search = _Search(board, network, overrides)
    memory = overrides.get("memory")
    if memory == "sdram":
        return search.sdram()
    if memory == "onchip" or overrides.get("twin") or board.sdram is None:
        return search.on_chip()
    try:
        return search.on_chip()
    except DoesNotFit as error:
        log.info("Not on chip (%s): from SDRAM", error)
        return search.sdram()


def _nearest(board, network, overrides):
    """What to change for a configuration that fits, in words; None where nothing helps."""
    sizes = ("memory", "memory_words")
    choices = [("core", name) for name in overrides.get("core") or {}] + [
        (name,) for name in sizes if name in overrides]
    if not choices:
        return None
    without = [[choice] for choice in choices] + ([choices] if len(choices) > 1 else [])
    for dropped in without:
        changed = {k: dict(v) if isinstance(v, dict) else v for k, v in overrides.items()}
        for key, *name in dropped:
            if name:
                del changed[key][name[0]]
            else:
                del changed[key]
        try:
            config, _ = _derive(board, network, changed)
        except (DoesNotFit, InputError):
            continue
        return (f"nearest that fits, without {', '.join('.'.join(c) for c in dropped)}: "
                f"{config.describe()}")
    return None
