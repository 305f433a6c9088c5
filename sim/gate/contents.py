"""What the memories of a routed design hold when its simulation starts, and when it has ended."""

from dataclasses import dataclass
import random

from model.error import InputError


__all__ = ["onchip_words", "read_words", "word_pieces", "write_contents"]


CELL_WORDS = 1024
WORD = 64

BANKS = "shell.memory.bank_"
"""How the block RAMs of the memory behind the core are named."""


def write_contents(folder, netlist, module, *, words=(), seed=None):
    """Write the files that :attr:`sim.gate.netlist.GateNetlist.memories` and ``lut_rams`` name.

    Memories start with what the bitstream gives them. ``words`` lie in the memory behind the
    core from address 0, as if they had been written over the link.

    Parameters
    ----------
    folder : Path
    netlist : sim.gate.netlist.GateNetlist
    module : dict
        The routed design (:func:`sim.gate.netlist.read_routed`).
    words : sequence of int or None
        Words of 64 bits; None is one that nothing defines.
    seed : int or None
        With a seed, block RAMs and LUT-RAMs that start with zeros, words that nothing defines, and
        all output registers, hold random values: what no program may depend on. Else these are
        zeros.
    """
    rng = None if seed is None else random.Random(seed)
    if words:
        words = [*words, *[None] * (_size(module, BANKS) - len(words))]
        words = [(rng.getrandbits(WORD) if rng else 0) if word is None else word
                 for word in words]
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
    values = [rng.getrandbits(16) if rng is not None and value == 0 else value
              for _, value in netlist.lut_rams]
    (folder / "lut_rams").write_text("".join(f"{value:04x}\n" for value in values))


def _initial(parameters):
    """18-bit words of a block RAM: 16 in a parameter, 20 bits apart."""
    cells = []
    for part in range(CELL_WORDS // 16):
        value = str(parameters.get(f"INITVAL_{part:02X}", "")).strip()
        row = int(value.replace("x", "0") or "0", 2)
        cells += [row >> 20 * word & 0x3ffff for word in range(16)]
    return cells


def onchip_words(module, words, memory=BANKS):
    """``{block RAM: its 1024 words}`` with these words in the memory behind the core."""
    if not len(words):
        return {}
    size = _size(module, memory)
    if len(words) > size:
        raise InputError(f"the design's memory {memory}* has {size} words, the program needs "
                         f"{len(words)}")
    return {block.name: _column(words[block.first:block.first + block.depth], block.width,
                                block.low) for block in _blocks(module, memory)}


def read_words(folder, netlist, module, first, count, memory=BANKS):
    """``count`` words from address ``first`` of the memory behind the core, as the simulation has
    left them.

    Raises
    ------
    InputError
        The simulation has not ended, or it has no such memory.
    """
    numbers, contents = {name: k for k, name in enumerate(netlist.memories)}, {}

    def cells(name):
        if name not in contents:
            path = folder / f"{numbers[name]}.end"
            try:
                text = path.read_text()
            except OSError as error:
                raise InputError(f"{path}: {error.strerror}; the simulation did not end") from None
            contents[name] = [int(line, 16) for line in text.splitlines()
                              if not line.startswith(("//", "@"))]
        return contents[name]

    words = []
    for pieces in word_pieces(module, first, count, memory):
        word = at = 0
        for name, cell, low, width in pieces:
            word |= (cells(name)[cell] >> low & (1 << width) - 1) << at
            at += width
        words.append(word)
    return words


def word_pieces(module, first, count, memory=BANKS):
    """Where each of ``count`` words from address ``first`` of the memory behind the core lies:
    lists of (block RAM, its word of 18 bits, lowest bit, width), the lowest bits first.

    Raises
    ------
    InputError
        There is no such memory.
    """
    if first < 0 or count < 0 or first + count > _size(module, memory):
        raise InputError(f"the design's memory {memory}* has {_size(module, memory)} words, not "
                         f"{count} from {first}")
    words = [[] for _ in range(count)]
    for block in sorted(_blocks(module, memory), key=lambda block: block.low):
        for address in range(max(first, block.first), min(first + count,
                                                          block.first + block.depth)):
            width, place = min(block.width, WORD - block.low), address - block.first
            if block.width == 36:
                pieces = [(block.name, 2 * place, 0, min(width, 18)),
                          (block.name, 2 * place + 1, 0, max(width - 18, 0))]
            else:
                pieces = [(block.name, *_place(place, block.width), width)]
            words[address - first] += pieces
    return words


@dataclass(frozen=True)
class _Block:
    """A block RAM of a memory: it has bits ``low`` to ``low + width - 1`` of ``depth`` words from
    address ``first``."""

    name: str
    width: int
    low: int
    first: int
    depth: int


def _blocks(module, memory):
    """The :class:`_Block` list of the memory behind the core.

    By how yosys names and cuts a bank of :class:`hw.memory.onchip_memory.OnChipMemory`:
    ``bank_B.0.K`` holds columns of its width; where the columns of a word do not use up the
    blocks, those further on hold later addresses.
    """
    cells, found = module["cells"], []
    banks = {}
    for name, cell in cells.items():
        bank, _, place = name.removeprefix(memory).partition(".0.")
        if (name.startswith(memory) and cell["type"] == "DP16KD" and bank.isdecimal()
                and place.isdecimal()):
            banks.setdefault(int(bank), {})[int(place)] = name
    start = bank = 0
    while bank in banks:
        blocks = banks[bank]
        width = int(str(cells[blocks[0]]["parameters"]["DATA_WIDTH_A"]), 2)
        columns, depth = -(-WORD // width), int(CELL_WORDS * _words_in_cell(width))
        found += [_Block(name, width, place % columns * width, start + place // columns * depth,
                         depth) for place, name in blocks.items()]
        start, bank = start + len(blocks) // columns * depth, bank + 1
    return found


def _size(module, memory):
    """Words of the memory behind the core; 0 where it is not on chip."""
    return max((block.first + block.depth for block in _blocks(module, memory)), default=0)


def _words_in_cell(width):
    """How many words of this width the 18 bits of a block RAM's word hold."""
    return 18 / width if width >= 9 else 16 // width


def _place(address, width):
    """(word of 18 bits, its lowest bit) of a narrower word."""
    cell, place = divmod(address, int(_words_in_cell(width)))
    # Words narrower than a byte use 8 of its 9 bits, as place() in cells.v has it.
    return cell, place * width + (width < 9 and place * width >= 8)


def _column(words, width, low):
    """The 18-bit words of a block RAM that holds ``width`` bits of each word from bit ``low``."""
    cells, mask = [0] * CELL_WORDS, (1 << width) - 1
    for address, word in enumerate(words):
        value = int(word) >> low & mask
        if width == 36:
            cells[2 * address:2 * address + 2] = value & 0x3ffff, value >> 18
            continue
        cell, bit = _place(address, width)
        cells[cell] |= value << bit
    return cells
