"""What the fields of a descriptor hold at most; the compiler refuses or splits what is larger."""

from amaranth.hdl import Shape

from hw.descriptor import Array, Load


__all__ = ["DESCRIPTORS", "LOAD_WORDS", "MAP_SIZE", "POSITION_WORDS", "STRIP_ROWS", "TILES"]


def _most(layout, name):
    """Largest value of an unsigned field."""
    return (1 << Shape.cast(layout.as_shape()[name].shape).width) - 1


STRIP_ROWS = _most(Array, "out_rows")
"""Most output rows of a strip."""

TILES = _most(Array, "tiles")
"""Most weight tiles of an ARRAY descriptor."""

MAP_SIZE = min(_most(Array, "height"), _most(Array, "width"), _most(Array, "out_width"))
"""Most rows or columns of a feature map."""

POSITION_WORDS = _most(Array, "position_stride")
"""Most pool words of all channels of a position."""

DESCRIPTORS = (1 << 16) - 1
"""Most descriptors of a program: the sequencer counts them (``hw.sequencer.Record``)."""

LOAD_WORDS = _most(Load, "length")
"""Most memory words in a row of a LOAD."""
