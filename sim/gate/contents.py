"""What the memories of a routed design hold when its simulation starts."""

import random

from model.error import InputError


__all__ = ["onchip_words", "write_contents"]


CELL_WORDS = 1024
WORD = 64


def write_contents(folder, netlist, module, *, words=(), seed=None):
    """Write the files that :attr:`sim.gate.netlist.GateNetlist.memories` names.

    Block RAMs start with what the bitstream gives them. ``words`` lie in the memory behind the
    core from address 0, as if they had been written over the link.

    Parameters
    ----------
    folder : Path
    netlist : sim.gate.netlist.GateNetlist
    module : dict
        The routed design (:func:`sim.gate.netlist.read_routed`).
    words : sequence of int
        Words of 64 bits.
    seed : int or None
        With a seed, block RAMs that start with zeros, and all output registers, hold random
        values: what no program may depend on.
    """
    rng = None if seed is None else random.Random(seed)
    loaded = onchip_words(module, words)
    for number, name in enumerate(netlist.memories):
        cells = loaded.get(name)
        if cells is None:
            cells = _initial(module["cells"][name]["parameters"])
            if rng is not None and not any(cells):
                cells = [rng.getrandbits(18) for _ in cells]
        outputs = [0 if rng is None else rng.getrandbits(18) for _ in range(4)]
        for kind, values in (("cells", cells), ("outputs", outputs)):
            (folder / f"{number}.{kind}").write_text("".join(f"{value:05x}\n" for value in values))


def _initial(parameters):
    """18-bit words of a block RAM: 16 in a parameter, 20 bits apart."""
    cells = []
    for part in range(CELL_WORDS // 16):
        value = str(parameters.get(f"INITVAL_{part:02X}", "")).strip()
        row = int(value.replace("x", "0") or "0", 2)
        cells += [row >> 20 * word & 0x3ffff for word in range(16)]
    return cells


def onchip_words(module, words, memory="shell.memory.bank_"):
    """``{block RAM: its 1024 words}`` with these words in the memory behind the core.

    By how yosys names and cuts a bank of :class:`hw.memory.onchip_memory.OnChipMemory`:
    ``bank_B.0.K`` holds columns of its width; where the columns of a word do not use up the
    blocks, those further on hold later addresses.
    """
    found, start, bank = {}, 0, 0
    if not len(words):
        return found
    cells = module["cells"]
    while any(name.startswith(f"{memory}{bank}.0.") and cells[name]["type"] == "DP16KD"
              for name in cells):
        blocks = {}
        for name, cell in cells.items():
            place = name.removeprefix(f"{memory}{bank}.0.")
            if cell["type"] == "DP16KD" and place != name and place.isdecimal():
                blocks[int(place)] = name
        width = int(str(cells[blocks[0]]["parameters"]["DATA_WIDTH_A"]), 2)
        columns, depth = -(-WORD // width), int(CELL_WORDS * _words_in_cell(width))
        for place, name in blocks.items():
            first = start + place // columns * depth
            found[name] = _column(words[first:first + depth], width, place % columns * width)
        start, bank = start + len(blocks) // columns * depth, bank + 1
    if len(words) > start:
        raise InputError(f"the design's memory {memory}* has {start} words, the program needs "
                         f"{len(words)}")
    return found


def _words_in_cell(width):
    """How many words of this width the 18 bits of a block RAM's word hold."""
    return 18 / width if width >= 9 else 16 // width


def _column(words, width, low):
    """The 18-bit words of a block RAM that holds ``width`` bits of each word from bit ``low``."""
    cells, mask, count = [0] * CELL_WORDS, (1 << width) - 1, _words_in_cell(width)
    for address, word in enumerate(words):
        if width == 36:
            value = int(word) >> low & mask
            cells[2 * address:2 * address + 2] = value & 0x3ffff, value >> 18
            continue
        cell, place = divmod(address, int(count))
        # Words narrower than a byte use 8 of its 9 bits, as place() in cells.v has it.
        place = place * width + (width < 9 and place * width >= 8)
        cells[cell] |= (int(word) >> low & mask) << place
    return cells
