"""An INA226 or INA228 on the board's own bus: the board reads it while the core runs.

Its samples never reach the host, only their sums (:mod:`gen.device.power`): there is no recording,
and the board must be open. ``qsdt measure`` does that (:mod:`gen.measurement.onboard`).
"""

from typing import ClassVar, NoReturn

from gen.meter.base import Accuracy, Block, Meter, MeterError, Option
from gen.meter.ina import CHIPS, judged
from model.error import known


__all__ = ["OnBoard"]


class OnBoard(Meter):
    """What is known of the monitor before the board is open.

    Parameters
    ----------
    **options
        See :attr:`OPTIONS`.
    """

    name: ClassVar[str] = "board"

    OPTIONS: ClassVar[dict[str, Option]] = {
        "chip": Option(str, "INA226", "INA226 or INA228"),
        "address": Option(int, 0x40, "I2C address", 0x40, 0x4F),
        "shunt": Option(float, 0.1, "shunt, in ohms, as printed on it (R100 is 0.1)", 1e-4, 10),
        "tolerance": Option(float, 1.0, "tolerance of the shunt, in %", 0, 20),
        "most": Option(float, 0.8, "greatest current, in A", 1e-3, 100),
        "volts": Option(float, 5.0, "supply, in V, for the uncertainty only", 0.1, 85),
    }

    def __init__(self, **options: float | str | None) -> None:
        super().__init__(**options)
        self.chip = str(self.options["chip"]).upper()
        known("chip of meter board", self.chip, CHIPS)
        self.accuracy: Accuracy = judged(self.chip, self.number("shunt"),
                                         self.number("tolerance"), self.number("volts"))

    def _not_here(self) -> NoReturn:
        raise MeterError("board: the board reads this meter while its core runs; measure with: "
                         "qsdt measure --meter board")

    def open(self) -> None:
        """Always :class:`MeterError`: there is nothing that the host could read by itself."""
        self._not_here()

    def start(self) -> None:
        """As :meth:`open`."""
        self._not_here()

    def read(self, timeout_s: float) -> Block | None:
        """As :meth:`open`."""
        self._not_here()

    def stop(self) -> None:
        """Nothing to end."""

    def close(self) -> None:
        """Nothing to give back."""

    def describe(self) -> str:
        """Chip, address and shunt."""
        return (f"{self.chip} on the board's own bus, address 0x{int(self.number('address')):02x}, "
                f"shunt {self.options['shunt']:g} ohm; {self.accuracy.source}")
