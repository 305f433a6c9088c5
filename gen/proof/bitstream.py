"""The bitstream is what nextpnr wrote: bit by bit, for every tile and every block RAM.

ecpunpack names bits as it finds them: it leaves out defaults, and where settings share bits it may
find others than those that were written. So both texts become bits, by the database of tiles.
"""

from collections import Counter
from dataclasses import dataclass, field

from gen.proof.trellis import tile_bits, tile_kind, TileDatabase


__all__ = ["Comparison", "by_tile", "compare_config"]


@dataclass
class Comparison:
    """What was compared, ``{kind: count}``; what the texts say differently though the bits are
    the same, ``{why: count}``; and differences, (place, expected, found)."""

    compared: Counter = field(default_factory=Counter)
    explained: Counter = field(default_factory=Counter)
    differences: list = field(default_factory=list)


def compare_config(written, read):
    """Compare the configuration that nextpnr wrote with the one that is in the bitstream.

    Parameters
    ----------
    written, read : gen.proof.trellis.Config

    Returns
    -------
    Comparison
    """
    result = Comparison()
    if written.device != read.device:
        result.differences.append(("device", written.device, read.device))
        return result
    tiles, strange = by_tile(written)
    result.differences += [(name, line, None) for name, line in strange]
    grouped = {name for names, _ in written.groups for name in names}
    for name in sorted({*tiles, *read.tiles}):
        before, after = tiles.get(name, []), read.tiles.get(name, [])
        wanted, strange = tile_bits(tile_kind(name), before)
        found, unread = tile_bits(tile_kind(name), after)
        result.compared["tiles"] += 1
        result.compared["bits that are 1"] += len(found)
        result.differences += [(name, line, None) for line in strange]
        result.differences += [(name, None, line) for line in unread]
        result.differences += [(name, *(f"F{frame}B{bit} is {int((frame, bit) in ones)}"
                                        for ones in (wanted, found)))
                               for frame, bit in sorted(wanted ^ found)]
        _explain(result.explained, name, set(before), set(after), name in grouped)
    _memories(result, written.memories, read.memories)
    return result


def by_tile(config):
    """``({tile: [line]}, [(tiles, line)])``: lines of groups go to those of their tiles that know
    them; the second are those that no tile knows."""
    tiles, strange = {name: list(lines) for name, lines in config.tiles.items()}, []
    for names, lines in config.groups:
        for line in lines:
            setting = line.split()[1]
            knowing = [name for name in names if _knows(TileDatabase.of(tile_kind(name)), setting)]
            for name in knowing:
                tiles.setdefault(name, []).append(line)
            if not knowing:
                strange.append((" ".join(names), line))
    return tiles, strange


def _knows(tile, setting):
    return setting in tile.enums or setting in tile.words


def _explain(explained, name, before, after, grouped):
    """Count the lines that are in one text only."""
    tile = TileDatabase.of(tile_kind(name))
    for line in before - after:
        if line.endswith(" _NONE_"):
            explained["a setting without a value is left out"] += 1
            continue
        setting, bits = tile.line_bits(line)
        if not bits:
            explained["what has no bits is left out"] += 1
        elif tile.defaults.get(setting) == bits:
            explained["a default is left out"] += 1
        elif grouped:
            explained["a block of several tiles: each has names of its own"] += 1
        else:
            explained["the same bits have another name"] += 1
    if after - before:
        explained["a bit of several settings has another name"] += len(after - before)


def _memories(result, wanted, found):
    """Contents of block RAMs by their numbers: words that differ."""
    for number in sorted({*wanted, *found}):
        before, after = wanted.get(number, []), found.get(number, [])
        result.compared["block RAMs"] += 1
        result.compared["words of block RAMs"] += len(after)
        if len(before) != len(after):
            result.differences.append((f"block RAM {number}", f"{len(before)} words",
                                       f"{len(after)} words"))
            continue
        result.differences += [(f"block RAM {number}, word {place}", f"{one:#05x}", f"{other:#05x}")
                               for place, (one, other) in enumerate(zip(before, after, strict=True))
                               if one != other]
