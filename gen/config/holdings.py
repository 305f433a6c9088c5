"""What every board holds: each network on each board, from the search and the cost model."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
import json
import logging

from boards import BoardSpec
from gen.config.derive import derive
from gen.config.plans import Plans
from gen.config.resources import block_rams
from gen.machine.cost import predict
from model.error import DoesNotFit
from model.files import digest_of, make_folder, write_atomic
from model.integer.network import IntegerNetwork


__all__ = ["Holding", "holdings", "table"]


log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Holding:
    """A network on a board.

    Attributes
    ----------
    board, network : str
        Names.
    lanes, blocks : int
        Of the configuration that the search chose; block RAMs by the estimate before synthesis.
    ebr : int
        Block RAMs of the board's chip.
    memory : str
        ``on chip``, or ``SDRAM`` with its clock.
    clock_hz : int
        Of the core.
    images_per_s : float
        Of the core alone, by the cost model.
    reason : str
        Why it does not fit, in a line; empty where it does, and what else is said is 0 where not.
    """

    board: str
    network: str
    ebr: int
    lanes: int = 0
    blocks: int = 0
    memory: str = ""
    clock_hz: int = 0
    images_per_s: float = 0.0
    reason: str = ""


def _chip(board: BoardSpec) -> tuple:
    """What the search asks a board for: boards that agree in it hold the same."""
    sdram = board.sdram and (board.sdram.size_bytes, board.sdram.data_bits, board.sdram.target_hz)
    return (board.comb, board.comb_limit, board.ebr, board.target_hz, sdram,
            tuple(sorted(board.core.items())))


def _held(board: BoardSpec, name: str, network: IntegerNetwork, plans: Plans | None) -> Holding:
    try:
        config, program = derive(board, network, {}, plans=plans)
    except DoesNotFit as error:
        # What is there may be taken, or in pieces: then the numbers would say nothing.
        numbers = (f": {error.needed:,} needed, {error.available:,} available"
                   if error.needed > error.available else " are short")
        return Holding(board=board.name, network=name, ebr=board.ebr,
                       reason=f"does not fit: {error.resource}{numbers}")
    cycles = predict(program, config.timing).cycles
    memory = ("on chip" if config.sdram_clock_hz is None else
              f"SDRAM, {config.sdram_clock_hz / 1e6:g} MHz")
    return Holding(board=board.name, network=name, ebr=board.ebr, lanes=config.core.lanes,
                   blocks=sum(block_rams(config.core, config.onchip_words).values()),
                   memory=memory, clock_hz=config.clock_hz,
                   images_per_s=config.clock_hz / cycles)


def _kept(board: BoardSpec, name: str, network: IntegerNetwork, plans: Plans | None) -> Holding:
    """What is held, from the folder of plans where it was found before."""
    if plans is None:
        return _held(board, name, network, plans)
    path = plans.path(board, network, {}).with_suffix(".held")
    try:
        kept = json.loads(path.read_text())
        found = Holding(**kept["holding"])
        if kept["digest"] == digest_of(kept["holding"]):
            return replace(found, network=name)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.info("%s: not used (%s)", path, error)
    found = _held(board, name, network, plans)
    try:
        make_folder(path.parent)
        write_atomic(path, json.dumps({"digest": digest_of(asdict(found)),
                                       "holding": asdict(found)}))
    except OSError as error:
        log.info("What %s holds is not kept for the next command: %s", board.name, error)
    return found


def holdings(boards: Iterable[BoardSpec], networks: Mapping[str, IntegerNetwork], *,
             plans: Plans | None = None) -> Iterator[Holding]:
    """Every network on every board, board by board.

    A search is run once for boards that agree in all it asks for, and not at all for what
    ``plans`` has from an earlier one of the same code.

    Parameters
    ----------
    boards : iterable of BoardSpec
    networks : mapping
        By name.
    plans : Plans or None
        The folder with what earlier searches decided.
    """
    found: dict[tuple, Holding] = {}
    for board in boards:
        for name, network in networks.items():
            key = (name, *_chip(board))
            if key not in found:
                found[key] = _kept(board, name, network, plans)
            here = found[key]
            yield replace(here, board=board.name,
                          reason=here.reason.replace(here.board, board.name))


def table(rows: Iterable[Holding]) -> list[str]:
    """Lines of Markdown, which a terminal shows as well."""
    head = ("board", "network", "lanes", "block RAMs", "memory", "core, MHz", "images/s")
    cells: list[tuple[str, ...]] = [head]
    cells += [(row.board, row.network, *(
        (row.reason, *[""] * 4) if row.reason else
        (f"{row.lanes:,}", f"{row.blocks} of {row.ebr}", row.memory,
         f"{row.clock_hz / 1e6:g}", f"{row.images_per_s:.1f}"))) for row in rows]
    widths = [max(len(line[place]) for line in cells
                  if not (place == 2 and line[3:] == ("",) * 4)) for place in range(len(head))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
             + " |" for line in cells]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]
