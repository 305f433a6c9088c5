"""A device that knows the results of some images, and may restart: for rows 1 and 3.

It is the worst that can be: a wrong word of a weight, constant or image gives wrong results and
signatures, and nothing else tells; a wrong word of the program hangs it.
"""

import numpy as np

from gen.compile.package import image_words, ProgramImage
from gen.device.device import Device, SATURATED
from gen.device.session import Session
from gen.machine.iss import Iss
from hw.config import RECORD_WORDS
from hw.register import config_digest, Counter, fields_of, Register, RING_BITS
from tests.gen.device.software_device import SoftwareDevice, SoftwareTransport
from tests.gen.random_cases import compile_case


IMAGE_CYCLES = 4000

CLIPPED = 1000
"""Saturated membranes of an image; counters of saturations go on at a start, as the core's do."""


class KnownCore:
    """A core for a program: {words of an image: (words of its result, records)}."""

    def __init__(self, program, results):
        self.program, self.results = program, results
        self.wrong_run = lambda run: False
        """Whether this run, counted from 1, computes something else."""
        self.hangs = False
        self.after_record = lambda device, slot, place: None
        """Called when a run of a ring has left its record, with its address."""

    def __call__(self, device):
        program = self.program
        device.counters = [value if counter.name in SATURATED else 0
                           for counter, value in zip(Counter, device.counters, strict=True)]
        (base, log, image, image_stride, result, result_stride, count) = (
            device.registers[Register[name]] for name in (
                "PROGRAM", "LOG", "IMAGE", "IMAGE_STRIDE", "RESULT", "RESULT_STRIDE", "COUNT"))
        ring = fields_of(RING_BITS, device.registers[Register.RING])
        images, results = ring["images"] or count, ring["results"] or count
        memory, right = device.memory, program.payload
        if self.hangs or not np.array_equal(memory[base:len(right)], right[program.program:]):
            while True:
                yield IMAGE_CYCLES
        # The last image's result stands first: a restart on the way leaves it there.
        for index in range(count):
            yield IMAGE_CYCLES // 2
            source = memory[image + index % images * image_stride:][:program.image_words].tobytes()
            words, records = self.results.get(source) or next(iter(self.results.values()))
            wrong = (source not in self.results or self.wrong_run(device.starts)
                     or not np.array_equal(memory[:len(right)], right))
            target = result + index % results * result_stride
            memory[target:target + len(words)] = words ^ np.uint64(wrong)
            memory[log:log + len(records)] = records ^ np.uint64(wrong)
            # Times go on from one image to the next.
            begun = np.uint64(device.counters[Counter.CYCLES])
            memory[log + 1:log + len(records):2] += begun | begun << np.uint64(32)
            yield IMAGE_CYCLES // 2
            device.counters[Counter.IMAGES] += 1
            device.counters[Counter.DESCRIPTORS] += len(program.descriptors)
            device.counters[Counter.CYCLES] += IMAGE_CYCLES
            device.counters[Counter.U_SATURATED] = (
                device.counters[Counter.U_SATURATED] + CLIPPED) % (1 << 16)
            if ring["results"]:
                place = log - RECORD_WORDS * (results + 1 - index % results)
                memory[place:place + RECORD_WORDS] = (
                    count - index, device.counters[Counter.CYCLES] << 32)
                self.after_record(device, index % results, place)


def known_results(program, images):
    """{words of an image: (words of its result, completion records)} by the ISS."""
    results = {}
    for image in images:
        core = Iss(program)
        _, _, outcomes = core.run(image)
        records = np.zeros(RECORD_WORDS * len(outcomes), np.uint64)
        records[::2] = [outcome.write_hash | outcome.events << 32 for outcome in outcomes]
        records[1::2] = [(number + 1) << 32 for number in range(len(outcomes))]
        results[image_words(program, image).tobytes()] = (
            core.memory[program.result:program.result + program.result_words].copy(), records)
    return results


def case_of():
    """(network, program, two images, :func:`known_results` of them)."""
    found, program = compile_case(3)
    shape = found.network.input_shape
    images = np.random.default_rng(1).integers(-128, 128, (2, *shape), dtype=np.int8)
    return found.network, program, images, known_results(program, images)


def board_of(case, *, free=4096):
    """(device, core) in software, for a case of ``conftest``, with ``free`` words of memory."""
    _, program, _, results = case
    core = KnownCore(program, results)
    board = SoftwareDevice(program.memory_words + free, core, config_digest(program.config))
    board.memory[:] = 0
    return board, core


def session_on(board, case):
    """A loaded session on it."""
    network, program, _, _ = case
    device = Device(SoftwareTransport(board), timeout=0.01)
    session = Session(device, ProgramImage.of(program, model="random", network=network,
                                              predicted_cycles=IMAGE_CYCLES))
    session.load()
    return session


def session_of(case):
    board, core = board_of(case)
    return board, core, session_on(board, case)
