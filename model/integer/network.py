"""The integer network: a graph of few operator kinds and its executor. NumPy only, no torch.

This is the definition of "correct" for everything that comes after it (compiler, RTL, board).
The graph's vocabulary (`model.integer.graph`, `model.integer.epilogue`) can be imported from here
as well.
Tensor names:

- "image", int8 (C, H, W), the input in units of 1/48, or (T, C, H, W), T of them for one result;
- a neuron's module name, such as "block3.0.attn.q_lif": its level map, 0..D;
- "<step>/u": the membrane after that residual step, such as "block3.0.mlp/u";
- "<layer>/z": the multi-bit map inside a SepConv ("….dwconv/z") or RepConv ("….q_conv/z"), and
  "mean/z", the mean membrane in front of a head without a neuron;
- "<block>/ktv", "<block>/qktv": attention products, for inspection;
- "logits_acc", the last accumulators, and "logits", the same as float64 class scores; of a
  network with other outputs "<output>_acc" and "<output>", such as "cls8" or "seg", whole maps.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import fields, is_dataclass
import hashlib
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.data.dataset import DataInfo
from model.integer import golden
from model.integer.epilogue import (
    Epilogue,
    Fire,
    IntegerParams,
    Integrate,
    LOGITS,
    Raw,
    RealScale,
    Requantise,
    Scale,
    Stats,
    Thresholds,
    USUAL,
    WIDE,
)
from model.integer.graph import (
    Attention,
    Conv,
    Depthwise,
    IMAGE_MAX,
    Mean,
    Op,
    Pool,
    RepConv,
)


__all__ = [
    "WIDE",
    "Attention",
    "Conv",
    "Depthwise",
    "Epilogue",
    "Fire",
    "IntegerNetwork",
    "IntegerParams",
    "Integrate",
    "Mean",
    "Op",
    "Pool",
    "Raw",
    "RealScale",
    "RepConv",
    "Requantise",
    "Scale",
    "Thresholds",
]

STATS = (
    *("z_saturated", "u_saturated", "ktv_saturated", "qktv_saturated"),
    *("zero_scale", "negative_scale", "threshold_clipped"),
)
"""Counters that `IntegerNetwork.run` adds to: elements clipped (the first four, over all images;
attention entries of at least the last threshold), then channels and thresholds of the network,
once a call."""

_SUMMED = (f"{LOGITS}_acc", LOGITS)
"""Tensors that T time steps have together."""

_SOURCE_KINDS: dict[type, tuple[str, ...]] = {
    Conv: ("image", "level", "z"),
    Depthwise: ("level",),
    RepConv: ("level",),
    Attention: ("level",),
    Pool: ("u",),
    Mean: ("u",),
}


class IntegerNetwork:
    """A checked, immutable graph that can be run.

    Parameters
    ----------
    spec
        The spec of the network as a plain dictionary; kept, not interpreted.
    params
        Widths of the arithmetic.
    ops
        Operators in execution order; each source is "image" or made by an earlier operator.
    input_shape
        (C, H, W) of the image, or (T, C, H, W) of T > 1 images whose results are averaged: neurons
        have no state, so that all but the last operator sees each of them alone, and `Raw.steps` of
        the last one is T.
    origin
        What the weights are if they were not trained, "" otherwise; kept, not interpreted.
    info
        Class names and fitting of the pictures it was trained on, if known; not interpreted.
    read_out
        Level maps and membranes that are outputs, beside those of `Raw`.

    The attribute `levels` is D, the highest level of its neurons; `time_steps` is T, 1 for single
    images; `outputs` has its outputs, in order: name of the tensor that is read out (such as
    "logits_acc", or a level map), by name of the output ("logits", or the map's own).

    Raises
    ------
    ValueError
        If the graph is not well formed, or an accumulator may need more than `params.acc_bits`
        bits (the sum of a `Mean` has as many as int64 leaves to it); the message names the layer,
        the bits needed and those available.
    """

    def __init__(
        self,
        spec: dict[str, Any],
        params: IntegerParams,
        ops: Iterable[Op],
        input_shape: tuple[int, ...],
        origin: str = "",
        info: DataInfo | None = None,
        read_out: Iterable[str] = (),
    ) -> None:
        self.spec, self.params, self.ops = spec, params, tuple(ops)
        self.read_out = tuple(read_out)
        self.origin, self.info = origin, info
        self.input_shape = tuple(map(int, input_shape))
        self.time_steps = self.input_shape[0] if len(self.input_shape) == 4 else 1
        if len(self.input_shape) not in (3, 4):
            raise ValueError(f"input_shape must be (C, H, W) or (T, C, H, W), not {input_shape}")
        fired = {op.levels for op in map(_firing, self.ops) if op is not None}
        if len(fired) > 1:
            raise ValueError(f"every neuron must fire the same levels, not up to {sorted(fired)}")
        self.levels = fired.pop() if fired else golden.MAX_LEVEL
        self._tensors = self._check()
        self.outputs = self._check_outputs()

    def tensors(self) -> dict[str, tuple[str, int, int, int]]:
        """Name -> (kind, C, H, W), in order of creation, the image first; of one time step.

        Kinds: "image" int8, "level" 0..D (`levels`), "z" and "u" signed of
        params.z_bits_for(name) and params.u_bits, "raw" signed accumulators of at most
        params.acc_bits.
        """
        return dict(self._tensors)

    def z_widths(self) -> dict[str, int]:
        """Signed width of every z, by its name."""
        return {name: self.params.z_bits_for(name)
                for name, (kind, *_) in self._tensors.items() if kind == "z"}

    def acc_bounds(self, op: Op) -> tuple[NDArray[np.int64], ...]:
        """Largest |accumulator| of every channel of `op`, sum|q| * max|input|, worst case.

        One array (O,); for RepConv two, after its 1x1 and after its 3x3; none for Attention and
        Pool, which have no accumulator of this kind. Of the last operator it is the sum over the
        time steps.
        """
        if isinstance(op, Attention | Pool):
            return ()
        kind = self._tensors[op.source][0]
        largest = {"image": IMAGE_MAX, "level": self.levels,
                   "z": 1 << (self.params.z_bits_for(op.source) - 1),
                   "u": 1 << (self.params.u_bits - 1)}
        bounds = op.acc_bounds(largest[kind])
        steps = op.epilogue.steps if isinstance(op.epilogue, Raw) else 1
        return tuple(bound * steps for bound in bounds)

    def acc_bound(self, op: Op) -> int:
        """Largest |accumulator| of `op` over all channels and steps; 0 for Attention and Pool."""
        return max((int(bound.max()) for bound in self.acc_bounds(op)), default=0)

    def run(
        self,
        image_q: NDArray[np.int8],
        *,
        keep: Collection[str] | None = None,
        stats: Stats | None = None,
        force: Mapping[str, NDArray] | None = None,
    ) -> dict[str, NDArray]:
        """Run images (N, C, H, W), or N samples of T images, at once; return tensors by name.

        Args:
            image_q: (N, C, H, W), with T time steps (N, T, C, H, W).
            keep: Names to return; None returns every tensor, each (N, C, H, W) except "logits"
                (N, classes) and "<block>/ktv" (N, heads, d, d). Others are freed early. With T time
                steps all but "logits" and "logits_acc" are (N, T, ...).
            stats: Counters to add to, see `STATS`.
            force: Tensors that later operators see instead of the computed ones, which are
                returned all the same; for layer-by-layer comparison with stored tensors.

        Raises:
            ValueError: If `image_q` has another type or shape, or a name in `keep` is unknown.
        """
        image_q, steps = self._check_images(image_q), self.time_steps
        tensors: dict[str, NDArray] = {"image": image_q.reshape(-1, *self.input_shape[-3:])}
        if steps > 1 and force:
            force = {name: value.reshape(-1, *value.shape[2:]) for name, value in force.items()}
        kept: dict[str, NDArray] = {}
        counters: Stats = {} if stats is None else stats
        for key in STATS:
            counters.setdefault(key, 0)
        last_use = {name: op for op in self.ops for name in op.inputs}
        for op in self.ops:
            op.count(counters, self.params)
            made = op.run(tensors, self.params, counters)
            tensors.update({name: (force or made).get(name, made[name]) for name in op.outputs})
            kept.update({k: v for k, v in made.items() if keep is None or k in keep})
            for name in {*op.inputs, *op.outputs}:
                if last_use.get(name) in (op, None):
                    tensors.pop(name, None)
        if keep is not None and not set(keep) <= set(kept):
            raise ValueError(f"network has no tensor {', '.join(sorted(set(keep) - set(kept)))}")
        if steps == 1:
            return kept
        return {name: x if name in _SUMMED else x.reshape(-1, steps, *x.shape[1:])
                for name, x in kept.items()}

    def run_batched(
        self,
        image_q: NDArray[np.int8],
        *,
        batch: int = 64,
        keep: Collection[str] | None = ("logits",),
        stats: Stats | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> dict[str, NDArray]:
        """`run` on about `batch` images at a time, results joined; memory grows with `keep` only.

        Args:
            progress: Called with the number of samples done after every batch.
        """
        parts = []
        batch = -(-batch // self.time_steps)
        for start in range(0, len(image_q), batch):
            # Constants are counted once, not once a batch.
            counters: Stats | None = {} if start else stats
            parts.append(self.run(image_q[start : start + batch], keep=keep, stats=counters))
            if stats is not None and counters is not stats and counters is not None:
                for key in STATS[:4]:
                    stats[key] += counters[key]
            if progress is not None:
                progress(len(parts[-1][next(iter(parts[-1]))]))
        if not parts:
            return self.run(image_q, keep=keep, stats=stats)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def classify(
        self,
        image_q: NDArray[np.int8],
        *,
        batch: int = 64,
        progress: Callable[[int], object] | None = None,
    ) -> NDArray[np.float64]:
        """Class scores (N, classes) of images (N, C, H, W) or samples (N, T, C, H, W)."""
        return self.run_batched(image_q, batch=batch, progress=progress)["logits"]

    def results(
        self,
        image_q: NDArray[np.int8],
        *,
        batch: int = 64,
        progress: Callable[[int], object] | None = None,
    ) -> dict[str, NDArray]:
        """Every output of images (N, C, H, W) or samples (N, T, C, H, W), by name.

        "logits" (N, classes) float64, other outputs of `Raw` (N, O, H, W) float64; level maps and
        membranes that are read out as the integers that they are.
        """
        return self.run_batched(image_q, batch=batch, progress=progress, keep=tuple(self.outputs))

    def digest(self) -> str:
        """SHA-256 in hex of widths, graph and every constant: equal only for equal behaviour."""
        state = hashlib.sha256(repr(self.input_shape).encode())
        state.update(json.dumps(self.params.to_dict(), sort_keys=True).encode())
        for op in self.ops:
            _update(state, op)
        if self.read_out:
            state.update(json.dumps(self.read_out).encode())
        return state.hexdigest()

    def listing(self) -> list[dict[str, Any]]:
        """The graph without its constants, as JSON-able rows: op, name, inputs, outputs."""
        return [
            {"op": type(op).__name__, "name": op.name, "inputs": [*op.inputs]}
            | {"outputs": [*op.outputs]}
            for op in self.ops
        ]

    def _check(self) -> dict[str, tuple[str, int, int, int]]:
        channels, height, width = self.input_shape[-3:]
        known: dict[str, tuple[str, int, int, int]] = {"image": ("image", channels, height, width)}
        self._tensors = known
        for op in self.ops:
            for name in op.inputs:
                if name not in known:
                    raise ValueError(f"{op.name}: source {name} is not made by an earlier layer")
            main = 3 if isinstance(op, Attention) else 1
            for position, name in enumerate(op.inputs):
                wanted = _SOURCE_KINDS[type(op)] if position < main else ("u",)
                if known[name][0] not in wanted:
                    raise ValueError(
                        f"{op.name}: source {name} must be {' or '.join(wanted)}, "
                        f"not {known[name][0]}"
                    )
            *others, source = (known[name][1:] for name in op.inputs[:main])
            shape = op.shape(*source)
            if min(shape) < 1:
                raise ValueError(f"{op.name}: no output is left of {source}")
            rule = getattr(op, "epilogue", None)
            added = rule.added_shape(*shape) if isinstance(rule, Integrate) else shape
            wanted_sizes = [(name, added) for name in op.inputs[main:]]
            if others:    # query and key, which may have other channels than the value
                query = op.shape(others[0][0], *source[1:])
                wanted_sizes += [(name, query) for name in op.inputs[:2]]
            for name, size in wanted_sizes:
                if known[name][1:] != size:
                    raise ValueError(f"{op.name}: {name} is {known[name][1:]}, not {size}")
            for name, kind in op.outputs.items():
                if name in known:
                    raise ValueError(f"{op.name}: {name} is made twice")
                known[name] = (kind, *shape)
            if isinstance(rule, Raw):
                self._check_raw(op, rule, known)
            needed, params = self.acc_bound(op).bit_length() + 1, self.params
            if isinstance(op, Mean) and needed + params.mult_bits > 63:
                raise ValueError(f"{op.name}: the sum of membranes needs {needed} bits; at most "
                                 f"{63 - params.mult_bits} are possible with mult_bits "
                                 f"{params.mult_bits}")
            if not isinstance(op, Mean) and needed > params.acc_bits:
                raise ValueError(f"{op.name}: accumulator needs {needed} bits, acc_bits is "
                                 f"{params.acc_bits}")
        return known

    def _check_raw(self, op: Op, raw: Raw, known: Mapping[str, tuple[str, int, int, int]]) -> None:
        if raw.steps != self.time_steps:
            raise ValueError(f"{op.name}: adds up {raw.steps} time steps, images have "
                             f"{self.time_steps}")
        _, _, height, width = known[raw.acc]
        if raw.name == LOGITS and (height, width) != (1, 1):
            raise ValueError(f"{op.name}: {LOGITS} are of one position, not of {height} x {width}; "
                             "give the map another name")
        if raw.on_host and not (isinstance(op, Conv) and known[op.source][0] == "level"
                                and op.weight.shape[2:] == (1, 1) and op.stride == 1):
            raise ValueError(f"{op.name}: the host computes 1x1 convolutions of level maps only")

    def _check_outputs(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for op in self.ops:
            raw = getattr(op, "epilogue", None)
            if isinstance(raw, Raw):
                if raw.name in self._tensors:
                    raise ValueError(f"{op.name}: output {raw.name} has the name of a tensor")
                found[raw.name] = raw.acc
        for name in self.read_out:
            if self._tensors.get(name, ("",))[0] not in ("level", "u") or name in found:
                raise ValueError(f"read_out must name level maps or membranes, each once, "
                                 f"not {name}")
            found[name] = name
        if self.time_steps > 1 and (*found,) != (LOGITS,):
            raise ValueError(f"images of {self.time_steps} time steps are for class scores only, "
                             f"not for {', '.join(found)}")
        return found

    def _check_images(self, image_q: NDArray) -> NDArray[np.int8]:
        if image_q.dtype != np.int8 or image_q.shape[1:] != self.input_shape:
            raise ValueError(
                f"images must be int8 (N, {', '.join(map(str, self.input_shape))}), "
                f"not {image_q.dtype} {image_q.shape}"
            )
        return image_q


def _firing(op: Op) -> Attention | Pool | Fire | Integrate | None:
    """What of an operator fires levels, None if nothing does."""
    part = op if isinstance(op, Attention | Pool) else op.epilogue
    if isinstance(part, Integrate) and part.level is None:
        return None
    return part if isinstance(part, Attention | Pool | Fire | Integrate) else None


def _update(state: "hashlib._Hash", value: object) -> None:
    """Feed a (nested) frozen dataclass to a hash: type names, field names, plain values, arrays.

    A field with a usual value counts only where it says something else, so that networks keep their
    digest when an operator gets another field.
    """
    if is_dataclass(value):
        state.update(type(value).__name__.encode())
        for item in fields(value):
            usual = item.metadata.get(USUAL)
            if usual is not None and getattr(value, item.name) == usual(value):
                continue
            state.update(item.name.encode())
            _update(state, getattr(value, item.name))
    elif isinstance(value, np.ndarray):
        state.update(f"{value.dtype.str}{value.shape}".encode())
        state.update(np.ascontiguousarray(value).tobytes())
    else:
        state.update(repr(value).encode())
