"""From a trained network to a bitstream: `python -m gen.build --board ulx3s --model qsdt_nano`.

Steps are plain functions in a row; each reads and writes ``build/<board>-<model>/``.
"""

import json
import logging
from pathlib import Path
import sys

from boards import find_board
from gen.compile.package import ProgramImage
from gen.config.derive import block_rams, derive, read_overrides
from gen.config.shell import make_shell
from gen.flow import report as reports
from gen.flow import synthesis
from gen.flow.report import measured, STAGES
from gen.flow.toolchain import find_toolchain
from gen.inputs import add_network_options, load_network, network_words
from gen.machine.cost import predict
from gen.verify import core_digest, VERIFIED, verified_path
from model.command import add_verbosity, ArgumentParser, called, main, next_step
from model.error import as_input_error, VerificationFailed
from model.files import digest_of, locked, write_atomic
from model.progress import Progress


__all__ = ["cli"]


log = logging.getLogger(__name__)


def _parser():
    parser = ArgumentParser(
        prog=called("gen.build"),
        description="Build an accelerator for a network: configuration, RTL, synthesis, place and "
                    "route, bitstream, program image and report.",
        epilog="Place and route takes most of the time (tens of minutes with the WebAssembly "
               "tools; a native yosys and nextpnr-ecp5 on PATH are used first). Results are "
               "reused while inputs and tools are the same.")
    parser.add_argument("--board", required=True, metavar="NAME",
                        help="ulx3s-12f, ulx3s-25f, ulx3s-45f, ulx3s-85f; ulx3s is the 85f")
    add_network_options(parser)
    parser.add_argument("--config", metavar="C.yaml",
                        help="overrides of the derived configuration (docs/configuration.md)")
    parser.add_argument("--out", type=Path, metavar="DIR",
                        help="build folder (default: build/<board>-<model>)")
    parser.add_argument("--until", choices=STAGES, default="bitstream",
                        help="stop after this stage (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=1, metavar="N",
                        help="route with N seeds and keep the fastest (default: %(default)s)")
    parser.add_argument("--first-seed", type=int, default=1, metavar="S",
                        help="first seed (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, metavar="J",
                        help="seeds that run at once, up to 2.5 GB each (default: %(default)s)")
    parser.add_argument("--nextpnr", default="", metavar="OPTIONS",
                        help='more options for nextpnr-ecp5, e.g. "--tmg-ripup"')
    parser.add_argument("--toolchain", choices=("auto", "native", "yowasp"), default="auto",
                        help="which yosys and nextpnr (default: %(default)s)")
    parser.add_argument("--skip-verify", action="store_true",
                        help="synthesise without a passing gen.verify of this configuration; "
                             "stamped on the report")
    add_verbosity(parser)
    return parser


def _verified(network):
    """Whether any core was verified with this network."""
    return any(VERIFIED.glob(f"*-{network.digest()[:16]}.json"))


UNIT_TITLES = {"array": "array", "depthwise": "depthwise", "attention": "SDSA",
               "neuron": "neuron core"}
"""Units as the per-layer table calls them; the memory goes by its own name."""


def _homes(program, network, memory):
    """Where the tensors that each layer makes live: {layer: "u SDRAM, level pool"}.

    "unused" are membranes that are fired and never read again.
    """
    def home(name):
        where = program.homes[name][0] if name in program.homes else "unused"
        return f"{program.maps[name].kind} {memory.name if where == 'memory' else where}"

    return {op.name: ", ".join(map(home, op.outputs)) for op in network.ops}


def _layer_rows(config, network, program, prediction, record):
    """Per-layer table; simulated cycles (of the last image verified) beside predicted ones.

    The columns of units are cycles that each would need alone; the largest is the wall.
    """
    rows = []
    simulated = record["figures"].get("layer_cycles", {}) if record else {}
    titles = UNIT_TITLES | {config.timing.name: config.timing.name}
    homes = _homes(program, network, config.timing)
    for layer, figures in prediction.layers.items():
        extra = {"cycles in RTL": measured(simulated[layer], "rtl-sim")} if (
            layer in simulated) else {}
        rows.append({
            "name": layer, "strips": str(program.strips.get(layer, 1)),
            "cycles": measured(figures.cycles, "cost-model"), **extra,
            "wall": titles.get(figures.bound, figures.bound),
            **{title: measured(figures.work.get(unit, 0), "cost-model")
               for unit, title in titles.items()},
            "weights B": measured(figures.weight_bytes, "cost-model"),
            "maps in B": measured(figures.bytes_in - figures.weight_bytes, "cost-model"),
            "out B": measured(figures.bytes_out, "cost-model"),
            "made in": homes.get(layer, "")})
    return rows


def _totals(config, program, prediction):
    """Figures of the whole program, for the report."""
    layers = prediction.layers.values()
    totals = {
        "predicted_cycles": prediction.cycles,
        "descriptors": len(program.descriptors),
        "program_image_bytes": program.payload.nbytes,
        "memory_words": program.memory_words,
        "bytes_in": sum(layer.bytes_in for layer in layers),
        "bytes_out": sum(layer.bytes_out for layer in layers),
        "weight_bytes": sum(layer.weight_bytes for layer in layers),
        "memory_bytes": prediction.memory_bytes,
        "words_per_cycle": round(config.timing.words_per_cycle, 4),
        **{f"ebr.{use}": count
           for use, count in block_rams(config.core, config.onchip_words).items()},
    }
    return {name: measured(value, "cost-model") for name, value in totals.items()}


def _run(arguments):
    with as_input_error():
        board = find_board(arguments.board)
    overrides = read_overrides(arguments.config)
    name, network = load_network(arguments)
    stages = STAGES[:STAGES.index(arguments.until) + 1]
    folder = arguments.out or Path("build") / f"{board.name}-{name}"
    with locked(folder):
        return _build(arguments, board, overrides, name, network, stages, folder)


def _build(arguments, board, overrides, name, network, stages, folder):
    # "bitstream" covers nothing but packing; every stage is one step.
    progress = Progress(len(stages))

    with progress.step("configuration, program and prediction"):
        config, program = derive(board, network, overrides)
        with as_input_error():
            board.check_core_clock(config.clock_hz)
        log.info("%s", config.describe())
        prediction = predict(program, config.timing)
        image = ProgramImage.of(program, model=name, network=network,
                                predicted_cycles=prediction.cycles)
        write_atomic(folder / "config.json", json.dumps(config.to_dict(), indent=1) + "\n")
        image.save(folder / "program.img")
        progress.note(f"{config.core.rows}x{config.core.rows} lanes, {prediction.cycles} cycles")

    core, record = None, None
    if "rtl" in stages or _verified(network):
        # Takes a while: the prediction alone does not wait for it.
        core = core_digest(config.core)
        record_path = verified_path(core, network.digest())
        record = json.loads(record_path.read_text()) if record_path.is_file() else None
    cycles = measured(prediction.cycles, "cost-model")
    # The core is verified whatever its memory; its cycles are those behind that memory.
    timed = record if record and record["config"] == config.to_dict() else None
    if timed and timed["figures"].get("cycles"):
        counts = timed["figures"]["cycles"]
        cycles = measured(round(sum(counts) / len(counts)), "rtl-sim")
    if record is None and "synth" in stages and not arguments.skip_verify:
        selected = " ".join(map(str, network_words(arguments)))
        raise VerificationFailed(
            f"No passing verification of this configuration is recorded; run: "
            f"{called('gen.verify')} --board {arguments.board} {selected} --forms integer,iss,rtl "
            f"(or --skip-verify, which the report will say)")

    results = {}
    toolchain = None
    if "rtl" in stages:
        with progress.step("RTL"):
            results["rtl"] = synthesis.write_rtl(board, make_shell(board, config), folder,
                                                 core_clock_hz=config.clock_hz,
                                                 sdram_clock_hz=config.sdram_clock_hz)
            progress.note("unchanged" if results["rtl"].reused else "")
    if "synth" in stages:
        toolchain = find_toolchain(arguments.toolchain)
        log.info("%s", toolchain.describe())
        with progress.step("synthesis"):
            results["synth"] = synthesis.synthesize(board, folder, toolchain,
                                                    on_progress=progress.update)
            progress.note("reused" if results["synth"].reused else "")
    if "route" in stages:
        with progress.step("place and route"):
            seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
            results["routed"] = synthesis.route(
                board, folder, toolchain, seeds=seeds, jobs=arguments.jobs,
                options=arguments.nextpnr.split(), on_progress=progress.update)
            progress.note(f"seed {results['routed'].seed}, "
                          f"{results['routed'].fmax_mhz(config.clock_hz):.1f} MHz")
    if "bitstream" in stages:
        with progress.step("bitstream"):
            results["packed"] = synthesis.pack(board, folder, toolchain, results["routed"])

    report = reports.make_report(
        board=board, model=name, until=stages[-1],
        command=arguments.command_line,
        core_clock_hz=config.clock_hz, lanes=config.core.lanes, cycles=cycles,
        digests={"config": digest_of(config.to_dict()), "core": core,
                 "network": network.digest(), "image": image.payload_digest,
                 "verify": digest_of(record) if record else None},
        skip_verify=record is None, weights=network.origin, config=config.to_dict(),
        layers=_layer_rows(config, network, program, prediction, timed), toolchain=toolchain,
        **results, extra=_totals(config, program, prediction))
    _, text = reports.write_report(report, folder)
    if stages[-1] == "config" and not arguments.quiet:
        print("\n".join(reports.layer_lines(report)))
    print(f"{text}: {reports.headline(report)}")
    selected = ["--board", arguments.board, *network_words(arguments)]
    if stages[-1] == "bitstream":
        next_step("gen.run", *selected, "--program", "--port", "/dev/ttyUSB0")
    elif record is None:
        next_step("gen.verify", *selected)
    else:
        next_step("gen.build", *selected)


def cli(argv=None):
    return main(_run, _parser(), argv)


if __name__ == "__main__":
    sys.exit(cli())
