# amaranth: UnusedElaboratable=no
"""A board that boots from a flash or a card, in RTL, and every way in which that fails."""

from functools import partial

import numpy as np
import pytest

from gen.boot.script import Script
from gen.device.device import Device
from hw.boot_layout import (
    BootFault,
    CARD_OFFSET,
    FLASH_OFFSET,
    HEADER_BYTES,
    leds_of,
    message,
    Record,
)
from hw.config import CoreConfig
from hw.memory.onchip_memory import OnChipMemory
from hw.register import Counter, COUNTER_BASE, Register, Restart
from sim.rtl.boot_board import BootBoard, make_boot
from sim.rtl.stub_core import HUNG, StubCore
from sim.twin.sd_card import SdCardTwin
from sim.twin.spi_flash import SpiFlashTwin


pytestmark = pytest.mark.rtl

CONFIG = CoreConfig(rows=16)

WORDS = 512

SCORES = np.array([[3, 9, -5, 9, 0, 2, 1], [-9, -9, -9, -9, -9, -8, -9]], np.int16)
"""Of two pictures: a board shows classes 1, the first of equal ones, and 5."""

SHOWN = b"\0".join([b"two pictures\r\n", b"a: ", b"001\r\n", b"b: ", b"005\r\n", b""])


def header():
    script = Script()
    script.text("{}".ljust(HEADER_BYTES - 2), Record.COMMENT)
    return bytes(script)


def script_of(*, identity=0, program=0, damage=None):
    """What :func:`gen.boot.script.boot_script` makes, for the core that copies: pictures that
    are, less one, their scores."""
    pictures = np.zeros((2, 2, 4), np.int16)
    pictures.reshape(2, -1)[:, :7] = SCORES
    pictures[:, 1, 3] = -100                # no class
    words = pictures.reshape(-1, 4).copy().view("<u8")[:, 0] - np.uint64(1)
    script = Script()
    script.check_register(Register.IDENTITY, identity, Record.IDENTITY)
    script.text("two pictures\r\n")
    script.write(10, words)
    if damage is not None:
        damage(script)
    script.check_memory(10, words)
    for register, value in {
            Register.COUNT: 2, Register.PROGRAM: program, Register.LOG: 100, Register.IMAGE: 10,
            Register.IMAGE_STRIDE: 2, Register.RESULT: 50, Register.RESULT_STRIDE: 2,
            Register.RING: 2 | 2 << 16, Register.WATCHDOG: 1, Register.START: 1}.items():
        script.set_register(register, value)
    script.record(Record.WAIT)
    script.check_register(COUNTER_BASE + Counter.IMAGES, 2)
    for name, address in (("a", 50), ("b", 52)):
        script.text(f"{name}: ")
        script.show(address, 7)
        script.text("\r\n")
        script.record(Record.PAUSE)
    script.record(Record.END)
    return bytes(script)


def device_of(source, script=None, *, content=None, **options):
    """A twin with a script behind a header, or with other content from there on."""
    content = header() + script if content is None else content
    if source == "flash":
        return SpiFlashTwin({FLASH_OFFSET: content})
    return SdCardTwin(bytes(CARD_OFFSET) + content, **options)


@pytest.fixture(scope="module")
def cache(request):
    return request.config.cache.mkdir("rtl")


def board_of(source, device, cache):
    return BootBoard(CONFIG, memory=partial(OnChipMemory, words=WORDS), cache=cache,
                     boot=partial(make_boot, source, half=2, slow=8, timeout_bits=16),
                     core=StubCore(), device=device)


def usable(board):
    """The link works, and the LEDs are those of the shell again."""
    with Device(board.url, timeout=board.link_timeout) as device:
        device.write(20, np.arange(3, dtype=np.uint64))
        assert device.read(20, 3).tolist() == [0, 1, 2]
        assert device.info().identity == 0
    board.wait(lambda: board.leds[-1] & 0b1000_1000 == 0b1000_0000)


def boot(source, device, cache, said, *, leds=None, shown=0):
    """Power up, wait for the text, look at the LEDs, and open the link."""
    with board_of(source, device, cache) as board:
        board.power_up()
        board.wait(lambda: board.sent.endswith(said))
        if leds is not None:
            board.wait(lambda: {leds_of(leds, 0), leds_of(leds, 1)} & set(board.leds))
        usable(board)
        return bytes(board.sent), list(board.leds), board


SOURCES = pytest.mark.parametrize("source", ["flash", "sd"])


@SOURCES
def test_boots(source, cache):
    device = device_of(source, script_of())
    sent, leds, _ = boot(source, device, cache, SHOWN)
    assert sent.startswith(SHOWN)
    assert [value for value in leds if value in (0x81, 0x85)] == [0x81, 0x85]
    assert not device.violations


def test_boots_from_an_old_card(cache):
    device = device_of("sd", script_of(), kind="v1")
    boot("sd", device, cache, SHOWN)
    assert not device.violations


def fails(source, device, cache, fault, before=b""):
    sent, leds, _ = boot(source, device, cache, message(fault), leds=fault)
    assert sent.startswith(before + message(fault))
    assert not {value & 0x7F for value in leds} & {
        leds_of(other, 0) for other in BootFault if other not in (fault, BootFault.NONE)}
    assert not device.violations


@pytest.mark.parametrize("source, byte", [
    ("flash", 0xFF), ("sd", 0xFF), ("sd", 0x00), ("flash", 0xA5), ("flash", 0xF0)])
def test_blank(source, byte, cache):
    """Erased, empty, all pauses, or a comment that has no end."""
    fails(source, device_of(source, content=bytes([byte]) * 65536), cache, BootFault.NO_IMAGE)


@SOURCES
def test_image_of_another_build(source, cache):
    fails(source, device_of(source, script_of(identity=0x1DEA)), cache, BootFault.OLD_IMAGE)


@pytest.mark.parametrize("source, where", [
    ("flash", "frame"), ("sd", "frame"), ("sd", "memory"), ("flash", "record")])
def test_bad_crc(source, where, cache):
    """A bit of a frame; a word that memory does not hold; the kind of a record."""
    script = script_of()
    if where == "frame":
        place = script.index(b"two pictures\r\n\0") + 30
        script = script[:place] + bytes([script[place] ^ 4]) + script[place + 1:]
    elif where == "memory":
        script = script_of(damage=lambda script: script.write(11, np.zeros(1, np.uint64)))
    else:
        place = script.index(b"two pictures\r\n\0") + 15
        script = script[:place] + bytes([script[place] ^ 1]) + script[place + 1:]
    fails(source, device_of(source, script), cache, BootFault.DATA, b"two pictures\r\n\0")


def test_damaged_block(cache):
    """The card's own CRC: a bit of a text that no frame guards."""
    device = device_of("sd", script_of())
    device.damaged = {CARD_OFFSET + 3}
    fails("sd", device, cache, BootFault.DATA)


def test_writing_broke_off(cache):
    """Within a frame, or without the header."""
    script = script_of()
    cut = header() + script[:round(0.3 * len(script))]
    fails("flash", device_of("flash", content=cut), cache, BootFault.DATA, b"two pictures\r\n\0")
    fails("flash", device_of("flash", content=b"\xff" * HEADER_BYTES + script), cache,
          BootFault.NO_IMAGE)


def test_no_card(cache):
    device = device_of("sd", script_of())
    device.present = False
    fails("sd", device, cache, BootFault.NO_CARD)


class Pulled(SdCardTwin):
    """A card that is pulled out within its second block, or sends none."""

    def __init__(self, *arguments, stuck):
        super().__init__(*arguments)
        self._sticks = stuck

    def _begin_block(self):
        super()._begin_block()
        if self._sticks:
            self.stuck = True
        elif self.blocks == 2:
            self.present = False


@pytest.mark.parametrize("stuck, fault", [
    (False, BootFault.NO_CARD), (True, BootFault.TIMEOUT)])
def test_card_pulled_or_silent(stuck, fault, cache):
    device = Pulled(bytes(CARD_OFFSET) + header() + script_of(), stuck=stuck)
    with board_of("sd", device, cache) as board:
        board.power_up()
        board.wait(lambda: board.sent.endswith(message(fault)))
        usable(board)
    assert not device.violations


def test_core_hangs(cache):
    """The watchdog restarts the board, which then does not try again."""
    fails("sd", device_of("sd", script_of(program=HUNG)), cache, BootFault.HUNG,
          b"two pictures\r\n\0")


def test_restarts(cache):
    """The button boots again, the host does not."""
    device = device_of("flash", script_of())
    with board_of("flash", device, cache) as board:
        board.power_up()
        board.wait(lambda: board.sent.endswith(SHOWN))
        board.restart(Restart.BUTTON)
        board.wait(lambda: board.sent == SHOWN + SHOWN)
        with Device(board.url, timeout=board.link_timeout) as host:
            read = device.read_bytes
            host.restart(Restart.HOST)
            assert host.state()["cause"] == Restart.HOST
        assert device.read_bytes == read


def test_host_ends_the_pauses(cache):
    """A host that speaks in a pause has the board, and loses no byte."""
    device = device_of("flash", script_of())
    with BootBoard(CONFIG, memory=partial(OnChipMemory, words=WORDS), cache=cache,
                   boot=partial(make_boot, "flash", half=2, slow=8, timeout_bits=30),
                   core=StubCore(), device=device) as board:
        board.power_up()
        first = SHOWN[:SHOWN.index(b"b: ")]
        board.wait(lambda: board.sent.endswith(first))
        usable(board)
        assert b"b: " not in board.sent
