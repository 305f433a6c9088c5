"""What lies in a flash or on a card for a board that works without a host.

One image for both: a header, and behind it a script of records, read byte by byte. Its frames are
those of the link (:mod:`hw.link.frame`), with which a host would load and run the same. Numbers
only, standard library only: the RTL, the models and ``gen.boot`` have them from here.
"""

from enum import IntEnum


__all__ = ["BootFault", "CARD_OFFSET", "CHECK_BYTES", "CLASSES", "FLASH_OFFSET", "HEADER_BYTES",
           "MAGIC", "MESSAGES", "MESSAGE_LETTERS", "Record", "SECTOR_BYTES", "SOURCES", "VERSION",
           "leds_of", "message", "record_byte"]


SOURCES = ("flash", "sd")
"""Where a board may boot from."""

MAGIC, VERSION = "qsdt-boot", 1
"""First fields of the header, for commands; the gateware compares ``Register.IDENTITY``."""

SECTOR_BYTES = 1 << 16
"""Unit of erasing a flash; the header ends at the end of one, of which it has the rest to itself,
so that it can be erased first and written last."""

HEADER_BYTES = 512
"""Of the header: a record ``COMMENT`` of JSON, filled with spaces; also a block of a card."""

FLASH_OFFSET = (1 << 21) + SECTOR_BYTES - HEADER_BYTES
"""Address of the header in a flash. The bitstream has the 2 MiB below its sector, which that of
no ECP5 fills."""

CARD_OFFSET = SECTOR_BYTES - HEADER_BYTES
"""Byte address of the header on a card, a multiple of a block."""

CLASSES = 1000
"""Most classes that are shown: three digits."""

CHECK_BYTES = 4
"""Of the value in ``CHECK`` and ``IDENTITY``, the lowest first."""


class Record(IntEnum):
    """Kind of a record: its first byte is :func:`record_byte`.

    ``COMMENT`` and ``TEXT`` have a body of bytes that are not 0, and a 0 behind it: it is skipped,
    or goes to the line, with its 0. ``CHECK`` and ``IDENTITY`` have :data:`CHECK_BYTES`, the first
    ones of what the last frame was answered with; they differ in what it means if those are others
    (:class:`BootFault`). ``WAIT``: until the core has come to its end. ``PAUSE``: for a while; a
    byte of the host's ends the script. ``SHOW``: the class with the highest score goes to the
    LEDs, and as three decimal digits to the line. ``END``: of the script.

    ``FRAME`` and ``SCORES``: the body and its 0 are a frame of the link, which must be answered,
    and not refused. The answer to ``SCORES`` are scores of the next classes, 16 bits each.
    """
    COMMENT = 0
    TEXT = 1
    CHECK = 2
    IDENTITY = 3
    WAIT = 4
    PAUSE = 5
    SHOW = 6
    END = 7
    FRAME = 8
    SCORES = 9


def record_byte(kind):
    """First byte of a record: the kind in the lower four bits, and its complement above."""
    return kind | (~kind & 15) << 4


class BootFault(IntEnum):
    """Why a board that should work by itself does not; also what its LEDs say.

    ``NO_IMAGE``: what is read is no image: erased, never written, or its writing broke off.
    ``OLD_IMAGE``: it was made for another bitstream. ``DATA``: a CRC is wrong: of a frame, a block
    of a card, or the memory behind them. ``NO_CARD``: none answers, at power-up or any more.
    ``TIMEOUT``: a card answers, but its data do not come. ``HUNG``: an image took longer than the
    watchdog allows.
    """
    NONE = 0
    NO_IMAGE = 1
    OLD_IMAGE = 2
    DATA = 3
    NO_CARD = 4
    TIMEOUT = 5
    HUNG = 6


MESSAGES = {
    BootFault.NO_IMAGE: "no image",
    BootFault.OLD_IMAGE: "old image",
    BootFault.DATA: "bad crc",
    BootFault.NO_CARD: "no card",
    BootFault.TIMEOUT: "time out",
    BootFault.HUNG: "watchdog",
}
"""What goes to the line: lower-case letters and spaces, at most :data:`MESSAGE_LETTERS`."""

MESSAGE_LETTERS = 9


def message(fault):
    """Bytes on the line for a fault: as many letters for each, the end of a line, and a 0."""
    return f"{MESSAGES[fault]:{MESSAGE_LETTERS}}\r\n\0".encode()


def leds_of(fault, blink):
    """LEDs that tell of a fault: its number in LEDs 0 to 2, LED 3 lit, LED 7 blinking."""
    return int(fault) | 1 << 3 | bool(blink) << 7
