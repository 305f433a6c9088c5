"""Constants of the neuron core as memory words: what does not fit its field is refused."""

import numpy as np
import pytest

from sim.reference.neuron import pack_fire


ACC_BITS = 24
LIMIT = 1 << ACC_BITS    # thresholds have one bit more than accumulators


def test_thresholds_at_the_ends_of_the_field():
    """Four fields of 25 bits, two's complement, below the bit that inverts."""
    ends = [-LIMIT, LIMIT - 1, -1, 0]
    words = pack_fire([ends], [True], ACC_BITS).tolist()
    value = words[0] | words[1] << 64
    fields = [value >> (ACC_BITS + 1) * k & (2 * LIMIT - 1) for k in range(4)]
    assert fields == [end % (2 * LIMIT) for end in ends]
    plain = pack_fire([ends], [False], ACC_BITS).tolist()
    assert (value ^ (plain[0] | plain[1] << 64)).bit_count() == 1


@pytest.mark.parametrize("threshold", [LIMIT, -LIMIT - 1, 1 << 40])
@pytest.mark.parametrize("place", range(4))
def test_thresholds_beyond_the_field(threshold, place):
    row = np.zeros((1, 4), np.int64)
    row[0, place] = threshold
    with pytest.raises(ValueError, match=f"must fit in 25 bits, not {threshold}"):
        pack_fire(row, [False], ACC_BITS)
