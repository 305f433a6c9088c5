"""Commands of an SDRAM: initialisation, rows, bursts of one memory word, refresh."""

from typing import NamedTuple

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import MEMORY_BITS
from hw.port import MemoryCommand, SdramPins
from hw.sdram.banks import count_banks
from hw.sdram.segments import cut_bursts, place_layout, two_segments
from hw.sdram_config import BEATS, DATA_BITS


__all__ = ["SdramScheduler", "DELAYS", "REFRESH_POSTPONED"]


DELAYS = 4
"""Read delays that can be chosen: 0..3 cycles more than the least."""

REFRESH_POSTPONED = 4
"""Refreshes that are due when one is forced."""

INIT_REFRESHES = 8
"""REFRESH commands of the initialisation: the most that a maker asks for."""


TURNAROUND = 1
"""Idle cycles of the data pins between a datum read and one written."""


class _Slots(NamedTuple):
    """Who has the next command slot: a word, or what is for rows and refresh."""
    hold: Signal        # register: no words
    held_up: Signal     # the same, to be set a cycle ahead
    opening: Signal     # to be set: the row of the current segment is open now
    row_slot: Signal    # no word can take the slot
    row_waits: Signal   # to be set: a row needs it
    go: Signal          # a word takes it
    go_read: Signal
    go_write: Signal


class _Refreshes(NamedTuple):
    """Refreshes that are due."""
    due: Signal
    refreshed: Signal   # to be set: one is done
    renew: Signal       # to be set: as at the start
    idle: Signal        # there is nothing else to do
    wanted: Signal


class _Rows:
    """The row that is looked up, those that are open, and the time to the next command."""

    def __init__(self, config):
        banks = 1 << config.bank_bits
        self.target = Signal(place_layout(config))
        self.for_current = Signal()     # else for the following segment
        self.open_rows = Array(Signal(config.row_bits, name=f"row_{bank}")
                               for bank in range(banks))
        self.is_open = Signal(banks)
        self.wait = Signal(range(max(config.trfc, config.trp, config.trcd, config.trrd,
                                     config.tmrd)))


class SdramScheduler(wiring.Component):
    """Turn bursts of words into SDRAM commands. One clock domain, that of the chip.

    A word is one READ or WRITE of burst length 4, so that three of four command slots are free
    for the rows: while the words of one row are transferred, the row of the next segment (the rest
    of the burst, or the next burst) is opened in another bank. A linear stream takes 4 cycles a
    word without a gap.

    Rows stay open until another row of their bank, or a refresh, is needed. Refreshes wait until
    there is nothing else to do, and are forced between two words when ``REFRESH_POSTPONED`` are
    due; then all that are due are done.

    Parameters
    ----------
    config : :class:`hw.sdram_config.SdramConfig`
    r_depth : int
        Places of the queue behind ``r_data``, at least 4.

    Members
    -------
    commands : ``In(stream.Signature(MemoryCommand))``
        Bursts; address bits beyond the chip are ignored.
    w_data : ``In(stream.Signature(64))``
    r_data : ``Out(64)``, r_valid : ``Out(1)``
        A word read; must be taken.
    r_level : ``In(range(r_depth + 1))``
        Words in the queue behind; may be 2 cycles late.
    delay : ``In(range(DELAYS))``
        Read delay; to be changed only during ``restart``.
    restart : ``In(1)``
        While high, and once all is done, the chip gets no commands; then it is initialised anew.
    initialised : ``Out(1)``
        The chip takes bursts. Falls in answer to ``restart``.
    pins : ``Out(SdramPins())``
        All but ``phase_step``.
    """

    def __init__(self, config, *, r_depth):
        if r_depth < 4:
            raise ValueError(f"Read queue must have at least 4 places, not {r_depth!r}")
        self._config = config
        self._r_depth = r_depth
        super().__init__({
            "commands": In(stream.Signature(MemoryCommand)),
            "w_data": In(stream.Signature(MEMORY_BITS)),
            "r_data": Out(MEMORY_BITS),
            "r_valid": Out(1),
            "r_level": In(range(r_depth + 1)),
            "delay": In(range(DELAYS)),
            "restart": In(1),
            "initialised": Out(1),
            "pins": Out(SdramPins()),
        })

    @property
    def config(self):
        return self._config

    def elaborate(self, platform):
        m = Module()
        config = self._config

        # What the pins do, one register ahead of them: they lie far from here.
        pins = self._early = SdramPins().create(path=("early",))
        m.d.sync += [getattr(self.pins, name).eq(getattr(pins, name))
                     for name in ("cke", "ras", "cas", "we", "bank", "address", "dqm", "dq_o",
                                  "dq_oe")]

        current, following = two_segments(config)
        pending = cut_bursts(m, config, self.commands, following)
        m.d.sync += following.last.eq(following.left == 1)
        with m.If(~current.valid & following.valid & following.open):
            m.d.sync += [
                current.words.eq(following.words), current.valid.eq(1), current.open.eq(1),
                current.last.eq(following.last), following.valid.eq(0),
            ]

        rows = _Rows(config)
        slots = self._words(m, current, following)
        banks = count_banks(m, config, go=slots.go, current=current, target=rows.target)
        refreshes = self._due(m, pending | following.valid | current.valid)

        # Rows, refresh and initialisation: one command after the other.
        powering = Signal(range(config.power_up), init=config.power_up - 1)
        powered = Signal()      # of a register: powering is 0
        m.d.sync += powered.eq(powering == 1)
        m.d.sync += [
            pins.ras.eq(0), pins.cas.eq(slots.go), pins.we.eq(slots.go_write),
            pins.bank.eq(current.at.bank), pins.dqm.eq((~self.initialised).replicate(2)),
            pins.address.eq(Cat(C(0, 2), current.at.column, current.at.extra)),
        ]
        with m.If(rows.wait != 0):
            m.d.sync += rows.wait.eq(rows.wait - 1)
        with m.FSM():
            with m.State("POWER_UP"):
                m.d.sync += powering.eq(powering - 1)
                with m.If(powered):
                    m.d.sync += [pins.cke.eq(1), powering.eq(config.power_up - 1)]
                    with m.If(pins.cke):
                        m.next = "CLOSE_ALL"
            self._pick(m, current, following, slots, refreshes, rows)
            self._open(m, current, following, slots, rows, banks)
            self._refresh(m, current, following, slots, refreshes, rows, banks)

        return m

    def _words(self, m, current, following):
        """Column commands: one word each, 4 cycles apart."""
        hold = Signal(init=1)
        read_gap = Signal(range(BEATS))
        turn = BEATS + self._config.cas_latency + TURNAROUND
        write_gap = Signal(range(turn))
        read_clear, write_clear = Signal(), Signal()    # registered: the gap is 0, no row next
        room, fetched = Signal(), Signal()
        go, go_read, go_write = Signal(), Signal(), Signal()
        # Of a register, or ``go`` would start three tables earlier. It is high for a cycle too long
        # after the last word of a segment, when the gap keeps the next one back.
        ready, held_up, opening = Signal(), Signal(), Signal()
        m.d.sync += ready.eq(~hold & ~held_up & Mux(current.valid, current.open | opening,
                                                    following.valid & following.open))
        # Row commands have the slots that no word can take, whether or not one is there: that takes
        # fewer tables to know. A row that waits has every other slot that words leave unused.
        row_slot, row_waits = Signal(), Signal()
        m.d.comb += [
            go_read.eq(ready & ~current.write & read_clear & room),
            go_write.eq(ready & current.write & write_clear & fetched),
            go.eq(go_read | go_write),
            row_slot.eq(~(ready & Mux(current.write, write_clear, read_clear))),
        ]
        m.d.sync += [
            read_gap.eq(Mux(go, BEATS - 1, read_gap - (read_gap != 0))),
            write_gap.eq(Mux(go_read, turn - 1,
                             Mux(go_write, BEATS - 1, write_gap - (write_gap != 0)))),
            read_clear.eq(~go & (read_gap <= 1) & (row_slot | ~row_waits)),
            write_clear.eq(~go & (write_gap <= 1) & (row_slot | ~row_waits)),
        ]
        with m.If(go):
            m.d.sync += [
                current.at.column.eq(current.at.column + 1),
                current.left.eq(current.left - 1), current.last.eq(current.left == 2),
            ]
            with m.If(current.last):
                m.d.sync += current.valid.eq(0)
        self._data(m, go_read, go_write, room, fetched)
        return _Slots(hold, held_up, opening, row_slot, row_waits, go, go_read, go_write)

    def _due(self, m, busy):
        """Refreshes due, and the time between them."""
        refresh = self._config.refresh
        interval = Signal(range(refresh), init=refresh - 1)
        due = Signal(4, init=INIT_REFRESHES)
        tick, refreshed, renew = Signal(), Signal(), Signal()
        idle, wanted = Signal(), Signal()
        m.d.comb += tick.eq(interval == 0)
        m.d.sync += [
            interval.eq(Mux(tick, refresh - 1, interval - 1)),
            idle.eq(~busy),
            wanted.eq(Mux(idle, due != 0, due >= REFRESH_POSTPONED)),
        ]
        with m.If(renew):
            m.d.sync += due.eq(INIT_REFRESHES)
        with m.Elif(self.initialised & tick & ~refreshed):
            m.d.sync += due.eq(due + 1)
        with m.Elif(refreshed & ~(self.initialised & tick)):
            m.d.sync += due.eq(due - 1)
        return _Refreshes(due, refreshed, renew, idle, wanted)

    def _command(self, m, wait, *, ras, cas=0, we=0, then):
        """Give a command; the next one ``then`` cycles later."""
        pins = self._early
        m.d.sync += [pins.ras.eq(ras), pins.cas.eq(cas), pins.we.eq(we), wait.eq(then - 1)]

    def _pick(self, m, current, following, slots, refreshes, rows):
        """What comes next: nothing, refreshes, or the row of a segment; is that open?"""
        target, for_current = rows.target, rows.for_current
        match, opened = Signal(), Signal()
        with m.State("PICK"):
            m.d.sync += [
                for_current.eq(current.valid & ~current.open),
                target.eq(Mux(current.valid & ~current.open, current.at, following.at)),
            ]
            m.d.comb += slots.held_up.eq(self.restart & refreshes.idle | refreshes.wanted)
            m.d.sync += slots.hold.eq(slots.held_up)
            with m.If(self.restart & refreshes.idle):
                m.d.sync += self.initialised.eq(0)
                m.next = "QUIET"
            with m.Elif(refreshes.wanted):
                m.next = "CLOSE_ALL"
            with m.Elif((current.valid & ~current.open) | (following.valid & ~following.open)):
                m.next = "LOOK"
        with m.State("LOOK"):
            m.d.sync += [
                opened.eq(rows.is_open.bit_select(target.bank, 1)),
                match.eq(rows.open_rows[target.bank] == target.row),
            ]
            m.next = "DECIDE"
        with m.State("DECIDE"):
            with m.If(~opened):
                m.next = "OPEN"
            with m.Elif(match):
                m.next = "OPENED"
            with m.Elif(~for_current & current.valid & (current.at.bank == target.bank)):
                m.next = "PICK"
            with m.Else():
                m.next = "CLOSE"

    def _open(self, m, current, following, slots, rows, banks):
        """Close the bank of the row, where another one is open; open the row."""
        config, pins, target, wait = self._config, self._early, rows.target, rows.wait
        with m.State("CLOSE"):
            m.d.comb += slots.row_waits.eq(1)
            with m.If(slots.row_slot & banks.closable.bit_select(target.bank, 1)):
                self._command(m, wait, ras=1, we=1, then=config.trp)
                m.d.sync += pins.bank.eq(target.bank)
                m.d.sync += pins.address.eq(0)
                m.next = "OPEN"
        with m.State("OPEN"):
            m.d.comb += slots.row_waits.eq(1)
            with m.If(slots.row_slot & (wait == 0)):
                self._command(m, wait, ras=1, then=max(config.trcd, config.trrd))
                m.d.comb += banks.activate.eq(1)
                m.d.sync += [
                    pins.bank.eq(target.bank), pins.address.eq(target.row),
                    rows.is_open.bit_select(target.bank, 1).eq(1),
                    rows.open_rows[target.bank].eq(target.row),
                ]
                m.next = "OPENED"
        with m.State("OPENED"):
            with m.If(wait == 0):
                with m.If(rows.for_current):
                    m.d.comb += slots.opening.eq(1)
                    m.d.sync += current.open.eq(1)
                with m.Else():
                    m.d.sync += following.open.eq(1)
                m.next = "PICK"

    def _refresh(self, m, current, following, slots, refreshes, rows, banks):
        """Quiet for a restart; close all banks, refresh, and initialise if that is not done."""
        config, pins, wait = self._config, self._early, rows.wait
        with m.State("QUIET"):
            with m.If(~self.restart):
                m.d.comb += refreshes.renew.eq(1)
                m.next = "CLOSE_ALL"
        with m.State("CLOSE_ALL"):
            with m.If(banks.closable.all() & ~banks.went):
                self._command(m, wait, ras=1, we=1, then=config.trp)
                m.d.sync += [
                    pins.address.eq(1 << 10), rows.is_open.eq(0), current.open.eq(0),
                    following.open.eq(0),
                ]
                m.next = "REFRESH"
        with m.State("REFRESH"):
            with m.If(wait == 0):
                with m.If(refreshes.due != 0):
                    self._command(m, wait, ras=1, cas=1, then=config.trfc)
                    m.d.comb += refreshes.refreshed.eq(1)
                with m.Elif(~self.initialised):
                    self._command(m, wait, ras=1, cas=1, we=1, then=config.tmrd)
                    m.d.sync += pins.bank.eq(0)
                    m.d.sync += pins.address.eq(2 | config.cas_latency << 4)
                    m.d.sync += self.initialised.eq(1)
                with m.Else():
                    m.d.sync += slots.hold.eq(0)
                    m.next = "PICK"

    def _data(self, m, go_read, go_write, room, fetched):
        """Data pins; whether there is room for a word read and one to be written."""
        config, pins = self._config, self._early

        # A word waits in a register, so that no path leads from a command back into the queue. It
        # lies far from the commands: a register of its own, the same as `fetched` but for the
        # first cycle, says when the next one is taken.
        word = Signal(MEMORY_BITS, reset_less=True)
        full = Signal(init=1)
        m.d.comb += self.w_data.ready.eq(~full)
        with m.If(fetched):
            m.d.sync += [fetched.eq(~go_write), full.eq(~go_write)]
        with m.Else():
            m.d.sync += [fetched.eq(self.w_data.valid & ~full), full.eq(self.w_data.valid & ~full)]
        with m.If(~full):
            m.d.sync += word.eq(self.w_data.payload)
        # It is at the pins in the cycle after its command, which only enables them.
        driven = Signal(BEATS)
        shifted = Signal(MEMORY_BITS, reset_less=True)
        m.d.sync += driven.eq(driven >> 1)
        with m.If(go_write):
            m.d.sync += driven.eq((1 << BEATS) - 1)
        with m.If(driven[1]):
            m.d.sync += shifted.eq(shifted >> DATA_BITS)
        with m.Else():
            m.d.sync += shifted.eq(word)
        m.d.comb += [pins.dq_o.eq(shifted), pins.dq_oe.eq(driven[0])]

        # The first datum is in dq_i CAS latency + 3 cycles or more after the decision: three
        # registers on the way, one back, the chip's clock ahead of ours. The word is 4 later; three
        # registers more, because the pads lie far from here.
        # The flag that goes with it is a register too, hence one cycle less.
        least = config.cas_latency + 8
        reading = Signal(least + DELAYS)
        pad, way, datum = (Signal(DATA_BITS, name=name, reset_less=True)
                           for name in ("pad", "way", "datum"))
        m.d.sync += [
            reading.eq(Cat(go_read, reading)),
            pad.eq(self.pins.dq_i), way.eq(pad), datum.eq(way),
            self.r_data.eq(Cat(self.r_data[DATA_BITS:], datum)),
        ]
        m.d.sync += self.r_valid.eq(reading[least:].bit_select(self.delay, 1))

        # The queue lies far from here: `room` knows a read four cycles later, when the next one may
        # go. One place more than is needed.
        counted = Signal(2)
        promised = Signal(range(self._r_depth + 1))
        room_early = Signal()
        m.d.sync += [
            counted.eq(Cat(self.r_valid, counted)),
            promised.eq(promised + reading[0] - counted[1]),
            room_early.eq(self.r_level + promised < self._r_depth - 1), room.eq(room_early),
        ]
