"""Figures of a program for its report: a row for every layer, and totals."""

from gen.compile.layout import IMAGE_PLANES
from gen.compile.results import on_core
from gen.config.resources import block_rams
from gen.flow.report import measured
from model.families.spec import from_dict
from model.integer.epilogue import LOGITS
from model.integer.graph import Attention, Conv, Pool, RepConv


__all__ = ["head_cycles", "layer_rows", "output_rows", "totals"]


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


def _macs(op, network, level_planes):
    """(multiply-accumulates of an operator for an image, bit-planes of what it multiplies)."""
    tensors = network.tensors()
    _, channels, height, width = tensors[next(iter(op.outputs))]
    area = height * width
    if isinstance(op, Attention):
        tokens = tensors[op.query][2] * tensors[op.query][3]
        return 2 * tokens * channels * (tensors[op.query][1] // op.heads), level_planes
    if isinstance(op, RepConv):
        return area * (op.pointwise.size + op.depthwise.size), level_planes
    if isinstance(op, Pool):
        return 0, level_planes
    planes = {"image": IMAGE_PLANES, "level": level_planes,
              "z": network.params.z_bits_for(op.source)}[tensors[op.source][0]]
    return area * op.weight.size, planes


def _full_lanes(op, work, core):
    """Cycles that the array would need for an operator with every lane at work: one plane of
    every MAC in each. Only convolutions run there."""
    if isinstance(op, RepConv):
        macs, planes = work[op.name][0] - _depthwise_macs(op, work), core.level_planes
    elif isinstance(op, Conv):
        macs, planes = work[op.name]
    else:
        return 0
    return -(-macs * planes // core.lanes)


def _depthwise_macs(op, work):
    """Of a RepConv, the share of its 3x3, which the depthwise unit does."""
    return work[op.name][0] * op.depthwise.size // (op.pointwise.size + op.depthwise.size)


def layer_rows(config, network, program, prediction, record):
    """Per-layer table; simulated cycles (of the last image verified) beside predicted ones.

    The columns of units are cycles that each would need alone; the largest is the wall. Layers of
    one ``group`` are fused: they take turns, strip by strip.
    """
    rows, network = [], on_core(network)
    simulated = record["figures"].get("layer_cycles", {}) if record else {}
    titles = UNIT_TITLES | {config.timing.name: config.timing.name}
    homes = _homes(program, network, config.timing)
    ops = {op.name: op for op in network.ops}
    work = {op.name: _macs(op, network, config.core.level_planes) for op in network.ops}
    group = {name: str(number) for number, names in enumerate(program.groups, 1) for name in names}
    for layer, figures in prediction.layers.items():
        extra = {"cycles in RTL": measured(simulated[layer], "rtl-sim")} if (
            layer in simulated) else {}
        rows.append({
            "name": layer, "group": group.get(layer, ""),
            "strips": str(program.strips.get(layer, 1)),
            "cycles": measured(figures.cycles, "cost-model"), **extra,
            "wall": titles.get(figures.bound, figures.bound),
            "MAC": measured(work.get(layer, (0, 0))[0], "cost-model"),
            "full lanes": measured(_full_lanes(ops.get(layer), work, config.core), "cost-model"),
            **{title: measured(figures.work.get(unit, 0), "cost-model")
               for unit, title in titles.items()},
            "weights B": measured(figures.weight_bytes, "cost-model"),
            "maps in B": measured(figures.bytes_in - figures.weight_bytes, "cost-model"),
            "out B": measured(figures.bytes_out, "cost-model"),
            "made in": homes.get(layer, "")})
    return rows


def totals(config, program, prediction):
    """Figures of the whole program, for the report."""
    layers = prediction.layers.values()
    figures = {
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
    return {name: measured(value, "cost-model") for name, value in figures.items()}


def head_cycles(network, prediction):
    """Cycles of what comes behind the backbone, by the first part of the layers' names, such as
    "cycles.neck", and of all of it as "cycles.heads"; {} for networks that only classify."""
    if [*network.outputs] == [LOGITS]:
        return {}
    backbone = tuple(f"{step.name}." for step in from_dict(network.spec).steps)
    found = {}
    for name, layer in prediction.layers.items():
        if not name.startswith(backbone):
            part = name.partition(".")[0]
            found[part] = found.get(part, 0) + layer.cycles
    return {f"cycles.{part}": measured(cycles, "cost-model")
            for part, cycles in {**found, "heads": sum(found.values())}.items()}


def output_rows(program):
    """A row for every output: its name, shape, what is read out, and bytes of that for an image."""
    rows = []
    for result in program.results:
        tensor = program.maps[result.tensor]
        what = {"level": "levels", "u": "membranes"}[tensor.kind]
        if result.weight is not None:
            what = "levels, of which the host computes accumulators"
        elif result.scale is not None:
            what = "accumulators"
        rows.append({"name": result.name, "shape": list(result.shape(program.maps)),
                     "reads": what, "bytes": 8 * tensor.memory_words})
    return rows
