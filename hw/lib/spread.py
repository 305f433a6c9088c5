"""Copies of a signal that goes to many places."""

from amaranth import *


__all__ = ["spread"]


def spread(m, name, source, *, steps, most):
    """Register ``source`` ``steps`` times, into twice as many signals each time while their number
    divides ``most``; returns those of the last step.

    Fan-out of one wire over the chip is what limits the clock: give each copy loads that can lie
    together. The two of a step differ in their initial values, or synthesis would merge them
    again; so the first cycles after power-up must not matter.
    """
    copies = [source]
    for step in range(steps):
        fold = 2 if most % (2 * len(copies)) == 0 else 1
        following = [Signal(source.shape(), name=f"{name}_{step}_{k}", init=-(k % 2),
                            reset_less=True) for k in range(fold * len(copies))]
        m.d.sync += [copy.eq(copies[k // fold]) for k, copy in enumerate(following)]
        copies = following
    return copies
