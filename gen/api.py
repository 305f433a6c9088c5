"""The chain from Python: train, convert, configure, build, verify and run, as the commands do it.

    network = load("qsdt_nano")
    design = configure(network, board="ulx3s-85f", name="qsdt_nano")
    check = verify(design, images, forms=("integer", "iss"))
    report, path = build(design, until="config")
    result = run(design, images)

Every function raises an error of `model.error` for what the user can mend, and nothing of what it
would write is left half-written. Progress is silent unless `model.progress.show_on` shows it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import resources
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boards import DEFAULT, find_board
from boards.spec import BoardSpec
from gen.check.simulate import reported
from gen.compile.package import ProgramImage
from gen.config.derive import derive
from gen.config.memory import rtl_memory
from gen.config.plans import Plans
from gen.config.resources import check_fits
from gen.config.spec import chosen_clock, chosen_sdram_clock
from gen.flow.report import STAGES
from gen.flow.step import discard_partial
from gen.machine.cost import predict
from hw.register import identity_text
from model import zoo
from model.code import commit
from model.command import require
from model.data.dataset import Dataset
from model.error import as_input_error, InputError, known, VerificationFailed
from model.evaluate import read_images
from model.families.base import NetworkSpec
from model.families.spec import MODELS, spec
from model.files import digest_of, locked, write_atomic
from model.integer import qsd_file
from model.integer.epilogue import IntegerParams, LOGITS
from model.integer.network import IntegerNetwork
from model.progress import Progress, track
from model.training.recipe import Recipe


__all__ = ["ISS", "VIRTUAL", "Design", "NotVerified", "RunResult", "build", "configure", "convert",
           "load", "run", "samples", "train", "verify"]


log = logging.getLogger(__name__)


VIRTUAL = "virtual"
"""The device that is the same top-level RTL in Verilator, behind a local socket."""

ISS = "iss"
"""The device that is the instruction-set simulator: exact, needs no compiler, knows no cycles."""


class NotVerified(VerificationFailed):
    """Nothing is synthesised before a passing verification of the same core and network."""


@dataclass(frozen=True, eq=False)
class Design:
    """A network on a board.

    name, what files and reports call the network; board; network; config, the
    :class:`gen.config.spec.AcceleratorConfig`; program, what the core executes.
    """

    name: str
    board: BoardSpec
    network: IntegerNetwork
    config: Any
    program: Any

    @property
    def folder(self) -> Path:
        """Where a build goes unless told otherwise, in the working folder."""
        return Path("build") / f"{self.board.name}-{self.name}"

    @cached_property
    def prediction(self) -> Any:
        """Cycles of the cost model (:func:`gen.machine.cost.predict`)."""
        return predict(self.program, self.config.timing)

    @cached_property
    def image(self) -> ProgramImage:
        """Program, weights and constants as the board's memory takes them."""
        return ProgramImage.of(self.program, model=self.name, network=self.network,
                               predicted_cycles=self.prediction.cycles)


@dataclass(frozen=True, eq=False)
class RunResult:
    """What came back for N images.

    acc, int64 (N, total), the accumulators of all outputs, one behind the other, which an exact
    comparison takes; outputs, by name, what they stand for: class scores "logits" (N, classes) and
    other outputs (N, O, H, W) float64, level maps and membranes that are read out int64; counters,
    summed over the images, ``CYCLES`` and others of :class:`hw.register.Counter`, none from the
    instruction-set simulator; seconds, with the link; checked, what was checked on the way, a line
    each.
    """

    acc: NDArray[np.int64]
    outputs: Mapping[str, NDArray]
    counters: Mapping[str, int]
    seconds: float
    checked: Sequence[str] = ()

    @property
    def logits(self) -> NDArray[np.float64]:
        """(N, classes) the class scores; InputError if the network has none."""
        if LOGITS not in self.outputs:
            raise InputError(f"The network has no class scores; its outputs are "
                             f"{', '.join(self.outputs)}")
        return self.outputs[LOGITS]

    @property
    def classes(self) -> NDArray[np.int64]:
        """(N,) the class of each image."""
        return self.logits.argmax(axis=1)


def load(model: str | None = None, weights: Path | str | None = None, *,
         heads: int | None = None, params: IntegerParams | None = None) -> IntegerNetwork:
    """The network of a name (`model.families.spec.MODELS`) or of a file (``.qsd``, ``.pth``).

    ``heads`` are the attention heads of a published ``.pth``; ``params`` the widths, by default
    those that the file recommends.
    """
    with as_input_error():
        return zoo.load(model, weights, heads, params)


def samples(model: str) -> tuple[NDArray[np.int8], NDArray[np.int64] | None]:
    """Images int8 (N, C, H, W) and labels (N,) that come with a network of `model.zoo.shipped`."""
    known("network with images", model, zoo.shipped())
    with resources.as_file(resources.files("model") / "weights" / f"{model}.images.npz") as path:
        return read_images(path, channels=MODELS[model].in_channels)


def train(model: str | NetworkSpec, data: Dataset, *, out: Path | str,
          recipe: Recipe | None = None) -> Path:
    """Train a network to the last epoch of the recipe; needs the extra ``train``.

    Writes what `model.train` lists into the folder ``out``, after every epoch, and returns the
    path of ``model.pth``. Another training in the same folder is refused.
    """
    require("torch", "matplotlib", what="training")
    from model.training.session import train
    from model.training.trainer import Trainer

    out = Path(out)
    with locked(out, "training"), as_input_error():
        network = spec(model) if isinstance(model, str) else model
        train(Trainer(network, recipe or Recipe(), data), out, log.info)
    return out / "model.pth"


def convert(source: Path | str, out: Path | str, *, heads: int | None = None,
            params: IntegerParams | None = None) -> Path:
    """Write a network as a portable file (``.qsd``), which needs no torch; returns ``out``.

    ``source`` is a checkpoint (``.pth``), another ``.qsd``, or a name as for :func:`load`.
    """
    with as_input_error():
        name = str(source) if str(source) in MODELS else None
        found = zoo.read(name, None if name else source, heads)
        content = qsd_file.to_bytes(found.state, found.spec, params or found.params,
                                    origin=found.origin, info=found.info)
    write_atomic(out, content)
    return Path(out)


def configure(network: IntegerNetwork, *, board: str = DEFAULT, name: str = "network",
              overrides: Mapping[str, Any] | None = None) -> Design:
    """Derive the accelerator's configuration and compile the network for it.

    Parameters
    ----------
    board : str
        A name of `boards.BOARDS` or an alias.
    overrides : mapping
        As `docs/configuration.md` lists them.
    """
    chosen = dict(overrides or {})
    with as_input_error():
        found = find_board(board)
        # Before the configuration is searched for, which takes long.
        found.check_core_clock(chosen_clock(found, chosen))
        if "sdram_mhz" in chosen:
            chosen_sdram_clock(found, chosen)
    with track(f"configuration for {found.name}", keep=True) as task:
        config, program = derive(found, network, chosen, plans=Plans(zoo.cache_folder() / "plans"))
        task.note = f"{config.core.rows}x{config.core.rows} lanes"
    log.debug("%s", config.describe())
    return Design(name, found, network, config, program)


def verify(design: Design, images: NDArray[np.int8], *,
           forms: Sequence[str] = ("integer", "iss")) -> Any:
    """Compare forms of the design on images int8 (N, C, H, W) or samples (N, T, C, H, W), word by
    word.

    ``forms`` are two or three of ``integer``, ``iss`` and ``rtl`` (which compiles a simulator the
    first time). Returns a Verification: ``lines``, what was compared; ``differences``, the first
    of each pair of forms, empty if all are equal; ``figures``.
    """
    from gen.check.compare import FORMS
    from gen.check.compare import verify as compare

    for form in forms:
        known("form", form, FORMS)
    with as_input_error("memory"):
        _, memory = rtl_memory(design.board, design.config)
    with track("verify", len(images), "images") as task, reported():
        return compare(design.network, design.program, images, forms=forms, **memory,
                       timing=design.config.timing, progress=task.update)


def build(design: Design, *, folder: Path | str | None = None, until: str = "bitstream",
          seeds: Iterable[int] = (1,), jobs: int = 1, nextpnr: Sequence[str] = (),
          toolchain: str = "auto", output_registers: bool = True, skip_verify: bool = False,
          command: str = "gen.api.build") -> tuple[dict, Path]:
    """Make configuration, program, Verilog, bitstream and report; reuse what still holds.

    Parameters
    ----------
    folder : path
        ``build/<board>-<name>`` unless given. Another build in it is refused.
    until : str
        The last stage, one of `gen.flow.report.STAGES`.
    seeds, jobs, nextpnr
        Routes that are tried, how many at once, and more options of nextpnr-ecp5.
    toolchain : str
        One of `gen.flow.toolchain.CHOICES`.
    output_registers : bool
        Use those of the block RAMs; without them, few designs are faster than 50 MHz.
    skip_verify : bool
        Go beyond the RTL without a passing verification; the report says so.
    command : str
        What the report names as its origin.

    Returns
    -------
    (report, path)
        The content of ``report.json`` and the path of ``report.md``.

    Raises
    ------
    NotVerified, DoesNotFit, ToolMissing, ToolFailed, TimingMissed, InputError
    """
    stages = STAGES[:STAGES.index(known("stage", until, STAGES)) + 1]
    check_fits(design.board, design.config)
    tools = None
    if "synth" in stages:
        from gen.flow.toolchain import find_toolchain

        tools = find_toolchain(toolchain)    # before anything that takes long
    folder = Path(folder) if folder is not None else design.folder
    with locked(folder):
        discard_partial(folder)
        write_atomic(folder / "config.json", json.dumps(design.config.to_dict(), indent=1) + "\n")
        design.image.save(folder / "program.img")
        core, record = _verification(design, stages)
        if record is None and "synth" in stages and not skip_verify:
            raise NotVerified("No passing verification of this configuration is recorded")
        results = _flow(design, folder, stages, tools, seeds, jobs, nextpnr,
                        output_registers)
        return _report(design, folder, stages, command, core, record, tools, results)


def _verification(design: Design, stages: Sequence[str]) -> tuple[str | None, dict | None]:
    """Digest of the core and the record of its passing verification, each None if unknown."""
    from gen.check.record import any_record, core_digest, described, passing

    digest = design.network.digest()
    if "rtl" not in stages and not any_record(digest):
        return None, None    # elaborating the core takes a while: a prediction does not wait for it
    core = core_digest(design.config.core)
    record = passing(core, digest)
    if record is not None:
        log.info("%s", described(record))
    return core, record


def _flow(design: Design, folder: Path, stages: Sequence[str], tools: Any, seeds: Iterable[int],
          jobs: int, nextpnr: Sequence[str], output_registers: bool) -> dict[str, Any]:
    """Results of the stages behind the configuration, as `gen.flow.report.make_report` takes
    them."""
    board, config = design.board, design.config
    results: dict[str, Any] = {"commit": commit()}    # a later one is not what runs here
    progress = Progress(len(stages) - 1)
    if "rtl" in stages:
        from gen.config.shell import make_shell
        from gen.flow.rtl import write_rtl

        with progress.step("RTL"):
            results["rtl"] = write_rtl(board, make_shell(board, config), folder,
                                       core_clock_hz=config.clock_hz,
                                       sdram_clock_hz=config.sdram_clock_hz,
                                       config=config.to_dict())
            identity = results["rtl"].data["identity"]
            replace(design.image, identity=identity).save(folder / "program.img")
            progress.note(f"identity {identity_text(identity)}"
                          + (", unchanged" if results["rtl"].reused else ""))
    if "synth" in stages:
        from gen.flow.synth import synthesize

        log.info("%s", tools.describe())
        with progress.step("synthesis"):
            results["synth"] = synthesize(board, folder, tools, on_progress=progress.update,
                                          output_registers=output_registers)
            progress.note("reused" if results["synth"].reused else "")
    if "route" in stages:
        from gen.flow.route import route

        with progress.step("place and route"):
            results["routed"] = route(board, folder, tools, seeds=seeds, jobs=jobs,
                                      congested=results["synth"].data["congested"],
                                      options=nextpnr, on_progress=progress.update)
            progress.note(f"seed {results['routed'].seed}, "
                          f"{results['routed'].fmax_mhz(config.clock_hz):.1f} MHz")
    if "bitstream" in stages:
        from gen.flow.bitstream import pack

        with progress.step("bitstream"):
            results["packed"] = pack(board, folder, tools, results["routed"], comments={
                "Identity": identity_text(results["rtl"].data["identity"]),
                "Commit": results["commit"]})
    return results


def _report(design: Design, folder: Path, stages: Sequence[str], command: str, core: str | None,
            record: dict | None, tools: Any, results: Mapping[str, Any]) -> tuple[dict, Path]:
    from gen.flow.bitstream import bitstream_digests
    from gen.flow.layers import head_cycles, layer_rows, output_rows, totals
    from gen.flow.page import write_page
    from gen.flow.report import make_report, measured, write_report

    config, network = design.config, design.network
    # The core is verified whatever its memory; its cycles are those behind that memory.
    timed = record if record and record["config"] == config.to_dict() else None
    counts = timed["figures"].get("cycles") if timed else None
    cycles = (measured(round(float(np.mean(counts))), "rtl-sim") if counts else
              measured(design.prediction.cycles, "cost-model"))
    report = make_report(
        board=design.board, model=design.name, until=stages[-1], command=command,
        core_clock_hz=config.clock_hz, lanes=config.core.lanes, cycles=cycles,
        digests={"config": digest_of(config.to_dict()), "core": core,
                 "network": network.digest(), "image": design.image.payload_digest,
                 "verify": digest_of(record) if record else None,
                 **(bitstream_digests(results["packed"].outputs["top.bit"])
                    if "packed" in results else {"bitstream": None})},
        skip_verify=record is None, weights=network.origin, config=config.to_dict(),
        layers=layer_rows(config, network, design.program, design.prediction, timed),
        outputs=() if [*network.outputs] == [LOGITS] else output_rows(design.program),
        toolchain=tools, **results,
        extra=totals(config, design.program, design.prediction)
        | head_cycles(network, design.prediction))
    _, path = write_report(report, folder)
    layout = folder / "layout.json"
    routed = "route" in stages and layout.is_file()
    write_page(report, folder, json.loads(layout.read_text()) if routed else None)
    return report, path


def run(design: Design, images: NDArray[np.int8], *, device: str = VIRTUAL,
        cache: Path | str = "build/sim", check: Sequence[str] = (),
        folder: Path | str | None = None) -> RunResult:
    """Run images on a device that holds the design, and close it; to keep it open, use
    :class:`gen.accelerator.Accelerator`.

    After loading, the device computes the CRC-32 of program, weights and constants in its memory.

    Parameters
    ----------
    images : int8 (N, C, H, W), or (N, T, C, H, W) for samples of T
        In units of 1/48, as :func:`model.data.dataset.to_image_q` makes them.
    device : str
        ``virtual`` (compiles a simulator the first time, for which g++, make and perl are
        needed), ``iss``, or the serial port of a board with the design's bitstream.
    cache : path
        Compiled simulators.
    check : sequence of str
        More checks, of :data:`gen.device.check.CHECKS`; a device that fails one is an error. The
        instruction-set simulator has none.
    folder : path
        Of the build, as for :func:`build`. If it is there, a board must have its bitstream.

    Raises
    ------
    InputError
        If the device does not answer, holds another design, reports an error or fails a check.
    """
    from gen.accelerator import Accelerator

    with Accelerator(design, device=device, cache=cache, check=check, folder=folder) as found:
        return found.run(images)
