"""The array of words in a memory twin: Amaranth's memory, or a Verilog one for large sizes."""

from pathlib import Path

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.config import MEMORY_BITS


__all__ = ["Storage", "STORAGE_VERILOG"]


STORAGE_VERILOG = Path(__file__).with_name("storage.v")
"""Source of the Verilog array, for the simulator of a design that holds one."""


class Storage(wiring.Component):
    """Words of 64 bits with one asynchronous read port and one write port.

    Parameters
    ----------
    words : int
        At least 1; rounded up to a power of two, which is where addresses wrap.
    init : iterable of int
        Initial content; only without ``verilog``.
    verilog : bool
        Use the array of :data:`STORAGE_VERILOG`. Amaranth and yosys list every word of a memory,
        which takes gigabytes for a million of them; and a harness can fill and read this one at
        once (``words`` in C++, see sim/rtl/rtl_harness.cpp). Verilog simulators only.

    Members
    -------
    r_address, w_address : ``In(bits)``
    r_data : ``Out(64)``
        Word at ``r_address``, in the same cycle.
    w_data : ``In(64)``
    w_en : ``In(1)``
    """

    def __init__(self, *, words, init=(), verilog=False):
        if not isinstance(words, int) or words < 1:
            raise ValueError(f"Words must be an integer of at least 1, not {words!r}")
        init = list(init)
        if len(init) > words:
            raise ValueError(f"Initial content must be at most {words} words, not {len(init)}")
        if init and verilog:
            raise ValueError("The Verilog array takes no initial content")
        self._bits = max(1, ceil_log2(words))
        self._init, self._verilog = init, verilog
        super().__init__({
            "r_address": In(self._bits), "r_data": Out(MEMORY_BITS),
            "w_address": In(self._bits), "w_data": In(MEMORY_BITS), "w_en": In(1),
        })

    @property
    def depth(self):
        """Words, after rounding."""
        return 1 << self._bits

    def elaborate(self, platform):
        m = Module()
        if self._verilog:
            m.submodules.array = Instance(
                "storage", p_WORDS=self.depth, p_ADDRESS_BITS=self._bits,
                i_clk=ClockSignal("sync"), i_r_address=self.r_address, o_r_data=self.r_data,
                i_w_address=self.w_address, i_w_data=self.w_data, i_w_en=self.w_en)
            return m
        m.submodules.array = array = Memory(shape=MEMORY_BITS, depth=self.depth, init=self._init)
        read, write = array.read_port(domain="comb"), array.write_port()
        m.d.comb += [
            read.addr.eq(self.r_address), self.r_data.eq(read.data),
            write.addr.eq(self.w_address), write.data.eq(self.w_data), write.en.eq(self.w_en),
        ]
        return m
