# amaranth: UnusedElaboratable=no
"""Tests of the whole memory by the board itself, with faults planted in a memory of 32 words."""
from hw.register import MemoryTest
from tests.hw.sdram.planted import Bench, CONFIG, Plain


MARCH, RANDOM, SWITCHING = MemoryTest.MARCH, MemoryTest.RANDOM, MemoryTest.SWITCHING

ONES = (1 << 64) - 1


class StuckBit(Plain):
    """Bit 37 (pin 5) of word 13 is always 1."""

    def read(self, address):
        return super().read(address) | (address == 13) << 37


class CoupledCells(Plain):
    """Bit 3 of word 6, when it rises, sets that of word 5."""

    def write(self, address, word):
        rises = address == 6 and ~self.words[6] & word & 8
        super().write(address, word)
        if rises:
            self.words[5] |= 8


class ShortedAddress(Plain):
    """Address line 3 takes line 1 with it: 1 if both are."""

    def write(self, address, word):
        super().write(self._short(address), word)

    def read(self, address):
        return super().read(self._short(address))

    @staticmethod
    def _short(address):
        both = address >> 1 & address >> 3 & 1
        return address & ~0b1010 | both * 0b1010


class SlowPin(Plain):
    """Pin 9 keeps the value that it had in the transfer before."""

    last = 0

    def read(self, address):
        word = super().read(address)
        pin = 1 << 9 | 1 << 25 | 1 << 41 | 1 << 57
        late = (word << 16 | self.last) & ONES
        self.last = word >> 48
        return word & ~pin | late & pin


class WeakCell(Plain):
    """Bit 22 (pin 6) of word 11 misses its 1 where all pins rise at once."""

    def read(self, address):
        word = super().read(address)
        rises = word & 0xFFFF == 0 and word >> 16 & 0xFFFF == 0xFFFF
        return word & ~((address == 11 and rises) << 22)


class OtherBank(Plain):
    """Reads swap the lines of the bank, address bits 2 and 3."""

    def read(self, address):
        return super().read(address & ~0b1100 | (address & 4) << 1 | (address & 8) >> 1)


def test_faults_are_named():
    """Errors, first address and pins of each test, on one memory after the other."""
    found, commands = {}, {}

    async def script(ctx, bench):
        for kind in (Plain, StuckBit, CoupledCells, ShortedAddress, SlowPin, WeakCell,
                     OtherBank):
            bench.memory = kind()
            for test in (MARCH, RANDOM, SWITCHING):
                bench.commands.clear()
                found[kind, test] = await bench.test(ctx, test)
                commands[test] = list(bench.commands)
        # What it does not have is no test.
        ctx.set(bench.dut.tests.test, 4)
        ctx.set(bench.dut.tests.start, 1)
        await ctx.tick().repeat(2)
        assert not ctx.get(bench.dut.tests.status.running)

    Bench(Plain()).run(script)
    for test in (MARCH, RANDOM, SWITCHING):
        assert found[Plain, test] == (0, 0, 0)
        # The order is that of the index; the words are the same.
        errors, address, pins = found[StuckBit, test]
        assert (address, pins) == (13, 1 << 5) or errors == 0
    # A bit that is always 1: each of the three times that March reads 0.
    assert found[StuckBit, MARCH] == (3, 13, 1 << 5)

    # The coupling shows downwards alone: word 5 is read after word 6 has risen.
    assert found[CoupledCells, MARCH] == (1, 5, 1 << 3)

    # Words of all bits 0 and 1: whichever pin; 2 = 0b00010 is the first address that is not itself.
    errors, address, pins = found[ShortedAddress, MARCH]
    assert (address, pins) == (2, 0xFFFF) and errors > 0
    assert found[ShortedAddress, RANDOM][0] > 0
    assert found[ShortedAddress, SWITCHING] == (0, 0, 0)        # the words are all the same

    assert found[SlowPin, SWITCHING] == (CONFIG.words, 0, 1 << 9)
    assert found[SlowPin, RANDOM][2] == 1 << 9

    assert [found[WeakCell, test] for test in (MARCH, RANDOM, SWITCHING)] == [
        (0, 0, 0), (0, 0, 0), (1, 11, 1 << 6)]

    # Word 4 has its new value when it is read in place of word 8.
    errors, address, pins = found[OtherBank, MARCH]
    assert (address, pins) == (8, 0xFFFF) and errors > 0
    assert found[OtherBank, RANDOM][0] > 0

    # Every word once in each pass; March in its order, the second test in another one.
    words = list(range(CONFIG.words))
    march = [(address, write) for address, _, write in commands[MARCH]]
    both = [(address, write) for address in words for write in (0, 1)]
    down = [(address, write) for address in words[::-1] for write in (0, 1)]
    assert march == ([(address, 1) for address in words] + both * 2 + down * 2
                     + [(address, 0) for address in words])
    order = [address for address, _, _ in commands[RANDOM]]
    assert order[:32] == order[32:] and sorted(order[:32]) == words
    assert sum(abs(a - b) == 1 for a, b in zip(order[:31], order[1:32], strict=True)) == 0
    assert commands[SWITCHING] == [(0, 16, 1), (16, 16, 1), (0, 16, 0), (16, 16, 0)]
