"""Sum of many small values, a few to a register stage."""

from amaranth import *


__all__ = ["sum_tree"]


def sum_tree(m, name, terms, valid):
    """Sum ``terms``, four to a register stage; returns the sum and its valid."""
    stage = 0
    while stage == 0 or len(terms) > 1:
        summed = []
        for index in range(0, len(terms), 4):
            total = sum(terms[index:index + 4])
            register = Signal.like(total, name=f"{name}_{stage}_{index // 4}")
            m.d.sync += register.eq(total)
            summed.append(register)
        valid_next = Signal(name=f"{name}_{stage}_valid")
        m.d.sync += valid_next.eq(valid)
        terms, valid, stage = summed, valid_next, stage + 1
    return terms[0], valid
