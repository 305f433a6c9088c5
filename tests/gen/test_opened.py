"""gen.opened: the program image of a build, and what a run on a device says of it; the device is
one in software."""

from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from gen import accelerator as module
from gen.compile.package import ProgramImage
from gen.device.device import Device
from hw.register import Register
from model.error import InputError, WeightsMismatch
from tests.faults.known_board import board_of, CLIPPED, known_results
from tests.gen.device.software_device import SoftwareTransport
from tests.gen.random_cases import compile_case


@pytest.fixture(scope="module")
def case():
    found, program = compile_case(3)
    images = np.random.default_rng(1).integers(-128, 128, (2, *found.network.input_shape),
                                               dtype=np.int8)
    return found.network, program, images, known_results(program, images)


@pytest.fixture
def classify(case, monkeypatch, tmp_path):
    """(function of ``check``, the board, its core)."""
    network, program, images, _ = case
    board, core = board_of(case)

    @contextmanager
    def reachable(*arguments):
        yield lambda: Device(SoftwareTransport(board), timeout=0.01)

    monkeypatch.setattr(module, "reachable", reachable)
    image = ProgramImage.of(program, model="random", network=network, predicted_cycles=9)
    design = SimpleNamespace(board=None, config=None, program=program, image=image, name="random",
                             network=network)

    def run(*check, device="virtual"):
        with module.Accelerator(design, device=device, check=check, folder=tmp_path) as found:
            return found.run(images)

    return run, board, core


def test_without_checks(case, classify):
    run, board, _ = classify
    result = run()
    acc, counters, checked = result.acc, result.counters, result.checked
    wanted = case[0].run_batched(case[2], keep=("logits_acc",))["logits_acc"]
    np.testing.assert_array_equal(acc, wanted.reshape(2, -1))
    assert counters["IMAGES"] == 2 and board.starts == 1
    assert counters["U_SATURATED"] == 2 * CLIPPED
    assert board.registers[Register.WATCHDOG] == 2
    assert len(checked) == 2
    assert checked[0] == ("bitstream 00005678: not compared, as the program was not built with a "
                          "bitstream")
    assert checked[1].startswith(f"check after loading: {len(case[1].payload)} words of program, ")


def test_all_checks(classify):
    run, board, _ = classify
    checked = run("host", "twice", "crc").checked
    assert board.starts == 4
    assert [line.split(":")[0] for line in checked] == [
        "bitstream 00005678", "check after loading", "check crc", "check twice", "check host"]


def test_failed_check(classify):
    run, _, core = classify
    core.wrong_run = lambda number: True
    run()
    with pytest.raises(InputError, match="differs from the instruction-set simulator"):
        run("host")
    with pytest.raises(InputError, match="^Unknown check 'all': known are crc, twice, host$"):
        run("all")


@pytest.fixture
def image(case):
    return ProgramImage.of(case[1], model="random", network=case[0], predicted_cycles=9)


def test_the_bitstream_of_the_build(classify, image, tmp_path):
    """A board holds the one that the program in the build folder was built with, or is refused."""
    run, board, _ = classify
    path = tmp_path / "program.img"
    replace(image, identity=0x5678).save(path)
    checked = run(device="port").checked
    assert checked[0] == f"bitstream 00005678: the one that {path} was built with"
    replace(image, identity=0x1a2b3c4d).save(path)
    with pytest.raises(WeightsMismatch) as error:
        run(device="port")
    assert str(error.value) == (
        f"{path}: was built for bitstream 1a2b3c4d, the board holds 00005678; load "
        f"{tmp_path / 'top.bit'} (--program) or build again")
    assert board.starts == 1
    # A simulation of the RTL has none.
    board.constant[Register.IDENTITY] = 0
    checked = run(device="port").checked
    assert checked[0] == ("bitstream: the device has none with an identity, it is a simulation of "
                          "the RTL")


def test_other_programs_of_a_build(classify, image, tmp_path):
    """Other weights run on the same bitstream; another program for the same ones is refused."""
    run, _, _ = classify
    path = tmp_path / "program.img"
    replace(image, identity=0x5678, network_digest="0" * 64, payload=image.payload + np.uint64(1)
            ).save(path)
    checked = run(device="port").checked
    assert checked[0] == f"bitstream 00005678: the one that {path} was built with"
    replace(image, identity=0x5678, payload=image.payload + np.uint64(1)).save(path)
    with pytest.raises(WeightsMismatch, match="program.img: this code compiles another program"):
        run(device="port")
    replace(image, identity=0x1234, config=replace(image.config, rows=2 * image.config.rows)
            ).save(path)
    checked = run(device="port").checked
    assert "not compared" in checked[0]
    path.write_bytes(b"")
    with pytest.raises(InputError, match="program.img is not a complete program image"):
        run(device="port")
