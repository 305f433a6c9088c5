"""The cost model's memory, and that it holds together; tests/rtl/ compares it with the RTL."""

from dataclasses import replace

import pytest

from gen.compile.compiler import compile_network
from gen.isa.cycles import inside
from gen.machine.cost import layer_cycles, MemoryTiming, ON_CHIP, predict
from gen.machine.processes import Port
from hw.descriptor import UnitKind
from tests.gen.random_cases import compile_case, random_case


SDRAM = MemoryTiming.of_sdram(clock_hz=100e6, engine_hz=80e6)


def test_words_per_cycle_of_an_sdram():
    # 100 MHz x 16 bit x 92.2 % is 184 MB/s: 0.288 words of 8 bytes in a cycle of 80 MHz.
    assert SDRAM.words_per_cycle == pytest.approx(0.288125)
    faster = MemoryTiming.of_sdram(clock_hz=133e6, engine_hz=50e6, efficiency=1)
    assert faster.words_per_cycle == pytest.approx(0.665)
    assert SDRAM.latency == 20
    with pytest.raises(ValueError, match="Words per cycle"):
        MemoryTiming(name="none", words_per_cycle=0, latency=0)


def test_port_is_shared():
    port = Port(replace(ON_CHIP, words_per_cycle=0.25))
    assert port.transfer(0, 1000) == pytest.approx(4000, abs=port.SPAN)
    # Asked for at the same time: after the first, at the same rate.
    assert port.transfer(0, 500) == pytest.approx(6000, abs=port.SPAN)
    # A gap left in between is used by whoever asks for it later.
    assert port.transfer(10_000, 100) == pytest.approx(10_400, abs=port.SPAN)
    assert port.transfer(7000, 500) == pytest.approx(9000, abs=port.SPAN)
    assert port.transfer(0, 1000) == pytest.approx(12_400, abs=2 * port.SPAN)


@pytest.mark.parametrize("stride", [1, 2])
def test_positions_inside(stride):
    for first, count, shift, size in ((0, 7, -3, 7), (3, 5, 3, 9), (6, 3, 0, 12), (0, 4, -8, 3)):
        wanted = sum(0 <= k * stride + shift < size for k in range(first, first + count))
        assert inside(first, count, stride, shift, size) == wanted


@pytest.mark.parametrize("seed", range(8))
def test_every_program_ends_and_a_slower_memory_never_helps(seed):
    _, program = compile_case(seed)
    fast, slow = predict(program), predict(program, SDRAM)
    crawl = predict(program, replace(SDRAM, words_per_cycle=0.05))
    assert fast.cycles <= slow.cycles <= crawl.cycles
    for prediction, memory in ((fast, ON_CHIP), (crawl, replace(SDRAM, words_per_cycle=0.05))):
        # Never faster than the port, nor than any unit.
        total = prediction.memory_bytes / 8 / memory.words_per_cycle
        assert prediction.cycles > 0.99 * total
        for unit in UnitKind:
            work = sum(layer.work.get(unit.name.lower(), 0)
                       for layer in prediction.layers.values())
            assert prediction.cycles > 0.99 * work, unit
        assert sum(layer.cycles for layer in prediction.layers.values()) <= prediction.cycles
    # Bytes are of the program, not of the memory.
    assert {k: (v.bytes_in, v.bytes_out, v.weight_bytes) for k, v in fast.layers.items()} == {
        k: (v.bytes_in, v.bytes_out, v.weight_bytes) for k, v in crawl.layers.items()}


def test_times_follow_the_waits():
    _, program = compile_case(2)
    prediction = predict(program, SDRAM)
    done = [[] for _ in range(6)]
    for descriptor, (start, end) in zip(program.descriptors, prediction.times, strict=True):
        done[descriptor.unit.value].append(end)
        assert end > start
        for other, wait in enumerate(descriptor.waits):
            if other != descriptor.unit.value and wait:
                assert start >= done[other][wait - 1]
    assert layer_cycles(program, prediction.times, SDRAM) == prediction.layers


def test_a_wall_is_what_works_longest():
    found, config = random_case(4)
    program = compile_network(found.network, config)
    crawl = predict(program, replace(SDRAM, words_per_cycle=0.01))
    assert {layer.bound for name, layer in crawl.layers.items()
            if layer.bytes_in > 0} == {"SDRAM"}


def test_a_program_that_cannot_run_is_noticed():
    _, program = compile_case(0)
    descriptors = list(program.descriptors)
    last = descriptors[-1]
    # Waits for one neuron descriptor more than there are.
    count = sum(d.unit is UnitKind.NEURON for d in descriptors)
    waits = tuple(count + 1 if unit == UnitKind.NEURON.value else wait
                  for unit, wait in enumerate(last.waits))
    descriptors[-1] = replace(last, waits=waits)
    with pytest.raises(RuntimeError, match="deadlocks"):
        predict(replace(program, descriptors=descriptors))
