"""Times after which the banks of an SDRAM may be closed."""

from typing import NamedTuple

from amaranth import *

from hw.sdram_config import BEATS


__all__ = ["Banks", "count_banks"]


class Banks(NamedTuple):
    """What banks are told, and tell."""
    activate: Signal    # to be set: the command that opens the row of the target
    closable: Signal    # a bit for each bank
    went: Signal        # a word a cycle ago, which ``closable`` does not know yet


def count_banks(m, config, *, go, current, target):
    """Count how long each bank must stay open.

    ``go`` is the command for a word of the segment ``current``; ``target``, where a row is opened.
    Commands are counted a cycle after they were given. That is early enough to close one bank,
    never that of words that come at the same time; ``went`` makes up for it where all are closed.
    """
    # A bank may be closed when its counter is 0, which a register tells.
    held = [Signal(range(max(config.tras, config.trc, BEATS + config.twr) + 1),
                   name=f"held_{bank}") for bank in range(1 << config.bank_bits)]
    row_held = max(config.tras, config.trc - config.trp)
    activate, activated = Signal(), Signal()
    went, went_write, went_bank = Signal(), Signal(), Signal(config.bank_bits)
    m.d.sync += [activated.eq(activate), went.eq(go), went_write.eq(current.write),
                 went_bank.eq(current.at.bank)]
    closable = Signal(len(held), init=(1 << len(held)) - 1)
    for bank, counter in enumerate(held):
        m.d.sync += closable[bank].eq(counter <= 1)
        with m.If(went & (went_bank == bank)):
            m.d.sync += closable[bank].eq(0)
            # What is left of earlier waits: of a row, opened at least tRCD ago, and of a write,
            # at least a burst ago.
            left = max(row_held - config.trcd, config.twr - 1)
            m.d.sync += counter.eq(Mux(went_write, max(BEATS - 1 + config.twr, left),
                                       max(BEATS, left)) - 2)
        with m.Elif(activated & (target.bank == bank)):
            m.d.sync += [counter.eq(max(row_held - 2, 0)), closable[bank].eq(0)]
        with m.Elif(counter != 0):
            m.d.sync += counter.eq(counter - 1)
    return Banks(activate, closable, went)
