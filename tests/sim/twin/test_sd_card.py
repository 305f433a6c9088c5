"""The card by the specification: initialisation of each kind, blocks, and broken rules."""

import pytest

from sim.twin.sd_card import crc7, crc16, SdCardTwin


CONTENT = bytes(range(256)) * 4


def command(card, number, argument=0, *, crc=None, count=16):
    """What a card sends behind a command, from its answer on."""
    data = bytes([0x40 | number]) + argument.to_bytes(4, "big")
    for byte in data:
        card.exchange(byte)
    got = [card.exchange(crc7(data) if crc is None else crc)]
    got += [card.exchange(0xFF) for _ in range(count)]
    start = next((k for k, byte in enumerate(got) if byte != 0xFF), None)
    return [] if start is None else got[start:]


def ready(card):
    card.clocks(80)
    card.select()
    command(card, 0)
    command(card, 8, 0x1AA)
    for _ in range(card.busy + 1):
        command(card, 55)
        answer = command(card, 41, 1 << 30)
    assert answer[0] == 0
    return card


def test_crcs():
    """Examples of the specification (4.5): CMD0, CMD17, and a block of 0xFF."""
    assert crc7(bytes.fromhex("4000000000")) == 0x95
    assert crc7(bytes.fromhex("5100000000")) == 0x55
    assert crc16(b"\xff" * 512) == 0x7FA1


@pytest.mark.parametrize("kind, first, ocr, address", [
    ("sdhc", [0x01, 0, 0, 1, 0xAA], 0xC0, 1), ("sdsc", [0x01, 0, 0, 1, 0xAA], 0x80, 512),
    ("v1", [0x05], 0x80, 512)])
def test_each_kind(kind, first, ocr, address):
    card = SdCardTwin(CONTENT, kind=kind, busy=1, access=2)
    card.clocks(74)
    card.select()
    assert command(card, 0)[0] == 0x01
    assert command(card, 8, 0x1AA)[:len(first)] == first
    answers = [command(card, number, 1 << 30)[0] for number in (55, 41, 55, 41)]
    assert answers == [1, 1, 1, 0]
    assert command(card, 58)[:2] == [0, ocr]
    blocks = command(card, 18, address, count=1100)
    data = CONTENT[512:]
    assert blocks[:4] == [0x00, 0xFF, 0xFF, 0xFE]
    assert bytes(blocks[4:518]) == data + crc16(data).to_bytes(2, "big")
    assert blocks[518:521] == [0xFF, 0xFF, 0xFE] and not any(blocks[521:1033])
    stopped = command(card, 12)
    assert stopped[0] == 0 and set(stopped[1:]) == {0xFF}
    assert not card.violations


def test_damaged_and_stuck():
    card = ready(SdCardTwin(CONTENT, access=3))
    card.damaged = {3}
    blocks = command(card, 18, 0, count=600)
    data = bytes(blocks[5:517])
    assert data[3] == CONTENT[3] ^ 0x10 and crc16(data) != int.from_bytes(blocks[517:519], "big")
    card.stuck = True
    assert set([card.exchange(0xFF) for _ in range(1200)][600:]) == {0xFF}


def test_pulled_card_is_as_at_power_up():
    card = ready(SdCardTwin(CONTENT))
    card.present = False
    assert card.exchange(0xFF) is None and card.select() is None
    card.present = True
    assert command(card, 58) == [] and card.violations == ["CMD58 before the reset"]


@pytest.mark.parametrize("act, violation", [
    (lambda card: command(card, 0), "0 clocks before the reset, not 74"),
    (lambda card: (card.clocks(74), command(card, 0, crc=1)), "CMD0 with a wrong CRC"),
    (lambda card: (card.clocks(74), command(card, 0), command(card, 18)),
     "CMD18 is not known here"),
    (lambda card: (card.clocks(74), command(card, 0), command(card, 41)),
     "CMD41 is not known here"),
    (lambda card: (card.clocks(74), command(card, 0), card.exchange(0x12)),
     "a command does not begin with 12"),
    (lambda card: (setattr(card, "slow", 100), card.clocks(74), command(card, 0)),
     "the clock is too fast before the end of the initialisation"),
    (lambda card: card.deselect(False), "select ends within a byte")])
def test_broken_rules(act, violation):
    card = SdCardTwin(CONTENT)
    card.half = 50
    card.select()
    act(card)
    assert violation in card.violations


def test_kind():
    with pytest.raises(ValueError, match="Kind must be sdhc, sdsc or v1, not 'mmc'"):
        SdCardTwin(kind="mmc")
