# amaranth: UnusedElaboratable=no

import pytest

from boards.pll import Ecp5Pll, phases, PllDividers


CLOCK_HZ = 25_000_000


@pytest.mark.parametrize("mhz, setting", [(80, (1, 32, 10)), (90, (1, 18, 5)), (130, (1, 26, 5)),
                                          (125, (1, 25, 5)), (50, (1, 24, 12))])
def test_pll_setting(mhz, setting):
    """The detector at 25 MHz, then the oscillator nearest to 600 MHz; 800 rather than 400."""
    d = PllDividers.find(CLOCK_HZ, mhz * 1_000_000)
    assert (d.reference, d.feedback, d.divider) == setting


def test_detector_of_another_oscillator():
    """12 MHz cannot be divided at all: 2 would be 6 MHz at the detector."""
    assert {d.reference for d in PllDividers.every(12_000_000)} == {1}
    assert {d.reference for d in PllDividers.every(100_000_000)} == set(range(1, 11))


@pytest.mark.parametrize("output_hz, near", [
    (80_000_001, "80 MHz, 81.25 MHz"), (500_000_000, "400 MHz$"), (1_000_000, "3.125 MHz$")])
def test_pll_impossible(output_hz, near):
    with pytest.raises(ValueError, match="PLL of an oscillator of 25 MHz cannot make "
                       f"{output_hz / 1e6:.9g} MHz; the nearest that it can: {near}"):
        Ecp5Pll(input_hz=CLOCK_HZ, output_hz=output_hz)


def test_phases():
    """Eighths of the oscillator's period: 125 MHz are 625 / 5."""
    assert phases(CLOCK_HZ, 125_000_000) == 40
