import numpy as np
import pytest

from gen.compile.layout import default_lanes, FeatureMap, head_lanes, head_slot, im2col
from hw.config import CoreConfig


def config_of(rows):
    return CoreConfig(rows=rows, load_rows=rows // 4, neuron_lanes=4, z_bits=11)


VALUES = {"level": (0, 4), "z": (-1024, 1023), "image": (-128, 127), "u": (-1 << 15, (1 << 15) - 1)}


@pytest.mark.parametrize("rows", [16, 32, 64])
@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize(("channels", "fold"), [(1, 1), (7, 1), (7, 2), (100, 1), (64, 4), (3, 4)])
def test_elements_lie_where_place_says(rows, kind, channels, fold):
    """Bit ``p`` of an element is in plane ``p`` of its lane, of a membrane in 16 words; what is
    packed comes back."""
    rng = np.random.default_rng(rows)
    tensor = FeatureMap.make("x", kind, (channels, 5, 8), config_of(rows), fold=fold)
    low, high = VALUES[kind]
    values = rng.integers(low, high + 1, (channels, 5, 8))
    values[0, 0, :2] = low, high
    words = tensor.pack(values)
    assert len(words) == tensor.words == 5 * tensor.row_words
    np.testing.assert_array_equal(tensor.unpack(words), values)
    assert (tensor.lanes >= 0).sum() == channels * fold
    for _ in range(200):
        lane = int(rng.choice(np.flatnonzero(tensor.lanes >= 0)))
        position = int(rng.integers(5 * tensor.width))
        group, lane = divmod(lane, rows)
        channel, row, column = tensor.place(group, lane, position)
        first = position * tensor.position_words + group * tensor.planes
        bits = [int(word) for word in words[first:first + tensor.planes]]
        if kind == "u":
            found = sum(word << rows * k for k, word in enumerate(bits)) >> 16 * lane & 0xFFFF
            wanted = values[channel, row, column] % (1 << 16)
        else:
            found = sum((word >> lane & 1) << plane for plane, word in enumerate(bits))
            wanted = values[channel, row, column] % (1 << tensor.planes)
        assert found == wanted
    # A row of memory begins with a whole word and holds all of a row's pool words.
    assert 64 * (tensor.memory_row_words - 1) < tensor.row_words * rows <= (
        64 * tensor.memory_row_words)


def test_unused_lanes_are_zero():
    tensor = FeatureMap.make("x", "z", (5, 2, 3), config_of(16))
    words = tensor.pack(np.full((5, 2, 3), -1))
    assert {int(word) for word in words} == {0b11111}


def test_another_fold_of_the_same_words():
    """A map whose channels fill words has the same words for every fold."""
    values = np.random.default_rng(0).integers(0, 5, (32, 3, 8))
    plain = FeatureMap.make("x", "level", (32, 3, 8), config_of(16))
    for fold in (2, 4, 8):
        other = plain.folded(fold)
        assert other.width == 8 // fold
        np.testing.assert_array_equal(other.pack(values), plain.pack(values))
        np.testing.assert_array_equal(other.unpack(plain.pack(values)), values)
        back = other.folded(1)
        assert (back.width, back.fold) == (8, 1) and (back.lanes == plain.lanes).all()
    # Channels need not fill them, where every position begins a word.
    values = np.random.default_rng(0).integers(0, 5, (20, 3, 8))
    plain = FeatureMap.make("x", "level", (20, 3, 8), config_of(16))
    other = plain.folded(4)
    assert (other.width, other.groups, other.used) == (2, 8, [*range(8)])
    np.testing.assert_array_equal(other.pack(values), plain.pack(values))
    np.testing.assert_array_equal(other.unpack(plain.pack(values)), values)
    assert other.place(6, 1, 5) == (1, 2, 7)    # element 3, its first group
    assert (other.folded(1).lanes == plain.lanes).all()
    # Or where every fourth does: 12 channels fill three words.
    values = np.random.default_rng(0).integers(0, 5, (12, 3, 16))
    four = FeatureMap.make("x", "level", (12, 3, 16), config_of(16), fold=4)
    eight = four.folded(8)
    assert (four.groups, eight.groups, eight.width) == (3, 6, 2)
    np.testing.assert_array_equal(eight.pack(values), four.pack(values))
    np.testing.assert_array_equal(eight.unpack(four.pack(values)), values)
    assert (eight.folded(4).lanes == four.lanes).all()
    with pytest.raises(ValueError, match="^x is folded by 8, not 2$"):
        eight.folded(2)
    narrow = FeatureMap.make("x", "level", (8, 3, 8), config_of(16), fold=2)
    with pytest.raises(ValueError, match="^x is folded by 2, not 1$"):
        narrow.folded(1)


def test_one_group():
    """The words of one group of channels, by itself."""
    values = np.random.default_rng(0).integers(0, 5, (40, 3, 4))
    whole = FeatureMap.make("x", "level", (40, 3, 4), config_of(16))
    words = whole.pack(values).reshape(-1, whole.groups, whole.planes)
    for group in range(3):
        part = whole.only(group)
        np.testing.assert_array_equal(part.pack(values), words[:, group].reshape(-1))


@pytest.mark.parametrize("rows", [16, 64])
@pytest.mark.parametrize(("heads", "size"), [
    (1, 1), (8, 1), (4, 2), (3, 5), (8, 5), (2, 9), (1, 16), (2, 40), (3, 80)])
def test_heads(rows, heads, size):
    """Every channel once, in order; a head begins at a multiple of its slot, and lies in one word
    or in words of its own."""
    lanes = head_lanes(heads * size, heads, rows)
    words, slot = head_slot(size, rows)
    assert len(lanes) % rows == 0
    assert lanes[lanes >= 0].tolist() == list(range(heads * size))
    assert slot & slot - 1 == 0 and slot <= rows and words * slot >= size
    assert size > rows or (words == 1 and slot < 2 * size)
    for head in range(heads):
        where = np.flatnonzero((lanes >= 0) & (lanes // size == head))
        assert where[0] % (slot if words == 1 else rows) == 0
        assert where[-1] - where[0] == size - 1
        assert where[-1] // rows - where[0] // rows == words - 1


@pytest.mark.parametrize("size", [1, 5, 16, 17, 40])
def test_heads_alone(size):
    """Every head begins at a word of its own."""
    words, slot = head_slot(size, 16, alone=True)
    assert (words, slot) == (-(-size // 16), 16)
    lanes = head_lanes(3 * size, 3, 16, alone=True).reshape(3, words * 16)
    for head, own in enumerate(lanes):
        assert own[:size].tolist() == list(range(head * size, (head + 1) * size))
        assert (own[size:] == -1).all()


def test_default_lanes():
    assert default_lanes(5, 4).tolist() == [0, 1, 2, 3, 4, -1, -1, -1]
    assert default_lanes(4, 4).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("kernel", "stride", "padding", "fold"), [
    (3, 1, 1, 1), (3, 2, 1, 2), (2, 2, 0, 4), (7, 2, 3, 1)])
def test_patches(kernel, stride, padding, fold):
    """Every element of a patch is that of the image, or 0 outside it."""
    rng = np.random.default_rng(kernel)
    image = rng.integers(-128, 128, (2, 9, 16)).astype(np.int8)
    patches = im2col(image, kernel=kernel, stride=stride, padding=padding, fold=fold)
    columns = kernel + stride * (fold - 1)
    for _ in range(300):
        index = tuple(int(rng.integers(size)) for size in patches.shape)
        channel, rest = divmod(index[0], kernel * columns)
        ky, kx = divmod(rest, columns)
        y, x = index[1] * stride + ky - padding, index[2] * stride * fold + kx - padding
        inside = 0 <= y < 9 and 0 <= x < 16
        assert patches[index] == (image[channel, y, x] if inside else 0)
