"""Steps with the small bitstream: LED and button, UART, block RAMs, clocks and SDRAM."""

import random
import time

from gen.bench.step import Bench, Step, StepFailed
from gen.device.device import Device
from gen.device.link import CAUSES
from gen.device.memory_map import read_memory_map, run_memory_test
from gen.device.port import LinkError
from hw.bringup.block_rams import history, results
from hw.bringup_shell import BringupConfig, ROUNDS
from hw.register import (
    config_digest,
    identity_text,
    MemoryFault,
    MemoryTest,
    Register,
    Restart,
)
from model.files import write_atomic


__all__ = ["LINK_STEPS", "MAP_FILE", "is_small"]


MAP_FILE = "sdram-map.html"

LOAD = "load the small bitstream: --program, or by hand as said at the beginning"

SLOWER = ("build the small bitstream with a lower --sdram-mhz (100, 75, 50) and look where it "
          "begins to pass")

SUPPLY = "another USB cable, a port of the computer itself, nothing else on the board's pins"

ECHO_WORDS = 6
"""Registers in a row of 24 bits, from PROGRAM on, that do nothing while the core rests."""




def is_small(device: Device) -> bool:
    """Whether the board holds the small bitstream, of whatever build."""
    return device.info().config_digest == config_digest(BringupConfig())


def _check_bitstream(bench: Bench, device: Device) -> None:
    """Raise unless the board holds the small bitstream, and that of the build folder."""
    info = device.info()
    if not is_small(device):
        raise StepFailed(
            f"another bitstream is loaded: its configuration is {info.config_digest:#010x}, that "
            f"of the small one {config_digest(BringupConfig()):#010x}", LOAD)
    if bench.identity is not None and info.identity != bench.identity:
        raise StepFailed(
            f"a small bitstream of another build is loaded: its identity is "
            f"{identity_text(info.identity)}, the build folder has "
            f"{identity_text(bench.identity)}", LOAD,
            "or name the folder that it was built in: --folder")


def led_and_button(bench: Bench) -> list[str]:
    """The chip runs, and somebody can press its button."""
    try:
        with bench.opened() as device:
            _check_bitstream(bench, device)
            device.wait(timeout=bench.limit_s)      # the first round must not be disturbed
            before = device.state()
    except LinkError as error:
        return _by_eye(bench, error)
    led, button = bench.board.alive_led, bench.board.button
    if bench.ask and not bench.ask(f"Does {led} blink about once a second?"):
        raise StepFailed(
            f"{led} does not blink although the chip answers", "look at the other LEDs",
            "another board: the LED may be broken")
    if button is None:
        return ["the chip answers, this board has no button: the bitstream is loaded, and its "
                "clock runs"]
    bench.say(f"  Press the button {button} for a second: all LEDs are dark meanwhile.")
    if bench.press:
        bench.press()
    while True:
        if time.monotonic() >= bench.deadline - 2 * bench.timeout:
            raise StepFailed(
                f"no press of {button} was seen",
                f"press {button}, and no other button, for longer than 5 ms",
                "go on with --step 2: the button is needed for nothing else")
        time.sleep(0.1)
        try:
            with bench.opened() as device:
                state = device.state()
        except LinkError:
            continue                            # it stands still while it is pressed
        if state["restarts"] != before["restarts"]:
            break
    if state["cause"] != Restart.BUTTON:
        raise StepFailed(f"the board restarted, but not by its button: {CAUSES[state['cause']]}",
                         SUPPLY)
    return ["the chip answers, and saw its button: the bitstream is loaded, its clock runs, and "
            "the flip-flops are as after configuration"]


def _by_eye(bench, error):
    """The verdict of a person where no answer comes."""
    led, button = bench.board.alive_led, bench.board.button
    if bench.ask is None:
        raise StepFailed(
            f"no answer ({error})",
            "all LEDs dark: the bitstream is not loaded, or no PLL is locked; load it again",
            f"{led} blinks: the chip runs; look for the port with qsdt doctor, then --step 2",
            f"{led} lit or dark all the time: the clock of the core does not run") from None
    blinks = bench.ask(f"No answer. Does {led} blink about once a second?")
    if not blinks:
        raise StepFailed(
            "the clock of the core does not run", "load the bitstream again; is it for this chip "
            "(qsdt flash --board ... --detect)?", "lit all the time: the board's supply",
            "another board with the same bitstream") from None
    if button is None:
        return ["by eye: the chip's clock runs; step 2 will say why nothing answers"]
    if not bench.ask(f"Are all LEDs dark while {button} is pressed, and does {led} blink "
                     "afterwards?"):
        raise StepFailed("the button does not restart the chip", "press it for longer than 5 ms",
                         "load the bitstream again") from None
    return ["by eye: the chip's clock runs, and its button restarts it; step 2 will say why "
            "nothing answers"]


def uart_echo(bench: Bench) -> list[str]:
    """Every frame arrives, both ways, the first time."""
    rng = random.Random(1)
    patterns = (0, (1 << 24) - 1, 0x555555, 0xAAAAAA)
    wrong = 0
    started = time.monotonic()
    with bench.opened() as device:
        _check_bitstream(bench, device)
        dropped = _dropped(device)
        for number in range(bench.echoes):
            pattern = patterns[number] if number < len(patterns) else None
            sent = [rng.getrandbits(24) if pattern is None else pattern
                    for _ in range(ECHO_WORDS)]
            device.write_registers(Register.PROGRAM, sent)
            wrong += device.read_registers(Register.PROGRAM, ECHO_WORDS) != sent
        missed = (_dropped(device) - dropped) % (1 << 16)
        damaged, repeated = device.damaged, device.repeated
    frames = 2 * bench.echoes
    figure = (f"{frames} frames there and back in {time.monotonic() - started:.1f} s: {repeated} "
              f"sent again, {missed} dropped by the board, {damaged} damaged on the way back, "
              f"{wrong} wrong")
    if wrong:
        raise StepFailed(figure, "frames with a right CRC are wrong: the registers fail; build the "
                         "small bitstream with --clock-mhz 50", "another board")
    if missed or damaged or repeated:
        raise StepFailed(figure, SUPPLY, "end other programs that read this port (modem manager)",
                         "build with another clock: --clock-mhz 50 gives a rate that divides it")
    return [figure]


def _dropped(device):
    count, = device.read_registers(Register.LINK_ERRORS)
    return count


def block_rams(bench: Bench) -> list[str]:
    """What each width of block RAM got wrong."""
    lines = []
    with bench.opened() as device:
        _check_bitstream(bench, device)
        device.wait(timeout=bench.limit_s)
        _judge_rams(device, ROUNDS, "after configuration")
        lines.append(f"{ROUNDS} rounds by itself, the first over the contents after configuration")
        if not device.info().memory["ready"]:
            return [*lines, "no wrong read; more rounds need a working SDRAM: this step again "
                    "after step 4"]
        device.start(count=bench.rounds)
        device.wait(timeout=bench.limit_s)
        figure = _judge_rams(device, bench.rounds, "in the rounds asked for")
    return [*lines, figure]


def _judge_rams(device, rounds, when):
    counters = device.counters()
    if counters["IMAGES"] != rounds:
        raise StepFailed(f"the test {when} ran {counters['IMAGES']} of {rounds} rounds",
                         LOAD, SUPPLY)
    found = results(counters)
    complete, ever = history(counters)
    bad = {width: (count, kinds) for width, (count, kinds) in found.items() if count or kinds}
    if bad:
        raise StepFailed(
            "; ".join(f"{count} wrong reads {when} of the block RAM {width} bits wide "
                      f"({', '.join(kinds)})" for width, (count, kinds) in bad.items()),
            *(HINTS[kind] for kind in HINTS if any(kind in kinds for _, kinds in bad.values())),
            "build the small bitstream with --clock-mhz 50; if it passes then, the clock is why")
    if ever:
        raise StepFailed(
            f"none now, but earlier wrong reads of the block RAMs {', '.join(map(str, ever))} bits "
            "wide, since configuration", "load the bitstream again, and this step: contents after "
            "configuration are read once", SUPPLY)
    if not complete:
        raise StepFailed(
            "the contents after configuration were not read to the end: the board restarted within "
            "some milliseconds",
            "load the bitstream again, and leave the board's button alone for a second",
            SUPPLY)
    return (f"{counters['IMAGES']} rounds, {counters['CYCLES']} cycles, block RAMs "
            f"{', '.join(map(str, found))} bits wide: no wrong read")


HINTS = {
    "CONTENTS": "CONTENTS: words differ from those of the bitstream, or from those written; "
                "qsdt prove looks at the contents in the bitstream",
    "HOLD": "HOLD: the output register changed without its enable; build with "
            "--no-output-registers and compare",
    "PIPELINE": "PIPELINE: read and output register together are out of step; build with "
                "--no-output-registers and compare",
}


def lock_and_map(bench: Bench) -> list[str]:
    """Both PLLs keep their lock; settings of the SDRAM pass over a quarter of a period at least."""
    with bench.opened() as device:
        _check_bitstream(bench, device)
        info = device.info()
        _check_lock(device)
        found = read_memory_map(device, info.memory)
    lines = found.text().splitlines()
    write_atomic(bench.folder / MAP_FILE, found.html())
    lines.append(f"the map as a page: {bench.folder / MAP_FILE}")
    memory, phases = info.memory, len(found.rows)
    least = -(-phases // 4)
    if memory["fault"] == MemoryFault.GEOMETRY:
        _say_all(bench, lines)
        raise StepFailed(
            f"the SDRAM works but is another part: address bit {memory['address_bit']} of "
            f"{info.memory_words.bit_length() - 1} is missing or stuck",
            "read the part's name on the chip; docs/bringup.md lists those that fit",
            "another board: the address pin may be broken")
    if not memory["ready"] and not memory["fault"]:
        _say_all(bench, lines)
        raise StepFailed("the SDRAM is still being tested: its clock does not run",
                         "press the board's button; load the bitstream again", SUPPLY)
    if memory["fault"] or memory["window"] < least:
        _say_all(bench, lines)
        raise StepFailed(
            f"no {least} phases in a row pass (a quarter of the period), at most "
            f"{memory['window']}", SLOWER,
            "no + at all: an SDRAM that does not answer, look at its solder joints; gaps in a "
            "window: the supply", SUPPLY)
    return [*lines, f"no lock lost, {_size(info.memory_words)}, {memory['window']} of {phases} "
            f"phases pass in a row ({least} must), read delay {memory['delay']}, phase "
            f"{memory['phase']}"]


def _size(words):
    return f"{8 * words >> 20} MB" if words >> 17 else f"{8 * words >> 10} KB"


def _say_all(bench, lines):
    for line in lines:
        bench.say(f"  {line}")


def _check_lock(device):
    if device.state()["lock_lost"]:
        raise StepFailed("a PLL lost its lock since the board was configured", SUPPLY,
                         "load the bitstream again, which forgets it; if it comes back, another "
                         "board")


def sdram_tests(bench: Bench) -> list[str]:
    """The board tests all of its SDRAM by itself, at full speed."""
    lines = []
    with bench.opened(need_memory=True) as device:
        _check_bitstream(bench, device)
        device.wait(timeout=bench.limit_s)
        wrong = []
        for test in (MemoryTest.MARCH, MemoryTest.RANDOM, MemoryTest.SWITCHING):
            started = time.monotonic()
            found = run_memory_test(device, test, timeout=bench.limit_s)
            lines.append(f"{found.text()} ({time.monotonic() - started:.1f} s)")
            if not found.passed:
                wrong.append(found)
        _check_lock(device)
        words = device.info().memory_words
    if wrong:
        _say_all(bench, lines)
        raise StepFailed("; ".join(found.text() for found in wrong),
                         *dict.fromkeys(found.advice() for found in wrong),
                         "the same address each time: a cell; other ones: timing", SLOWER)
    return [*lines, f"three tests of {words} words each: no error"]


LINK_STEPS = (
    Step("LED and button",
         "the bitstream is loaded, the core's clock runs, a button restarts the chip",
         led_and_button, 60),
    Step("UART echo", "every frame arrives the first time, both ways", uart_echo, 60),
    Step("block RAMs", "contents after configuration, port enables and output registers in every "
         "width", block_rams, 30),
    Step("lock and phase map", "no PLL lost its lock; the SDRAM passes over a quarter of the "
         "clock's period at least", lock_and_map, 30),
    Step("SDRAM tests", "every word of the SDRAM, by March C-, in random order, with all pins "
         "switching", sdram_tests, 180),
)
