"""Memory traffic of a program, counted from its descriptors."""

from dataclasses import dataclass

from hw.config import MEMORY_BITS, RECORD_WORDS
from hw.descriptor import DESCRIPTOR_WORDS, Destination, UnitKind
from model.command import columns


__all__ = ["LayerTraffic", "program_bytes", "table", "traffic"]


WORD_BYTES = MEMORY_BITS // 8


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
    """{layer: :class:`LayerTraffic`} of a :class:`gen.isa.program.Program`, in order of
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


def table(program):
    """Lines of a table with a row for each layer, for people."""
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
    return columns(rows, left=(0, len(rows[0]) - 1))
