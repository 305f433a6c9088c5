"""Networks classify pictures by themselves, from a flash and from a card, in RTL."""

from functools import partial

import pytest

from boards import find_board
from gen.boot.medium import boot_image, card_image
from gen.boot.script import boot_script
from gen.boot.time import byte_cycles
from gen.compile.package import ProgramImage
from gen.config.derive import derive
from gen.config.shell import spi_halves
from gen.config.spec import read_overrides
from gen.device.device import Device
from gen.inputs import load_images
from gen.machine.cost import predict
from hw.boot_layout import FLASH_OFFSET, HEADER_BYTES
from hw.memory.onchip_memory import OnChipMemory
from model import zoo
from sim.rtl.boot_board import BootBoard, make_boot
from sim.twin.sd_card import SdCardTwin
from sim.twin.spi_flash import SpiFlashTwin


pytestmark = [pytest.mark.rtl, pytest.mark.slow]

PICTURES, WORDS, TIMEOUT_BITS = 3, 32768, 23


@pytest.mark.parametrize("source", ["flash", "sd"])
@pytest.mark.parametrize("model, overrides", [
    ("tiny_grey.yaml", "narrow.yaml"), ("qsdt_nano", None)], ids=["tiny", "nano"])
def test_classifies(model, overrides, source, request):
    """At the board's SPI clock. Pauses are short, and so is the time-out; all else is as built."""
    board, network = find_board("ulx3s"), zoo.network(zoo.read(model))
    config, program = derive(board, network, read_overrides(overrides))
    image = ProgramImage.of(program, model=model, network=network,
                            predicted_cycles=round(predict(program).cycles))
    pictures = load_images(None, network, model=model, count=PICTURES).image_q
    outcome = network.run_batched(pictures, keep=("logits", "logits_acc"))
    script = boot_script(image, pictures, outcome["logits_acc"].reshape(PICTURES, -1),
                         names=[f"picture {k}" for k in range(PICTURES)], memory_words=WORDS)
    content = boot_image(image, script)
    device = (SpiFlashTwin({FLASH_OFFSET: content}) if source == "flash" else
              SdCardTwin(card_image(content)))
    half, slow = spi_halves(config.clock_hz)
    classes = outcome["logits"].argmax(axis=1)
    assert script.classes.tolist() == classes.tolist()
    lines = [f"{model}: {PICTURES} pictures\r\n",
             *(line for k, shown in enumerate(classes)
               for line in (f"picture {k}: class ", f"{shown:03}\r\n"))]
    said = b"".join(line.encode() + b"\0" for line in lines)
    with BootBoard(config.core, memory=partial(OnChipMemory, words=WORDS), device=device,
                   boot=partial(make_boot, source, half=half, slow=slow, timeout_bits=TIMEOUT_BITS),
                   cache=request.config.cache.mkdir("rtl")) as virtual:
        virtual.power_up()
        virtual.wait(lambda: virtual.sent.endswith(said), seconds=3000)
        with Device(virtual.url, timeout=virtual.link_timeout) as host:
            core = host.counters()["CYCLES"]
    assert bytes(virtual.sent).startswith(said)
    assert not device.violations
    reading = (HEADER_BYTES + script.first) * byte_cycles(config.clock_hz, source)
    # The last pause is the host's, which ends it. The card is initialised with the slow clock:
    # 16 bytes, nine commands of 13, and that of reading.
    slow_bytes = 16 + 9 * 13 + 8 if source == "sd" else 0
    working = (virtual.cycles - (PICTURES - 1 << TIMEOUT_BITS - 1)
               - slow_bytes * (16 * slow + 2))
    print(f"{model} from {source}: classes {classes.tolist()}, {len(content)} bytes; {working} "
          f"cycles without pauses and initialisation, {core} of them of the core; computed "
          f"{reading + core:.0f}")
    # What is computed leaves out that a frame is carried out and answered before the next comes.
    assert 1 <= working / (len(script.data) * byte_cycles(config.clock_hz, source) + core) < 1.15
