from amaranth.hdl import Shape
import pytest

from gen.isa import limits
from hw.descriptor import Array, Load, pack, unpack
from hw.sequencer import Record


@pytest.mark.parametrize(("layout", "fields", "limit"), [
    (Array, ("out_rows",), limits.STRIP_ROWS), (Array, ("tiles",), limits.TILES),
    (Array, ("height", "width", "out_width"), limits.MAP_SIZE),
    (Array, ("position_stride",), limits.POSITION_WORDS), (Load, ("length",), limits.LOAD_WORDS)])
def test_field_holds_the_limit(layout, fields, limit):
    """The limit comes back from a packed descriptor; one of the fields refuses one more."""
    packed = pack(layout, **dict.fromkeys(fields, limit))
    assert [unpack(layout, packed)[name] for name in fields] == [limit] * len(fields)
    refused = 0
    for name in fields:
        try:
            pack(layout, **{name: limit + 1})
        except ValueError:
            refused += 1
    assert refused


def test_descriptors_can_be_counted():
    width = Shape.cast(Record.as_shape()["index"].shape).width
    assert (1 << width) - 1 == limits.DESCRIPTORS
