"""Memory traffic of a compiled network: ``python -m gen.traffic --board ulx3s --model qsdt_t``.

Every figure is counted from the program's descriptors. Prints, for every layer, the bytes it reads
and writes, how many strips it runs in, its fused group, and where the tensors that it makes live.
"""

from dataclasses import dataclass
import sys

from gen.api import configure
from gen.config.spec import read_overrides
from gen.inputs import add_network_options, load_network, network_words
from hw.config import MEMORY_BITS
from hw.descriptor import DESCRIPTOR_WORDS, Destination, UnitKind
from model.command import add_verbosity, ArgumentParser, called, main, next_step


__all__ = ["LayerTraffic", "program_bytes", "traffic"]


WORD_BYTES = MEMORY_BITS // 8
RECORD_WORDS = 2


@dataclass
class LayerTraffic:
    """Bytes between memory and core for one layer and image.

    ``weights`` are weights and constants, once for every strip; ``tensors_in`` and
    ``tensors_out`` rows of maps; ``program`` descriptors and completion records.
    """

    weights: int = 0
    tensors_in: int = 0
    tensors_out: int = 0
    program: int = 0

    @property
    def total(self):
        return self.weights + self.tensors_in + self.tensors_out + self.program


def traffic(program):
    """{layer: :class:`LayerTraffic`} of a :class:`gen.compile.compiler.Program`, in order of
    execution."""
    layers = {}
    for descriptor in program.descriptors:
        layer = layers.setdefault(descriptor.layer, LayerTraffic())
        fields = descriptor.fields
        layer.program += WORD_BYTES * (DESCRIPTOR_WORDS + RECORD_WORDS)
        if descriptor.unit in (UnitKind.LOAD, UnitKind.STORE):
            size = WORD_BYTES * fields["length"] * fields["count"]
            if descriptor.unit is UnitKind.STORE:
                layer.tensors_out += size
            elif fields["destination"] is Destination.POOL:
                layer.tensors_in += size
            else:
                layer.weights += size
    return layers


def program_bytes(program):
    """Bytes between memory and core for an image: all layers."""
    return sum(layer.total for layer in traffic(program).values())


def _table(program):
    rows = [("layer", "group", "strips", "weights", "maps in", "maps out", "total",
             "its maps live in")]
    group_of = {name: number for number, names in enumerate(program.groups, 1) for name in names}
    made = {}
    for descriptor in program.descriptors:
        names = made.setdefault(descriptor.layer, {})
        names |= dict.fromkeys(output.tensor for output in descriptor.outputs)
    for name, layer in traffic(program).items():
        homes = ", ".join(f"{program.maps[tensor].kind}: {program.homes[tensor][0]}"
                          for tensor in made[name])
        rows.append((name, str(group_of[name]), str(program.strips[name]), f"{layer.weights:,}",
                     f"{layer.tensors_in:,}", f"{layer.tensors_out:,}", f"{layer.total:,}", homes))
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) if k in (0, len(row) - 1) else cell.rjust(width)
                        for k, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip()


def _parser():
    parser = ArgumentParser(
        prog=called("gen.traffic"),
        description="Print the memory traffic of a network on a board, layer by layer: bytes of "
                    "weights, of maps in and out, and where every map lives (pool, rolling "
                    "through a ring of rows in the pool, or memory). Totals include descriptors "
                    "and completion records.")
    add_network_options(parser)
    parser.add_argument("--board", default="ulx3s", metavar="NAME",
                        help="board whose configuration is used (default: %(default)s)")
    parser.add_argument("--config", metavar="C.yaml",
                        help="overrides, see docs/configuration.md")
    add_verbosity(parser)
    return parser


def _command(arguments):
    overrides = read_overrides(arguments.config)
    name, network = load_network(arguments)
    program = configure(network, board=arguments.board, name=name, overrides=overrides).program
    for line in _table(program):
        print(line)
    layers = traffic(program).values()
    parts = ", ".join(f"{text} {sum(getattr(layer, part) for layer in layers) / 1e6:.2f} MB"
                      for part, text in (("weights", "weights and constants"),
                                         ("tensors_in", "maps in"), ("tensors_out", "maps out"),
                                         ("program", "descriptors and records")))
    print(f"{name}: {program_bytes(program) / 1e6:.2f} MB per image ({parts})")
    next_step("gen.build", "--board", arguments.board, *network_words(arguments), "--until",
              "config")


def cli(argv=None):
    return main(_command, _parser(), argv)


if __name__ == "__main__":
    sys.exit(cli())
