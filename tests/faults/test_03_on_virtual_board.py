"""Row 3 on the RTL: a virtual board with a core that copies finds flipped bits by its CRC."""

from functools import partial

import numpy as np
import pytest

from gen.device import session as session_module
from gen.device.check import CheckFailed, Checks
from gen.device.device import crc_of, Device
from gen.device.session import Session
from hw.config import CoreConfig
from sim.rtl.stub_core import StubCore
from sim.rtl.virtual_board import VirtualBoard
from sim.twin.memory import MemoryTwin


pytestmark = [pytest.mark.rtl, pytest.mark.slow]

CONFIG = CoreConfig(rows=16)

WORDS = {"weights": 700, "program": 200, "image": 100}
"""Words of each, one behind the other from the beginning of memory."""


class Image:
    """What a session asks of a program image, as far as loading and checking go."""
    config = CONFIG
    memory_words = sum(WORDS.values())
    image_words = result_words = 100
    payload = np.random.default_rng(0).integers(0, 2**64, memory_words, dtype=np.uint64)


def test_flipped_bits(request, monkeypatch):
    """50 single bits each in what stands for weights, program and image; the word is named."""
    monkeypatch.setattr(session_module, "CRC_WORDS", 256)   # a part for every fourth of it
    board = VirtualBoard(CONFIG, cache=request.config.cache.mkdir("rtl"), core=StubCore(),
                         memory=partial(MemoryTwin, words=4096, stall=0.2, seed=1))
    rng, payload = np.random.default_rng(1), Image.payload
    with board, Device(board.url, timeout=board.link_timeout) as device:
        assert device.info().memory_words == 4096
        session, checks = Session(device, Image), Checks(crc=True)
        session.load()
        session.check()
        assert device.crc(3, 990) == crc_of(payload[3:993])
        first = 0
        for count in WORDS.values():
            for _ in range(50):
                word = first + int(rng.integers(count))
                wrong = payload[word:word + 1] ^ np.uint64(1 << int(rng.integers(64)))
                device.write(word, wrong)
                with pytest.raises(CheckFailed, match=f"1 of .*, the first at {word} "):
                    session._check_inputs(0, payload[:1], checks)
                device.write(word, payload[word:word + 1])
            first += count
        session.check()
