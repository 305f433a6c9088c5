"""Boards by name: ``find_board("ulx3s-85f")``."""

from boards.icepi_zero import ICEPI_ZERO
from boards.icesugar_pro import ICESUGAR_PRO
from boards.spec import BoardSpec
from boards.ulx3s import ULX3S


__all__ = ["ALIASES", "BOARDS", "DEFAULT", "NAMES", "BoardSpec", "UnknownBoard", "find_board"]


BOARDS = {spec.name: spec for spec in (*ULX3S, ICEPI_ZERO, ICESUGAR_PRO)}
"""Every board, by its full name."""

ALIASES = {"ulx3s": "ulx3s-85f"}
"""Short names and the board each of them means."""

DEFAULT = "ulx3s"
"""The board that is meant where none is named."""

NAMES = f"{', '.join(BOARDS)}; " + ", ".join(f"{alias} is {name}" for alias, name in
                                             ALIASES.items())
"""All names, for the help of commands."""


class UnknownBoard(ValueError):
    """A name that is neither a board nor an alias; the message lists the known ones."""


def find_board(name: str) -> BoardSpec:
    """The board of that name or alias."""
    try:
        return BOARDS[ALIASES.get(name, name)]
    except KeyError:
        aliases = ", ".join(f"{alias} ({board})" for alias, board in ALIASES.items())
        raise UnknownBoard(f"Unknown board {name!r}: known boards are {', '.join(BOARDS)}; "
                           f"{aliases}") from None
