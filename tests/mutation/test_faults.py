"""Every planted fault still has its place in the sources, and a name of its own."""

from collections import Counter

import pytest

from tests.mutation.__main__ import planted
from tests.mutation.faults import FAULTS


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_place(fault):
    text = planted(fault)
    compile(text, fault.file, "exec")


def test_names():
    assert max(Counter(fault.name for fault in FAULTS).values()) == 1
