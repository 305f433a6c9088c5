"""Segments of bursts: the words that lie in one row of an SDRAM."""

from typing import NamedTuple

from amaranth import *
from amaranth.lib import data


__all__ = ["Segment", "cut_bursts", "place_layout", "two_segments"]


def place_layout(config):
    """Where a word lies in the chip."""
    return data.StructLayout({
        "column": config.word_column_bits, "bank": config.bank_bits, "row": config.row_bits,
        "extra": int(config.optional_column)})


class Segment(NamedTuple):
    """Registers of a segment."""
    words: Signal       # where it begins, whether it is written, and how many words are left
    valid: Signal
    open: Signal        # its row is
    last: Signal        # one word is left

    @property
    def at(self):
        return self.words.at

    @property
    def write(self):
        return self.words.write

    @property
    def left(self):
        return self.words.count


def two_segments(config):
    """Registers of the segment that is transferred, and of the one that comes next."""
    segment = data.StructLayout({"at": place_layout(config), "write": 1, "count": 8})
    current, following = Signal(segment), Signal(segment)
    current_valid, following_valid = Signal(), Signal()
    current_open, following_open = Signal(), Signal()
    current_last, following_last = Signal(), Signal()
    return (Segment(current, current_valid, current_open, current_last),
            Segment(following, following_valid, following_open, following_last))


def cut_bursts(m, config, commands, following):
    """Cut the bursts of ``commands`` into segments; returns whether one is on its way."""
    bits = config.words_bits + config.optional_column
    address = Signal(bits)
    left = Signal(8)
    write = Signal()
    room = Signal(range(config.row_words + 1))
    fits = Signal()
    pending = Signal()
    column = address[:config.word_column_bits]
    with m.FSM(name="cut"):
        with m.State("TAKE"):
            m.d.comb += commands.ready.eq(1)
            m.d.comb += pending.eq(commands.valid)
            m.d.sync += [
                address.eq(commands.p.address), left.eq(commands.p.length),
                write.eq(commands.p.write),
            ]
            with m.If(commands.valid):
                m.next = "CUT"
        with m.State("CUT"):
            m.d.comb += pending.eq(1)
            m.d.sync += room.eq(config.row_words - column)
            m.d.sync += fits.eq(left <= config.row_words - column)
            m.next = "PASS"
        with m.State("PASS"):
            m.d.comb += pending.eq(1)
            with m.If(~following.valid):
                m.d.sync += [
                    following.at.as_value().eq(address), following.write.eq(write),
                    following.left.eq(Mux(fits, left, room)),
                    following.valid.eq(1), following.open.eq(0),
                    address.eq(Cat(C(0, config.word_column_bits),
                                   (address[config.word_column_bits:] + 1)
                                   [:bits - config.word_column_bits])),
                    left.eq(left - room),
                ]
                m.next = "TAKE"
                with m.If(~fits):
                    m.next = "CUT"
    return pending
