"""Programs for samples of T images: the body once for each, the head's partial sums over all."""

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from gen.accelerator import Accelerator
from gen.check.compare import excerpt_cases, verify
from gen.compile.compiler import compile_network, compile_plan, least_memory
from gen.compile.excerpt import excerpt
from gen.compile.package import image_words, ProgramImage
from gen.isa import limits
from gen.machine.cost import predict
from gen.machine.iss import Iss
from gen.measurement.timeline import timeline
from hw.config import CoreConfig
from hw.descriptor import UnitKind
from model.error import DoesNotFit, InputError
from model.families.spec import MODELS
from model.integer.export import export
from model.integer.graph import IntegerParams, Pool
from model.integer.random_network import random_state
from tests.gen.compile.test_waits import unordered
from tests.gen.random_cases import compile_case, random_case


SMALL = replace(MODELS["qsdt_nano"], name="small", dims=(8, 8, 8, 16, 16), image_size=16)
CORE = CoreConfig(rows=16, load_rows=4, pool_banks=8)


def samples(network, count, seed=0):
    shape = count, *network.input_shape
    return np.random.default_rng((seed, 5)).integers(-128, 128, shape).astype(np.int8)


def small(steps, *, spec=SMALL, change=None):
    """The same small network for samples of ``steps`` images, its state changed by ``change``."""
    params = IntegerParams()
    state = random_state(np.random.default_rng(0), spec, params)
    if change is not None:
        change(state)
    return export(state, replace(spec, time_steps=steps), params)


@pytest.mark.parametrize("seed, steps", [(0, 2), (1, 3), (3, 2), (5, 3)])
def test_iss_equals_integer_model_on_random_networks(seed, steps):
    """Every map of every image; and waits that are sufficient over the repetitions."""
    found, program = compile_case(seed, time_steps=steps)
    images = samples(found.network, 1, seed)
    result = verify(found.network, program, images, forms=("integer", "iss"))
    assert not result.differences, (seed, result.lines)
    assert least_memory(found.network, program.config) <= program.memory_words
    assert unordered(program, images[0]) == []
    plan = compile_plan(found.network, program.config, program.plan)
    np.testing.assert_array_equal(plan.payload, program.payload)


@pytest.fixture(scope="module")
def programs():
    """{T: (network, program)} of the same weights."""
    return {steps: (network := small(steps), compile_network(network, CORE))
            for steps in (1, 2, 3)}


def test_weights_lie_in_memory_once(programs):
    (_, one), *others = programs.values()
    for steps, (network, program) in zip((2, 3), others, strict=True):
        assert program.program == one.program    # the words in front of the descriptors
        np.testing.assert_array_equal(program.payload[:one.program], one.payload[:one.program])
        assert program.image_words == steps * one.image_words == steps * image_words(
            one, samples(network, 1)[0, 0]).size
        assert program.result_words == one.result_words
        assert program.strips == one.strips and program.groups == one.groups
        # The body as often as there are images, the head once; it reads each mean by itself.
        head = network.ops[-1].name
        count = Counter(d.layer for d in program.descriptors)
        wanted = Counter(d.layer for d in one.descriptors)
        mean = next(op.name for op in network.ops if isinstance(op, Pool))
        for layer in wanted.keys() - {head, mean}:
            assert count[layer] == steps * wanted[layer]
        sums = [d for d in program.descriptors if d.layer == head and d.unit is UnitKind.ARRAY]
        assert [d.fields["accumulate"] for d in sums] == [0, *[1] * (steps - 1)]
        assert [d.fields["first_row"] for d in sums] == list(range(steps))
        assert sum(d.layer == head and d.unit is UnitKind.NEURON for d in program.descriptors) == 1


def test_equal_images_count_t_times(programs):
    network, one = programs[1]
    image = samples(network, 1)[0]
    acc, logits, _ = Iss(one).run(image)
    for steps in (2, 3):
        core = Iss(programs[steps][1])
        for _ in range(2):    # nothing of a sample is left for the next one
            more, mean, _ = core.run(np.stack([image] * steps))
            np.testing.assert_array_equal(more, steps * acc)
            np.testing.assert_allclose(mean, logits, rtol=0, atol=1e-12)


def test_classified_from_python(programs):
    """The instruction-set simulator as a device, as boards are used."""
    network, program = programs[2]
    images = samples(network, 3)
    design = SimpleNamespace(board=None, config=None, program=program, name="small",
                             network=network, folder="none")
    with Accelerator(design, device="iss") as found:
        result = found.run(images)
        with pytest.raises(InputError, match=r"int8 of shape \(N, 2, 1, 16, 16\) with N"):
            found.run(images[:, 0])
    made = network.run(images)
    np.testing.assert_array_equal(result.acc, made["logits_acc"][:, :, 0, 0])
    np.testing.assert_array_equal(result.classes, made["logits"].argmax(axis=1))


def test_cost_and_turns(programs):
    one, three = (predict(programs[steps][1]) for steps in (1, 3))
    assert 2.8 * one.cycles < three.cycles < 3.1 * one.cycles
    assert list(three.layers) == list(one.layers)
    program = programs[3][1]
    records = [word for start, end in three.times for word in (0, start | end << 32)]
    turns = timeline(program, np.array(records, np.uint64))
    assert [a.end for a in turns[:-1]] == [b.start for b in turns[1:]]
    names = [name for turn in turns for name in turn.layers]
    assert len(set(names)) == len(names) == 3 * len(one.layers) - 2
    assert names[0] == "downsample1_1.encode_conv (image 0)" and names[-1] == "head (image 2)"


@pytest.mark.parametrize("sign", [1, -1])
def test_sums_at_their_bounds(sign):
    """Six images whose sums reach the 16 bits of a result: as large as accumulators get."""
    spec = replace(SMALL, dims=(8, 8, 8, 16, 160), heads=4, mlp_ratio=1)
    core = replace(CORE, rows=64, load_rows=16, head_words=8)
    q = -8 if sign < 0 else 7

    def change(state):
        last = "block4.0"
        state[f"{last}.layer_scale2"][:] = 100
        state[f"{last}.mlp.fc2_bn.bias"][:] = 100
        state["head.weight"][:] = q * state["head.alpha"][:, None]

    network = small(6, spec=spec, change=change)
    program = compile_network(network, core)
    images = samples(network, 1)
    result = verify(network, program, images, forms=("integer", "iss"))
    assert not result.differences, result.lines
    acc, _, _ = Iss(program).run(images[0])
    assert (acc == 6 * 160 * 4 * q).all()
    if sign < 0:
        assert acc.min() == -network.acc_bound(network.ops[-1]) < -30_000
        with pytest.raises(DoesNotFit, match="largest accumulator of head"):
            compile_network(small(7, spec=spec, change=change), core)


def test_layers_by_themselves(programs):
    """Excerpts are of the first image; the head's of all."""
    network, program = programs[3]
    images = samples(network, 1)
    for name in dict.fromkeys(op.name for op in network.ops):
        try:
            part = excerpt(network, program, name)
        except ValueError:    # its inputs are nowhere as a whole
            continue
        for cases in (excerpt_cases(part, images), excerpt_cases(part, None, ("high", "random"))):
            result = verify(network, part.program, cases, forms=("integer", "iss"))
            assert not result.differences, (name, result.lines)
        steps = {d.step for d in part.program.descriptors if d.layer != "inputs"}
        assert steps == ({2} if name == "head" else {0})
    tensors = excerpt(network, program, "head").tensors(images[0])
    assert tensors["lif"].shape == (3, 16, 1, 1)


def test_differences_name_the_image(programs):
    network, program = programs[2]
    image = samples(network, 1)

    class Wrong:
        """The network, but for one level of the second image."""
        def run(self, images, **options):
            made = network.run(images, **options)
            made["block4.0.attn.q_lif"][0, 1, 3, 0, 0] ^= 1
            return made

    result = verify(Wrong(), program, image, forms=("integer", "iss"))
    assert "image 1 of the sample, level block4.0.attn.q_lif" in result.lines[0]


def test_program_file(programs, tmp_path):
    network, program = programs[2]
    path = tmp_path / "two.img"
    ProgramImage.of(program, model="two", network=network).save(path)
    found = ProgramImage.load(path)
    assert found.input_shape == network.input_shape == (2, 1, 16, 16)
    images = samples(network, 1)[0]
    words = image_words(found, images)
    assert len(words) == found.image_words
    np.testing.assert_array_equal(words, np.concatenate([image_words(found, x) for x in images]))


def test_what_does_not_fit(monkeypatch, programs):
    needed = programs[2][1].memory_words
    with pytest.raises(DoesNotFit, match="memory words of 64 bits"):
        compile_network(programs[3][0], CORE, memory_words=needed)
    compile_network(programs[2][0], CORE, memory_words=needed)
    count = len(programs[2][1].descriptors)
    monkeypatch.setattr("gen.compile.compiler.DESCRIPTORS", count)
    compile_network(programs[2][0], CORE)
    with pytest.raises(DoesNotFit, match=r"descriptors.*3 images are in one program"):
        compile_network(programs[3][0], CORE)
    assert count < limits.DESCRIPTORS


def test_the_head_must_read_a_mean():
    found, config = random_case(1, time_steps=2)
    network = found.network
    network.ops = tuple(op for op in network.ops if not isinstance(op, Pool))
    with pytest.raises(ValueError, match="The last operator must read a mean to add up 2 images"):
        compile_network(network, config)
