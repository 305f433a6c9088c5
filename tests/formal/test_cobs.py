# amaranth: UnusedElaboratable=no
"""COBS encoder and decoder back to back, proven without bound: a queue of bytes and frame ends."""

from pathlib import Path
from types import ModuleType

from amaranth import Cat, Module, Mux, Signal
from amaranth.hdl import Assert, Assume
import pytest

from hw.link import cobs
from tests.formal.proof import induct, Opened, prove, refuted
from tests.formal.queue import Watch


pytestmark = pytest.mark.formal


PORTS = 3


def _ports(module):
    """Adds read ports to the encoder's memory: its words at any address, for assertions."""
    ports = [module.submodules.blocks.read_port(domain="comb") for _ in range(PORTS)]
    return [(port.addr, port.data) for port in ports]


class Encoder:
    """The encoder, and what its state says of the tokens inside: those of a block are its data
    bytes and, behind all but a full one, a zero or the frame's end."""

    def __init__(self, m, block, module=cobs):
        self.dut = module.CobsEncoder()
        self.opened = opened = Opened(self.dut, _ports)
        m.submodules.encoder = opened.fragment
        self.ports = opened.extra
        fsm = opened.fragment.find_generated("send")
        state = {name: opened.send_state == value for name, value in fsm.encoding.items()}
        full, index = opened.full, opened.index
        self.half, self.sending, self.count = opened.half, opened.sending, opened.count
        self.full = [full.bit_select(self.half, 1), full.bit_select(self.sending, 1)]
        codes = opened.code[:8], opened.code[8:]
        at = self.sending
        self.code = Mux(at, codes[1], codes[0])
        self.other_code = Mux(at, codes[0], codes[1])
        self.final = opened.final.bit_select(at, 1)
        self.other_final = opened.final.bit_select(~at, 1)
        self.other_full = full.bit_select(~at, 1)
        self.full_bits, self.index, self.byte = full, index, opened.byte
        self.at_code = Signal()
        self.data_byte = Signal()       # a data byte is offered
        self.taking = state["TAKE"]
        self.data_sent = Signal(8)
        self.between = Signal()         # nothing of a block has been sent, or all of one
        self.left = Signal(range(2 * block + 4))
        self.trails = self.final | (self.code != block + 1)
        self.other_left = Mux(self.other_full,
                              self.other_code - 1 + (self.other_final
                                                     | (self.other_code != block + 1)), 0)
        m.d.comb += [
            self.at_code.eq(state["SEND"] & (index == 0)),
            self.data_byte.eq(state["SEND"] & (index != 0)),
            self.data_sent.eq(Mux(state["DELIMIT"], self.code - 1,
                                  Mux(state["SEND"] & (index != 0), index - 1, index))),
            self.between.eq(state["WAIT_BLOCK"] | state["RELEASE"] | self.at_code),
            self.left.eq(Mux(state["RELEASE"] | ~self.full[1], 0,
                             self.code - 1 + self.trails
                             - Mux(state["WAIT_BLOCK"], 0, self.data_sent))),
        ]
        m.d.comb += [
            Assume(~self.dut.i.p.end | (self.dut.i.p.byte == 0)),
            Assert(sum(state.values()) == 1),
            # Blocks take turns.
            Assert((self.half == at) == ((full == 0) | (full == 3))),
            Assert(self.count < block),
            Assert(~self.full[0] | (self.count == 0)),
            Assert(state["WAIT_BLOCK"] | self.full[1]),
            Assert(~state["DELIMIT"] | self.final),
            Assert(~self.at_code | (self.byte == self.code)),
            Assert(~(state["FETCH"] | state["TAKE"]) | (index + 1 < self.code)),
            Assert(~self.data_byte | (index < self.code)),
            Assert(~(state["DELIMIT"] | state["RELEASE"]) | (index + 1 == self.code)),
            Assert(~state["RELEASE"] | (self.left == 0)),
        ]
        m.d.comb += [Assert(~full[k] | ((codes[k] != 0) & (codes[k] <= block + 1)
                                        & (~opened.final[k] | (codes[k] <= block))))
                     for k in (0, 1)]
        self.state = state

    def inputs(self):
        return [self.dut.i.payload.as_value(), self.dut.i.valid]


def _no_zero_inside(m, encoder):
    """Data bytes of blocks are not zero: here of the one at ``spot``, which is any."""
    spot = Signal(9, name="spot")
    place, half = spot[:8], spot[8]
    (address, word), *_ = encoder.ports
    code = Mux(half, encoder.opened.code[8:], encoder.opened.code[:8])
    filled = Mux(encoder.full_bits.bit_select(half, 1), place + 1 < code,
                 (encoder.half == half) & (place < encoder.count))
    here = encoder.sending == half
    kept, known = Signal.like(spot), Signal()
    m.d.sync += [kept.eq(spot), known.eq(1)]
    m.d.comb += [
        address.eq(spot), Assume(~known | (kept == spot)),
        Assert(~filled | (word != 0)),
        Assert(~(here & encoder.taking & (encoder.index == place))
               | (encoder.opened.read__data == word)),
        Assert(~(here & encoder.data_byte & (encoder.index == place + 1))
               | ((encoder.byte == word) & (encoder.byte != 0))),
    ]
    return [spot]


def _round_trip(m, encoder, block, module=cobs):
    """What the decoder makes of the encoder's bytes are the tokens that went in."""
    decoder, ready = module.CobsDecoder(), Signal(name="ready")
    inner = Opened(decoder)
    m.submodules.decoder = inner.fragment
    dut, out = encoder.dut, decoder.o
    sent = dut.o.valid & ready
    m.d.comb += [dut.o.ready.eq(ready), decoder.i.valid.eq(sent),
                 decoder.i.payload.eq(dut.o.payload)]
    value = Cat(out.p.byte, out.p.end)
    watch = Watch(m, give=dut.i.valid & dut.i.ready, given=Cat(dut.i.p.byte, dut.i.p.end),
                  take=out.valid, taken=value, capacity=2 * block + 1)
    pending = encoder.between & inner.zero
    at_data = inner.left != 0
    m.d.comb += [
        Assert(~out.p.error), Assert(watch.inside
                                     == pending + encoder.left + encoder.other_left
                                     + encoder.count),
        # A zero is on the line where a frame ends, and nowhere else.
        Assert(~sent | ((dut.o.payload == 0) == (out.valid & out.p.end))),
        # Nothing is stuck: bytes are offered while there are blocks, and taken while there is room.
        Assert(dut.i.ready | (encoder.full_bits == 3)),
        Assert(dut.busy == encoder.full_bits.any()),
        # How far the decoder is.
        Assert(Mux(encoder.between | encoder.state["DELIMIT"], ~at_data,
                   inner.left == encoder.code - 1 - encoder.data_sent)),
        Assert(encoder.between | (inner.zero == (encoder.code != block + 1))),
        Assert(~encoder.state["RELEASE"]
               | (inner.zero == (~encoder.final & (encoder.code != block + 1)))),
    ]
    quiet = Signal(range(4))
    m.d.sync += quiet.eq(Mux(dut.busy & ~dut.o.valid, quiet + 1, 0))
    m.d.comb += [
        Assert(quiet <= 2),
        Assert((quiet == 0) | encoder.state["SEND"] | encoder.state["DELIMIT"]
               | encoder.state["TAKE"] | (encoder.state["WAIT_BLOCK"] & encoder.full[1])
               | ~dut.busy),
        Assert((quiet < 2) | encoder.state["SEND"] | ~dut.busy),
    ]

    # Where the followed token is.
    (address, word), (data_address, data), _ = encoder.ports
    first = encoder.data_sent
    in_block = watch.ahead - pending
    token = Mux(encoder.state["WAIT_BLOCK"], 0, first) + in_block
    in_other = in_block - encoder.left
    in_open = in_other - encoder.other_left
    zero, end = 0, 0x100

    def at(half, place):
        m.d.comb += [address.eq(half << 8 | place), Assert(watch.value == word)]

    def in_a_block(place, code, final, half):
        with m.If(place + 1 < code):
            at(half, place)
        with m.Else():
            m.d.comb += Assert(watch.value == Mux(final, end, zero))

    with m.If(watch.watching):
        with m.If(watch.ahead < pending):
            m.d.comb += Assert(watch.value == zero)
        with m.Elif(in_block < encoder.left):
            in_a_block(token, encoder.code, encoder.final, encoder.sending)
        with m.Elif(in_other < encoder.other_left):
            in_a_block(in_other, encoder.other_code, encoder.other_final, ~encoder.sending)
        with m.Else():
            at(encoder.half, in_open)
    # The byte on its way to the line.
    m.d.comb += data_address.eq(Cat(first, encoder.sending))
    m.d.comb += [
        Assert(~encoder.data_byte | (encoder.byte == data)),
        Assert(~encoder.taking | (encoder.opened.read__data == data)),
        # Shown by itself, for any place.
        Assume(~encoder.data_byte | (encoder.byte != 0)),
        Assume(~encoder.taking | (encoder.opened.read__data != 0)),
    ]
    return [ready, *watch.inputs]


SMALL, LARGER = 2, 6


def _design(block, watched, module=cobs):
    m = Module()
    encoder = Encoder(m, block, module)
    more = (_round_trip(m, encoder, block, module) if watched is _round_trip
            else watched(m, encoder))
    return m, [*encoder.inputs(), *more]


@pytest.mark.parametrize("block", [SMALL, LARGER])
def test_round_trip(tmp_path, monkeypatch, block):
    """Two lengths of a block, in place of 254: with that, the solver needs more than 5 minutes."""
    monkeypatch.setattr(cobs, "_BLOCK", block)
    for watched in (_no_zero_inside, _round_trip):
        folder = tmp_path / watched.__name__
        folder.mkdir()
        (prove if block == SMALL and watched is _round_trip else induct)(
            *_design(block, watched), folder, depth=2)


FAULTS = {
    "code of a full block": ("count + 1, _BLOCK + 1)", "count + 1, _BLOCK)"),
    "zero kept behind a frame": ("m.d.sync += zero.eq(0)", "pass"),
    "zero behind a full block": ("zero.eq(self.i.payload != _BLOCK + 1)", "zero.eq(1)"),
    "blocks do not take turns": ("m.d.sync += sending.eq(~sending)", "pass"),
    "overwritten": ("self.i.ready.eq(~full.bit_select(half, 1))",
                    "self.i.ready.eq(~full.all() | (count == 0))"),
    "released early": ("with m.Elif(final.bit_select(sending, 1)):",
                       "with m.Elif(final.bit_select(half, 1)):"),
    "last byte again": ("m.d.sync += index.eq(index + 1)",
                        "m.d.sync += index.eq(index + (index + 2 != code[sending]))"),
    "never released": ('with m.State("RELEASE"):\n                m.d.sync += full',
                       'with m.State("RELEASE"):\n                m.d.sync += final'),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found(tmp_path, fault):
    """Each of these changes of the source has a counterexample that starts at the start."""
    old, new = FAULTS[fault]
    text = Path(cobs.__file__).read_text()
    assert text.count(old) == 1
    module = ModuleType("faulty")
    exec(text.replace(old, new), module.__dict__)   # noqa: S102
    module._BLOCK = SMALL
    refuted(*_design(SMALL, _round_trip, module), tmp_path, depth=20)
