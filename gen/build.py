"""From a trained network to a bitstream: `python -m gen.build --board ulx3s --model qsdt_nano`."""

from pathlib import Path
import sys

from boards import BOARDS, find_board, NAMES
from gen.api import build, configure, load, NotVerified
from gen.compile.supported import unsupported
from gen.config.holdings import holdings, table
from gen.config.plans import Plans
from gen.config.spec import read_overrides
from gen.flow.report import headline, layer_lines, STAGES
from gen.inputs import add_network_options, load_network, network_words
from model import zoo
from model.command import add_verbosity, ArgumentParser, called, main, next_step, require
from model.error import as_input_error, InputError, VerificationFailed
from model.families.spec import MODELS
from model.files import check_folder
from model.progress import track


__all__ = ["cli"]


def _parser(listing=False):
    parser = ArgumentParser(
        prog=called("gen.build"),
        description="Build an accelerator for a network: configuration, RTL, synthesis, place and "
                    "route, bitstream, program image and report.",
        epilog="Place and route takes most of the time (tens of minutes with the WebAssembly "
               "tools; a native yosys and nextpnr-ecp5 on PATH are used first). Results are "
               "reused while inputs and tools are the same.")
    parser.add_argument("--board", required=not listing, metavar="NAME", help=NAMES)
    parser.add_argument("--list", action="store_true",
                        help="say what every board holds (or the one of --board): each network "
                             "(or the one of --model) with lanes, block RAMs, memory and the cost "
                             "model's images/s, or why it does not fit; builds nothing")
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
    parser.add_argument("--no-output-registers", action="store_true",
                        help="leave the output registers of the block RAMs unused, to find out "
                             "whether they are why a board fails; the core then runs at the "
                             "board's slowest clock unless --config gives one")
    parser.add_argument("--skip-verify", action="store_true",
                        help="synthesise without a passing gen.verify of this configuration; "
                             "stamped on the report")
    parser.add_argument("--prove", action="store_true",
                        help="then show that the bitstream is the design, as gen.prove does; exit "
                             "status 1 if it is not")
    add_verbosity(parser)
    return parser


def _list(arguments):
    """Print what the boards hold."""
    with as_input_error():
        boards = [find_board(arguments.board)] if arguments.board else list(BOARDS.values())
    if arguments.model or arguments.weights:
        networks = dict([load_network(arguments)])
    else:
        networks = {name: load(name) for name, spec in MODELS.items() if not spec.software_only}
    reasons = {name: unsupported(network) for name, network in networks.items()}
    if not (arguments.model or arguments.weights):
        networks = {name: network for name, network in networks.items() if not reasons[name]}
    plans = Plans(zoo.cache_folder() / "plans")
    rows = []
    with track("what the boards hold", len(boards) * len(networks), "networks") as task:
        for row in holdings(boards, networks, plans=plans):
            rows.append(row)
            task.update(1)
    print("\n".join(table(rows)))
    print("block RAMs: estimate; images/s of the core alone: cost-model")
    for name, network in networks.items():
        if network.origin:
            print(f"{name}: {network.origin}")
    for reason in {"; ".join(found): True for found in reasons.values() if found}:
        names = [name for name, found in reasons.items() if "; ".join(found) == reason]
        print(f"{', '.join(names)}: not supported yet: {reason}")
    if others := [name for name, spec in MODELS.items() if spec.software_only]:
        print(f"{', '.join(others)}: in software only")


def _run(arguments):
    if arguments.list:
        _list(arguments)
        return
    if arguments.prove and arguments.until != "bitstream":
        raise InputError(f"--prove needs the bitstream: leave out --until {arguments.until}")
    if arguments.until not in ("config", "rtl"):
        require("scipy", "numba", what="place and route")
    if arguments.out:
        check_folder(arguments.out)
    overrides = read_overrides(arguments.config)
    if arguments.no_output_registers and "clock_mhz" not in overrides:
        with as_input_error():
            overrides["clock_mhz"] = min(find_board(arguments.board).core_clocks_hz) / 1e6
    name, network = load_network(arguments)
    design = configure(network, board=arguments.board, name=name, overrides=overrides)
    rungs = None
    if arguments.prove:
        from gen.ladder import check_tools

        rungs = check_tools(design.config.memory)    # before anything that takes long
    selected = ["--board", arguments.board, *network_words(arguments)]
    try:
        report, path = build(
            design, folder=arguments.out, until=arguments.until, jobs=arguments.jobs,
            seeds=range(arguments.first_seed, arguments.first_seed + arguments.seeds),
            nextpnr=arguments.nextpnr.split(), toolchain=arguments.toolchain,
            output_registers=not arguments.no_output_registers,
            skip_verify=arguments.skip_verify, command=arguments.command_line)
    except NotVerified as error:
        verify = " ".join(map(str, [called("gen.verify"), *selected, "--forms", "integer,iss,rtl"]))
        raise VerificationFailed(f"{error}; run: {verify} (or --skip-verify, which the report "
                                 "will say)") from None
    if arguments.until == "config" and not arguments.quiet:
        print("\n".join(layer_lines(report)))
    print(f"{path}: {headline(report)}")
    if rungs is not None:
        from gen.ladder import prove
        from gen.proof.build import open_build

        prove(open_build(path.parent), design, rungs, command=arguments.command_line)
    if arguments.until == "bitstream":
        next_step("gen.run", *selected, "--program", "--port", "/dev/ttyUSB0")
    elif report["digests"]["verify"] is None:
        next_step("gen.verify", *selected)
    else:
        next_step("gen.build", *selected)


def cli(argv=None):
    words = sys.argv[1:] if argv is None else argv
    return main(_run, _parser(listing="--list" in words), argv)


if __name__ == "__main__":
    sys.exit(cli())
