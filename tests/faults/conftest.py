"""What the tests of faults share."""

from pathlib import Path

import numpy as np
import pytest

from tests.faults.known_board import known_results
from tests.gen.random_cases import compile_case


@pytest.fixture
def data_folder(request):
    """Inputs of the fault: ``tests/data/faults/`` and the folder that the test module names."""
    root = Path(__file__).parents[1] / "data" / "faults"
    return root / getattr(request.module, "INPUTS", "pictures")


@pytest.fixture(scope="session")
def case():
    """(network, program, two images, :func:`tests.faults.known_board.known_results` of them)."""
    found, program = compile_case(3)
    shape = found.network.input_shape
    images = np.random.default_rng(1).integers(-128, 128, (2, *shape), dtype=np.int8)
    return found.network, program, images, known_results(program, images)
