# amaranth: UnusedElaboratable=no
import dataclasses

import pytest

from boards import find_board
from gen.flow.bitstream import bitstream_comments, bitstream_digests, bitstream_idcode, pack
from gen.flow.route import route
from gen.flow.rtl import write_rtl
from gen.flow.synth import synthesize
from gen.flow.toolchain import find_toolchain
from model.error import InputError, ToolFailed
from model.files import digest_file
from tests.gen.echo_shell import EchoShell


BOARD = find_board("ulx3s-12f")


def test_wrong_idcode(fake, folder):
    tools = fake()
    routed = route(BOARD, folder, tools)
    other = dataclasses.replace(BOARD, idcode=0x41113043)
    with pytest.raises(ToolFailed, match="wrote a bitstream for IDCODE 0x21111043, not 0x41113"):
        pack(other, folder, tools, routed)
    assert not (folder / "top.bit").exists()


def test_bitstream_idcode(tmp_path):
    path = tmp_path / "x.bit"
    with pytest.raises(InputError, match="Cannot read bitstream"):
        bitstream_idcode(path)
    path.write_bytes(b"not a bitstream")
    with pytest.raises(InputError, match="is not an ECP5 bitstream"):
        bitstream_idcode(path)


def test_comments(fake, folder):
    """They are in the file, and not in what the chip reads."""
    path = folder / "top.bit"
    tools = fake(pack=r"cp top.config seen; sed -n 's/^.comment //p' top.config > lines;"
                      r"printf '\377\000' > top.bit; tr '\n' '\000' < lines >> top.bit;"
                      r"printf '\377\377\377\275\263\342\000\000\000\041\021\020\103' >> top.bit")
    routed = route(BOARD, folder, tools)
    pack(BOARD, folder, tools, routed)
    assert bitstream_comments(path) == {}
    plain = bitstream_digests(path)
    assert plain["bitstream"] == digest_file(path)
    for comments in ({"Identity": "1a2b3c4d", "Commit": "abc-dirty"}, {"Identity": "00000001"}):
        assert not pack(BOARD, folder, tools, routed, comments=comments).reused
        assert bitstream_comments(path) == comments
        digests = bitstream_digests(path)
        assert digests.pop("bitstream") != plain["bitstream"]
        assert digests.items() <= plain.items() and len(digests) == 1
    assert bitstream_idcode(path) == BOARD.idcode
    assert pack(BOARD, folder, tools, routed, comments=comments).reused


@pytest.mark.synth
@pytest.mark.parametrize("name", ["ulx3s-12f", "ulx3s-85f"])
def test_bitstream(tmp_path, name):
    """A real, tiny design ends in a bitstream with the tools that are installed."""
    board = find_board(name)
    tools = find_toolchain()
    write_rtl(board, EchoShell(), tmp_path, core_clock_hz=80_000_000)
    synth = synthesize(board, tmp_path, tools)
    # The echo's 4096x4 memory is one block RAM and no fabric (83 more flip-flops without the
    # collision mask for 36 bits; here 4 + 12). 43 are those of the restart.
    assert synth.data["cells"]["DP16KD"] == 1
    assert synth.data["cells"]["TRELLIS_FF"] < 120
    routed = route(board, tmp_path, tools, seeds=[1])
    assert routed.fmax_mhz(80_000_000) > 80
    assert routed.used["ebr"] == 1
    packed = pack(board, tmp_path, tools, routed, comments={"Identity": "1a2b3c4d"})
    comments = bitstream_comments(packed.outputs["top.bit"])
    assert comments["Identity"] == "1a2b3c4d" and comments["Part"].startswith(board.part)
    assert bitstream_idcode(packed.outputs["top.bit"]) == board.idcode
    again = route(board, tmp_path, tools, seeds=[1])
    assert again.reused and again.clocks == routed.clocks
