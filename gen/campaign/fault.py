"""Faults of a campaign: which kinds there are, and how the n-th one is drawn from a seed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
import random
from typing import Any

from hw.register import Restart


__all__ = ["KINDS", "MODES", "NEVER_WRONG", "TURNS", "Fault", "Space", "draw"]


KINDS = {
    "weights": "a bit of a weight in the board's memory, before or during a run",
    "constants": "a bit of a threshold or of another constant of the neurons, likewise",
    "program": "a bit of a descriptor, likewise",
    "image": "a bit of the image, during a run",
    "result": "a bit of the result, between the end of the run and the reading",
    "pool": "a bit of the pool (spikes and membranes on chip), of what the program uses of it, "
            "during a run",
    "psum": "a bit of the partial sums, likewise",
    "buffers": "a bit of another array of the core (weight tables, streams, queues), during a run",
    "hang": "a descriptor waits for what never comes: the engine hangs",
    "restart": "the board restarts, for every cause and at every step: while it is opened, loaded, "
               "written to, runs and is read from",
    "power": "the board loses its power, and comes back with its bitstream or without",
    "loss": "bytes or frames are lost on the line",
    "flip": "bits change on the line",
    "duplicate": "frames arrive twice",
    "reorder": "frames overtake each other",
    "delay": "frames come late, also later than the host waits",
    "cut": "the port is lost in the middle, and is there again",
    "bitstream": "the board has another bitstream, from the start or after it was away",
    "flash": "the power fails while the bitstream is loaded",
}
"""Kinds of faults, and what each is."""

TURNS = (*KINDS, *("pool", "psum", "buffers") * 2, "image")
"""The order in which kinds take turns: those whose rate is asked for come more often."""

MODES = ("none", "crc", "twice", "host")
"""What ``--check`` says (``none``: no check but those that are always made)."""

LINE = ("loss", "flip", "duplicate", "reorder", "delay", "cut")
"""Kinds on the line."""

MEMORY = ("weights", "constants", "program")
"""Kinds in what loading writes."""

WORKING = ("pool", "psum", "buffers")
"""Kinds in the core's own memory."""

NEVER_WRONG: Mapping[str, Sequence[str]] = {
    **dict.fromkeys((*MEMORY, "image"), ("crc", "host")),
    **dict.fromkeys(("result", *WORKING), ("twice", "host")),
    **dict.fromkeys(("hang", "restart", "power", *LINE, "bitstream", "flash"), MODES),
}
"""Modes in which no wrong result may be returned, for every kind."""


@dataclass(frozen=True)
class Fault:
    """One fault of a campaign: its kind, the check that is on, the image that runs, and the place
    where it comes about, as plain values by name."""

    number: int
    kind: str
    check: str
    image: int
    place: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "place": dict(self.place)}


@dataclass(frozen=True)
class Space:
    """Where faults may come about.

    images, the number of them; cycles and bytes, of a run without a fault (the bytes are those
    that the host sends for it); opening and loading, bytes likewise; regions, the (first, count)
    ranges of memory words by kind; arrays, ``(name, entries, bits)`` by kind; hung,
    ``(memory word, its value)`` pairs that make a program wait forever.
    """

    images: int
    cycles: int
    bytes: int
    opening: int
    loading: int
    regions: Mapping[str, Sequence[tuple[int, int]]]
    arrays: Mapping[str, Sequence[tuple[str, int, int]]]
    hung: Sequence[tuple[int, int]]


def draw(space: Space, seed: int, number: int, *, kinds: Sequence[str] = TURNS,
         modes: Sequence[str] = MODES) -> Fault:
    """The fault with this number: kinds and modes in turn, all else at random."""
    kind = kinds[number % len(kinds)]
    check = modes[number // len(kinds) % len(modes)]
    rng = random.Random(f"{seed} {number} {kind} {check}")
    image = rng.randrange(space.images)
    return Fault(number, kind, check, image, _place(space, kind, rng))


def _place(space: Space, kind: str, rng: random.Random) -> dict[str, Any]:
    if kind in space.regions:
        place: dict[str, Any] = {"address": _word(space.regions[kind], rng),
                                 "bit": rng.randrange(64)}
        if kind in MEMORY and rng.random() < 0.5:
            return {**place, "when": "before"}
        return place if kind == "result" else {**place, "cycle": _cycle(space, rng)}
    if kind in space.arrays:
        arrays = space.arrays[kind]
        (name, entries, bits), = rng.choices(arrays, [e * b for _, e, b in arrays])
        return {"array": name, "entry": rng.randrange(entries), "bit": rng.randrange(bits),
                "cycle": _cycle(space, rng)}
    if kind == "hang":
        word, value = rng.choice(space.hung)
        return {"word": word, "value": value}
    if kind in ("restart", "power"):
        return _interruption(space, kind, rng)
    if kind == "cut":
        return {"byte": rng.randrange(1, space.bytes)}
    if kind in LINE:
        # From a frame now and then to a line that nothing comes through.
        return {"rate": round(10 ** rng.uniform(-2, -0.3), 4), "seed": rng.randrange(1 << 30)}
    if kind == "bitstream":
        return {"variant": rng.choice(("identity", "configuration", "exchanged")),
                "bit": rng.randrange(32), "byte": rng.randrange(1, space.bytes)}
    return {"share": round(rng.random(), 3)}


def _interruption(space: Space, kind: str, rng: random.Random) -> dict[str, Any]:
    place: dict[str, Any] = ({"cause": int(rng.choice([*Restart][1:]))} if kind == "restart" else
                             {"back": rng.random() < 0.5})
    step, = rng.choices(("open", "load", "exchange", "run"), (2, 1, 5, 4))
    place["step"] = step
    if step == "run":
        return {**place, "cycle": _cycle(space, rng)}
    most = {"open": space.opening, "load": space.loading, "exchange": space.bytes}[step]
    return {**place, "byte": rng.randrange(1, most)}


def _word(regions: Sequence[tuple[int, int]], rng: random.Random) -> int:
    (first, count), = rng.choices(regions, [count for _, count in regions])
    return first + rng.randrange(count)


def _cycle(space: Space, rng: random.Random) -> int:
    return rng.randrange(space.cycles)
