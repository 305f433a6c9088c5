"""A queue's promises: no word lost, none twice, none changed, all in order, none stuck."""

from amaranth import Mux, Signal
from amaranth.hdl import Assert, Cover


__all__ = ["Watch"]


class Watch:
    """Assertions about a queue in clock domain ``sync``.

    One word, whichever the solver picks, is followed from its arrival to its departure.

    Parameters
    ----------
    m : Module
    give, given : Signal
        A word comes in; which.
    take, taken : Signal
        A word goes out; which.
    capacity : int
        Most words inside.
    waiting, patience : Signal, int
        Cycles after which ``waiting`` (a word is offered) must hold while there are words; not
        looked at without it.

    Attributes
    ----------
    inputs : list of Signal
        For :func:`tests.formal.proof.prove`.
    inside : Signal
        Words inside.
    watching, ahead, value : Signal
        A word is being followed; words inside before it; what it is.
    """

    def __init__(self, m, *, give, given, take, taken, capacity, waiting=None,
                 patience=0):
        pick = Signal(name="pick")
        self.inputs = [pick]
        self.inside = inside = Signal(range(capacity + 2), name="inside")
        self.watching = watching = Signal(name="watching")
        self.ahead = ahead = Signal(range(capacity + 1), name="ahead")
        self.value = value = Signal.like(given, name="value")
        m.d.sync += inside.eq(inside + give - take)
        m.d.comb += [Assert(~take | (inside + give > 0)), Assert(inside <= capacity),
                     Assert(~watching | (ahead < inside))]
        with m.If(watching & take):
            m.d.sync += ahead.eq(ahead - 1)
            with m.If(ahead == 0):
                m.d.comb += [Assert(taken == value), Cover(value != 0)]
                m.d.sync += watching.eq(0)
        with m.If(pick & give & ~watching):
            m.d.sync += [watching.eq(1), ahead.eq(inside - take), value.eq(given)]
        m.d.comb += Cover(inside == capacity)
        if waiting is not None:
            idle = Signal(range(patience + 2), name="idle")
            m.d.sync += idle.eq(Mux((inside != 0) & ~waiting, idle + 1, 0))
            m.d.comb += Assert(idle <= patience)
