"""Parameters of the accelerator core: the one owner of every width and depth in hw/."""

from dataclasses import asdict, dataclass


__all__ = ["CoreConfig", "MEMORY_BITS", "LEVELS_MAX", "MEMBRANE_BITS", "SHIFT_MAX", "BIAS_BITS",
           "REPEAT_BITS", "PLANES_MIN", "PARTIAL_BITS", "Z_BITS_MIN", "ATTENTION_BITS_MAX",
           "WRITE_HASH_BITS", "FEEDBACK", "FOLD", "BURST_WORDS", "RECORD_WORDS",
           "attention_bits_min", "attention_cap", "level_planes"]


MEMORY_BITS = 64
"""Width of a memory word, in bits. Weights, constants and descriptors are streams of these."""

BURST_WORDS = 16
"""Memory words of the longest burst of the move units."""

RECORD_WORDS = 2
"""Memory words of a completion record in the log (:class:`hw.sequencer.Record`)."""

LEVELS_MAX = 4
"""Highest level that a neuron may fire: thresholds of a channel in a tile of constants."""

MEMBRANE_BITS = 16
"""Width of a residual membrane U, in bits."""

BIAS_BITS = 44
"""Width of the bias of a rescaling, in bits (docs/model.md 5.4: B saturates to 44 bits)."""

SHIFT_MAX = 26
"""Largest right shift of a rescaling."""

REPEAT_BITS = 4
"""Width of a count of repeated planes: of 16 planes, 14 are left out at most."""

PLANES_MIN = 8
"""Fewest planes of the words that are counted: such words share no entry of the memory. Narrower
ones count nothing, since they might take an entry of their neighbours."""

Z_BITS_MIN = 4
"""Fewest planes of z that the neuron core writes."""

ATTENTION_BITS_MAX = 12
"""Widest entries of K^T V."""

PARTIAL_BITS = 18
"""Significant bits of a partial sum that the depthwise unit reads."""

WRITE_HASH_BITS = 32
"""Width of a write hash, in bits."""

FEEDBACK = {32: 0x0040_0007, 64: 0x0000_001B}
"""Primitive polynomials of the write hash, without their highest term, by width:
x^32 + x^22 + x^2 + x + 1 and x^64 + x^4 + x^3 + x + 1; a test proves it."""

FOLD = 7
"""Places by which the upper half of a hash state of 64 bits is rotated before it is added."""


def attention_cap(bits):
    """Where entries of K^T V of so many bits saturate: the top three bits are ones.

    A sum that meets one is as large, so that no level depends on it where no threshold is larger.
    224 for 8 bits, 896 for 10, 1792 for 11.
    """
    return 7 << bits - 3


def level_planes(levels):
    """Bit-planes of levels 0..``levels``: three of 0..4, else two, since the array takes two cycles
    for a position anyway."""
    return max(2, levels.bit_length())


def attention_bits_min(levels):
    """Narrowest entries of K^T V: to the cap a level, shifted by a plane of another one, is added
    without a carry. 8 bits for levels 0..4, else 6."""
    return (levels << level_planes(levels) - 1).bit_length() + 3


def _power_of_two(value):
    return value > 0 and value & (value - 1) == 0


@dataclass(frozen=True, kw_only=True)
class CoreConfig:
    """Size of one accelerator core. Plain integers; derived from board and model by gen/.

    Parameters
    ----------
    rows : int
        Inputs and outputs of the square SpikeArray (``rows * rows`` lanes) and channels in a pool
        word, in bits: 16, 32 or 64.
    load_rows : int
        Array rows whose tables are written at once, in all columns; a multiple of 4, at most 64,
        that divides ``rows``. A tile loads in ``17 * rows / load_rows`` cycles.
    neuron_lanes : int
        Channels that the neuron core computes per cycle; divides ``rows / 2``.
    acc_bits : int
        Width of a partial sum, two's complement; 20..30.
    wide_weights : bool
        Tiles may have the upper halves of weights of 8 bits (:class:`hw.descriptor.TileHeader`).
        It takes 7 LUT4, and four cycles for a position of such a tile.
    depthwise_half : bool
        The depthwise unit may leave out the upper half of the channels of a word, for maps that do
        not use it, in half the time.
    membrane_frac : int
        Fraction bits F of the membrane U (docs/model.md 5), 4..14.
    levels : int
        Highest level D that a neuron fires, 1..4. Levels of 0..4 take three bit-planes, those of
        fewer two: fewer words, lookups and thresholds.
    half_even : bool
        Levels of membranes are rounded half to even, 1/2 to 0 and 5/2 to 2; otherwise half up. It
        takes 5 LUTs and a flip-flop for each of the ``neuron_lanes``.
    whole_levels : bool
        NEURON may fire membranes without the factor D, rounded half to even, too: 1/2 to 0 and 3/2
        to 2 (:class:`hw.descriptor.Neuron`). For ``levels`` of 4.
    z_bits : int
        Largest width of requantised multi-bit activations z, 4..16: planes that a layer's
        descriptors ask for at most.
    multiplier_bits : int
        Width of the rescaling multiplier M, 8..18.
    pool_banks, pool_bank_words : int
        Banks of the on-chip pool and words of ``rows`` bits in each; powers of two.
    psum_words : int
        Positions that the partial-sum memory holds (``rows * acc_bits`` bits each), half of one
        read and written at a time.
    weight_fifo_words, const_fifo_words, depthwise_fifo_words : int
        Depth of the stream buffers of the array, the neuron core and the depthwise unit, in
        memory words; at least 16.
    head_words : int
        Largest attention head, in pool words: heads up to ``head_words * rows`` channels.
    attention_bits : int
        Width of the entries of K^T V, which saturate at :func:`attention_cap`, and of the exact
        sums of Q (K^T V); 8..12, from 6 on where ``levels`` are less than 4.
    queue_depth : int
        Descriptors that wait in front of each unit; 2..15. Up to 5 take LUT-RAM of 16 words.
    address_bits : int
        Width of a memory address, in memory words.
    plane_skip : bool
        The array leaves out the planes of z that only repeat the sign in all lanes of a word; for
        z of at least 8 bits and less than 16. Of layers with a narrower z it reads all planes.
        With 64 rows it takes a block RAM and some 120 LUTs.
    """

    rows: int = 32
    load_rows: int = 8
    neuron_lanes: int = 8
    acc_bits: int = 24
    membrane_frac: int = 10
    z_bits: int = 12
    multiplier_bits: int = 16
    pool_banks: int = 8
    pool_bank_words: int = 2048
    psum_words: int = 512
    weight_fifo_words: int = 256
    const_fifo_words: int = 128
    depthwise_fifo_words: int = 128
    head_words: int = 4
    attention_bits: int = 8
    queue_depth: int = 4
    address_bits: int = 24
    plane_skip: bool = False
    levels: int = LEVELS_MAX
    half_even: bool = False
    whole_levels: bool = False
    depthwise_half: bool = False
    wide_weights: bool = False

    def __post_init__(self):
        def require(condition, text, value):
            if not condition:
                raise ValueError(f"{text}, not {value!r}")

        require(self.rows in (16, 32, 64), "Rows must be 16, 32 or 64", self.rows)
        require(self.load_rows > 0 and self.rows % self.load_rows == 0
                and self.load_rows % 4 == 0,
                f"Load rows must be a multiple of 4 that divides {self.rows} rows",
                self.load_rows)
        require(self.neuron_lanes > 0 and self.rows // 2 % self.neuron_lanes == 0,
                f"Neuron lanes must divide half of {self.rows} rows", self.neuron_lanes)
        require(20 <= self.acc_bits <= 30, "Accumulator width must be 20..30 bits", self.acc_bits)
        require(4 <= self.membrane_frac <= 14, "Membrane fraction must be 4..14 bits",
                self.membrane_frac)
        require(Z_BITS_MIN <= self.z_bits <= 16, f"Width of z must be {Z_BITS_MIN}..16 bits",
                self.z_bits)
        require(8 <= self.multiplier_bits <= 18, "Multiplier width must be 8..18 bits",
                self.multiplier_bits)
        for name in ("pool_banks", "pool_bank_words", "psum_words", "weight_fifo_words",
                     "const_fifo_words", "depthwise_fifo_words"):
            require(_power_of_two(getattr(self, name)),
                    f"{name.replace('_', ' ').capitalize()} must be a power of two",
                    getattr(self, name))
        require(self.weight_fifo_words // self.tile_header_words >= 4,
                f"Weight fifo words must be at least 4 times {self.weight_bits} bits",
                self.weight_fifo_words)
        for name in ("weight_fifo_words", "const_fifo_words", "depthwise_fifo_words"):
            # A load asks for bursts of 16 words only where a whole one has room
            # (hw/memory/move.py).
            require(getattr(self, name) >= 16,
                    f"{name.replace('_', ' ').capitalize()} must be at least 16",
                    getattr(self, name))
        require(self.pool_words <= 1 << 16, "Pool must be at most 65536 words", self.pool_words)
        require(self.psum_words <= 1024, "Partial sums must be at most 1024 words",
                self.psum_words)
        require(_power_of_two(self.head_words), "Head words must be a power of two",
                self.head_words)
        require(self.levels in range(1, LEVELS_MAX + 1), f"Levels must be 1..{LEVELS_MAX}",
                self.levels)
        least = attention_bits_min(self.levels)
        require(least <= self.attention_bits <= ATTENTION_BITS_MAX,
                f"Attention width must be {least}..{ATTENTION_BITS_MAX} bits",
                self.attention_bits)
        require(2 <= self.queue_depth <= 15, "Queue depth must be 2..15", self.queue_depth)
        require(isinstance(self.plane_skip, bool), "Plane skip must be true or false",
                self.plane_skip)
        require(not self.plane_skip or 8 <= self.z_bits < 16,
                "Plane skip needs z of 8..15 bits", self.z_bits)
        require(isinstance(self.half_even, bool), "Half even must be true or false",
                self.half_even)
        require(isinstance(self.whole_levels, bool), "Whole levels must be true or false",
                self.whole_levels)
        require(not self.whole_levels or self.levels == LEVELS_MAX,
                f"Whole levels need levels of {LEVELS_MAX}", self.levels)
        require(isinstance(self.wide_weights, bool), "Wide weights must be true or false",
                self.wide_weights)
        require(isinstance(self.depthwise_half, bool), "Depthwise half must be true or false",
                self.depthwise_half)
        require(16 <= self.address_bits <= 24, "Address width must be 16..24 bits",
                self.address_bits)

    @property
    def lanes(self):
        """Weight lanes of the SpikeArray."""
        return self.rows * self.rows

    @property
    def depthwise_lanes(self):
        """Channels that the depthwise unit works on at a time: what the partial sums take."""
        return self.rows // 2

    @property
    def level_planes(self):
        """Bit-planes of a spike level."""
        return level_planes(self.levels)

    @property
    def pool_words(self):
        return self.pool_banks * self.pool_bank_words

    @property
    def words_per_memory_word(self):
        """Pool words in one memory word."""
        return MEMORY_BITS // self.rows

    @property
    def membrane_words(self):
        """Pool words that hold the membranes of ``rows`` channels at one position."""
        return MEMBRANE_BITS

    @property
    def tile_weight_words(self):
        """Memory words of one weight tile, without its header."""
        return self.rows * self.rows * 4 // MEMORY_BITS

    @property
    def tile_order(self):
        """Weights of a tile as the stream brings them, the last axis first: sets of rows, blocks of
        a part, halves of the columns, weights of a group, parts of a half, columns of a block,
        groups of a set. (One "half" where a part is a single block.)"""
        parts, groups = self.tile_header_words, self.load_rows // 4
        columns = 16 // groups
        blocks = self.rows // (parts * columns)
        halves = 1 if blocks == 1 else 2
        return (self.rows // self.load_rows, blocks // halves, halves, 4, parts, columns, groups)

    @property
    def weight_bits(self):
        """Width of the weight stream: a set of the loader arrives in 16 cycles."""
        return max(MEMORY_BITS, self.load_rows * self.rows * 4 // 16)

    @property
    def tile_header_words(self):
        """Memory words of a tile's header; it fills a word of the weight stream."""
        return self.weight_bits // MEMORY_BITS

    @property
    def tile_words(self):
        """Memory words of one weight tile, header and all."""
        return self.tile_header_words + self.tile_weight_words

    @property
    def tile_const_words(self):
        """Memory words of the neuron constants of one tile of ``rows`` channels."""
        return 2 * self.rows

    def to_dict(self):
        values = asdict(self)
        if self.levels == LEVELS_MAX:
            del values["levels"]    # so that a core is what it was before this choice came
        if not self.whole_levels:
            del values["whole_levels"]
        return values
