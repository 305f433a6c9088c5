"""Programs with several results: whole maps, maps of pyramids, level maps for the host's part."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from gen.check.compare import verify
from gen.compile.compiler import compile_network, FOLD
from gen.compile.maps import make_maps
from gen.compile.package import logits_of, ProgramImage
from gen.compile.results import named, on_core
from gen.machine.iss import Iss
from model.error import DoesNotFit, InputError
from model.integer.graph import Conv, Integrate, Raw
from model.integer.network import IntegerNetwork
from model.integer.random_network import with_heads
from tests.gen.random_cases import headed, random_case


def even(seed):
    """A case of ``random_case`` with heads."""
    found, config = random_case(seed)
    return headed(found, seed, logits=seed % 3 > 0), config


def compiled(network, config, **options):
    """The program: the pool is doubled until the network fits."""
    while True:
        try:
            return compile_network(network, config, **options)
        except DoesNotFit as error:
            if "pool" not in str(error):
                raise
            config = replace(config, pool_bank_words=2 * config.pool_bank_words)


@cache
def fits(seed):
    """(case, program) whose partial sums hold a row of every map."""
    found, config = even(seed)
    return found, compiled(found.network, replace(config, psum_words=512))


@pytest.mark.parametrize("seed", range(30))
def test_iss_equals_integer_model(seed):
    found, program = fits(seed)
    network, images = found.network, found.images(2, seed)
    result = verify(network, program, images, forms=("integer", "iss"))
    assert not result.differences, result.lines
    iss = Iss(program)
    for index in range(2):
        acc, values, _ = iss.run(images[index])
        whole = network.run(images[index:index + 1])
        for name, tensor in network.outputs.items():
            want = whole[tensor][0]
            np.testing.assert_array_equal(
                named(program, acc)[name], want[:, 0, 0] if name == "logits" else want)
            np.testing.assert_array_equal(named(program, values)[name], whole[name][0])


def test_every_layout_was_among_them():
    """Positions that share words and that do not, two and four copies."""
    seen = set()
    for seed in range(30):
        found, config = even(seed)
        maps = make_maps(on_core(found.network), config, FOLD).maps
        seen |= {(tensor.copies, tensor.groups > 1) for tensor in maps.values()}
    assert {(2, False), (2, True), (4, False), (4, True)} <= seen


def test_maps_of_a_pyramid_in_memory():
    """What is added and what is read out is loaded and stored strip by strip."""
    found, config = even(5)
    program = compiled(found.network, replace(config, psum_words=512, pool_bank_words=256),
                       strip_rows=4)
    assert {"fpn1/u", "fpn1.lif"} <= {*program.spilled}
    result = verify(found.network, program, found.images(1), forms=("integer", "iss"))
    assert not result.differences, result.lines


def test_file(tmp_path):
    for seed in (1, 2, 3):
        found, program = fits(seed)
        image = ProgramImage.of(program, model="m", network=found.network)
        path = tmp_path / f"{seed}.qsdp"
        image.save(path)
        read = ProgramImage.load(path)
        assert read.to_bytes() == image.to_bytes() and read.logits is None
        iss = Iss(program)
        iss.run(found.images(1)[0])
        words = iss.memory[program.result:program.result + program.result_words]
        for a, b in zip(logits_of(program, words), logits_of(read, words), strict=True):
            np.testing.assert_array_equal(a, b)
    damaged = bytearray(path.read_bytes())
    place = damaged.index(np.ascontiguousarray(image.results[-2].weight).tobytes()
                          if image.results[-2].weight is not None else b"payload")
    damaged[place] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(InputError, match="damaged|complete"):
        ProgramImage.load(path)


def test_an_output_alone_differs():
    """A wrong value is named by its output and place."""
    found, program = fits(1)
    network = found.network
    wrong = IntegerNetwork(network.spec, network.params, [
        replace(op, weight=np.roll(op.weight, 1, axis=1)) if op.name == "seg" else op
        for op in network.ops], network.input_shape, read_out=network.read_out)
    result = verify(wrong, compiled(wrong, program.config), found.images(1),
                    forms=("integer", "iss"))
    assert not result.differences
    result = verify(network, compiled(wrong, program.config), found.images(1),
                    forms=("integer", "iss"))
    assert not result.differences or "seg, channel" in result.lines[0]


def test_what_has_no_layout():
    found, config = random_case(4)
    network = found.network
    odd = IntegerNetwork(network.spec, network.params, network.ops,
                         (*network.input_shape[:2], 17))
    odd = with_heads(replace(found, network=odd), 4).network
    with pytest.raises(InputError, match=r"fpn0/u has \d+ columns, and must have a multiple of 2"):
        compile_network(odd, config)
    found, program = fits(4)
    network = found.network
    first = next(op for op in network.ops if op.name == "fpn1")
    twice = Conv("twice", first.source, first.weight, 1, 0, Integrate(
        first.epilogue.scale, "twice/u", "fpn1/u"))
    with pytest.raises(InputError, match="fpn1/u is added to a finer map, and twice uses it, too"):
        compile_network(IntegerNetwork(network.spec, network.params, (*network.ops, twice),
                                       network.input_shape), program.config)


def with_faithful_segmenter(network):
    """The network with what the published segmenter sums: a doubled map that is fired and convolved
    again before it is doubled once more, so that a pyramid reads another's levels."""
    first = next(op for op in network.ops if op.name == "fpn0")
    size, rule = len(first.weight), first.epilogue
    rng = np.random.default_rng(size)

    def conv(name, source, kernel, *, added=None, fired=False, weight=None):
        if weight is None:
            weight = rng.integers(-2, 2, (size, size, kernel, kernel)).astype(np.int8)
        return Conv(name, source, weight, 1, kernel // 2, Integrate(
            rule.scale, f"{name}/u", added, f"{name}.lif" if fired else None, rule.levels,
            rule.half_even, upsample=1 if added is None else 2))

    ops = [*network.ops, conv("once", "out2.lif", 3),
           conv("up", "out1.lif", 1, added="once/u", fired=True,
                weight=np.zeros((size, size, 1, 1), np.int8)),
           conv("twice", "up.lif", 3),
           conv("sum", "out0.lif", 3, added="twice/u", fired=True),
           Conv("sums", "sum.lif", rng.integers(-2, 2, (3, size, 1, 1)).astype(np.int8), 1, 0,
                Raw(np.ones(3), np.zeros(3), name="sums"))]
    return IntegerNetwork(network.spec, network.params, ops, network.input_shape,
                          read_out=network.read_out)


@pytest.mark.parametrize("seed", [9, 11, 14, 21, 26])
def test_a_pyramid_that_reads_another(seed):
    """What shares words with its neighbours is read by what would not, or needs several words."""
    found, config = even(seed)
    network = with_faithful_segmenter(found.network)
    program = compiled(network, replace(config, psum_words=512))
    result = verify(network, program, found.images(1, seed), forms=("integer", "iss"))
    assert not result.differences, result.lines
