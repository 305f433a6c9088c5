"""What the tests of faults share."""

from pathlib import Path

import pytest


@pytest.fixture
def data_folder(request):
    """Inputs of the fault: ``tests/data/faults/`` and the folder that the test module names."""
    root = Path(__file__).parents[1] / "data" / "faults"
    return root / getattr(request.module, "INPUTS", "pictures")
