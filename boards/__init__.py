"""Boards by name: ``find_board("ulx3s-85f")``."""

from boards.spec import BoardSpec
from boards.ulx3s import ULX3S


__all__ = ["ALIASES", "BOARDS", "BoardSpec", "UnknownBoard", "find_board"]


BOARDS = {spec.name: spec for spec in ULX3S}
"""Every board, by its full name."""

ALIASES = {"ulx3s": "ulx3s-85f"}
"""Short names and the board each of them means."""


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
