"""What a sweep can run: functions with plain arguments and results, each the same anywhere.

Other modules add theirs by being named: ``qsdt sweep package.module:function``.
"""

import json
from pathlib import Path
from typing import Any

from boards import DEFAULT, find_board
from gen.flow.clocks import clock_margin, long_crossings, read_clocks, read_crossings
from gen.scale.task import works_on
from model.error import as_input_error, TimingMissed


__all__ = ["predict", "route", "verify"]


@works_on("top.json", "top.lpf", "synth.stamp.json")
def route(*, board: str, seed: int, folder: Path, toolchain: str = "auto") -> dict[str, Any]:
    """Place and route a synthesised design with one seed.

    Returns ``met`` (every clock, and every path between two), ``margin`` (smallest ratio of
    reached to required), ``MHz of`` every clock, and ``crossing ns`` (the longest path between
    two clocks), all routed. ``qsdt build --first-seed`` makes the bitstream of a seed.
    """
    from gen.flow.route import route as place_and_route
    from gen.flow.toolchain import find_toolchain

    with as_input_error():
        found = find_board(board)
    congested = json.loads((folder / "synth.stamp.json").read_text())["data"]["congested"]
    try:
        place_and_route(found, folder, find_toolchain(toolchain), seeds=(seed,),
                        congested=congested)
    except TimingMissed:
        pass    # a result like another
    report = json.loads((folder / f"route-{seed}.json").read_text())
    clocks, crossings = read_clocks(report), read_crossings(report)
    margin = clock_margin(clocks)
    return {"met": margin >= 1 and not long_crossings(crossings), "margin": round(margin, 4),
            **{f"MHz of {name}": clock["achieved"] for name, clock in sorted(clocks.items())},
            "crossing ns": max((crossing["ns"] for crossing in crossings), default=0)}


def verify(*, model: str, first: int, count: int, board: str = DEFAULT,
           forms: str = "integer,iss", config: str | None = None) -> dict[str, Any]:
    """Compare forms of a network on its images ``first`` to ``first + count - 1``, word by word.

    Returns ``images``, ``equal`` and the first ``difference``.
    """
    from gen.api import configure, load, samples
    from gen.api import verify as compare
    from gen.config.spec import read_overrides

    images, _ = samples(model)
    design = configure(load(model), board=board, name=model, overrides=read_overrides(config))
    chosen = images[first:first + count]
    found = compare(design, chosen, forms=forms.split(","))
    return {"images": len(chosen), "equal": not found.differences,
            "difference": next(iter(found.differences), "")}


def predict(*, model: str, board: str, **core: Any) -> dict[str, Any]:
    """Configuration that is chosen for a network on a board, and what the cost model expects.

    ``core`` are fields of `hw.config.CoreConfig`, and ``clock_mhz``, ``sdram_mhz``, ``memory``,
    ``strip_rows`` and ``fold`` of docs/configuration.md. Returns ``fits``, ``lanes``, ``cycles``
    and ``images/s``, or the ``reason``.
    """
    from gen.api import configure, load
    from model.error import DoesNotFit

    outside = ("clock_mhz", "sdram_mhz", "memory", "strip_rows", "fold")
    overrides: dict[str, Any] = {key: core.pop(key) for key in outside if key in core}
    if core:
        overrides["core"] = core
    try:
        design = configure(load(model), board=board, name=model, overrides=overrides)
    except DoesNotFit as error:
        return {"fits": False, "reason": f"{error.resource}: {error.needed} needed, "
                                         f"{error.available} available"}
    cycles = design.prediction.cycles
    return {"fits": True, "lanes": design.config.core.lanes, "cycles": round(cycles),
            "images/s": round(design.config.clock_hz / cycles, 2)}
