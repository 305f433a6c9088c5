"""From a core shell to a bitstream: elaborate, synthesise, place and route, pack.

Each step reads and writes one build folder and takes over its earlier result when neither its
inputs nor the tools have changed (:mod:`gen.flow.step`)::

    write_rtl    shell        -> top.il, top.lpf
    synthesize   top.il       -> top.ys, top.json, synth.stat.json, synth.log
    route        top.json/lpf -> route-<seed>.config, .json, .log for every seed; the best is kept
    pack         best .config -> top.bit, pack.log
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
import inspect
import json
import logging
from pathlib import Path
import re
import resource
import tempfile
import threading
import time

from boards.spec import BoardSpec
from gen.flow.bitstream import bitstream_idcode
from gen.flow.step import run_step, StepResult
from gen.flow.toolchain import run_tool, Toolchain, Usage
from gen.pnr import block_rams as floorplan
from gen.pnr import passes as netlist
from gen.pnr.refine import refine, Refined
from model.error import DoesNotFit, TimingMissed, ToolFailed
from model.files import digest_file, digest_of, write_atomic


__all__ = ["RouteResult", "collision_commands", "pack", "route", "synthesize", "write_rtl"]


log = logging.getLogger(__name__)


OnProgress = Callable[[str], None]

CROWDED = 0.55
"""Part of a chip's LUTs above which placement and routing are known to take long, or to fail."""

ROUTER_SETTINGS = {"router": "router2", "router2/currCongWeightMult": "2.0",
                   "router2/histCongWeight": "0.4", "router2/bbMargin/x": "10",
                   "router2/bbMargin/y": "10"}
"""Settings of nextpnr for a crowded chip, mostly without an option; the netlist's ``settings``.
router2 negotiates for wires; router1, the default, gives a faster clock where there is room, and
does not end where there is little. Nets may leave their bounding box by 10 tiles instead of 3; what
an overused wire costs grows as it does without a setting, what it has cost before by less, or nets
go far out of each other's way and take more wire than there is (docs/decisions/0007)."""

PLACER = ["--placer", "static", "--lpf", "top.lpf"]
"""The electrostatic placer: a fifth less wire than the default one, without which designs of this
size do not route (docs/decisions/0007)."""

WIRE_ONLY = ["--no-tmdriv", "--no-route"]
"""For a crowded chip, whose clocks :mod:`gen.pnr.refine` sees to with less wire."""

HASTE = (1.06, 1.04, 1.02, 1.0, 0.96, 0.9)
"""By how much the router of a crowded chip may be asked for faster clocks than wanted: at first by
2 %, because the clocks that nextpnr reports when it has finished are slower than those with which
its router stops; by more where that was not enough, by less where the router did not end. The
slowest only tell how far it is from what is wanted."""

PASSES = 150
"""Passes of router2 after which a connection that is too slow stays so: what it costs to be in the
way of others grows with each."""

RESOURCES = {"TRELLIS_COMB": "comb", "TRELLIS_FF": "ff", "DP16KD": "ebr", "MULT18X18D": "dsp"}
"""nextpnr's names of what a board has a budget of."""


def write_rtl(board: BoardSpec, shell, folder: Path, *, core_clock_hz: int,
              sdram_clock_hz: int | None = None) -> StepResult:
    """Elaborate ``shell`` in the board's top and write ``top.il`` and ``top.lpf``.

    Files whose content has not changed are left alone. The RTLIL carries no source positions: they
    would make it, and every digest after it, depend on where the repository lies.
    """
    started = time.monotonic()
    board.check_core_clock(core_clock_hz)
    top = board.top(shell, core_clock_hz=core_clock_hz, sdram_clock_hz=sdram_clock_hz)
    # prepare() alone: build() would look for tools that we find ourselves.
    plan = board.platform().prepare(top, emit_src=False)
    outputs = {}
    reused = True
    for name in ("top.il", "top.lpf"):
        content = plan.files[name]
        content = content.encode() if isinstance(content, str) else content
        path = outputs[name] = Path(folder) / name
        if not path.is_file() or path.read_bytes() != content:
            write_atomic(path, content)
            reused = False
    seconds = time.monotonic() - started
    # Elaboration runs in this process, so this peak includes whatever ran here before.
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return StepResult(name="rtl", digest=digest_of([digest_file(p) for p in outputs.values()]),
                      outputs=outputs, reused=reused,
                      data={"seconds": seconds, "cpu_seconds": seconds, "peak_mb": peak_mb})


def collision_commands(rtlil: str) -> list[str]:
    """Yosys commands that declare block RAM read-write collisions as don't-care.

    Amaranth's memories promise the old data to a read of an address that is written in the same
    cycle; on ECP5 that costs 83 flip-flops and 53 LUTs for each 512x36 block. This design never
    does it, so ``COLLISION_X_MASK``, one bit per write port, is set on every clocked read port
    that is not transparent. Asynchronous ports (LUT-RAM) must keep theirs: yosys asserts on them.
    """
    widths = sorted({int(width) for width in re.findall(r"\\COLLISION_X_MASK (\d+)'", rtlil)})
    # Two clocks have no "same cycle": yosys asserts that such ports keep the mask clear.
    crossing = "".join(f" {module}/* %d" for module in _modules_across_clocks(rtlil))
    commands = []
    for width in widths:
        if width:
            zeros = "0" * width
            # Amaranth writes CLK_ENABLE as an integer, yosys itself as one bit: take both.
            commands.append(
                f"setparam -set COLLISION_X_MASK {width}'{'1' * width} t:$memrd_v2 "
                f"r:CLK_ENABLE=1 r:CLK_ENABLE=1'1 %u %i "
                f"r:TRANSPARENCY_MASK={width}'{zeros} %i r:COLLISION_X_MASK={width}'{zeros} %i"
                f"{crossing}")
    return commands


def _modules_across_clocks(rtlil: str) -> list[str]:
    """Modules that write a memory with one clock and read it with another (asynchronous FIFOs)."""
    found = []
    for module in re.split(r"(?m)^module \\", rtlil)[1:]:
        clocks = {}
        for kind, cell in re.findall(r"(?ms)^  cell \$mem(rd|wr)_v2 (.*?)^  end$", module):
            memory = re.search(r"\\MEMID (\S+)", cell)[1]
            # An asynchronous read port has no clock of its own.
            if kind == "wr" or not re.search(r"\\CLK_ENABLE (1'0|0)$", cell, re.MULTILINE):
                clocks.setdefault(memory, set()).add(re.search(r"\\CLK (.*)", cell)[1])
        if any(len(of_memory) > 1 for of_memory in clocks.values()):
            found.append(module.split(maxsplit=1)[0])
    return found


def _used(usage: Usage) -> dict[str, float]:
    return {name: round(value, 3) for name, value in asdict(usage).items() if name != "exit_code"}


def synthesize(board: BoardSpec, folder: Path, toolchain: Toolchain, *,
               options: Sequence[str] = (), on_progress: OnProgress | None = None,
               force: bool = False) -> StepResult:
    """Run yosys on ``top.il`` and improve its netlist (:mod:`gen.pnr.passes`); where it crowds an
    LFE5U-85F, it gets ``ROUTER_SETTINGS``, too, by which :func:`route` knows.

    ``data["cells"]`` counts the cells of each type, ``data["absorbed_ff"]``,
    ``data["constant_ff"]`` and ``data["absorbed_lut"]`` the flip-flops and look-up tables that the
    improvement took away. Raises
    :class:`DoesNotFit` when the chip has fewer block RAMs, multipliers or LUTs than the netlist
    surely takes.

    Parameters
    ----------
    options : sequence of str
        More options of ``synth_ecp5``, e.g. ``-nowidelut``.
    """
    folder = Path(folder)
    synth = ["synth_ecp5", "-top", "top", *options]
    script = "\n".join([
        "read_rtlil top.il",
        *collision_commands((folder / "top.il").read_text()),
        # The purge in between drops alias names of nets: with them, ABC9's result of some designs
        # cannot be put back (yosys 0.70: "Assert count_id(wire->name) == 0", and no message).
        " ".join([*synth, "-run", "begin:map_luts"]),
        "opt_clean -purge",
        " ".join([*synth, "-run", "map_luts:"]),
        "tee -q -o synth.stat.json stat -json",
        "write_json top.json",
    ]) + "\n"

    def work(place: Path) -> dict:
        started = time.monotonic()
        (place / "top.ys").write_text(script)
        usage = run_tool([*toolchain.yosys.command, "top.ys"], folder=place, name="yosys",
                         log_path=place / "synth.log", on_progress=on_progress)
        stat = json.loads((place / "synth.stat.json").read_text())
        cells = stat["design"]["num_cells_by_type"]
        mapped = json.loads((place / "top.json").read_text())
        fewer = netlist.improve(mapped)
        for kind, names in (("TRELLIS_FF", ("absorbed_ff", "constant_ff")),
                            ("LUT4", ("absorbed_lut",))):
            cells[kind] = cells.get(kind, 0) - sum(fewer[name] for name in names)
        # What helps there is measured on this device only, and costs clock where it is not needed.
        if _comb(cells) > board.comb * CROWDED and board.device_option in floorplan.SITES:
            mapped["modules"]["top"]["settings"] = ROUTER_SETTINGS
        (place / "top.json").write_text(json.dumps(mapped))
        # With what follows yosys.
        seconds = round(time.monotonic() - started, 3)
        return _used(usage) | {"seconds": seconds, "cells": cells} | fewer

    result = run_step(
        "synth", folder, inputs={"top.il": folder / "top.il"},
        depends={"tool": toolchain.yosys.identity, "script": script,
                 "netlist": digest_file(Path(netlist.__file__)), "settings": ROUTER_SETTINGS},
        outputs=["top.ys", "top.json", "synth.stat.json", "synth.log"], work=work, force=force)
    _check_cells(board, result.data["cells"])
    return result


def _comb(cells: Mapping[str, int]) -> int:
    """TRELLIS_COMB, a lower bound: nextpnr adds feed-ins of carry chains and constants."""
    return (cells.get("LUT4", 0) + 2 * cells.get("CCU2C", 0)
            + 4 * cells.get("TRELLIS_DPR16X4", 0))


def _check_cells(board: BoardSpec, cells: Mapping[str, int]) -> None:
    comb = _comb(cells)
    needs = {"block RAMs (DP16KD)": (cells.get("DP16KD", 0), board.ebr),
             "multipliers (MULT18X18D)": (cells.get("MULT18X18D", 0), board.dsp),
             "flip-flops": (cells.get("TRELLIS_FF", 0), board.ff),
             "LUTs (at least, TRELLIS_COMB)": (comb, board.comb)}
    for kind, (needed, available) in needs.items():
        if needed > available:
            raise DoesNotFit(f"{kind} of {board.name}", needed=needed, available=available,
                             hint="take a larger board or a smaller configuration")
    if comb > board.comb * CROWDED:
        log.warning("%d of %d LUTs: placement and routing often take long above %.0f %%", comb,
                    board.comb, 100 * CROWDED)


@dataclass(frozen=True, kw_only=True)
class RouteResult:
    """The best of the routed seeds.

    Parameters
    ----------
    seed : int
    config, report, log : Path
        nextpnr's products for that seed.
    clocks : dict
        ``{clock: {"achieved": MHz, "constraint": MHz}}``, every clock of the design.
    used : dict
        ``comb``, ``ff``, ``ebr``, ``dsp`` as packed by nextpnr.
    utilization : dict
        nextpnr's whole table, ``{kind: {"used", "available"}}``.
    seeds : list of dict
        ``seed``, ``margin``, ``clocks``, ``seconds``, ``reused`` of every seed that ended; on a
        crowded chip ``parts`` (seconds of sites, draft, refining and routing), ``placement``
        (:class:`gen.pnr.refine.Refined`) and ``haste``, too.
    data : dict
        ``seconds``, ``cpu_seconds`` (sums over the seeds) and ``peak_mb`` (largest).
    reused : bool
        Nothing was run.
    """

    seed: int
    config: Path
    report: Path
    log: Path
    clocks: dict[str, dict[str, float]]
    used: dict[str, int]
    utilization: dict[str, dict[str, int]]
    seeds: list[dict]
    data: dict[str, float]
    reused: bool

    @property
    def seconds(self) -> float:
        return self.data["seconds"]

    @property
    def margin(self) -> float:
        """Smallest ratio of achieved to required frequency; 1 or more meets timing."""
        return _margin(self.clocks)

    def fmax_mhz(self, core_clock_hz: int) -> float:
        """What the clocks that are required to run at the core clock reach."""
        wanted = core_clock_hz / 1e6
        found = [clock["achieved"] for clock in self.clocks.values()
                 if abs(clock["constraint"] - wanted) < 0.01 * wanted]
        if not found:
            raise ToolFailed(f"No clock of {self.report} is constrained to {wanted:g} MHz",
                             log=self.log)
        return min(found)


def _margin(clocks: Mapping[str, Mapping[str, float]]) -> float:
    return min((clock["achieved"] / clock["constraint"] for clock in clocks.values()),
               default=0.0)


def _clocks(report: Mapping) -> dict[str, dict[str, float]]:
    return {name.removeprefix("$glbnet$"): {"achieved": round(clock["achieved"], 2),
                                            "constraint": round(clock["constraint"], 2)}
            for name, clock in report["fmax"].items()}


def _check_utilization(board: BoardSpec, log_path: Path) -> None:
    """Raise :class:`DoesNotFit` if the log's utilisation table has more used than available."""
    text = log_path.read_text(errors="replace")
    for kind, used, available in re.findall(r"(\w+):\s+(\d+)/\s*(\d+)\s+\d+%", text):
        if int(used) > int(available):
            raise DoesNotFit(f"{kind} of {board.name}", needed=int(used),
                             available=int(available),
                             hint="take a larger board or a smaller configuration")


def _derived_clocks(log_text: str) -> dict[str, float]:
    """MHz of the nets with clock constraints that nextpnr derived when it packed.

    A design read back from its JSON has lost them. Nets that became global have another name.
    """
    found = re.findall(r"Derived frequency constraint of ([0-9.]+) MHz for net (\S+)", log_text)
    return {prefix + net: float(mhz) for mhz, net in found for prefix in ("", "$glbnet$")}


def _place(board: BoardSpec, mapped: dict, folder: Path, nextpnr: Callable[..., None],
           log_path: Path, seed: int, on_progress: OnProgress, lap: Callable[[str], None],
           ) -> tuple[Refined, dict[str, float]]:
    """Place the netlist of a crowded chip: placed.json. Returns figures of the placement, and the
    clocks' MHz. Calls ``lap`` with the name of every part that is done.

    The seed also is that of the block RAMs' sites (:mod:`gen.pnr.block_rams`) and of what is done
    after nextpnr has placed for wire alone (:mod:`gen.pnr.refine`).
    """
    on_progress("sites of the block RAMs")
    floorplan.place_block_rams(mapped, floorplan.SITES[board.device_option], seed=seed)
    (folder / "sited.json").write_text(json.dumps(mapped))
    lap("sites")
    nextpnr("--json", "sited.json", *PLACER, *WIRE_ONLY, "--write", "placed.json")
    lap("draft")
    clocks = _derived_clocks(log_path.read_text())
    placed = json.loads((folder / "placed.json").read_text())
    refined = refine(placed, clocks, seed=seed, on_progress=on_progress)
    # nextpnr has noted there that the clocks do not matter, and believes that before its options.
    placed["modules"]["top"]["settings"]["timing_driven"] = f"{1:032b}"
    (folder / "placed.json").write_text(json.dumps(placed))
    lap("refining")
    return refined, clocks


class _Hopeless(Exception):
    """The router will not make it."""


def _route_in_haste(folder: Path, name: str, nextpnr: Callable[..., None],
                    clocks: Mapping[str, float]) -> float:
    """Route placed.json so that late connections are ripped up again; as it comes if that does not
    end. Returns by how much faster clocks were asked for; the report has those that are wanted."""

    def watch(line: str) -> None:
        found = re.search(r"iter=(\d+) .*tmgfail=(\d+)", line)
        if found and int(found[1]) > PASSES and int(found[2]):
            raise _Hopeless

    def route(haste: float, *arguments: str, **options) -> float:
        (folder / "route.lpf").write_text((folder / "top.lpf").read_text() + "".join(
            f'\nFREQUENCY NET "{net}" {mhz * haste:g} MHZ;' for net, mhz in clocks.items()) + "\n")
        nextpnr("--json", "placed.json", "--no-place", "--lpf", "route.lpf", *arguments, **options)
        report = json.loads((folder / f"{name}.json").read_text())
        for clock in report["fmax"].keys() & clocks.keys():
            report["fmax"][clock]["constraint"] = clocks[clock]
        (folder / f"{name}.json").write_text(json.dumps(report, indent=2))
        return _margin(_clocks(report))

    best, products = None, [folder / f"{name}.config", folder / f"{name}.json"]
    index, tried = HASTE.index(1.02), set()
    while index in range(len(HASTE)) and index not in tried:
        tried.add(index)
        try:
            margin = route(HASTE[index], "--tmg-ripup", watch=watch)
        except _Hopeless:
            index += 1
            continue
        if best is None or margin > best[0]:
            best = margin, HASTE[index]
            for path in products:
                path.replace(path.with_suffix(f"{path.suffix}.best"))
        if margin >= 1:
            break
        index -= 1
    if best is None:
        route(1.0)
        return 1.0
    for path in products:
        path.with_suffix(f"{path.suffix}.best").replace(path)
    return best[1]


def _route_seed(board: BoardSpec, folder: Path, toolchain: Toolchain, seed: int, *,
                options: Sequence[str], timeout_s: float | None, on_progress: OnProgress | None,
                force: bool, stop: threading.Event) -> StepResult:
    """Place and route with one seed; a design that is too slow is a result, not an error."""
    name = f"route-{seed}"
    device = [board.device_option, "--package", board.package, "--speed", board.speed,
              "--seed", str(seed)]
    products = ["--textcfg", f"{name}.config", "--report", f"{name}.json", *options]

    def work(place: Path) -> dict:
        started = time.monotonic()
        log_path, report_path = place / f"{name}.log", place / f"{name}.json"
        runs = []

        def nextpnr(*arguments: str, watch: OnProgress = lambda line: None) -> None:
            def tell(line: str) -> None:
                watch(line)
                if on_progress:
                    on_progress(line)

            runs.append(run_tool(
                [*toolchain.nextpnr.command, *device, *arguments], folder=place, check=False,
                name="nextpnr-ecp5", log_path=log_path, on_progress=tell,
                timeout_s=timeout_s, stop=stop))
            code = runs[-1].exit_code
            # A missed constraint also ends with 1, but only after everything has been written.
            if code != 0 and not (code == 1 and (place / f"{name}.config").is_file()
                                  and _margin(clocks()) < 1):
                _check_utilization(board, log_path)
                raise ToolFailed(f"nextpnr-ecp5 (seed {seed}) ended with exit code {code}",
                                 log=log_path)

        def clocks() -> dict:
            return _clocks(json.loads(report_path.read_text())) if report_path.is_file() else {}

        data, laps = {}, {}

        def lap(part: str) -> None:
            laps[part] = round(time.monotonic() - started - sum(laps.values()), 1)

        mapped = json.loads((place / "top.json").read_text())
        if "settings" in mapped["modules"]["top"]:
            refined, wanted = _place(board, mapped, place, nextpnr, log_path, seed,
                                     on_progress or (lambda text: None), lap)
            data["haste"] = _route_in_haste(place, name, partial(nextpnr, *products), wanted)
            lap("routing")
            data |= {"placement": asdict(refined), "parts": laps}
        else:
            nextpnr("--json", "top.json", *PLACER, *products)
        return {"seconds": round(time.monotonic() - started, 3),
                "cpu_seconds": round(sum(run.cpu_seconds for run in runs), 3),
                "peak_mb": max(run.peak_mb for run in runs), "clocks": clocks()} | data

    return run_step(
        name, folder, inputs={key: folder / key for key in ("top.json", "top.lpf")},
        depends={"tool": toolchain.nextpnr.identity,
                 "arguments": [*device, *PLACER, *WIRE_ONLY, *products], "haste": [*HASTE, PASSES],
                 "floorplan": digest_file(Path(floorplan.__file__)),
                 "refine": digest_file(Path(inspect.getfile(refine)))},
        outputs=[f"{name}.config", f"{name}.json", f"{name}.log"], work=work, force=force)


def route(board: BoardSpec, folder: Path, toolchain: Toolchain, *, seeds: Iterable[int] = (1,),
          jobs: int = 1, options: Sequence[str] = (), timeout_s: float | None = None,
          on_progress: OnProgress | None = None, force: bool = False) -> RouteResult:
    """Place and route with every seed and keep the fastest.

    Raises :class:`TimingMissed` when no seed meets every clock's constraint; what was routed
    stays in the folder and is reused with more seeds. A seed that fails otherwise is
    reported as a warning while another one succeeds.

    Parameters
    ----------
    jobs : int
        Seeds that run at once, each one process of up to 2.5 GB.
    options : sequence of str
        More options of nextpnr-ecp5, e.g. ``--tmg-ripup``.
    timeout_s : float
        Longest run of one seed.
    """
    folder = Path(folder)
    seeds = list(dict.fromkeys(seeds))
    stop = threading.Event()
    results, failures = {}, {}

    def attempt(seed: int) -> None:
        def tell(text: str) -> None:
            on_progress(f"seed {seed}: {text.removeprefix('Info: ').strip()}")

        try:
            results[seed] = _route_seed(board, folder, toolchain, seed, options=options,
                                        timeout_s=timeout_s, force=force, stop=stop,
                                        on_progress=tell if on_progress else None)
        except ToolFailed as error:
            failures[seed] = error
            log.warning("seed %d failed: %s", seed, error)

    if jobs > 1 and toolchain.nextpnr.origin == "yowasp":
        # Its first run ever compiles it into a cache that two runs at once would both write.
        with tempfile.TemporaryDirectory() as place:
            run_tool([*toolchain.nextpnr.command, "--version"], folder=Path(place),
                     log_path=Path(place) / "log", name="nextpnr-ecp5")

    if jobs <= 1:
        for seed in seeds:
            attempt(seed)
    else:
        with ThreadPoolExecutor(max_workers=jobs) as pool:
            futures = [pool.submit(attempt, seed) for seed in seeds]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise
    if not results:
        raise failures[seeds[0]]

    order = [seed for seed in seeds if seed in results]
    best = max(order, key=lambda seed: _margin(results[seed].data["clocks"]))
    chosen = results[best]
    report = json.loads(chosen.outputs[f"route-{best}.json"].read_text())
    utilization = report["utilization"]
    result = RouteResult(
        seed=best, clocks=_clocks(report), utilization=utilization,
        used={short: utilization.get(kind, {}).get("used", 0)
              for kind, short in RESOURCES.items()},
        config=chosen.outputs[f"route-{best}.config"],
        report=chosen.outputs[f"route-{best}.json"], log=folder / f"route-{best}.log",
        seeds=[{"seed": seed, "margin": round(_margin(results[seed].data["clocks"]), 4),
                "clocks": results[seed].data["clocks"], "seconds": results[seed].seconds,
                "reused": results[seed].reused}
               | {name: results[seed].data[name] for name in ("parts", "placement", "haste")
                  if name in results[seed].data} for seed in order],
        data={"seconds": sum(results[seed].seconds for seed in order),
              "cpu_seconds": sum(results[seed].data["cpu_seconds"] for seed in order),
              "peak_mb": max(results[seed].data["peak_mb"] for seed in order)},
        reused=all(results[seed].reused for seed in order))
    if result.margin < 1:
        slow = ", ".join(f"{name} reaches {clock['achieved']:g} of {clock['constraint']:g} MHz"
                         for name, clock in result.clocks.items()
                         if clock["achieved"] < clock["constraint"])
        tried = f"best of {len(order)} seeds, seed {best}" if len(order) > 1 else f"seed {best}"
        raise TimingMissed(f"Too slow: clock {slow} ({tried}); try more seeds or a lower clock",
                           log=result.log)
    return result


def pack(board: BoardSpec, folder: Path, toolchain: Toolchain, routed: RouteResult, *,
         on_progress: OnProgress | None = None, force: bool = False) -> StepResult:
    """Make the compressed bitstream ``top.bit`` and check that it is for the board's chip."""
    arguments = ["--compress", "--idcode", f"{board.idcode:#010x}", "--input", "top.config",
                 "--bit", "top.bit"]

    def work(place: Path) -> dict:
        usage = run_tool([*toolchain.ecppack.command, *arguments], folder=place, name="ecppack",
                         log_path=place / "pack.log", on_progress=on_progress)
        idcode = bitstream_idcode(place / "top.bit")
        if idcode != board.idcode:
            raise ToolFailed(f"ecppack wrote a bitstream for IDCODE {idcode:#010x}, not "
                             f"{board.idcode:#010x}", log=place / "pack.log")
        return _used(usage)

    return run_step("pack", Path(folder), inputs={"top.config": routed.config},
                    depends={"tool": toolchain.ecppack.identity, "arguments": arguments},
                    outputs=["top.bit", "pack.log"], work=work, force=force)
