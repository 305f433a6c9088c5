"""gen.campaign.board: where a word of the memory lies, and which arrays are whose.

Boards in a simulator: ``tests/gen/test_faults.py``.
"""

from types import SimpleNamespace

import pytest

from gen.campaign.board import arrays_of, memory_place


CORE, MEMORY = "TOP.top.shell.core.", "TOP.top.shell.memory."


def door(*names):
    return SimpleNamespace(arrays=dict.fromkeys(names, (16, 8)))


def test_banks_of_block_rams():
    """In the order of their numbers, whatever Verilator calls them."""
    found = door(f"{MEMORY}\\bank_0$5_", f"{MEMORY}bank_10", f"{MEMORY}\\bank_2$7_",
                 f"{MEMORY}waiting")
    assert [memory_place(found, address) for address in (0, 15, 16, 31, 32, 47)] == [
        (f"{MEMORY}\\bank_0$5_", 0), (f"{MEMORY}\\bank_0$5_", 15), (f"{MEMORY}\\bank_2$7_", 0),
        (f"{MEMORY}\\bank_2$7_", 15), (f"{MEMORY}bank_10", 0), (f"{MEMORY}bank_10", 15)]
    with pytest.raises(ValueError, match="too few of memory"):
        memory_place(found, 48)


def test_an_sdram():
    name = f"{MEMORY}storage.array.words"
    assert memory_place(door(name, f"{MEMORY}other"), 7) == (name, 7)


def test_groups():
    found = door(f"{CORE}pool.bank_0_0", f"{CORE}psum.memory_0", f"{CORE}attention.ktv",
                 f"{CORE}load.weight_buffer.memory", f"{CORE}fetch.buffer.storage",
                 f"{MEMORY}bank_0")
    assert arrays_of(found, "pool") == [(f"{CORE}pool.bank_0_0", 16, 8)]
    assert arrays_of(found, "psum") == [(f"{CORE}psum.memory_0", 16, 8)]
    assert [name for name, _, _ in arrays_of(found, "buffers")] == [
        f"{CORE}attention.ktv", f"{CORE}load.weight_buffer.memory"]
