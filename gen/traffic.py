"""Memory traffic of a compiled network: ``python -m gen.traffic --board ulx3s --model qsdt_t``.

Every figure is counted from the program's descriptors. Prints, for every layer, the bytes it reads
and writes, how many strips it runs in, its fused group, and where the tensors that it makes live.
With ``--cycles`` also what bounds each module, by the cost model, with ``--record`` how far that is
from the RTL.
"""

from pathlib import Path
import sys

from boards import DEFAULT
from gen.api import configure
from gen.config.spec import read_overrides
from gen.inputs import add_network_options, load_network, network_words
from gen.machine.occupancy import beside, idle_share
from gen.machine.occupancy import table as modules
from gen.machine.traffic import program_bytes, table, traffic
from gen.measurement.replay import read_record
from model.command import add_verbosity, ArgumentParser, called, main, next_step


__all__ = ["cli"]


def _parser():
    parser = ArgumentParser(
        prog=called("gen.traffic"),
        description="Print the memory traffic of a network on a board, layer by layer: bytes of "
                    "weights, of maps in and out, and where every map lives (pool, rolling "
                    "through a ring of rows in the pool, or memory). Totals include descriptors "
                    "and completion records.")
    add_network_options(parser)
    parser.add_argument("--board", default=DEFAULT, metavar="NAME",
                        help="board whose configuration is used (default: %(default)s)")
    parser.add_argument("--config", metavar="C.yaml",
                        help="overrides, see docs/configuration.md")
    parser.add_argument("--cycles", action="store_true",
                        help="also print, by the cost model, the cycles of each module, those that "
                             "each unit would need for it alone, and how long the array has "
                             "nothing to do")
    parser.add_argument("--record", type=Path, metavar="VERIFY.json",
                        help="also print the cycles of the cost model beside those in RTL, of "
                             "layers and fused groups above one in a hundred; a record of "
                             "qsdt verify --forms ...,rtl --report")
    add_verbosity(parser)
    return parser


def _command(arguments):
    overrides = read_overrides(arguments.config)
    name, network = load_network(arguments)
    design = configure(network, board=arguments.board, name=name, overrides=overrides)
    program = design.program
    record = arguments.record and read_record(arguments.record, design)
    for line in table(program):
        print(line)
    layers = traffic(program).values()
    parts = ", ".join(f"{text} {sum(getattr(layer, part) for layer in layers) / 1e6:.2f} MB"
                      for part, text in (("weights", "weights and constants"),
                                         ("tensors_in", "maps in"), ("tensors_out", "maps out"),
                                         ("program", "descriptors and records")))
    print(f"{name}: {program_bytes(program) / 1e6:.2f} MB per image ({parts})")
    if arguments.cycles:
        prediction = design.prediction
        for line in ("", *modules(prediction)):
            print(line)
        print(f"{name}: {prediction.cycles:,} cycles (cost model), "
              f"{design.config.clock_hz / prediction.cycles:.2f} images/s at "
              f"{design.config.clock_hz / 1e6:g} MHz; the array is idle in "
              f"{idle_share(program, prediction):.1%}")
    if record:
        for line in ("", *beside(program, design.prediction, record.layer_cycles)):
            print(line)
    next_step("gen.build", "--board", arguments.board, *network_words(arguments), "--until",
              "config")


def cli(argv=None):
    return main(_command, _parser(), argv)


if __name__ == "__main__":
    sys.exit(cli())
