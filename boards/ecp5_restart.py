"""Clocks and restart of a board with an ECP5: when its clocks run, and when it begins anew."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.port import BoardState, RETAINED
from hw.register import Restart


__all__ = ["RestartController"]


LOCK_CYCLES = 1024
"""Oscillator cycles from the PLLs' lock to the first clock of the core."""

STOP_CYCLES = 16
"""Cycles from the stop of the clocks to the reset, and its length."""

CHIP_CYCLES = 4
"""Cycles that the clocks run on without that of a chip beside the FPGA."""

ASK_BITS = 17
"""Base-2 logarithm of the cycles from a request to the restart: the answer to it leaves first (at
25 MHz 5 ms). A button must be pressed for as long."""


class RestartController(wiring.Component):
    """Let the clocks run once the PLLs are locked; stop them, reset everything, and begin anew.

    There is no reset net: it would reach 14,000 flip-flops and keep those with another enable
    apart. The clocks stand still until the PLLs have been locked for :data:`LOCK_CYCLES`. To
    restart they are stopped, ``reset`` drives the chip's global set/reset, after which every
    flip-flop has its value of configuration, and they start as the first time. Everything here
    belongs to the domain ``board``, which always runs, and is retained.

    The clock of a memory chip stops before those that its pins follow, and starts after them: it
    sees no command twice, and none of what the pins do meanwhile; the first is that of pins at
    rest. So it keeps its content.

    Members
    -------
    locked, button : ``In(1)``
        All PLLs are locked; a button is pressed, which holds the board in reset. Asynchronous.
    request : ``In(Restart)``
        Of the shell; asynchronous, stays until the restart.
    run, run_chip : ``Out(1)``
        Enables the clocks; the one that leaves the FPGA for a chip.
    reset : ``Out(1)``
        Only while they stand still.
    state : ``Out(BoardState)``
        Changes as their stop begins: no answer that read it leaves any more.
    """

    def __init__(self):
        super().__init__({
            "locked": In(1), "button": In(1), "request": In(Restart), "run": Out(1),
            "run_chip": Out(1), "reset": Out(1), "state": Out(BoardState),
        })

    def elaborate(self, platform):
        m = Module()

        def retained(shape, name):
            return Signal(shape, name=name, reset_less=True, attrs=RETAINED)

        inputs = Cat(self.locked, self.button, self.request)
        first, synced = (retained(len(inputs), name) for name in ("input_first", "input_synced"))
        m.d.board += [first.eq(inputs), synced.eq(first)]
        locked, button, request = synced[0], synced[1], synced[2:]

        running, resetting = retained(1, "running"), retained(1, "resetting")
        count = retained(ASK_BITS, "count")
        cause = retained(3, "cause")
        restarts = retained(8, "restarts")
        lock_lost = retained(1, "lock_lost")
        stopping = retained(1, "stopping")
        chip = retained(2, "chip")
        m.d.comb += [
            self.run.eq(running),
            self.run_chip.eq(chip[1]),
            self.reset.eq(resetting),
            self.state.cause.eq(cause),
            self.state.restarts.eq(restarts),
            self.state.lock_lost.eq(lock_lost),
        ]

        m.d.board += count.eq(count + 1)
        with m.If(stopping):
            # The clocks have stopped in the first part, the reset lasts as long as the second.
            m.d.board += resetting.eq((count >= STOP_CYCLES) & (count < 2 * STOP_CYCLES))
            with m.If(count == CHIP_CYCLES):
                m.d.board += running.eq(0)
            with m.If(count == 3 * STOP_CYCLES):
                m.d.board += [stopping.eq(0), count.eq(0)]
        with m.Elif(running):
            m.d.board += chip.eq(Cat(1, chip))
            with m.If(~button & (request == 0)):
                m.d.board += count.eq(0)
            with m.If(~locked | count.all()):
                m.d.board += [chip.eq(0), stopping.eq(1), count.eq(0), restarts.eq(restarts + 1)]
                with m.If(~locked):
                    m.d.board += [lock_lost.eq(1), cause.eq(Restart.LOCK)]
                with m.Else():
                    m.d.board += cause.eq(Mux(button, Restart.BUTTON, request))
        with m.Else():
            with m.If(~locked | button):
                m.d.board += count.eq(0)
            with m.Elif(count == LOCK_CYCLES - 1):
                m.d.board += [running.eq(1), count.eq(0)]

        return m
