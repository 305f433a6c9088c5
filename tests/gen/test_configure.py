from dataclasses import replace

import pytest

from boards import find_board
from gen.configure import block_rams, derive, read_overrides
from gen.error import DoesNotFit, InputError
from model import zoo


@pytest.fixture(scope="module")
def network():
    return zoo.load("qsdt_nano")


def test_nano_on_ulx3s(network):
    board = find_board("ulx3s")
    config, program = derive(board, network)
    assert config.core.lanes >= 1024
    assert config.memory_words >= program.memory_words
    assert sum(block_rams(config.core, config.memory_words).values()) <= board.ebr
    # Everything but the image and the result stays on chip.
    assert {n for n, (home, _) in program.homes.items() if home == "memory"} == {
        "image", "logits_acc"}


def test_too_small_board(network):
    with pytest.raises(DoesNotFit, match="block RAMs") as error:
        derive(find_board("ulx3s-12f"), network)
    assert error.value.needed > error.value.available == 56


def test_no_logic(network):
    with pytest.raises(DoesNotFit, match="LUTs"):
        derive(replace(find_board("ulx3s"), comb=1000), network)


@pytest.mark.parametrize("text, message", [
    ("core: {rows: 33}", "Rows must be 16, 32 or 64"),
    ("core: {row: 32}", "unknown core parameter 'row'; known are .*rows"),
    ("cores: {}", "unknown key 'cores'; known are core"),
    ("- 1", "must hold a mapping"),
    ("a: [", "is not YAML"),
])
def test_bad_overrides(network, tmp_path, text, message):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        derive(find_board("ulx3s"), network, read_overrides(path))


def test_no_file(tmp_path):
    with pytest.raises(InputError, match="Cannot read"):
        read_overrides(tmp_path / "none.yaml")
