from amaranth.hdl import Shape
import pytest

from hw.descriptor import Array, Header, LAYOUTS, pack, TileHeader, UnitKind, unpack


def test_fields_fit_their_words():
    assert Shape.cast(Header).width == 64
    assert Shape.cast(TileHeader).width == 64
    assert all(Shape.cast(layout).width <= 128 for layout in LAYOUTS.values())


def test_round_trip():
    waits = [0, 1, 1023, 5, 6, 7]
    assert unpack(Header, pack(Header, kind=UnitKind.NEURON, waits=waits))["waits"] == waits
    fields = unpack(TileHeader, pack(TileHeader, offset=-3, dy=-1, dx=2))
    assert fields["offset"] == 0xFFFD and fields["dy"] == 0xFF and fields["dx"] == 2


@pytest.mark.parametrize("fields, text", [
    ({"planes": 32}, r"^Array.planes must fit in 5 bits, not 32$"),
    ({"plane": 1}, r"^Array has no field 'plane'$"),
])
def test_wrong_fields(fields, text):
    with pytest.raises(ValueError, match=text):
        pack(Array, **fields)


def test_wrong_waits():
    with pytest.raises(ValueError, match=r"^Header.waits\[1\] must fit in 10 bits, not 1024$"):
        pack(Header, waits=[0, 1024])
