"""Place and route with nextpnr-ecp5, with one seed or several."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
import gzip
import json
import logging
from pathlib import Path
import re
import tempfile
import threading
import time

from boards.spec import BoardSpec
from gen.flow.clocks import clock_margin, long_crossings, read_clocks, read_crossings
from gen.flow.floorplan import extract_layout
from gen.flow.step import run_step, StepResult
from gen.flow.toolchain import OnProgress, run_tool, Toolchain
from gen.pnr import ecp5
from model.code import code_digest
from model.error import DoesNotFit, TimingMissed, ToolFailed
from model.files import write_atomic


__all__ = ["RouteResult", "route"]


log = logging.getLogger(__name__)


PLACER = ("--placer", "static", "--lpf", "top.lpf")
"""The electrostatic placer: a fifth less wire than the default one, without which designs of this
size do not route (docs/decisions/0007)."""


@dataclass(frozen=True, kw_only=True)
class RouteResult:
    """The best of the routed seeds.

    Parameters
    ----------
    seed : int
    config, report, log : Path
        nextpnr's products for that seed.
    layout : Path
        Where everything lies (:mod:`gen.flow.floorplan`).
    clocks : dict
        ``{clock: {"achieved": MHz, "constraint": MHz}}``, every clock of the design.
    crossings : list of dict
        The longest path of every pair of clocks (:func:`gen.flow.clocks.read_crossings`).
    used : dict
        ``comb``, ``ff``, ``ebr``, ``dsp`` as packed by nextpnr.
    utilization : dict
        nextpnr's whole table, ``{kind: {"used", "available"}}``.
    seeds : list of dict
        ``seed``, ``margin``, ``clocks``, ``seconds``, ``reused`` of every seed that ended; on a
        congested chip also ``parts`` (seconds of block RAMs, global placement, detailed placement
        and routing), ``placement`` (:class:`gen.pnr.place.Placement`) and ``effort`` (factor of
        the clocks that the router was asked for).
    data : dict
        ``seconds``, ``cpu_seconds`` (sums over the seeds) and ``peak_mb`` (largest).
    reused : bool
        Nothing was run.
    """

    seed: int
    config: Path
    report: Path
    log: Path
    layout: Path
    clocks: dict[str, dict[str, float]]
    crossings: list[dict]
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
        return clock_margin(self.clocks)

    def fmax_mhz(self, core_clock_hz: int) -> float:
        """What the clocks that are required to run at the core clock reach."""
        wanted = core_clock_hz / 1e6
        found = [clock["achieved"] for clock in self.clocks.values()
                 if abs(clock["constraint"] - wanted) < 0.01 * wanted]
        if not found:
            raise ToolFailed(f"No clock of {self.report} is constrained to {wanted:g} MHz",
                             log=self.log)
        return min(found)


def _check_utilization(board: BoardSpec, log_path: Path) -> None:
    """Raise :class:`DoesNotFit` if the log's utilisation table has more used than available."""
    text = log_path.read_text(errors="replace")
    for kind, used, available in re.findall(r"(\w+):\s+(\d+)/\s*(\d+)\s+\d+%", text):
        if int(used) > int(available):
            raise DoesNotFit(f"{kind} of {board.name}", needed=int(used),
                             available=int(available),
                             hint="take a larger board or a smaller configuration")


def _route_seed(board: BoardSpec, folder: Path, toolchain: Toolchain, seed: int, *,
                congested: bool, options: Sequence[str], timeout_s: float | None,
                on_progress: OnProgress | None, force: bool, stop: threading.Event) -> StepResult:
    """Place and route with one seed; a design that is too slow is a result, not an error."""
    name = f"route-{seed}"
    device = [board.device_option, "--package", board.package, "--speed", board.speed]
    products = ["--textcfg", f"{name}.config", "--report", f"{name}.json",
                "--write", "routed.json", *options]

    def work(place: Path) -> dict:
        started = time.monotonic()
        run = _Nextpnr(board, [*toolchain.nextpnr.command, *device], place, seed,
                       on_progress=on_progress, timeout_s=timeout_s, stop=stop)
        if congested:
            data = _congested(board, place, name, run, products, seed, on_progress)
        else:
            run("--json", "top.json", *PLACER, *products)
            data = {}
        routed = (place / "routed.json").read_bytes()
        (place / f"{name}.routed.json.gz").write_bytes(gzip.compress(routed, 4, mtime=0))
        layout = extract_layout(json.loads(routed),
                                json.loads(run.report.read_text()),
                                ecp5.GRIDS[board.device_option])
        (place / f"{name}.layout.json").write_text(json.dumps(layout, separators=(",", ":")))
        return {"seconds": round(time.monotonic() - started, 3),
                "crossings": read_crossings(json.loads(run.report.read_text())),
                "cpu_seconds": round(sum(usage.cpu_seconds for usage in run.usages), 3),
                "peak_mb": max(usage.peak_mb for usage in run.usages),
                "clocks": run.clocks()} | data

    return run_step(
        name, folder, inputs={key: folder / key for key in ("top.json", "top.lpf")},
        depends={"tool": toolchain.nextpnr.identity, "congested": congested,
                 "seed": seed, "arguments": [*device, *PLACER, *products],
                 "code": code_digest(__name__)},
        outputs=[f"{name}.config", f"{name}.json", f"{name}.layout.json",
                 f"{name}.routed.json.gz", f"{name}.log"],
        work=work, force=force)


class _Nextpnr:
    """Runs of nextpnr in a folder, for one seed."""

    def __init__(self, board: BoardSpec, command: Sequence[str], folder: Path, seed: int, *,
                 on_progress: OnProgress | None, timeout_s: float | None,
                 stop: threading.Event) -> None:
        self.usages: list = []
        name = f"route-{seed}"
        self.log_path = folder / f"{name}.log"
        self.report = folder / f"{name}.json"
        self._config = folder / f"{name}.config"
        self._board, self._folder, self._seed = board, folder, seed
        self._command = [*command, "--seed", str(seed)]
        self._on_progress, self._timeout_s, self._stop = on_progress, timeout_s, stop

    def __call__(self, *arguments: str, watch: OnProgress = lambda line: None) -> None:
        """Run it. A design that is too slow is no failure."""
        def tell(line: str) -> None:
            watch(line)
            if self._on_progress:
                self._on_progress(line)

        usage = run_tool([*self._command, *arguments], folder=self._folder, check=False,
                         name="nextpnr-ecp5", log_path=self.log_path, on_progress=tell,
                         timeout_s=self._timeout_s, stop=self._stop)
        self.usages.append(usage)
        code = usage.exit_code
        # A missed constraint also ends with 1, but only after everything has been written.
        if code != 0 and not (code == 1 and self._config.is_file()
                              and clock_margin(self.clocks()) < 1):
            _check_utilization(self._board, self.log_path)
            raise ToolFailed(f"nextpnr-ecp5 (seed {self._seed}) ended with exit code {code}",
                             log=self.log_path)

    def clocks(self) -> dict[str, dict[str, float]]:
        """Clocks of the last report; none before the first."""
        return read_clocks(json.loads(self.report.read_text())) if self.report.is_file() else {}


def _congested(board: BoardSpec, folder: Path, name: str, nextpnr: _Nextpnr,
               products: Sequence[str], seed: int, on_progress: OnProgress | None) -> dict:
    """Place and route a congested chip; figures for the step's data."""
    # Here, because a board that is not congested needs neither numba nor scipy.
    from gen.flow.congested import place_congested, route_congested

    started = time.monotonic()
    laps: dict[str, float] = {}

    def lap(part: str) -> None:
        laps[part] = round(time.monotonic() - started - sum(laps.values()), 1)

    netlist = json.loads((folder / "top.json").read_text())
    placement, clocks = place_congested(board, netlist, folder, partial(nextpnr, *PLACER),
                                      nextpnr.log_path, seed,
                                      on_progress or (lambda text: None), lap)
    files = [f"{name}.config", f"{name}.json", "routed.json"]
    effort = route_congested(folder, name, partial(nextpnr, *products), clocks, files)
    lap("routing")
    return {"effort": effort, "placement": asdict(placement), "parts": laps}


def route(board: BoardSpec, folder: Path, toolchain: Toolchain, *, congested: bool = False,
          seeds: Iterable[int] = (1,), jobs: int = 1, options: Sequence[str] = (),
          timeout_s: float | None = None, on_progress: OnProgress | None = None,
          force: bool = False) -> RouteResult:
    """Place and route with every seed and keep the fastest.

    Raises :class:`TimingMissed` when no seed meets every clock's constraint, or a path between
    two clocks takes more than ``gen.pnr.ecp5.CROSSING_NS``; what was routed stays in the folder
    and is reused with more seeds. A seed that fails otherwise is reported as a warning while
    another one succeeds. ``layout.json`` is that of the best seed (:mod:`gen.flow.floorplan`).

    Parameters
    ----------
    congested : bool
        What :func:`gen.flow.synth.synthesize` found (``data["congested"]``): place and route as
        :mod:`gen.flow.congested` says.
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
            if on_progress is not None:
                on_progress(f"seed {seed}: {text.removeprefix('Info: ').strip()}")

        try:
            results[seed] = _route_seed(board, folder, toolchain, seed, congested=congested,
                                        options=options, timeout_s=timeout_s, force=force,
                                        stop=stop, on_progress=tell if on_progress else None)
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
    result = _best(folder, [results[seed] for seed in seeds if seed in results])
    # The same content is left alone, so that its time tells when it changed.
    layout = result.layout.read_bytes()
    if not (folder / "layout.json").is_file() or (folder / "layout.json").read_bytes() != layout:
        write_atomic(folder / "layout.json", layout)
    if result.margin < 1:
        slow = ", ".join(f"{name} reaches {clock['achieved']:g} of {clock['constraint']:g} MHz"
                         for name, clock in result.clocks.items()
                         if clock["achieved"] < clock["constraint"])
        count = len(result.seeds)
        tried = f"best of {count} seeds, seed {result.seed}" if count > 1 else f"seed {result.seed}"
        raise TimingMissed(f"Too slow: clock {slow} ({tried}); try more seeds or a lower clock",
                           log=result.log)
    if too_long := long_crossings(result.crossings):
        raise TimingMissed(f"Between clocks: {too_long}, seed {result.seed}; try more seeds",
                           log=result.log)
    return result


def _best(folder: Path, steps: Sequence[StepResult]) -> RouteResult:
    """The step whose slowest clock has the largest margin, of those whose paths between clocks
    are short enough if there are any; with figures of all of them."""
    def margin(step: StepResult) -> float:
        return clock_margin(step.data["clocks"])

    chosen = max(steps, key=lambda step: (not long_crossings(step.data["crossings"]),
                                          margin(step)))
    name = chosen.name
    report = json.loads(chosen.outputs[f"{name}.json"].read_text())
    utilization = report["utilization"]
    seeds = [{"seed": _seed(step), "margin": round(margin(step), 4),
              "clocks": step.data["clocks"], "crossings": step.data["crossings"],
              "seconds": step.seconds, "reused": step.reused}
             | {key: step.data[key] for key in ("parts", "placement", "effort")
                if key in step.data} for step in steps]
    return RouteResult(
        seed=_seed(chosen), clocks=read_clocks(report), crossings=read_crossings(report),
        utilization=utilization,
        used={short: utilization.get(kind, {}).get("used", 0)
              for kind, short in ecp5.RESOURCES.items()},
        config=chosen.outputs[f"{name}.config"], report=chosen.outputs[f"{name}.json"],
        layout=chosen.outputs[f"{name}.layout.json"], log=folder / f"{name}.log", seeds=seeds,
        data={"seconds": sum(step.seconds for step in steps),
              "cpu_seconds": sum(step.data["cpu_seconds"] for step in steps),
              "peak_mb": max(step.data["peak_mb"] for step in steps)},
        reused=all(step.reused for step in steps))


def _seed(step: StepResult) -> int:
    return int(step.name.removeprefix("route-"))
