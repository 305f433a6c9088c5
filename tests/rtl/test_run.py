"""gen.run on the virtual board: the whole path of a user, without a board."""

import re

import pytest

from gen import run


pytestmark = pytest.mark.rtl


def test_classifies_on_the_virtual_board(request, capsys):
    # A small array compiles and simulates faster; the path is the same. The simulator is that of
    # tests/gen/test_faults.py.
    cache = request.config.cache.mkdir("rtl")
    assert run.cli(["--board", "virtual", "--model", "qsdt_nano", "--count", "2", "--check",
                    "crc,twice", "--check", "host", "--config", "narrow.yaml",
                    "--cache", str(cache)]) == 0
    out = capsys.readouterr().out
    assert "agreement with the integer model: 2 of 2 images" in out
    assert re.search(r"(?m)^check after loading: \d+ words of .* have the right CRC; ", out)
    assert re.search(r"(?m)^check crc: \d+ words of memory had the CRC of what was written", out)
    assert re.search(r"(?m)^check twice: 2 images run twice, \d+ signatures each and all res", out)
    assert re.search(r"(?m)^check host: 2 images, \d+ signatures each as in the instruction", out)
    assert "cycles per image" in out and "spike events per image" in out
    assert "accuracy" in out
