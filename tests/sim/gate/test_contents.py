"""Contents of block RAMs: as yosys puts a memory's initial words into them."""

import json
import random

from amaranth.back import rtlil
import pytest

from gen.flow.synth import collision_commands
from gen.flow.toolchain import find_toolchain, run_tool
from hw.memory.onchip_memory import OnChipMemory
from model.error import InputError
from sim.gate.contents import onchip_words, read_words, write_contents


def block_ram(width=18, **contents):
    return {"type": "DP16KD", "parameters": {"DATA_WIDTH_A": f"{width:032b}", **contents}}


class Memories:
    def __init__(self, *names, lut_rams=()):
        self.memories, self.lut_rams = names, lut_rams


@pytest.mark.synth
@pytest.mark.parametrize("count", [4096 + 512, 3072])
def test_program_lies_where_yosys_puts_it(tmp_path, count):
    """A bank of 4096 words, and one whose words take several block RAMs one after the other."""
    rng = random.Random(count)
    words = [rng.getrandbits(64) for _ in range(count)]
    text = rtlil.convert(OnChipMemory(words=count, init=words), name="top", emit_src=False)
    (tmp_path / "top.il").write_text(text)
    (tmp_path / "top.ys").write_text("\n".join(
        ["read_rtlil top.il", *collision_commands(text),
         "synth_ecp5 -top top -json top.json"]) + "\n")
    run_tool([*find_toolchain("auto").yosys.command, "top.ys"], folder=tmp_path, name="yosys",
             log_path=tmp_path / "synth.log")
    module = json.loads((tmp_path / "top.json").read_text())["modules"]["top"]
    found = onchip_words(module, words, memory="bank_")
    names = [name for name, cell in module["cells"].items() if cell["type"] == "DP16KD"]
    assert sorted(found) == sorted(names) and len(names) > 8
    netlist = Memories(*names)
    write_contents(tmp_path, netlist, module)    # what yosys has put there
    for number, name in enumerate(names):
        lines = (tmp_path / f"{number}.cells").read_text().split()
        assert [int(line, 16) for line in lines] == found[name], name


@pytest.mark.parametrize("width, blocks", [(36, 4), (18, 8), (9, 8), (4, 16), (2, 32), (1, 64)])
def test_words_are_read_where_they_were_put(tmp_path, width, blocks):
    """Any part of the memory, also over the end of a block RAM; words that nothing defines are
    random with a seed; the file as Icarus and as Verilator write it."""
    module = {"cells": {f"shell.memory.bank_{bank}.0.{k}": {**block_ram(), "parameters": {
        "DATA_WIDTH_A": f"{width:032b}"}} for bank in range(2) for k in range(blocks)}}
    netlist = Memories(*module["cells"])
    rng = random.Random(width)
    words = [None if rng.random() < 0.2 else rng.getrandbits(64) for _ in range(1030)]
    write_contents(tmp_path, netlist, module, words=words, seed=1)
    for number in range(len(netlist.memories)):
        text = (tmp_path / f"{number}.cells").read_text()
        (tmp_path / f"{number}.end").write_text(("// 0x00000000\n" if number % 2 else "") + text)
    found = read_words(tmp_path, netlist, module, 0, 1030)
    assert [word for word, put in zip(found, words, strict=True) if put is not None] == [
        put for put in words if put is not None]
    rest = [word for word, put in zip(found, words, strict=True) if put is None]
    assert len(set(rest)) == len(rest) > 100
    assert read_words(tmp_path, netlist, module, 500, 525) == found[500:1025]


def test_words_that_cannot_be_read(tmp_path):
    module = {"cells": {f"shell.memory.bank_0.0.{k}": block_ram() for k in range(4)}}
    netlist = Memories(*module["cells"])
    with pytest.raises(InputError, match="has 1024 words, not 2 from 1023"):
        read_words(tmp_path, netlist, module, 1023, 2)
    with pytest.raises(InputError, match="the simulation did not end"):
        read_words(tmp_path, netlist, module, 0, 1)


def test_seed_fills_what_nothing_defines(tmp_path):
    """Memories without initial words, and output registers; others as they are."""
    module = {"cells": {"empty": block_ram(INITVAL_00="0" * 320),
                        "full": block_ram(INITVAL_00="0" * 300 + f"{0x155:020b}")}}
    netlist = Memories("empty", "full", lut_rams=[("zero", 0), ("some", 0xb3c5)])

    def contents(seed):
        write_contents(tmp_path, netlist, module, seed=seed)
        return [(tmp_path / name).read_text()
                for name in ("0.cells", "0.outputs", "1.cells", "1.outputs", "lut_rams")]

    plain, first, again, second = contents(None), contents(1), contents(1), contents(2)
    assert first == again != second
    assert set(plain[0].split()) == set(plain[1].split()) == {"00000"}
    assert len(set(first[0].split())) > 900 and "00000" not in first[1]
    assert plain[4] == "0000\nb3c5\n"
    assert first[4].endswith("\nb3c5\n") and first[4][:4] not in ("0000", second[4][:4])
    assert plain[2] == first[2] and first[2].split()[:2] == ["00155", "00000"]


def test_program_that_does_not_fit():
    module = {"cells": {f"shell.memory.bank_0.0.{k}": block_ram() for k in range(4)}}
    with pytest.raises(InputError, match="has 1024 words, the program needs 1025"):
        onchip_words(module, [1] * 1025)
