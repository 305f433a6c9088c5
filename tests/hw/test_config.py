import pytest

from hw.config import attention_bits_min, attention_cap, CoreConfig, level_planes


def test_derived_sizes():
    config = CoreConfig(rows=32)
    assert config.lanes == 1024
    assert config.words_per_memory_word == 2
    assert config.tile_weight_words == 64
    assert config.tile_const_words == 64
    assert CoreConfig(**config.to_dict()) == config


def test_levels():
    """Two planes below 4; the cap and what is added to it fit, and less would not; a core of 0..4
    is described as it was before there was a choice."""
    assert [level_planes(levels) for levels in (1, 2, 3, 4)] == [2, 2, 2, 3]
    for levels in (1, 2, 3, 4):
        bits, most = attention_bits_min(levels), levels << level_planes(levels) - 1
        assert attention_cap(bits) + most < 1 << bits
        assert 7 * 2 ** (bits - 4) + most >= 1 << bits - 1
        config = CoreConfig(levels=levels, attention_bits=bits)
        assert config.level_planes == level_planes(levels)
        assert CoreConfig(**config.to_dict()) == config
        assert ("levels" in config.to_dict()) == (levels != 4)


@pytest.mark.parametrize("change, text", [
    ({"rows": 48}, r"^Rows must be 16, 32 or 64, not 48$"),
    ({"load_rows": 2}, r"^Load rows must be a multiple of 4 that divides 32 rows, not 2$"),
    ({"load_rows": 12}, r"^Load rows must be a multiple of 4 that divides 32 rows, not 12$"),
    ({"neuron_lanes": 0}, r"^Neuron lanes must divide half of 32 rows, not 0$"),
    ({"acc_bits": 31}, r"^Accumulator width must be 20..30 bits, not 31$"),
    ({"membrane_frac": 3}, r"^Membrane fraction must be 4..14 bits, not 3$"),
    ({"z_bits": 17}, r"^Width of z must be 4..16 bits, not 17$"),
    ({"multiplier_bits": 19}, r"^Multiplier width must be 8..18 bits, not 19$"),
    ({"rows": 64, "load_rows": 64, "weight_fifo_words": 32},
     r"^Weight fifo words must be at least 4 times 1024 bits, not 32$"),
    ({"psum_words": 100}, r"^Psum words must be a power of two, not 100$"),
    ({"weight_fifo_words": 8}, r"^Weight fifo words must be at least 16, not 8$"),
    ({"pool_bank_words": 16384}, r"^Pool must be at most 65536 words, not 131072$"),
    ({"plane_skip": 1}, r"^Plane skip must be true or false, not 1$"),
    ({"plane_skip": True, "z_bits": 7}, r"^Plane skip needs z of 8..15 bits, not 7$"),
    ({"wide_weights": 1}, r"^Wide weights must be true or false, not 1$"),
    ({"depthwise_half": 1}, r"^Depthwise half must be true or false, not 1$"),
    ({"levels": 0}, r"^Levels must be 1..4, not 0$"),
    ({"levels": 5}, r"^Levels must be 1..4, not 5$"),
    ({"attention_bits": 7}, r"^Attention width must be 8..12 bits, not 7$"),
    ({"attention_bits": 5, "levels": 3}, r"^Attention width must be 6..12 bits, not 5$"),
    ({"half_even": 1}, r"^Half even must be true or false, not 1$"),
    ({"whole_levels": 1}, r"^Whole levels must be true or false, not 1$"),
    ({"whole_levels": True, "levels": 3}, r"^Whole levels need levels of 4, not 3$"),
    ({"queue_depth": 1}, r"^Queue depth must be 2..15, not 1$"),
])
def test_wrong(change, text):
    with pytest.raises(ValueError, match=text):
        CoreConfig(**change)
