"""Descriptors: the accelerator's instruction set, 192 bits each.

Shared by the RTL (as layouts), the compiler and the ISS (as packed integers): one owner of the
format. A descriptor is three memory words, least significant first. Word 0 is the
:class:`Header`; words 1 and 2 hold the unit's fields. What each unit does is in
docs/architecture.md.
"""

from functools import cache

from amaranth.hdl import Shape, signed
from amaranth.lib import data, enum


__all__ = ["DESCRIPTOR_WORDS", "WAIT_BITS", "RING_UNIT", "UnitKind", "Header", "Load", "Store",
           "Array", "Depthwise", "Attention", "Neuron", "Destination", "NeuronSource",
           "NeuronFunction", "DepthwiseMode", "TileHeader", "LAYOUTS", "SKIP_PLANES", "HIGH_PLANES",
           "planes_of", "pack", "unpack"]


DESCRIPTOR_WORDS = 3
WAIT_BITS = 10

SKIP_PLANES = 16
"""Added to ``planes`` of an ARRAY where those that only repeat the sign are left out."""

HIGH_PLANES = 4
"""Planes of zeros behind those of a position, for a tile with ``high``: they double its sum."""

RING_UNIT = 4
"""Pool words that one unit of the field ``ring`` stands for."""


class UnitKind(enum.Enum, shape=3):
    """The unit that a descriptor is for; also the index of its wait count."""
    LOAD = 0
    STORE = 1
    ARRAY = 2
    DEPTHWISE = 3
    ATTENTION = 4
    NEURON = 5
    END = 7


class Destination(enum.Enum, shape=2):
    """Where a load goes."""
    POOL = 0
    WEIGHT = 1
    CONST = 2
    DEPTHWISE = 3


class DepthwiseMode(enum.Enum, shape=1):
    LEVEL = 0
    PARTIAL = 1


class NeuronSource(enum.Enum, shape=1):
    PARTIAL = 0
    MEMBRANE_SUM = 1


class NeuronFunction(enum.Enum, shape=1):
    FIRE = 0
    SCALE = 1


class Header(data.Struct):
    """Word 0. A descriptor starts when, for every unit u, the count of completed descriptors of
    u, modulo 2**WAIT_BITS, has reached ``waits[u]`` (compared as a signed difference). ``mark``
    does nothing but to change the core's ``phase`` as it starts."""
    kind: UnitKind
    mark: 1
    waits: data.ArrayLayout(WAIT_BITS, 6)


class Load(data.Struct):
    """Move from memory to the pool or into a stream buffer.

    Memory is read as ``count`` rows of ``length`` memory words, ``memory_stride`` words apart.
    For the pool, each row fills ``pool_words`` pool words from ``pool_address``, rows
    ``pool_stride`` apart; the rest of its last memory word is dropped. For streams the rows'
    memory words follow each other. ``image`` adds the address of the current image.
    """
    destination: Destination
    image: 1
    _reserved: 5
    memory_address: 24
    length: 16
    count: 16
    memory_stride: 16
    pool_address: 16
    pool_words: 16
    pool_stride: 16


class Store(data.Struct):
    """Move from the pool to memory: the reverse of :class:`Load`; unused bits of the last memory
    word of a row are 0. ``image`` adds the address of the current image's result."""
    image: 1
    _reserved: 7
    memory_address: 24
    length: 16
    count: 16
    memory_stride: 16
    pool_address: 16
    pool_words: 16
    pool_stride: 16


class Array(data.Struct):
    """SpikeArray pass over ``tiles`` weight tiles; see docs/architecture.md.

    ``ring`` is the size of the ring of rows that the input rolls through, in units of
    :data:`RING_UNIT` pool words, where a descriptor reads over the ring's end; 0 otherwise. Rows
    count from the one at ``source`` then: those before it lie a whole ring higher.

    ``planes`` are 2..16, or 8..15 and :data:`SKIP_PLANES` more: of these, the most significant ones
    are left out where they only repeat the sign (:mod:`hw.lib.plane_repeat`, on cores with
    ``plane_skip``). The input was then written by NEURON with ``write_planes``.
    """
    source: 16
    row_stride: 16
    position_stride: 12
    planes: 5
    signed: 1
    stride: 2
    height: 9
    width: 9
    first_row: signed(10)
    out_rows: 7
    out_width: 9
    tiles: 7
    psum: 10
    accumulate: 1
    ring: 14


class Depthwise(data.Struct):
    """Depthwise convolution, stride 1, "same" zero padding, into the partial sums.

    ``ring`` as in :class:`Array`; for mode LEVEL only. With ``half`` only of the lower half of the
    channels, of which alone there are weights; on cores with ``depthwise_half`` only.
    """
    mode: DepthwiseMode
    kernel: 3
    source: 16
    row_stride: 16
    position_stride: 12
    height: 9
    width: 9
    first_row: signed(10)
    out_rows: 9
    psum: 10
    source_row: 9
    ring: 14
    half: 1


class Attention(data.Struct):
    """Q (K^T V) of one word of v (all heads in it, or one chunk of a wide head), mask-based.

    Of all ``tokens`` of k and v, then ``queries`` tokens of q from ``query`` on, whose sums go to
    the partial sums from ``psum`` on. With ``keep``, K^T V is that of the descriptor before, of as
    many ``words``: only q follows. ``position_stride`` is that of q and k.
    """
    query: 16
    key: 16
    value: 16
    position_stride: 12
    value_stride: 12
    tokens: 16
    queries: 11
    psum: 10
    words: 4
    slot_log2: 3
    keep: 1


class Neuron(data.Struct):
    """Neuron core pass over ``count`` positions of one tile of channels.

    With ``hold`` the next descriptor has the same constants, and takes none from the stream.
    ``planes`` are those of ``write_planes``; with ``write_levels``, on cores with ``whole_levels``,
    1 for levels without the factor D.
    """
    source: NeuronSource
    function: NeuronFunction
    add: 1
    write_membrane: 1
    write_planes: 1
    write_levels: 1
    planes: 5
    psum: 10
    count: 16
    membrane_in: 16
    membrane_out: 16
    plane_out: 16
    membrane_stride: 12
    plane_stride: 12
    hold: 1


class TileHeader(data.Struct):
    """First memory word of every weight tile in the weight stream.

    The sums of a tile with ``high`` count 16 times: its weights are the upper halves of weights of
    8 bits, ``16*h + l``; on cores with ``wide_weights`` only.
    """
    offset: 16
    dy: 8
    dx: 8
    high: 1
    _reserved: 31


LAYOUTS = {
    UnitKind.LOAD: Load,
    UnitKind.STORE: Store,
    UnitKind.ARRAY: Array,
    UnitKind.DEPTHWISE: Depthwise,
    UnitKind.ATTENTION: Attention,
    UnitKind.NEURON: Neuron,
}


def planes_of(array):
    """Planes of the input of an ARRAY, and whether those that repeat the sign are left out.

    Parameters
    ----------
    array : dict
        Fields of :class:`Array`.
    """
    planes = array["planes"]
    return (planes - SKIP_PLANES, True) if planes > SKIP_PLANES else (planes, False)


def pack(layout, **fields):
    """Pack ``fields`` (all others 0) into an integer by ``layout``; two's complement.

    Raises
    ------
    ValueError
        For an unknown field or a value that its field cannot hold.
    """
    known = _places(layout)
    value = 0
    for name, field_value in fields.items():
        if name not in known:
            raise ValueError(f"{layout.__name__} has no field {name!r}")
        offset, width, element, _ = known[name]
        if isinstance(field_value, (list, tuple)):
            bits = 0
            for index, item in enumerate(field_value):
                if not 0 <= item < 1 << element:
                    raise ValueError(f"{layout.__name__}.{name}[{index}] must fit in {element} "
                                     f"bits, not {item}")
                bits |= item << (index * element)
        else:
            bits = int(getattr(field_value, "value", field_value))
            if not -(1 << (width - 1)) <= bits < 1 << width:
                raise ValueError(f"{layout.__name__}.{name} must fit in {width} bits, not {bits}")
            bits &= (1 << width) - 1
        value |= bits << offset
    return value


@cache
def _places(layout):
    """{field: (offset, width, width of an element, signed)} of a layout, worked out once: programs
    have thousands of descriptors. Elements are of arrays, else None."""
    places = {}
    for name, field in layout.as_shape():
        shape = Shape.cast(field.shape)
        element = (Shape.cast(field.shape.elem_shape).width
                   if isinstance(field.shape, data.ArrayLayout) else None)
        places[name] = field.offset, shape.width, element, shape.signed
    return places


def unpack(layout, value):
    """Fields of ``value`` as a dict of integers (arrays as lists of them)."""
    fields = {}
    for name, (offset, width, element, is_signed) in _places(layout).items():
        bits = value >> offset & ((1 << width) - 1)
        if element is not None:
            bits = [bits >> start & ((1 << element) - 1) for start in range(0, width, element)]
        elif is_signed:
            bits -= bits >> (width - 1) << width
        fields[name] = bits
    return fields
