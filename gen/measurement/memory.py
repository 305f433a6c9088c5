"""What a device says of its memory before anything is measured: calibration and tests."""

import time

from gen.device.device import Device
from gen.device.memory_map import read_memory_map, run_memory_test
from hw.register import MemoryTest
from model.error import VerificationFailed
from model.progress import track


__all__ = ["memory_checks"]


TESTS = (MemoryTest.MARCH, MemoryTest.RANDOM, MemoryTest.SWITCHING)


def memory_checks(device: Device, memory: str, *, simulated: bool) -> list[str]:
    """Check a device's memory, whose content is lost; what was found, a line each.

    The map of the calibration is read, and the board tests every word of its SDRAM by itself.

    Parameters
    ----------
    memory : str
        ``onchip`` or ``sdram``, of the configuration.
    simulated : bool
        The device is the virtual board, whose SDRAM has no chip
        (:class:`sim.twin.sdram.SdramTwin`).

    Raises
    ------
    VerificationFailed
        A word is not what was written to it.
    LinkError
        The device does not answer.
    """
    if memory == "onchip":
        return ["memory: on chip, nothing to calibrate"]
    if simulated:
        return ["SDRAM: a simulated controller's ports and pace, without a chip: nothing to "
                "calibrate or to test"]
    status = device.info().memory
    found = read_memory_map(device, status)
    lines = [f"SDRAM: {found.verdict()}; a quarter of them must pass in a row"]
    for test in TESTS:
        started = time.monotonic()
        with track(f"SDRAM test {test.name}"):
            result = run_memory_test(device, test)
        if not result.passed:
            raise VerificationFailed(f"The board's test of its SDRAM fails: {result.text()}. "
                                     f"{result.advice()}; nothing was measured")
        lines.append(f"SDRAM test of {device.info().memory_words} words by the board: "
                     f"{result.text()} ({time.monotonic() - started:.1f} s)")
    return lines
