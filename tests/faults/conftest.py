"""What the tests of faults share."""

from pathlib import Path

import pytest

from tests.faults.known_board import case_of


@pytest.fixture
def data_folder(request):
    """Inputs of the fault: ``tests/data/faults/`` and the folder that the test module names."""
    root = Path(__file__).parents[1] / "data" / "faults"
    return root / getattr(request.module, "INPUTS", "pictures")


@pytest.fixture(scope="session")
def case():
    """(network, program, two images, :func:`tests.faults.known_board.known_results` of them)."""
    return case_of()
