"""A network whose heads fire membranes without the factor D, beside a backbone that has it."""

from dataclasses import replace

import numpy as np
import pytest

from gen.check.compare import verify
from gen.compile.compiler import compile_network
from gen.compile.supported import rounding, whole_levels
from hw.config import CoreConfig
from model.error import InputError
from tests.model.published.nets import integer_segmenter


CONFIG = CoreConfig(rows=16, load_rows=4, neuron_lanes=4, whole_levels=True, wide_weights=True)


@pytest.fixture(scope="module")
def network():
    return integer_segmenter()


def test_published_segmenter_on_the_simulator(network):
    """Level by level; a core without the neuron is refused."""
    assert rounding(network.ops) == {False} and whole_levels(network.ops)
    program = compile_network(network, CONFIG)
    whole = {item.layer for item in program.descriptors
             if item.fields.get("write_levels") and item.fields.get("planes")}
    assert whole == {op.name for op in network.ops
                     if getattr(getattr(op, "epilogue", None), "whole", False)}
    images = np.random.default_rng(0).integers(-128, 128, (1, *network.input_shape), np.int8)
    result = verify(network, program, images, forms=("integer", "iss"))
    assert not result.differences, result.lines
    with pytest.raises(InputError, match="leave core.whole_levels out"):
        compile_network(network, replace(CONFIG, whole_levels=False))
