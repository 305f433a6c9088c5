"""A device that knows the results of some images, and may restart: for rows 1 and 3."""

import numpy as np

from gen.compile.package import ProgramImage
from gen.device.session import Session
from hw.register import config_digest, Counter


class Board:
    """A device that knows the results of some images; it restarts before its ``restart``-th
    request, and loses its memory if ``lose``."""

    def __init__(self, program, results, restart=None, lose=True):
        self.program, self.results = program, results
        self.restart, self.lose = restart, lose
        self.requests = 0
        self.memory = np.zeros(program.memory_words + 4096, np.uint64)
        self._clear()

    def _clear(self):
        self.values = dict.fromkeys((counter.name for counter in Counter), 0)

    def _request(self):
        self.requests += 1
        if self.requests == self.restart:
            self._clear()
            if self.lose:
                self.memory[:] = 0

    def info(self):
        class Info:
            memory_words = len(self.memory)

        Info.config_digest = config_digest(self.program.config)
        return Info

    def write(self, address, data, progress=None):
        self._request()
        self.memory[address:address + len(data)] = data

    def read(self, address, count, progress=None):
        self._request()
        if progress:
            progress(count)
        return self.memory[address:address + count].copy()

    def start(self, *, program, log, image, image_stride, result, result_stride, count):
        self._request()
        self._clear()
        payload = self.program.payload
        if not np.array_equal(self.memory[:len(payload)], payload):
            return                                    # nothing that runs is left
        for index in range(count):
            source = image + index * image_stride
            words = self.results[self.memory[source:source + self.program.image_words].tobytes()]
            target = result + index * result_stride
            self.memory[target:target + len(words)] = words
        descriptors = len(self.program.descriptors)
        self.values |= {"IMAGES": count, "DESCRIPTORS": count * descriptors,
                        "CYCLES": count * 1000}
        end = log + 2 * (descriptors - 1)
        self.memory[end:end + 2] = 1, (count * 1000 - 5) << 32

    def wait(self, *, timeout, progress=None):
        self._request()

    def counters(self):
        self._request()
        return dict(self.values)


def session_of(case, **options):
    network, program, _, results = case
    board = Board(program, results, **options)
    session = Session(board, ProgramImage.of(program, model="random", network=network))
    session.load()
    return board, session
