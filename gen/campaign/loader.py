"""A loader whose power fails on the way: what ``qsdt flash`` calls in a campaign."""

from pathlib import Path

from boards.spec import BoardSpec


__all__ = ["PowerCutLoader"]


BYTES = 1000
"""Of the bitstream that is loaded: what is in it does not matter here."""

SCRIPT = r"""#!/bin/sh
# Stands for openFPGALoader: tells the chip's IDCODE, and loads a bitstream byte by byte.
case "$*" in
  -V) echo openFPGALoader v1.1.1;;
  *--detect*) printf 'index 0:\n\tidcode 0x{idcode:x}\n';;
  *) for word in "$@"; do file=$word; done
     head -c {count} "$file" > {folder}/loaded
     cmp -s "$file" {folder}/loaded || kill -9 $$;;
esac
"""


class PowerCutLoader:
    """An executable in a folder, and a bitstream.

    Parameters
    ----------
    folder : Path
        For both; exists.
    board : BoardSpec
        Whose chip answers.
    cut : float or None
        Share of the bitstream behind which power and loader are gone; None: never.
    """

    def __init__(self, folder: Path, board: BoardSpec, cut: float | None = None):
        self.bitstream = folder / "top.bit"
        """A bitstream for the board's chip, with nothing in it."""
        head = bytes.fromhex("ff00 ffffbdb3 3b000000 e2000000") + board.idcode.to_bytes(4, "big")
        self.bitstream.write_bytes(head.ljust(BYTES, b"\xff"))
        self.path = folder / "openFPGALoader"
        count = BYTES if cut is None else min(int(cut * BYTES), BYTES - 1)
        self.path.write_text(SCRIPT.format(idcode=board.idcode, count=count, folder=folder))
        self.path.chmod(0o755)
