# amaranth: UnusedElaboratable=no
import dataclasses

import pytest

from boards import find_board
from gen.flow.bitstream import bitstream_idcode, pack
from gen.flow.route import route
from gen.flow.rtl import write_rtl
from gen.flow.synth import synthesize
from gen.flow.toolchain import find_toolchain
from model.error import InputError, ToolFailed
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


@pytest.mark.synth
@pytest.mark.parametrize("name", ["ulx3s-12f", "ulx3s-85f"])
def test_bitstream(tmp_path, name):
    """A real, tiny design ends in a bitstream with the tools that are installed."""
    board = find_board(name)
    tools = find_toolchain()
    write_rtl(board, EchoShell(), tmp_path, core_clock_hz=80_000_000)
    synth = synthesize(board, tmp_path, tools)
    # The echo's 4096x4 memory is one block RAM and no fabric (83 more flip-flops without the
    # collision mask for 36 bits; here 4 + 12).
    assert synth.data["cells"]["DP16KD"] == 1
    assert synth.data["cells"]["TRELLIS_FF"] < 80
    routed = route(board, tmp_path, tools, seeds=[1])
    assert routed.fmax_mhz(80_000_000) > 80
    assert routed.used["ebr"] == 1
    packed = pack(board, tmp_path, tools, routed)
    assert bitstream_idcode(packed.outputs["top.bit"]) == board.idcode
    again = route(board, tmp_path, tools, seeds=[1])
    assert again.reused and again.clocks == routed.clocks
