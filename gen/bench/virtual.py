"""Virtual boards for a rehearsal: the RTL of the small bitstream, and that of a core."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from boards.spec import BoardSpec
from gen.check.simulate import reported
from gen.config.memory import twin_memory
from hw.bringup.block_rams import BlockRamTest
from hw.bringup_shell import BringupConfig, ROUNDS
from hw.sdram_config import SdramConfig
from model.error import ToolFailed
from sim.rtl.virtual_board import VirtualBoard, VirtualBoardError
from sim.twin.virtual_sdram import virtual_sdram


__all__ = ["SDRAM", "core_board", "small_board"]


SDRAM = SdramConfig(clock_hz=125_000_000, trcd_ns=21, trp_ns=21, tras_ns=45, trc_ns=66, trfc_ns=70,
                    twr_ns=15, trrd_ns=15, power_up_ns=2000, row_bits=4, column_bits=6)
"""1,024 words: a simulation has no time for more."""

PINS = {"phases": 20, "command_at": 4, "data_at": 12, "unsure": 2}
"""Of a chip on a board as it should be (:class:`sim.twin.sdram_phy.SdramPhyTwin`)."""


@contextmanager
def _started(board: VirtualBoard) -> Iterator[VirtualBoard]:
    try:
        with reported(), board:
            yield board
    except VirtualBoardError as error:
        raise ToolFailed(str(error)) from None


def small_board(cache: Path, *, ram: Any = None, **faults: Any) -> Any:
    """A running board with the RTL of the small bitstream but for the UART, and a small SDRAM.

    ``ram`` and ``faults`` break it: see :class:`hw.bringup.block_rams.BlockRamTest` and
    :func:`sim.twin.virtual_sdram.virtual_sdram`.
    """
    options = {} if ram is None else {"ram": ram}
    memory = partial(virtual_sdram, SDRAM, **{**PINS, **faults})
    return _started(VirtualBoard(BringupConfig(), memory=memory, cache=cache,
                                 core=BlockRamTest(rounds=ROUNDS, **options)))


def core_board(board: BoardSpec, config: Any, cache: Path) -> Any:
    """A running board with the RTL of a core, as ``qsdt run --board virtual`` has it."""
    return _started(VirtualBoard(config.core, memory=twin_memory(board, config), cache=cache))
