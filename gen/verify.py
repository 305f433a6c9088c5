"""Compare the forms of a network on the same images: integer model, ISS, RTL.

Every level map, z and membrane is compared as the units write it; the first difference is named
by layer, tile, channel and position. `python -m gen.verify --help` tells the rest.
"""

from dataclasses import dataclass
from itertools import combinations
import json
from pathlib import Path
import sys
import time

import numpy as np
from tqdm import tqdm

from boards import find_board
from gen.configure import derive, read_overrides, TwinSpec
from gen.cost import layer_cycles, spans
from gen.error import (
    add_verbosity,
    ArgumentParser,
    as_input_error,
    InputError,
    main,
    ToolFailed,
    ToolMissing,
    VerificationFailed,
)
from gen.inputs import add_image_options, add_network_options, load_images, load_network
from gen.iss import image_words, Iss, logits_of
from gen.layout import unpack_lanes
from gen.step import digest_bytes, write_atomic
from hw.descriptor import UnitKind


__all__ = ["FORMS", "Trace", "core_digest", "first_difference", "main", "verified_path",
           "verify"]


FORMS = ("integer", "iss", "rtl")

NO_STALLS = TwinSpec()

VERIFIED = Path("build/verified")
"""Records of passing verifications, one file for each configuration."""


@dataclass
class Trace:
    """What one form computed for one image.

    ``words`` holds, for every descriptor with outputs, the pool words it wrote in order (None
    for others); ``acc`` the raw results. ``crcs`` are the signatures of all descriptors, where
    the form has them.
    """

    words: list
    acc: np.ndarray
    crcs: list | None = None
    addresses: list | None = None
    cycles: int | None = None


def integer_trace(program, tensors, index):
    """Trace of the integer model from its tensors for image ``index``."""
    packed = {}
    words = []
    for descriptor in program.descriptors:
        if not descriptor.outputs:
            words.append(None)
            continue
        parts = []
        for output in descriptor.outputs:
            tensor = program.maps[output.tensor]
            if output.tensor not in packed:
                packed[output.tensor] = tensor.pack(tensors[output.tensor][index]).reshape(
                    -1, tensor.groups, tensor.planes)
            parts.append(packed[output.tensor][output.first:output.first + output.count,
                                               output.group])
        words.append(np.concatenate(parts, axis=1).reshape(-1))
    return Trace(words, tensors["logits_acc"][index].reshape(-1))


def iss_trace(program, image_q):
    acc, _, completions = Iss(program).run(image_q)
    return Trace([c.words if d.outputs else None
                  for d, c in zip(program.descriptors, completions, strict=True)], acc,
                 [c.crc for c in completions],
                 [c.addresses if d.outputs else None
                  for d, c in zip(program.descriptors, completions, strict=True)])


def rtl_trace(program, core, image_q, *, limit):
    """Run one image on a :class:`sim.rtl.RtlCore` and split what its units wrote."""
    core.write(program.image, image_words(program, image_q))
    run = core.run(program=program.program, image=program.image, result=program.result,
                   log=program.log, limit=limit)
    streams = {UnitKind.NEURON: run.neuron, UnitKind.ATTENTION: run.attention}
    at = dict.fromkeys(streams, 0)
    words, addresses = [], []
    for descriptor in program.descriptors:
        if not descriptor.outputs:
            words.append(None)
            addresses.append(None)
            continue
        count = sum(o.count * o.words for o in descriptor.outputs)
        start = at[descriptor.unit]
        addresses.append(streams[descriptor.unit][0][start:start + count])
        words.append(streams[descriptor.unit][1][start:start + count])
        at[descriptor.unit] += count
    for unit, (_, data) in streams.items():
        if at[unit] != len(data):
            raise VerificationFailed(f"rtl: {unit.name} wrote {len(data)} pool words, the program "
                                     f"asks for {at[unit]}")
    records = core.read(program.log, program.log_words)
    acc, _ = logits_of(program, core.read(program.result, program.result_words))
    trace = Trace(words, acc, (records[::2] & np.uint64(0xFFFFFFFF)).tolist(), addresses,
                  run.cycles)
    return trace, run, records


def first_difference(program, a, b):
    """None, or a sentence naming the first difference between two traces."""
    rows = program.config.rows
    for index, (descriptor, left, right) in enumerate(
            zip(program.descriptors, a.words, b.words, strict=True)):
        if left is None or (len(left) == len(right) and np.array_equal(left, right)):
            if (left is not None and a.addresses and b.addresses
                    and not np.array_equal(a.addresses[index], b.addresses[index])):
                return f"descriptor {index} ({descriptor.layer}): same words, other addresses"
            continue
        if len(left) != len(right):
            return (f"descriptor {index} ({descriptor.layer}): {len(left)} words against "
                    f"{len(right)}")
        per = sum(o.words for o in descriptor.outputs)
        left, right, column = left.reshape(-1, per), right.reshape(-1, per), 0
        for output in descriptor.outputs:
            tensor = program.maps[output.tensor]
            part = slice(column, column + output.words)
            column += output.words
            x, y = (unpack_lanes(w[:, part], tensor.kind, rows) for w in (left, right))
            if np.array_equal(x, y):
                continue
            position, lane = np.argwhere(x != y)[0]
            channel = tensor.lanes[output.group * rows + lane]
            row, col = divmod(output.first + int(position), tensor.width)
            return (f"layer {descriptor.layer}, {tensor.kind} {output.tensor}, tile "
                    f"{output.group}, channel {channel} (lane {lane}), position ({row}, {col}): "
                    f"{x[position, lane]} against {y[position, lane]}")
    if not np.array_equal(a.acc, b.acc):
        channel = int(np.argwhere(a.acc != b.acc)[0, 0])
        return f"logits, class {channel}: {a.acc[channel]} against {b.acc[channel]}"
    if a.crcs and b.crcs and a.crcs != b.crcs:
        index = next(i for i, (x, y) in enumerate(zip(a.crcs, b.crcs, strict=True)) if x != y)
        descriptor = program.descriptors[index]
        return (f"signature of descriptor {index} ({descriptor.unit.name}, {descriptor.layer}): "
                f"{a.crcs[index]:08x} against {b.crcs[index]:08x}")
    return None


def core_digest(config):
    """Digest of the core's Verilog: what a verification is valid for."""
    from hw.core import Core
    from sim.verilog import to_verilog

    return digest_bytes(to_verilog(Core(config), "core").encode())


def verified_path(digest, network_digest):
    """Where the record of a passing verification of this core and network lies."""
    return VERIFIED / f"{digest[:16]}-{network_digest[:16]}.json"


@dataclass
class Verification:
    """Outcome of :func:`verify`: one line per compared pair, the first difference of each, and
    figures of the runs."""

    lines: list
    differences: dict
    figures: dict


def _tensor_counts(program):
    kinds = {}
    for descriptor in program.descriptors:
        for output in descriptor.outputs:
            kinds.setdefault(program.maps[output.tensor].kind, set()).add(output.tensor)
    kinds.setdefault("u", set()).discard("logits_acc")
    names = {"level": "level maps", "z": "z maps", "u": "membranes"}
    return ", ".join(f"{len(kinds.get(kind, ()))} {text}" for kind, text in names.items())


def verify(network, program, images, *, forms, twin=NO_STALLS, cache=Path("build/sim"),
           progress=lambda *_: None, limit=50_000_000, memory_words=0):
    """Run the forms on every image int8 (N, C, H, W) and compare each pair.

    ``limit`` bounds the RTL's cycles per image; ``memory_words`` is the least size of its memory
    (programs that share it share the compiled simulator).

    Returns
    -------
    Verification
    """
    from contextlib import ExitStack

    from sim.rtl import RtlCore, twin_memory

    stats, figures, differences = {}, {}, {}
    pairs = list(combinations([f for f in FORMS if f in forms], 2))
    with ExitStack() as stack:
        core = None
        if "rtl" in forms:
            memory = twin_memory(max(program.memory_words, memory_words), **vars(twin))
            core = stack.enter_context(RtlCore(program.config, memory=memory, cache=cache))
            core.write(0, program.payload)
        cycles, spikes, counters, records = [], [], {}, None
        for index in range(len(images)):
            traces = {}
            if "integer" in forms:
                tensors = network.run(images[index:index + 1], stats=stats)
                traces["integer"] = integer_trace(program, tensors, 0)
            if "iss" in forms:
                traces["iss"] = iss_trace(program, images[index])
            if core is not None:
                traces["rtl"], run, records = rtl_trace(program, core, images[index],
                                                        limit=limit)
                cycles.append(run.cycles)
                spikes.append(run.counters["SPIKE_EVENTS"])
                counters = run.counters
                if run.counters["ERRORS"]:
                    raise VerificationFailed(f"rtl: memory collision flags "
                                             f"{run.counters['ERRORS']:#x} on image {index}")
            for a, b in pairs:
                if (a, b) not in differences:
                    found = first_difference(program, traces[a], traces[b])
                    if found:
                        differences[a, b] = f"image {index}, {found}"
            progress(1)
        if cycles:
            layers = layer_cycles(program, spans(records))
            figures |= {"cycles": cycles, "spike_events": spikes,
                        "counters": {k: v for k, v in counters.items() if v},
                        "layer_cycles": {name: cost.cycles for name, cost in layers.items()}}
    figures["stats"] = stats
    counts = _tensor_counts(program)
    lines = []
    for a, b in pairs:
        text = differences.get((a, b))
        lines.append(f"{a} = {b}: " + (f"DIFFERENT, {text}" if text else
                     f"equal on {len(images)} images ({counts}, logits)"))
    return Verification(lines, differences, figures)


def _parser():
    parser = ArgumentParser(
        prog="python -m gen.verify",
        description="Compare the forms of a network on the same images, tensor by tensor, and "
                    "record a passing comparison for gen.build.",
        epilog="Exit status: 0 all equal, 1 a difference or bad input, 2 the simulator failed, "
               "3 a tool is missing, 130 interrupted.")
    add_network_options(parser)
    add_image_options(parser)
    parser.add_argument("--board", default="ulx3s", metavar="NAME",
                        help="board whose configuration is verified (default: %(default)s)")
    parser.add_argument("--config", metavar="C.yaml",
                        help="overrides: core (parameters of CoreConfig), memory_words, twin "
                             "(latency, stall, seed of the memory)")
    parser.add_argument("--forms", default="integer,iss,rtl", metavar="A,B",
                        help="comma separated, of integer, iss and rtl (default: %(default)s)")
    parser.add_argument("--cache", default="build/sim", type=Path, metavar="DIR",
                        help="compiled simulators (default: %(default)s)")
    parser.add_argument("--report", type=Path, metavar="F.json",
                        help="write the comparison and its figures here")
    add_verbosity(parser)
    return parser


def _run(arguments):
    from sim.rtl import RtlTimeout
    from sim.verilator import SimulatorFailed, SimulatorMissing

    forms = [form.strip() for form in arguments.forms.split(",")]
    for form in forms:
        if form not in FORMS:
            raise InputError(f"Unknown form {form!r}: known are {', '.join(FORMS)}")
    if len(set(forms)) < 2:
        raise InputError("At least two forms are needed to compare")
    with as_input_error():
        board = find_board(arguments.board)
    overrides = read_overrides(arguments.config)
    name, network = load_network(arguments)
    images, _ = load_images(arguments.images, network, model=arguments.model,
                            count=arguments.count, dataset=arguments.data,
                            data_dir=arguments.data_dir)
    config, program = derive(board, network, overrides)
    with as_input_error("twin"):
        twin = TwinSpec(**(overrides.get("twin") or {}))
    strips = max(program.strips.values())
    spilled = [n for n, (home, _) in program.homes.items()
               if home == "memory" and n not in ("image", "logits_acc")]
    core = config.core
    print(f"{name}: {len(program.descriptors)} descriptors on {core.rows}x{core.rows} lanes, "
          f"pool {core.pool_words} words, at most {strips} strips a map, {len(spilled)} spilled "
          f"tensors, memory latency {twin.latency}, stalls {twin.stall:g}")
    started = time.monotonic()
    try:
        with tqdm(total=len(images), unit="image", disable=None) as bar:
            result = verify(network, program, images, forms=forms, twin=twin,
                            cache=arguments.cache, progress=bar.update)
    except SimulatorMissing as error:
        raise ToolMissing(error.tool, install=error.install) from None
    except SimulatorFailed as error:
        raise ToolFailed(str(error), log=error.log) from None
    except RtlTimeout as error:
        raise VerificationFailed(f"rtl: {error}") from None
    for line in result.lines:
        print(line)
    figures = result.figures
    if "cycles" in figures:
        print(f"rtl: {min(figures['cycles'])}..{max(figures['cycles'])} cycles and "
              f"{round(np.mean(figures['spike_events']))} spike events an image (rtl-sim)")
    if "integer" in forms:
        print("reached: " + ", ".join(f"{k} {v}" for k, v in figures["stats"].items()))
    record = {
        "equal": not result.differences, "forms": forms, "images": len(images),
        "model": name, "network_digest": network.digest(), "config": config.to_dict(),
        "twin": vars(twin), "lines": result.lines, "figures": figures, "strips": program.strips,
        "spilled": spilled, "seconds": round(time.monotonic() - started, 1),
        "command": " ".join(["python -m gen.verify", *sys.argv[1:]]),
    }
    if arguments.report:
        write_atomic(arguments.report, json.dumps(record, indent=1) + "\n")
    if result.differences:
        raise VerificationFailed(f"{len(result.differences)} of {len(result.lines)} pairs differ")
    if "rtl" in forms and "integer" in forms:
        path = verified_path(core_digest(core), network.digest())
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(record, indent=1) + "\n")


def cli(argv=None):
    return main(_run, _parser(), argv)


if __name__ == "__main__":
    sys.exit(cli())
