"""What the rungs gate and unknown catch: an image on 256 lanes (:mod:`tests.campaign.lanes`).

The host's requests are those of gen/proof/gate.py, sent when lane 0 has answered the one before. In
place of waiting with questions, some more cycles pass than the run takes. A lane is caught where an
answer, a record of the completion log, the result or a counter is not that of lane 0.
"""

from dataclasses import dataclass
from pathlib import Path
import subprocess
import tempfile

import numpy as np

from gen.device.frame import ANSWER, decode_frame
from gen.device.link import Request
from hw.config import RECORD_WORDS
from hw.register import Counter, COUNTER_BASE, Opcode, Register
from sim.gate.contents import onchip_words, word_pieces, write_contents


SESSION = 0x5eed01

POWER_UP = 20_000
"""Cycles before the first request: the clock is held until the PLL was locked for 2**14."""


@dataclass(frozen=True)
class LaneRun:
    """What lanes did.

    caught, ``{lane: (cycle, how)}``; stirred, ``{lane: (first cycle, cycles)}`` in which a faulty
    cell put out something else than it should; its, ``{lane: bytes}`` that a lane has sent as
    answer to the request at which it was caught. times, ``{request: cycle}`` in which it was sent.
    Of lane 0: sent, ``{request: bytes}``, answers, the words in these, and words, ``{group:
    [word]}``, of memory. cycles, how many were simulated. Where lane 0 does not answer, nothing
    comes behind that.
    """

    caught: dict
    stirred: dict
    its: dict
    times: dict
    sent: dict
    answers: dict
    words: dict
    cycles: int


def requests(image, cycles):
    """Lines of the script that runs one image, as the host does; ``cycles`` that a run may take."""
    control = dict(program=image.program, log=image.log, image=image.image,
                   image_stride=image.image_words, result=image.result,
                   result_stride=image.result_words, count=1)
    yield f"run power-up {POWER_UP}"
    yield read("identification", Register.MAGIC, 2)
    yield write("session", Register.SESSION, SESSION)
    yield read("configuration", Register.CONFIG, 2)
    yield read("identity", Register.IDENTITY)
    yield read("memory", Register.MEMORY_STATUS)
    yield read("state", Register.STATE)
    for name, value in control.items():
        yield write(name, Register[name.upper()], value)
    yield write("start", Register.START, 1)
    yield f"run image {cycles}"
    yield read("end", Register.STATE)
    yield read("counters", COUNTER_BASE, len(Counter))


def read(label, register, count=1):
    return _line(label, Request(opcode=Opcode.READ_REGISTER, length=count, address=int(register)))


def write(label, register, value):
    return _line(label, Request(opcode=Opcode.WRITE_REGISTER, length=1, address=int(register),
                                data=int(value).to_bytes(8, "little")))


def _line(label, request):
    return f"send {label} {request.encode().hex()}"


def watched(module, memories, image):
    """``{group: words}``: where the completion log and the result lie."""
    numbers = {name: number for number, name in enumerate(memories)}
    return {group: [[(numbers[name], *rest) for name, *rest in pieces]
                    for pieces in word_pieces(module, first, count)]
            for group, first, count in (("records", image.log, RECORD_WORDS * image.descriptors),
                                        ("result", image.result, image.result_words))}


def run_lanes(binary, lanes, module, *, script, divisor, words=(), watch=None, seed=None,
              times=None, folder=None):
    """Run a script.

    Parameters
    ----------
    binary : Path
        Of :func:`tests.campaign.lanes.compile_lanes`.
    lanes : tests.campaign.lanes.Lanes
    module : dict
        The routed design.
    script : iterable of str
        As lanes.cpp has it.
    divisor : int
        Cycles of a bit.
    words, seed
        As for :func:`sim.gate.contents.write_contents`. Words that lie in a memory from the start
        take the place of what a fault has put there.
    watch : dict
        ``{group: [[(block, cell, low, width)]]}``.
    times : dict
        ``{request: cycle}`` before which it is not sent: the times of another run, since a request
        waits for the slowest lane that may still become right.
    """
    with tempfile.TemporaryDirectory() as own:
        folder = Path(folder or own)
        write_contents(folder, lanes, module, words=words, seed=seed)
        defined = onchip_words(module, [0 if word is None else (1 << 64) - 1 for word in words])
        (folder / "flips").write_text("".join(
            f"{lane} {block} {cell} {bit}\n" for lane, block, cell, bit in lanes.flips
            if not defined.get(lanes.memories[block], [0] * 1024)[cell] >> bit & 1))
        (folder / "ram_flips").write_text("".join(
            f"{lane} {ram} {bit}\n" for lane, ram, bit in lanes.ram_flips))
        (folder / "script").write_text("".join(f"{line}\n" for line in script))
        (folder / "watch").write_text("".join(
            f"{group} {number} {block} {cell} {low} {width}\n"
            for group, places in (watch or {}).items() for number, pieces in enumerate(places)
            for block, cell, low, width in pieces))
        (folder / "times").write_text("".join(
            f"{label} {cycle}\n" for label, cycle in (times or {}).items()))
        output = subprocess.run([binary, str(divisor)], cwd=folder, text=True, check=False,
                                stdout=subprocess.PIPE).stdout
    return parse(output)


def data_of(answer):
    """Words in the frame of an answer; None where it is damaged."""
    frame = decode_frame(answer.strip(b"\0"))
    return frame and np.frombuffer(frame[ANSWER.size:], "<u8").tolist()


def parse(output):
    """The :class:`LaneRun` that a run has printed."""
    caught, stirred, its, times, sent, words, cycles = {}, {}, {}, {}, {}, {}, 0
    for line in output.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "caught":
            lane, cycle, how = rest.split(" ", 2)
            caught[int(lane)] = int(cycle), how
        elif kind == "stirred":
            lane, *numbers = map(int, rest.split())
            stirred[lane] = tuple(numbers)
        elif kind == "its":
            lane, text = rest.split(" ")
            its[int(lane)] = bytes.fromhex(text)
        elif kind == "answer":
            label, begun, text = rest.split(" ")
            times[label], sent[label] = int(begun), bytes.fromhex(text)
        elif kind == "words":
            group, *numbers = rest.split(" ")
            words[group] = [int(number, 16) for number in numbers]
        elif kind == "cycles":
            cycles = int(rest)
    answers = {label: data_of(answer) for label, answer in sent.items()}
    return LaneRun(caught, stirred, its, times, sent, answers, words, cycles)
