"""INA226 and INA228 as an I2C bus sees them, from their data sheets (SBOS547, SLYS021)."""

import errno


DEFAULTS = {
    "INA226": {0x00: 0x4127, 0x01: 0, 0x02: 0, 0x06: 0, 0xFE: 0x5449, 0xFF: 0x2260},
    "INA228": {0x00: 0, 0x01: 0xFB68, 0x04: 0, 0x05: 0, 0x0B: 0x0001, 0x3E: 0x5449,
               0x3F: 0x2281},
}

WIDE = {"INA226": (), "INA228": (0x04, 0x05, 0x07, 0x08)}    # of 24 bits

READ_ONLY = {"INA226": (0x01, 0x02, 0x03, 0x04, 0xFE, 0xFF),
             "INA228": (0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x3E, 0x3F)}

TIMES = {"INA226": (140, 204, 332, 588, 1100, 2116, 4156, 8244),
         "INA228": (50, 84, 150, 280, 540, 1052, 2074, 4120)}


class InaChip:
    """A chip on a bus, at the interface of smbus2's ``SMBus``.

    Every message is kept in ``log`` as (address, "w" or "r", bytes).
    """

    AVERAGES = (1, 4, 16, 64, 128, 256, 512, 1024)

    TRANSFER_S = 1.5e-4

    def __init__(self, kind, time, volts, shunt_volts, *, address=0x40):
        self.kind, self.time, self.address = kind, time, address
        self.volts, self.shunt_volts = volts, shunt_volts    # functions of the time in s
        self.log, self.gone, self.closed, self.pointer = [], False, False, 0
        self.reset()

    def reset(self):
        self.registers = dict(DEFAULTS[self.kind])
        self.begun = self.time()
        self.done = 0

    @property
    def window(self):
        """Seconds of a result: bus and shunt, averaged."""
        if self.kind == "INA226":
            config = self.registers[0x00]
            average, bus, shunt = config >> 9 & 7, config >> 6 & 7, config >> 3 & 7
        else:
            config = self.registers[0x01]
            average, bus, shunt = config & 7, config >> 9 & 7, config >> 6 & 7
        times = TIMES[self.kind]
        return 1e-6 * self.AVERAGES[average] * (times[bus] + times[shunt])

    def convert(self):
        """Finish what is due: registers hold the newest result, the flag is set."""
        ended = int((self.time() - self.begun) / self.window)
        if ended <= self.done:
            return
        self.done = ended
        middle = self.begun + (ended - 0.5) * self.window
        volts, shunt = self.volts(middle), self.shunt_volts(middle)
        if self.kind == "INA226":
            self.registers[0x01] = self.field(shunt / 2.5e-6, 16) & 0xFFFF
            self.registers[0x02] = self.field(volts / 1.25e-3, 16) & 0xFFFF
            self.registers[0x06] |= 1 << 3
        else:
            self.registers[0x04] = (self.field(shunt / 312.5e-9, 20) & 0xFFFFF) << 4
            self.registers[0x05] = (self.field(volts / 195.3125e-6, 20) & 0xFFFFF) << 4
            self.registers[0x0B] |= 1 << 1

    @staticmethod
    def field(value, bits):
        return max(-2 ** (bits - 1), min(2 ** (bits - 1) - 1, round(value)))

    def i2c_rdwr(self, *messages):
        self.time.sleep(self.TRANSFER_S)
        for message in messages:
            if self.gone or message.addr != self.address:
                raise OSError(errno.EREMOTEIO, "Remote I/O error")
            if message.flags & 1:    # I2C_M_RD
                data = self.answer(message.len)
                for i, byte in enumerate(data):
                    message.buf[i] = bytes([byte])
                self.log.append((message.addr, "r", data))
            else:
                data = bytes(message)
                self.log.append((message.addr, "w", data))
                self.take(data)

    def take(self, data):
        self.pointer = data[0]
        if len(data) == 1:
            return
        assert len(data) == 3, data
        value = int.from_bytes(data[1:], "big")
        if self.pointer in READ_ONLY[self.kind]:
            return
        if self.pointer == 0x00 and value & 0x8000:
            self.reset()
            return
        self.registers[self.pointer] = value
        if self.pointer in (0x00, 0x01):
            self.begun, self.done = self.time(), 0

    def answer(self, count):
        self.convert()
        width = 3 if self.pointer in WIDE[self.kind] else 2
        value = self.registers.get(self.pointer, 0)
        if self.kind == "INA226" and self.pointer == 0x06:
            self.registers[0x06] &= ~(1 << 3)
        if self.kind == "INA228" and self.pointer == 0x0B and value & 0x8000:
            self.registers[0x0B] &= ~(1 << 1)
        return (value.to_bytes(width, "big") + b"\xff" * count)[:count]

    def close(self):
        self.closed = True
