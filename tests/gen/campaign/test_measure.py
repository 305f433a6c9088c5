"""gen.campaign.measure: regions and hangs of a program, bytes of a run."""

import math

import numpy as np

from gen.campaign.measure import hung_words, loaded_regions, measure, used_shares
from hw.descriptor import Header, unpack
from tests.faults.conftest import case  # noqa: F401
from tests.gen.campaign.software_shelf import POOL, SoftwareShelf
from tests.gen.campaign.test_trial import make  # noqa: F401


def test_regions_are_all_that_is_loaded(case):  # noqa: F811
    """Weights, constants and program overlap nowhere, and leave out only padding."""
    _, program, _, _ = case
    owner = np.zeros(len(program.payload), int)
    for number, ranges in enumerate(loaded_regions(program).values(), 1):
        for first, count in ranges:
            assert not owner[first:first + count].any() or set(
                owner[first:first + count].tolist()) == {number}
            owner[first:first + count] = number
    assert not program.payload[owner == 0].any()
    assert set(owner.tolist()) >= {1, 2, 3}


def test_hung_words(case):  # noqa: F811
    """Each header is as it was but for one wait, which is more than there is of that unit."""
    _, program, _, _ = case
    found = hung_words(program)
    assert len(found) > 10
    totals = [sum(d.unit.value == unit for d in program.descriptors) for unit in range(6)]
    for word, value in found:
        before = unpack(Header, int(program.payload[word]))
        after = unpack(Header, value)
        assert before["kind"] == after["kind"]
        changed = [unit for unit in range(6) if before["waits"][unit] != after["waits"][unit]]
        assert len(changed) == 1 and after["waits"][changed[0]] == totals[changed[0]] + 1


def test_measure(case, make):  # noqa: F811
    program = case[1]
    trial = make()
    space = measure(SoftwareShelf(case), program, trial, images=2, cycles=4000)
    assert space.images == 2 and space.cycles == 4000
    assert space.opening > 50 and space.bytes > 8 * program.image_words
    assert space.regions["image"][0][1] == program.image_words
    shares = used_shares(program)
    assert all(0 < share <= 1 for share in shares.values())
    assert space.arrays["pool"] == [(POOL, math.ceil(4 * shares["pool"]), 8)]
    assert space.arrays["psum"] == []
