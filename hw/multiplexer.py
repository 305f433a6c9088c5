"""Multiplexers that map well to LUTs."""

from amaranth import *


__all__ = ["select_tree"]


def select_tree(values, index):
    """``values[index]`` as a tree of 2-to-1 multiplexers; past the end, any of the values.

    A list behind ``Array`` becomes a decoder and an and-or of all values, twice the size: an
    ECP5 slice has 2-to-1 multiplexers behind its LUTs, so this takes half a LUT for every bit
    of every value, and constants cost nothing.
    """
    values = list(values)
    for bit in index:
        if len(values) == 1:
            break
        values = [Mux(bit, values[k + 1], values[k]) if k + 1 < len(values) else values[k]
                  for k in range(0, len(values), 2)]
    return values[0]
