# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from gen.isa.cycles import z_cycles
from hw.config import CoreConfig, PLANES_MIN
from hw.descriptor import Neuron, NeuronFunction, NeuronSource, pack, unpack
from hw.neuron.unit import NeuronUnit
from hw.port import POOL_LATENCY, PSUM_LATENCY
from sim.drive.ports import feed_stream, run_unit, serve_read, serve_write, simulate
from sim.reference.lanes import leading_repeats
from sim.reference.neuron import neuron, pack_fire, pack_scale
from sim.reference.state import Memories


FIRE, SCALE = NeuronFunction.FIRE, NeuronFunction.SCALE
WORDS = 4096


def fire_tile(rng, config, spread):
    """Constants of a FIRE tile with thresholds of about ``spread``, some never and always."""
    width = config.acc_bits + 1
    thresholds = np.sort(rng.integers(-spread, spread, size=(config.rows, config.levels)))
    thresholds[::5] = rng.choice([-(1 << (width - 1)), (1 << (width - 1)) - 1],
                                 size=(len(thresholds[::5]), config.levels))
    return pack_fire(thresholds, rng.integers(2, size=config.rows), config.acc_bits).tolist()


def scale_tile(rng, config, *, identity=False):
    """Constants of a SCALE tile: M, B and S over their whole ranges, results mostly in range."""
    lanes = []
    limit = 1 << (config.multiplier_bits - 1)
    for channel in range(config.rows):
        shift = int(rng.integers(0, 27))
        multiplier = int(rng.integers(-limit, limit))
        bias = int(rng.integers(-(1 << 43), 1 << 43)) >> int(rng.integers(0, 40))
        if channel % 7 == 0:
            multiplier, bias = int(rng.choice([-limit, limit - 1])), -(1 << 43)
        if identity:
            multiplier, bias, shift = 1, 0, 0
        lanes.append((multiplier, bias, shift))
    return pack_scale(*zip(*lanes, strict=True)).tolist()


def run_program(config, program, tiles, *, seed, stall, cycles=60_000, psum=None):
    """Run descriptors with constants ``tiles``, None for those that the one before holds; compare
    pool, completions, counters and, with ``plane_skip``, the counts of planes that repeat the sign
    with the golden function.

    Returns the cycles of each descriptor, from its acceptance to ``done``.
    """
    rng = np.random.default_rng(seed)
    size = 1 << (config.acc_bits - 1)
    if psum is None:
        psum = rng.integers(-size, size, size=(config.psum_words, config.rows))
        psum >>= rng.integers(0, config.acc_bits - 1, size=psum.shape)
        psum[3], psum[4] = -size, size - 1
    pool = rng.integers(0, 1 << config.rows, size=WORDS, dtype=np.uint64)
    expected_pool = pool.copy()
    memories = Memories(pool=expected_pool, psum=psum, rows=config.rows, acc_bits=config.acc_bits,
                        level_planes=config.level_planes)
    expected, expected_repeats, repeats, constants = [], [], [], []
    for descriptor, tile in zip(program, tiles, strict=True):
        fields = unpack(Neuron, descriptor)
        constants = constants if tile is None else tile
        expected.append(neuron(fields, constants, memories, membrane_frac=config.membrane_frac,
                               levels=config.levels, half_even=config.half_even,
                               whole_levels=config.whole_levels))
        if (config.plane_skip and fields["function"] == SCALE.value and fields["write_planes"]
                and fields["planes"] >= PLANES_MIN):
            for position in range(fields["count"]):
                at = (fields["plane_out"] + position * fields["plane_stride"]
                      + np.arange(fields["planes"])) % (1 << 16)
                count = leading_repeats(expected_pool[at % WORDS])
                expected_repeats.append((int(at[-1]), int(count)))
    memory = pool.tolist()
    got, spent, state = [], [], {"cycle": 0, "reads": 0, "writes": 0}
    dut = NeuronUnit(config)

    def read(address):
        state["reads"] += 1
        return memory[address % WORDS]

    def write(address, value):
        state["writes"] += 1
        memory[address % WORDS] = value

    async def no_collision(ctx):
        """The pool writes a word in the cycle after its acceptance; no read may be there."""
        written = None
        while True:
            _, _, valid, ready, address, w_valid, w_ready, w_address = await ctx.tick().sample(
                dut.pool.valid, dut.pool.ready, dut.pool.address,
                dut.write.valid, dut.write.ready, dut.write.address)
            now = w_address if w_valid and w_ready else None
            assert not (valid and ready and address in (written, now))
            written = now

    async def bench(ctx):
        for descriptor in program:
            start = state["cycle"]
            got.append(await run_unit(ctx, dut.control, Neuron.as_shape().from_bits(descriptor)))
            spent.append(state["cycle"] - start)
            for _ in range(int(rng.integers(3))):
                assert not ctx.get(dut.control.done) or not ctx.get(dut.control.run.ready)
                await ctx.tick()

    async def watch_repeats(ctx):
        port = dut.repeats
        while True:
            _, _, valid, address, count = await ctx.tick().sample(
                port.valid, port.address, port.count)
            if valid:
                repeats.append((address, count))

    async def count(ctx):
        while True:
            await ctx.tick()
            state["cycle"] += 1

    background = [
        count, no_collision, *([watch_repeats] if config.plane_skip else []),
        serve_read(dut.pool, read, latency=POOL_LATENCY, rng=rng, stall=stall),
        serve_read(dut.psum, lambda a, g: psum[a].reshape(-1, config.neuron_lanes)[g].tolist(),
                   latency=PSUM_LATENCY, rng=rng, stall=stall, grouped=True),
        serve_write(dut.write, write, rng=rng, stall=stall),
        feed_stream(dut.constants, [w for tile in tiles for w in tile or ()], rng=rng, stall=stall),
    ]
    counters = []

    async def finish(ctx):
        await bench(ctx)
        counters.extend([ctx.get(dut.u_saturated), ctx.get(dut.z_saturated)])

    try:
        simulate(dut, finish, background=background, cycles=cycles)
    except TimeoutError as error:
        raise TimeoutError(f"{error}; {len(got)} of {len(program)} descriptors, {state}") from None
    assert got == [outcome.completion for outcome in expected]
    np.testing.assert_array_equal(np.array(memory, dtype=np.uint64), expected_pool)
    assert counters == [sum(outcome.saturated.get(name, 0) for outcome in expected) & 0xffff
                        for name in ("u", "z")]
    assert repeats == expected_repeats
    return spent


def mixed_program(rng, config, count):
    """One descriptor of every kind."""
    where = dict(psum=2, count=count, membrane_in=1000, membrane_out=2000, plane_out=3000,
                 membrane_stride=32, plane_stride=19)
    scale = dict(function=SCALE, **where)
    in_place = {**scale, "membrane_out": 1000}
    program = [
        (dict(function=FIRE, **where), fire_tile(rng, config, 1000)),
        (dict(write_membrane=1, **scale), scale_tile(rng, config, identity=True)),
        (dict(write_membrane=1, add=1, **in_place), scale_tile(rng, config)),
        (dict(write_membrane=1, write_levels=1, add=1, **in_place), scale_tile(rng, config)),
        (dict(write_levels=1, **scale), scale_tile(rng, config)),
        (dict(write_levels=1, add=1, **scale), scale_tile(rng, config)),
        (dict(write_planes=1, planes=4, **scale), scale_tile(rng, config)),
        (dict(write_planes=1, planes=11, **scale), scale_tile(rng, config)),
        (dict(write_planes=1, planes=16, **scale), scale_tile(rng, config, identity=True)),
        (dict(function=FIRE, source=NeuronSource.MEMBRANE_SUM, **where),
         fire_tile(rng, config, 100_000)),
        (dict(function=FIRE, **where), fire_tile(rng, config, 50)),
        (dict(write_membrane=1, write_levels=1, **scale), scale_tile(rng, config)),
    ]
    if config.whole_levels:
        program += [
            (dict(write_membrane=1, write_levels=1, add=1, planes=1, **in_place),
             scale_tile(rng, config)),
            (dict(write_levels=1, planes=1, **scale), scale_tile(rng, config)),
        ]
    order = rng.permutation(len(program))
    return [pack(Neuron, **program[i][0]) for i in order], [program[i][1] for i in order]


@pytest.mark.parametrize(("stall", "settings"), [
    (0.0, {}),
    (0.4, {}),
    (0.3, dict(neuron_lanes=8, acc_bits=20, membrane_frac=4, multiplier_bits=8)),
    (0.2, dict(neuron_lanes=1, acc_bits=30, membrane_frac=14, multiplier_bits=18)),
    (0.2, dict(rows=32, neuron_lanes=4)),
    (0.2, dict(plane_skip=True)),
    (0.2, dict(half_even=True, membrane_frac=4)),
    (0.2, dict(whole_levels=True)),
    (0.0, dict(whole_levels=True, half_even=True, membrane_frac=12)),
    (0.0, dict(levels=3)),
    (0.3, dict(levels=3, half_even=True, membrane_frac=4, plane_skip=True)),
    (0.3, dict(levels=2, neuron_lanes=8)),
    (0.2, dict(levels=1)),
    pytest.param(0.2, dict(rows=32, neuron_lanes=8), marks=pytest.mark.slow),
    pytest.param(0.2, dict(rows=64, neuron_lanes=4, load_rows=4), marks=pytest.mark.slow),
])
def test_matches_golden(stall, settings):
    config = CoreConfig(**{"rows": 16, "neuron_lanes": 4, "load_rows": 4, **settings})
    rng = np.random.default_rng(1)
    program, tiles = mixed_program(rng, config, 5)
    run_program(config, program, tiles, seed=2, stall=stall)


@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_counts_planes_that_repeat_the_sign(stall):
    """Positions of every width, of both signs, all 0 and all -1; of fewer than 8 planes, none."""
    config = CoreConfig(rows=16, neuron_lanes=4, load_rows=4, plane_skip=True)
    rng = np.random.default_rng(0)
    psum = np.zeros((config.psum_words, config.rows), np.int64)
    for position in range(1, 17):
        limit = 1 << (position - 1)
        psum[position] = rng.integers(-limit, limit, size=config.rows)
    psum[17] = -1
    program = [pack(Neuron, function=SCALE, count=18, plane_out=100, plane_stride=planes,
                    write_planes=1, planes=planes) for planes in (8, 7, 12, 4, 15)]
    program.append(pack(Neuron, function=FIRE, count=1, plane_out=900, plane_stride=3))
    tiles = [scale_tile(rng, config, identity=True) for _ in range(5)]
    run_program(config, program, [*tiles, fire_tile(rng, config, 9)], seed=0, stall=stall,
                psum=psum)


@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_holds_constants(stall):
    """One tile for several descriptors, between others that have their own."""
    config = CoreConfig(rows=16, neuron_lanes=4, load_rows=4)
    rng = np.random.default_rng(7)
    program, tiles = [], []
    for held in (0, 2, 0, 1, 3):
        for left in range(held, -1, -1):
            fire = held % 2
            program.append(pack(
                Neuron, function=FIRE if fire else SCALE, write_planes=1 - fire, planes=9,
                psum=2 * len(program), count=3, plane_out=60 * len(program), plane_stride=19,
                hold=int(left > 0)))
            tiles.append(None if left < held else
                         fire_tile(rng, config, 1000) if fire else scale_tile(rng, config))
    run_program(config, program, tiles, seed=8, stall=stall)


def test_single_position_and_address_wrap():
    config = CoreConfig(rows=16, neuron_lanes=4)
    rng = np.random.default_rng(3)
    program, tiles = mixed_program(rng, config, 1)
    fields = dict(function=SCALE, add=1, write_membrane=1, write_levels=1, count=3, psum=0,
                  membrane_in=0xfff8, membrane_out=0xfff8, membrane_stride=16, plane_out=0xfb00,
                  plane_stride=3)
    run_program(config, [*program, pack(Neuron, **fields)], [*tiles, scale_tile(rng, config)],
                seed=4, stall=0.1)


@pytest.mark.parametrize(("fields", "per_position", "overhead"), [
    (dict(function=FIRE), 4, 21),
    (dict(function=SCALE, write_planes=1, planes=12), 12, 28),
    (dict(function=SCALE, write_planes=1, planes=6), 6, 28),
    (dict(function=SCALE, write_levels=1), 4, 29),
    (dict(function=SCALE, write_membrane=1), 16, 23),
    (dict(function=SCALE, write_membrane=1, write_levels=1), 19, 23),
    (dict(function=SCALE, write_membrane=1, add=1), 16, 44),
    (dict(function=SCALE, write_membrane=1, add=1, write_levels=1), 19, 44),
    (dict(function=SCALE, add=1, write_levels=1), 16, 38),
    (dict(function=FIRE, source=NeuronSource.MEMBRANE_SUM), 16, 32),
])
def test_cycles(fields, per_position, overhead):
    """The cost model's numbers, with four groups to a position and ports that never stall."""
    config = CoreConfig(rows=16, neuron_lanes=4, load_rows=4)
    rng = np.random.default_rng(5)
    fire = fields["function"] is FIRE
    tile = fire_tile(rng, config, 1000) if fire else scale_tile(rng, config)
    counts = [16, 16, 31]                         # the first one waits for its constants
    program = [pack(Neuron, count=count, membrane_in=0, membrane_out=2000, plane_out=3000,
                    membrane_stride=16, plane_stride=16, **fields) for count in counts]
    spent = run_program(config, program, [tile] * 3, seed=6, stall=0.0)
    assert spent[1:] == [count * per_position + overhead for count in counts[1:]]


@pytest.mark.parametrize(("lanes", "planes", "per_position"), [
    (4, 4, 5.5), (4, 6, 6), (2, 4, 11), (2, 12, 12), (2, 15, 15)])
def test_cycles_of_z(lanes, planes, per_position):
    """A narrow z takes 11/8 of a cycle a group, however few its planes are."""
    config = CoreConfig(rows=16, neuron_lanes=lanes, load_rows=4)
    rng = np.random.default_rng(5)
    program = [pack(Neuron, count=count, plane_out=3000, plane_stride=16, function=SCALE,
                    write_planes=1, planes=planes) for count in (8, 16, 32)]
    spent = run_program(config, program, [scale_tile(rng, config)] * 3, seed=6, stall=0.0)
    assert spent[2] - spent[1] == 16 * per_position
    assert z_cycles(planes, config) == per_position


def test_too_few_lanes():
    config = CoreConfig(rows=64, neuron_lanes=2)
    with pytest.raises(ValueError, match="^Neuron lanes must be at least 4 for 64 rows, not 2$"):
        NeuronUnit(config)
