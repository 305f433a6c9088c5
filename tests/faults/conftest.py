"""What the tests of faults share."""

from pathlib import Path

import numpy as np
import pytest

from gen.compile.package import image_words
from gen.machine.iss import Iss
from tests.gen.random_cases import compile_case


@pytest.fixture
def data_folder(request):
    """Inputs of the fault: ``tests/data/faults/`` and the folder that the test module names."""
    root = Path(__file__).parents[1] / "data" / "faults"
    return root / getattr(request.module, "INPUTS", "pictures")


@pytest.fixture(scope="session")
def case():
    """(network, program, two images, {words of an image: words of its result})."""
    found, program = compile_case(3)
    shape = found.network.input_shape
    images = np.random.default_rng(1).integers(-128, 128, (2, *shape), dtype=np.int8)
    results = {}
    for image in images:
        core = Iss(program)
        core.run(image)
        results[image_words(program, image).tobytes()] = (
            core.memory[program.result:program.result + program.result_words].copy())
    return found.network, program, images, results
