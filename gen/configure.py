"""Derive the accelerator's configuration from board and model; let the user override it."""

from dataclasses import dataclass, fields
from pathlib import Path

import yaml

from gen.compiler import compile_network
from gen.error import DoesNotFit, InputError
from hw.config import CoreConfig


__all__ = ["AcceleratorConfig", "TwinSpec", "block_rams", "derive", "read_overrides"]


COMB_OF_ROWS = {16: 15_000, 32: 42_000, 64: 59_000}
"""LUTs of a whole design by array side; 32: as packed by nextpnr (docs/decisions/0007), the
others estimated."""

POOL_BANK_WORDS = (512, 1024, 2048, 4096)


@dataclass(frozen=True, kw_only=True)
class TwinSpec:
    """Memory that a verification runs with.

    ``latency`` cycles from a read command to its data, at least; ``stall`` the chance that a
    stream pauses in a cycle, drawn from ``seed``.
    """

    latency: int = 2
    stall: float = 0.0
    seed: int = 1


@dataclass(frozen=True, kw_only=True)
class AcceleratorConfig:
    """Everything that is chosen before synthesis.

    Attributes
    ----------
    board : str
    clock_hz : int
    core : CoreConfig
    memory_words : int
        On-chip memory behind the core, 64-bit words.
    """

    board: str
    clock_hz: int
    core: CoreConfig
    memory_words: int

    def to_dict(self):
        return {"board": self.board, "clock_hz": self.clock_hz,
                "memory_words": self.memory_words, "core": self.core.to_dict()}


def _ram_blocks(width, depth):
    """18-kbit block RAMs (DP16KD) of a simple dual-port memory."""
    shapes = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
    return min(-(-depth // d) * -(-width // w) for d, w in shapes)


def block_rams(core, memory_words):
    """Block RAMs by use."""
    return {
        "memory": _ram_blocks(64, memory_words),
        "pool": core.pool_banks * _ram_blocks(core.rows, core.pool_bank_words),
        "partial sums": _ram_blocks(core.rows * core.acc_bits, core.psum_words),
        "attention": _ram_blocks(core.rows * 8, core.head_words * core.rows),
        "stream buffers": sum(_ram_blocks(64, words) for words in (
            core.weight_fifo_words, core.const_fifo_words, core.depthwise_fifo_words)),
        "link": 2,
    }


def read_overrides(path):
    """Overrides from a YAML file: ``core`` (fields of CoreConfig), ``clock_mhz``,
    ``memory_words`` and ``twin`` (latency, stall, seed); all optional."""
    if path is None:
        return {}
    try:
        content = yaml.safe_load(Path(path).read_text()) or {}
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a mapping")
    known = {"core": {f.name for f in fields(CoreConfig)},
             "twin": {f.name for f in fields(TwinSpec)}, "clock_mhz": None, "memory_words": None}
    for key, value in content.items():
        if key not in known:
            raise InputError(f"{path}: unknown key {key!r}; known are {', '.join(known)}")
        if known[key] is not None:
            for name in value or {}:
                if name not in known[key]:
                    raise InputError(f"{path}: unknown {key} parameter {name!r}; known are "
                                     f"{', '.join(sorted(known[key]))}")
    return content


def derive(board, network, overrides=None):
    """Choose a configuration and compile for it.

    The array is the largest whose logic fits the board's placement limit and whose memories fit
    its block RAMs; the pool is the smallest that keeps every tensor on chip (or the largest that
    fits). Widths come from the network.

    Returns
    -------
    (AcceleratorConfig, gen.compiler.Program)

    Raises
    ------
    DoesNotFit, InputError
    """
    overrides = overrides or {}
    core_overrides = dict(overrides.get("core") or {})
    clock_hz = round(overrides.get("clock_mhz", board.target_hz / 1e6) * 1e6)
    params = network.params
    widths = {"acc_bits": params.acc_bits, "membrane_frac": params.u_frac,
              "z_bits": params.z_bits, "multiplier_bits": max(8, params.mult_bits)}
    limit = overrides.get("memory_words", 1 << 24)
    failure = None
    for rows in (64, 32, 16):
        if "rows" in core_overrides:
            rows = core_overrides["rows"]
        elif COMB_OF_ROWS[rows] > board.comb * board.comb_limit:
            continue
        fixed = core_overrides.get("pool_bank_words")
        for bank_words in (fixed,) if fixed else POOL_BANK_WORDS:
            values = {"rows": rows, "load_columns": max(4, rows // 4),
                      "neuron_lanes": max(2, rows // 8), "pool_bank_words": bank_words,
                      **widths, **core_overrides}
            try:
                core = CoreConfig(**values)
            except (TypeError, ValueError) as error:
                raise InputError(f"Configuration: {error}") from error
            try:
                program = compile_network(network, core, memory_words=limit)
            except DoesNotFit as error:
                failure = error
                continue
            memory_words = overrides.get("memory_words",
                                         -(-program.memory_words // 1024) * 1024)
            blocks_of = block_rams(core, memory_words)
            if overrides.get("twin"):  # a memory outside the chip
                del blocks_of["memory"]
            blocks = sum(blocks_of.values())
            if blocks > board.ebr:
                use = ", ".join(f"{k} {v}" for k, v in blocks_of.items())
                failure = DoesNotFit(f"block RAMs (DP16KD) of {board.name}", needed=blocks,
                                     available=board.ebr, hint=use)
                continue
            spilled = [name for name, (kind, _) in program.homes.items()
                       if kind == "memory" and name not in ("image", "logits_acc")]
            found = (AcceleratorConfig(board=board.name, clock_hz=clock_hz, core=core,
                                       memory_words=memory_words), program)
            if not spilled or fixed:
                return found
            failure = found
        if isinstance(failure, tuple):
            return failure
        if "rows" in core_overrides:
            break
    raise failure or DoesNotFit(f"LUTs of {board.name}", needed=COMB_OF_ROWS[16],
                                available=round(board.comb * board.comb_limit))
