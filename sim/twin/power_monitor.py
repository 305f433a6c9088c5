"""Power monitors INA226 and INA228 on the supply of a board that is simulated.

Registers and formulas: www.ti.com/lit/gpn/ina226 and www.ti.com/lit/gpn/ina228. Of what the chips
do, there is the power register, which follows from the calibration.
"""

from sim.twin.ina import InaTwin


__all__ = ["KINDS", "PowerMonitor"]


TEXAS_INSTRUMENTS = 0x5449

KINDS = {
    # Registers of manufacturer, calibration and power, bytes of that; W of a raw value for a
    # calibration and a shunt in ohm.
    "INA226": (0xFE, 0x05, 0x03, 2, lambda value, shunt: 25 * 0.00512 / (value * shunt)),
    "INA228": (0x3E, 0x02, 0x08, 3, lambda value, shunt: 3.2 * value / (13107.2e6 * shunt)),
}


class PowerMonitor(InaTwin):
    """A monitor that gives, at any time, the mean power of its last whole conversion.

    Parameters
    ----------
    kind : str
        One of :data:`KINDS`.
    shunt_ohm : float
    watts : callable
        Mean power in W between two cycles.
    window : int
        Cycles of a conversion.
    options
        Of :class:`sim.twin.ina.InaTwin`.
    """

    def __init__(self, kind, *, shunt_ohm, watts, window, **options):
        manufacturer, calibration, power, width, self._unit = KINDS[kind]
        self._shunt_ohm, self._watts, self._window = shunt_ohm, watts, window
        self._calibration, self._most = calibration, (1 << 8 * width) - 1
        self.cycle, self.running = 0, 0
        """Of the simulation; whether the core runs. Set before each :meth:`step`."""
        self.ran = None
        """First and last cycle in which :meth:`step` saw the core run, after the last reset."""
        super().__init__(registers={manufacturer: TEXAS_INSTRUMENTS, calibration: 0,
                                    power: self._raw}, widths={power: width}, **options)

    def step(self, scl, sda):
        """As of :class:`sim.twin.ina.InaTwin`."""
        if self.running:
            first, _ = self.ran or (self.cycle, 0)
            self.ran = first, self.cycle
        return super().step(scl, sda)

    def _raw(self):
        value = self.registers[self._calibration]
        if not value:
            return 0
        end = self.cycle // self._window * self._window
        mean = self._watts(end - self._window, end)
        return min(self._most, max(0, round(mean / self._unit(value, self._shunt_ohm))))
