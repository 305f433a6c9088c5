"""The board's own monitor, as far as it is known without the board."""

import numpy as np
import pytest

from gen.meter.choice import parse_meter
from gen.meter.meter import cli
from gen.meter.onboard import OnBoard
from model.error import InputError


def test_options():
    meter = parse_meter("board:chip=ina228,address=0x45,shunt=0.02,tolerance=0.5,volts=4")
    assert isinstance(meter, OnBoard) and meter.tag == "board" and not meter.has_marker
    assert meter.chip == "INA228"
    bus = 5e-3 / 4 / 3 ** 0.5
    assert meter.accuracy.gain == pytest.approx(
        np.linalg.norm([0.0011 / 3 ** 0.5, 0.005 / 3 ** 0.5, bus]))
    assert meter.accuracy.offset_w == pytest.approx(1e-6 / 3 ** 0.5 / 0.02 * 4)
    assert meter.describe().startswith("INA228 on the board's own bus, address 0x45, shunt 0.02 o")


def test_unknown_chip():
    with pytest.raises(InputError, match="^Unknown chip of meter board 'INA219': known are INA226"):
        parse_meter("board:chip=INA219")


def test_only_qsdt_measure_reads_it(capsys):
    assert cli(["--meter", "board", "--seconds", "1"]) == 1
    assert capsys.readouterr().err == (
        "error: board: the board reads this meter while its core runs; measure with: qsdt measure "
        "--meter board\n")
