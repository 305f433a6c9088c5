from dataclasses import replace

import numpy as np
import pytest

from gen.compile.compiler import compile_network
from gen.compile.package import image_words, ProgramImage
from model.error import InputError
from tests.gen.random_cases import random_case


@pytest.fixture(scope="module")
def case():
    found, config = random_case(1)
    program = compile_network(found.network, config)
    return found, program, ProgramImage.of(program, model="random",
                                           network=found.network)


def test_round_trip(case, tmp_path):
    found, program, image = case
    image.save(tmp_path / "a.img")
    read = ProgramImage.load(tmp_path / "a.img")
    np.testing.assert_array_equal(read.payload, program.payload)
    assert read.config == program.config
    assert read.layers == [d.layer for d in program.descriptors]
    picture = found.images(1)[0]
    np.testing.assert_array_equal(image_words(read, picture), image_words(program, picture))
    np.testing.assert_array_equal(read.logits["scale"], program.results[0].scale)
    assert read.origin == image.origin == "" and read.network_digest == found.network.digest()


def test_says_what_the_weights_are(case, tmp_path):
    replace(case[2], origin="synthetic").save(tmp_path / "a.img")
    assert ProgramImage.load(tmp_path / "a.img").origin == "synthetic"


def test_identity(case, tmp_path):
    path = tmp_path / "a.img"
    for identity in (0, 0x1a2b3c4d):
        replace(case[2], identity=identity).save(path)
        read = ProgramImage.load(path)
        assert read.identity == identity and read.source == str(path)
    for wrong in (-1, 1 << 32, "1a2b3c4d", None):
        replace(case[2], identity=wrong).save(path)
        with pytest.raises(InputError, match=r"a\.img is damaged: .*identity"):
            ProgramImage.load(path)


def test_same_input_same_bytes(case):
    _, _, image = case
    assert image.to_bytes() == image.to_bytes()


@pytest.mark.parametrize("cut", [0, 100, -1])
def test_truncated(case, tmp_path, cut):
    path = tmp_path / "a.img"
    path.write_bytes(case[2].to_bytes()[:cut])
    with pytest.raises(InputError, match="a.img is not a complete program image"):
        ProgramImage.load(path)


def test_damaged(case, tmp_path):
    data = bytearray(case[2].to_bytes())
    data[-20] ^= 1
    (tmp_path / "a.img").write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        ProgramImage.load(tmp_path / "a.img")


def test_other_file(tmp_path):
    with pytest.raises(InputError, match="not a complete program image"):
        ProgramImage.load(tmp_path / "none.img")
