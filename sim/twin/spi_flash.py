"""A SPI flash such as the W25Q128JV or the IS25LP128: reads, and what erasing and writing leave.

Both data sheets, "Instructions": read (03h), fast read (0Bh), JEDEC ID (9Fh), status (05h).
"""

__all__ = ["SpiFlashTwin"]


ERASED = 0xFF

PAGE_BYTES, SECTOR_BYTES = 256, 1 << 16


class SpiFlashTwin:
    """A flash for :class:`sim.twin.spi_lines.SpiLines`; reads go on from its end to its start.

    Parameters
    ----------
    content : dict
        {address: bytes}; all the rest is erased.
    size : int
        Bytes, a power of two.
    jedec : bytes
    """

    def __init__(self, content=None, *, size=1 << 24, jedec=b"\xef\x40\x18"):
        self.size, self.jedec = size, jedec
        self._sectors = {}
        self.violations = []
        self.half = 0
        self.read_bytes = 0
        """Bytes of data sent."""
        self.early_clocks = 0
        """Clocks before the first select."""
        self._command, self._address = bytearray(), None
        for address, data in (content or {}).items():
            self.program(address, data)

    def erase(self, address, count):
        """Erase whole sectors; what is left of an erasing that broke off is up to the caller."""
        if address % SECTOR_BYTES or count % SECTOR_BYTES:
            raise ValueError(f"Erased are sectors of {SECTOR_BYTES} bytes, not {count} bytes at "
                             f"{address}")
        for start in range(address, address + count, SECTOR_BYTES):
            self._sectors.pop(start // SECTOR_BYTES, None)

    def program(self, address, data):
        """Write bytes: a bit can only go from 1 to 0."""
        for place, byte in enumerate(data, address):
            sector = self._sectors.setdefault(
                place // SECTOR_BYTES, bytearray([ERASED]) * SECTOR_BYTES)
            sector[place % SECTOR_BYTES] &= byte

    def byte(self, address):
        """A byte of the content."""
        address %= self.size
        sector = self._sectors.get(address // SECTOR_BYTES)
        return ERASED if sector is None else sector[address % SECTOR_BYTES]

    def select(self):
        self._command.clear()
        self._address = None

    def deselect(self, whole):
        if not whole and len(self._command) < 4:
            self.violations.append("an access ends within its command")

    def clocks(self, count):
        self.early_clocks += count

    def exchange(self, byte):
        """The next byte to send."""
        command = self._command
        if len(command) < 5:
            command.append(byte)
        opcode, count = command[0], len(command)
        if opcode in (0x03, 0x0B):
            header = 4 if opcode == 0x03 else 5
            if count < header:
                return None
            if self._address is None:
                self._address = int.from_bytes(command[1:4], "big")
            self.read_bytes += 1
            self._address += 1
            return self.byte(self._address - 1)
        if opcode == 0x9F:
            return self.jedec[(count - 1) % len(self.jedec)]
        if opcode == 0x05:
            return 0
        if count == 1:
            self.violations.append(f"opcode {opcode:02x} is not known")
        return None
