"""Resources of a chip that a configuration takes, before synthesis."""

from boards import BoardSpec
from gen.config.spec import AcceleratorConfig
from hw.config import CoreConfig, MEMORY_BITS, PLANES_MIN, REPEAT_BITS
from model.error import DoesNotFit


__all__ = ["COMB_OF_ROWS", "block_rams", "check_blocks", "check_fits"]


COMB_OF_ROWS = {16: 15_000, 32: 31_800, 64: 61_400}
"""LUTs of a whole design by array side. 32 and 64: as packed by nextpnr (docs/results); 16:
estimated from the units' parts that scale with the rows."""


def _ram_blocks(width: int, depth: int) -> int:
    """18-kbit block RAMs (DP16KD) of a simple dual-port memory."""
    shapes = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
    return min(-(-depth // d) * -(-width // w) for d, w in shapes)


def block_rams(core: CoreConfig, memory_words: int) -> dict[str, int]:
    """Block RAMs by use; ``memory_words`` are those on chip."""
    return {
        "memory": _ram_blocks(MEMORY_BITS, memory_words),
        "pool": core.pool_banks * _ram_blocks(core.rows, core.pool_bank_words),
        # Two memories of a quarter of the rows; a row takes two words.
        "partial sums": 2 * _ram_blocks(core.rows // 4 * core.acc_bits, 2 * core.psum_words),
        "attention": _ram_blocks(core.rows * core.attention_bits,
                                 core.head_words * core.rows),
        "stream buffers": _ram_blocks(core.weight_bits,
                                      core.weight_fifo_words // core.tile_header_words)
        + sum(_ram_blocks(MEMORY_BITS, words)
              for words in (core.const_fifo_words, core.depthwise_fifo_words)),
        "link": 2,
        **({"planes to skip": _ram_blocks(REPEAT_BITS, core.pool_words // PLANES_MIN)}
           if core.plane_skip else {}),
    }


def check_blocks(board: BoardSpec, core: CoreConfig, words: int) -> None:
    """Raise DoesNotFit where the block RAMs are not enough; ``words`` of memory are on chip."""
    blocks_of = block_rams(core, words)
    blocks = sum(blocks_of.values())
    if blocks > board.ebr:
        raise DoesNotFit(f"block RAMs (DP16KD) of {board.name}", needed=blocks,
                         available=board.ebr,
                         hint=", ".join(f"{k} {v}" for k, v in blocks_of.items()))


def check_fits(board: BoardSpec, config: AcceleratorConfig) -> None:
    """Refuse a configuration that cannot be built: of a ``twin``, whose memory is outside the
    chip, the search takes any size, for verification."""
    check_blocks(board, config.core, config.onchip_words)
