import numpy as np

from gen.compile.marks import with_marks
from gen.compile.package import ProgramImage
from gen.machine.iss import Iss
from hw.descriptor import DESCRIPTOR_WORDS, Header, unpack
from tests.gen.random_cases import compile_case


def test_first_descriptor_of_each_layer():
    """These alone are marked; the program does what it did."""
    found, program = compile_case(3)
    image = ProgramImage.of(program, model="case", network=found.network)
    before = image.payload.copy()
    marked = with_marks(image)
    np.testing.assert_array_equal(image.payload, before)
    headers = marked.payload[marked.program:][:DESCRIPTOR_WORDS * marked.descriptors]
    layers = [layer for layer, word in zip(image.layers, headers[::DESCRIPTOR_WORDS].tolist(),
                                           strict=True) if unpack(Header, word)["mark"]]
    assert layers == list(dict.fromkeys(image.layers)) and len(layers) > 2
    assert int((marked.payload != before).sum()) == len(layers)

    values = np.random.default_rng(0).integers(-128, 128, found.network.input_shape, dtype=np.int8)
    simulator = Iss(program)
    wanted, *_ = simulator.run(values)
    simulator = Iss(program)
    simulator.memory[:len(marked.payload)] = marked.payload
    np.testing.assert_array_equal(simulator.run(values)[0], wanted)
