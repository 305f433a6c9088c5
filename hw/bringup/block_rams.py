"""A core that tests the chip's block RAMs in every width, with their output registers."""

from enum import IntFlag

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.memory import Memory as BlockRam
from amaranth.lib.wiring import In, Out

from hw.port import core_members
from hw.register import Counter


__all__ = ["BlockRamTest", "Check", "RegisteredRam", "WIDTHS", "history", "pattern", "results"]


WIDTHS = {36: 512, 18: 1024, 9: 2048, 4: 4096, 2: 8192, 1: 16384}
"""Words of one block RAM of each width."""

_MIX = 0x9E3779B97F4A7C15
"""Any bits (2**64 divided by the golden ratio)."""

_FIRST_RESULT = Counter.BUSY_LOAD

_COMPLETE = 1 << 8

RETAINED = {"retained": 1, "keep": 1}
"""Attributes of a signal that a restart leaves as it is (gen.pnr.passes)."""


class Check(IntFlag):
    """Bits of a result: what the block RAM got wrong."""
    CONTENTS = 1 << 24
    """A word that it holds since configuration, or that was written, and was read with the output
    register enabled in a cycle without a read."""
    HOLD = 1 << 25
    """The output register did not keep its word while another one was read."""
    PIPELINE = 1 << 26
    """With read and output register enabled together, the register did not take the word that was
    read before."""


def pattern(address, width):
    """The word at ``address`` after configuration; every second round has its complement."""
    return sum(((address & _mask(bit)).bit_count() + bit & 1) << bit for bit in range(width))


def _mask(bit):
    """Address bits that a bit of the pattern depends on."""
    return (_MIX >> bit | _MIX << 64 - bit) & 0x3FFF | 1 << bit % 9


class RegisteredRam(wiring.Component):
    """A block RAM and the register behind it, each with an enable of its own.

    Members
    -------
    r_address, w_address : ``In(range(depth))``
    read, latch, write : ``In(1)``
        Read the word; take it into the register a cycle later or after; write ``w_data``.
    r_data, w_data : ``Out(width)``, ``In(width)``
    """

    def __init__(self, *, width, depth):
        self._width, self._depth = width, depth
        super().__init__({
            "r_address": In(range(depth)), "w_address": In(range(depth)),
            "read": In(1), "latch": In(1), "write": In(1),
            "w_data": In(width), "r_data": Out(width),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = BlockRam(
            shape=self._width, depth=self._depth,
            init=[pattern(address, self._width) for address in range(self._depth)])
        read, write = memory.read_port(), memory.write_port()
        held = Signal(self._width, reset_less=True)
        m.d.comb += [
            read.addr.eq(self.r_address), read.en.eq(self.read),
            write.addr.eq(self.w_address), write.en.eq(self.write), write.data.eq(self.w_data),
            self.r_data.eq(held),
        ]
        with m.If(self.latch):
            m.d.sync += held.eq(read.data)
        return m


class BlockRamTest(wiring.Component):
    """In place of :class:`hw.core.Core`: ``start`` runs ``count`` rounds over all words.

    Each round reads every word in three ways (:class:`Check`), compares, and writes its complement;
    the first one so tests the contents after configuration, but only the first one since then.
    The host's accesses go straight to the memory. A round takes 16 cycles for each address of the
    deepest memory, 262,144 for ``WIDTHS``. A restart leaves block RAMs as they are, perhaps in the
    middle of a round: a further round then writes the contents again first, and compares nothing.

    404 LUT4, 121 CCU2C, 338 FF and 6 block RAMs (yosys, ECP5), with ``WIDTHS``.

    The counters ``CYCLES`` and ``IMAGES`` count cycles and rounds. Those from ``BUSY_LOAD`` on are
    the results, one for each width: wrong reads in the low 24 bits (no more than fit), and bits of
    :class:`Check`. The next one is the history since configuration, which restarts do not touch:
    bit k is set where width k ever failed, bit 8 where the contents after configuration were read
    to the end. ``ERRORS`` is the same without bit 8.

    Parameters
    ----------
    widths : mapping
        Words of the memory of each width, powers of 2.
    ram : callable
        ``ram(width=..., depth=...)``, in place of :class:`RegisteredRam`.
    rounds : int
        Rounds that run by themselves first, after configuration and after a restart.
    """

    def __init__(self, widths=None, ram=RegisteredRam, rounds=0):
        self._widths = WIDTHS if widths is None else widths
        self._ram = ram
        self._rounds = rounds
        super().__init__(core_members())

    def elaborate(self, platform):
        m = Module()
        wiring.connect(m, wiring.flipped(self.host), wiring.flipped(self.memory))

        counters = self.counters
        address = Signal(range(max(self._widths.values())))
        step = Signal(4)
        odd_round = Signal()                # the contents are the complement
        left = Signal.like(self.count)
        first = Signal(init=self._rounds > 0)
        begin = Signal()
        # Since configuration: a round has begun; its contents were read; widths that failed.
        used, complete, failed = (Signal(bits, name=name, reset_less=True, attrs=RETAINED)
                                  for name, bits in (("used", 1), ("complete", 1),
                                                     ("failed", len(self._widths))))
        awake = Signal()                    # a round has begun since the last restart
        repair, fresh = Signal(), Signal()  # this round only writes; it is the very first
        m.d.comb += [
            begin.eq(~self.busy & (self.start | first)),
            counters[Counter.ERRORS].eq(failed),
            counters[_FIRST_RESULT + len(self._widths)].eq(
                Cat(failed, C(0, 8 - len(failed)), complete)),
        ]
        cycles, rounds = counters[Counter.CYCLES], counters[Counter.IMAGES]
        with m.If(self.busy):
            m.d.sync += [cycles.eq(cycles + 1), step.eq(step + 1)]
            with m.If(step.all()):
                m.d.sync += address.eq(address + 1)
                with m.If(address.all()):
                    m.d.sync += [repair.eq(0), fresh.eq(0)]
                    with m.If(~repair):
                        m.d.sync += [odd_round.eq(~odd_round), rounds.eq(rounds + 1),
                                     left.eq(left - 1), self.busy.eq(left != 1),
                                     complete.eq(complete | fresh)]
        with m.If(begin):
            m.d.sync += [used.eq(1), awake.eq(1), repair.eq(used & ~awake), fresh.eq(~used),
                         cycles.eq(0), rounds.eq(0), first.eq(0), self.busy.eq(1),
                         left.eq(Mux(first, self._rounds, self.count))]

        # Which word is addressed, and what is done, in each of 16 cycles. Between commands the
        # address is another one: what is held must not depend on it.
        def now(*steps):
            return self.busy & Cat(step == at for at in steps).any()

        read, latch, write = now(0, 5, 8), now(2, 8, 12), now(15)
        checks = {4: Check.CONTENTS, 7: Check.HOLD, 9: Check.PIPELINE, 14: Check.CONTENTS}
        at = Signal.like(address)
        m.d.comb += at.eq(Mux(now(0, 8), address, Mux(now(5), address ^ 1, ~address)))
        for number, (width, depth) in enumerate(self._widths.items()):
            m.submodules[f"ram_{width}"] = ram = self._ram(width=width, depth=depth)
            result = counters[_FIRST_RESULT + number]
            here = address[:(depth - 1).bit_length()]
            active = Signal(name=f"active_{width}")
            word, wrong = Signal(width, name=f"word_{width}"), Signal(name=f"wrong_{width}")
            m.d.comb += [
                active.eq(self.busy & (address < depth)),
                ram.r_address.eq(at), ram.w_address.eq(address),
                ram.read.eq(read), ram.latch.eq(latch),
                ram.write.eq(active & write), ram.w_data.eq(word ^ (~repair).replicate(width)),
            ]
            # The pattern a cycle later: of this word or, once, of its neighbour, which is the
            # complement already where it comes before this one.
            looked = here ^ now(8)
            m.d.sync += [
                word.eq(Cat((looked & _mask(bit)).xor() ^ bit & 1 for bit in range(width))
                        ^ (odd_round ^ (now(8) & address[0])).replicate(width)),
                wrong.eq(ram.r_data != word),
            ]
            for when, kind in checks.items():
                with m.If(active & now(when + 1) & wrong & ~repair):
                    m.d.sync += [result.eq(result | kind), failed[number].eq(1)]
                    with m.If(~result[:24].all()):
                        m.d.sync += result[:24].eq(result[:24] + 1)
            with m.If(begin):
                m.d.sync += result.eq(0)
        return m


def results(counters, widths=None):
    """Wrong reads and the names of :class:`Check` by width, from a device's counters by name."""
    found = {}
    for number, width in enumerate(WIDTHS if widths is None else widths):
        value = counters[Counter(_FIRST_RESULT + number).name]
        found[width] = (value & 0xFFFFFF,
                        [kind.name for kind in Check if value & kind])
    return found


def history(counters, widths=None):
    """Since configuration, from a device's counters by name: whether the contents after it were
    read to the end, and the widths that ever failed."""
    widths = list(WIDTHS if widths is None else widths)
    value = counters[Counter(_FIRST_RESULT + len(widths)).name]
    return bool(value & _COMPLETE), [width for k, width in enumerate(widths) if value >> k & 1]
