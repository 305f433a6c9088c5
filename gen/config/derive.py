"""Derive the accelerator's configuration from board and model; let the user override it."""

import logging

from gen.compile.compiler import compile_network, compile_plan, least_memory
from gen.compile.maps import attention_bits, depthwise_half
from gen.compile.results import on_core
from gen.compile.rings import StripMemo
from gen.compile.supported import check_supported, rounding, whole_levels
from gen.compile.wide import has_wide, weights_of
from gen.config.resources import check_blocks, COMB_OF_ROWS
from gen.config.spec import AcceleratorConfig, chosen_clock, chosen_sdram_clock, MEGABYTE
from gen.machine.cost import predict
from hw.config import CoreConfig, MEMORY_BITS
from model.error import DoesNotFit, InputError


__all__ = ["derive", "weight_words"]


log = logging.getLogger(__name__)


POOL_BANK_WORDS = (512, 1024, 2048, 4096, 8192)

BUFFER_WORDS = 512
"""Depth of the stream buffers for an SDRAM: that of a block RAM at its widest, which takes no
more of them than a shorter one."""

SDRAM_WORD_CYCLES = 9
"""What a word of SDRAM traffic is worth to the compiler, in cycles. A word takes about 3; traffic
comes before cycles, because stages 3 and 4 wait for their weights whatever the compiler does."""

WORTH = 0.99
"""Cycles, of those without, with which operators of resident maps run beside each other: a program
that is hardly faster stays the simpler one."""


def weight_words(network):
    """Memory words of the weights alone, the least that any program of the network needs. Weights
    that layers have in common are there once, and those that the host computes with are not."""
    distinct = {(weight.shape, weight.tobytes()): weight.size
                for op in on_core(network).ops for weight in weights_of(op).values()
                if weight.any()}
    return -(-sum(distinct.values()) * 4 // MEMORY_BITS)


class _Search:
    """The configurations that board, network and overrides leave open."""

    def __init__(self, board, network, overrides):
        self.board, self.network, self.overrides = board, network, overrides
        self.core_overrides = {**board.core, **(overrides.get("core") or {})}
        self.clock_hz = chosen_clock(board, overrides)
        self.memory_words = overrides.get("memory_words")
        self.memo = StripMemo()

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
                  "z_bits": max(self.network.z_widths().values(), default=params.z_bits),
                  "multiplier_bits": max(8, params.mult_bits),
                  "attention_bits": attention_bits(self.network.ops),
                  "levels": self.network.levels,
                  "depthwise_half": depthwise_half(self.network, rows),
                  "wide_weights": any(map(has_wide, self.network.ops)),
                  "half_even": True in rounding(self.network.ops),
                  "whole_levels": whole_levels(self.network.ops),
                  **values, **self.core_overrides}
        try:
            return CoreConfig(**values)
        except (TypeError, ValueError) as error:
            raise InputError(f"Configuration: {error}") from error

    def config(self, core, memory, words):
        sdram_hz = None
        if memory == "sdram":
            sdram_hz = chosen_sdram_clock(self.board, self.overrides)
        try:
            return AcceleratorConfig(board=self.board.name, clock_hz=self.clock_hz, core=core,
                                     memory=memory, memory_words=words, sdram_clock_hz=sdram_hz,
                                     meter=self.overrides.get("meter", self.board.meter),
                                     boot=self.overrides.get("boot", "none"))
        except (TypeError, ValueError) as error:
            raise InputError(f"Configuration: {error}") from error

    def compile(self, config, **options):
        if config.memory == "sdram":
            options["word_cycles"] = SDRAM_WORD_CYCLES
        options |= {name: self.overrides[name] for name in ("strip_rows", "fold")
                    if name in self.overrides}
        log.info("trying %s", config.describe())
        # What running a depthwise convolution apart costs elsewhere, only the cost model knows.
        programs, failure = [], None
        for apart in (False, True):
            try:
                programs.append(compile_network(self.network, config.core, apart=apart,
                                                memo=self.memo, **options))
            except DoesNotFit as error:
                failure = error
        if not programs:
            raise failure
        cycles = [predict(found, config.timing).cycles for found in programs]
        program = programs[cycles.index(min(cycles))]
        other = compile_plan(self.network, config.core, program.plan, beside=True, memo=self.memo)
        if predict(other, config.timing).cycles <= WORTH * min(cycles):
            program = other
        return program

    def least_memory(self, core):
        """Memory words that no program can do without; the same for every size of the pool."""
        fold = {"fold": self.overrides["fold"]} if "fold" in self.overrides else {}
        return least_memory(self.network, core, memo=self.memo, **fold)

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
                    check_blocks(self.board, core, 0 if outside else words)
                    words = self.memory_words or self.least_memory(core)
                    check_blocks(self.board, core, 0 if outside else words)
                    limit = self.memory_words or 1 << core.address_bits
                    config = self.config(core, "onchip", limit)
                    program = self.compile(config, memory_words=limit)
                    words = self.memory_words or -(-program.memory_words // 1024) * 1024
                    check_blocks(self.board, core, 0 if outside else words)
                except DoesNotFit as error:
                    failure = error
                    continue
                best = self.config(core, "onchip", words), program
                if not program.spilled:
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
                check_blocks(self.board, core, 0)
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


def derive(board, network, overrides=None, *, plans=None):
    """Choose a configuration and compile for it.

    On chip where program, weights and spilled tensors fit the block RAMs, else from the board's
    SDRAM. Either way the array is the largest whose logic fits the board's placement limit and
    whose memories fit its block RAMs. Widths come from the network.

    Parameters
    ----------
    board : boards.BoardSpec
    network : model.integer.network.IntegerNetwork
    overrides : dict or None
        As docs/configuration.md lists them.
    plans : gen.config.plans.Plans or None
        Where to look for what an earlier search decided, and to keep what this one does.

    Returns
    -------
    (AcceleratorConfig, gen.isa.program.Program)

    Raises
    ------
    DoesNotFit
        Which resource, how much is needed and available, and the nearest configuration that
        fits: the first that changes a single override, else the one without any.
    InputError
        What is wrong with the overrides, or what of the network no core supports.
    """
    check_supported(network)
    overrides = overrides or {}
    if "sdram_mhz" in overrides and board.sdram is not None:
        chosen_sdram_clock(board, overrides)
    path = plans and plans.path(board, network, overrides)
    if plans and (found := plans.read(path, network)) is not None:
        return found
    try:
        found = _derive(board, network, overrides)
    except DoesNotFit as error:
        nearest = _nearest(board, network, overrides)
        if nearest is None:
            raise
        raise DoesNotFit(error.resource, needed=error.needed, available=error.available,
                         hint="; ".join(filter(None, (error.hint, nearest)))) from error
    if plans:
        plans.write(path, *found)
    return found


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
