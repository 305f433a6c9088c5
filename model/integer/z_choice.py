"""Width and fraction of z for every layer, chosen from pictures. NumPy only.

`sensitivity` runs each layer that makes a z, and the 1x1 convolution that reads it, on the inputs
that they have in the network, and counts how many levels behind them differ from those of an exact
z, for every width. Down from the widest, `ladder` takes away the bit that makes the fewest more
levels differ for the multiply-accumulates that it saves, one after the other. `choose` looks for
the last rung that is as good on validation pictures as it must be, by bisection. It goes by the
mean probability of the right class, which moves less by chance than the number of right answers
does, and takes a rung only if that is good enough, too.

Levels are compared from equal inputs because a level that differs early spreads through all that
follow, whatever its cause (docs/model.md 5).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model.families.base import NetworkSpec
from model.integer.epilogue import Fire, IntegerParams, Integrate, WIDE
from model.integer.export import build, Layer, z_layers
from model.integer.graph import Conv
from model.integer.network import IntegerNetwork


__all__ = ["BITS_MIN", "Option", "Rung", "ZChoice", "choose", "ladder", "reader_macs",
           "sensitivity", "with_z"]


BITS_MIN = 4
"""Narrowest z that is tried; the hardware computes with no less."""

FRACTIONS = 4
"""Fractions that are tried with a width: the finest at which nothing clips, and finer ones."""


@dataclass(frozen=True)
class Option:
    """The best fraction bits for a width of a layer's z, and the share of levels that differ."""

    frac: int
    share: float


Options = Mapping[str, Mapping[int, Option]]
"""Options of every layer, by its bits."""

Bits = Mapping[str, int]
"""Width of every layer's z."""

Progress = Callable[[int], object]


@dataclass(frozen=True)
class Rung:
    """Widths that were tried, and what they do on the validation pictures.

    hits, pictures that they get right; won, those of them that the widths to compare with get
    wrong; lost, the other way round; sure, the mean probability (softmax) of the right class.
    """

    bits: Bits
    hits: int
    won: int
    lost: int
    sure: float


@dataclass(frozen=True)
class ZChoice:
    """What `choose` found.

    params: widths to export with, those given if no rung is good enough. options: by layer and
    bits. macs: of what reads each z. hits, sure: of the given widths, on `count` pictures, as in
    `Rung`. tried: rungs in the order in which they were tried. taken: one of them, or None.
    """

    params: IntegerParams
    options: Options
    macs: Mapping[str, int]
    hits: int
    sure: float
    count: int
    tried: Sequence[Rung]
    taken: Rung | None

    @property
    def mean_bits(self) -> float:
        """Mean width over the multiply-accumulates that read a z."""
        bits = {name: self.params.z_bits_for(name) for name in self.macs}
        return sum(self.macs[name] * bits[name] for name in bits) / sum(self.macs.values())


def reader_macs(network: IntegerNetwork) -> dict[str, int]:
    """Multiply-accumulates an image of the convolution that reads each layer's z, by layer."""
    macs = {}
    for name, reader in _readers(network).items():
        _, _, height, width = network.tensors()[next(iter(reader.outputs))]
        macs[name] = height * width * reader.weight.size
    return macs


def sensitivity(
    layers: Mapping[str, Layer],
    spec: NetworkSpec,
    params: IntegerParams,
    image_q: NDArray[np.int8],
    *,
    batch: int = 16,
    progress: Progress | None = None,
) -> dict[str, dict[int, Option]]:
    """The `Option` for every width of each layer's z, from BITS_MIN up to the z_bits of `params`.

    Args:
        layers: Of `model.integer.export.fold`.
        params: Widths of the network that gives each layer its inputs.
        image_q: Calibration pictures (N, C, H, W), N >= 1; they are gone through twice.
        progress: Called with the number of pictures done after every batch.

    Raises:
        ValueError: If accumulators are too narrow for a z of z_bits.
    """
    shape = image_q.shape[1:]
    network = build(layers, spec, params, input_shape=shape)
    exact = _Pairs(build(layers, spec, form="wide", input_shape=shape))
    one = replace(params, z_bits_of=(), z_frac_of=())
    whole = _whole_bits(network, exact, image_q, batch, progress)
    widths = range(BITS_MIN, params.z_bits + 1)
    fracs = {(name, bits): range(low := max(0, bits - 1 - size), low + FRACTIONS)
             for name, size in whole.items() for bits in widths}
    pairs = {frac: _Pairs(build(layers, spec, replace(one, z_frac=frac), input_shape=shape))
             for frac in sorted({frac for tried in fracs.values() for frac in tried})}
    differing = {(name, bits, frac): 0 for (name, bits), tried in fracs.items() for frac in tried}
    total = dict.fromkeys(whole, 0)
    for name, acc, u in _inputs(network, image_q, batch, progress):
        raised = None if u is None else np.floor(
            np.ldexp(u.astype(np.float64), WIDE.u_frac - params.u_frac)).astype(np.int64)
        wanted = exact.levels(name, acc, raised)
        total[name] += wanted.size
        for bits in widths:
            for frac in fracs[name, bits]:
                made = pairs[frac].levels(name, acc, u, bits)
                differing[name, bits, frac] += int(np.count_nonzero(made != wanted))
    options: dict[str, dict[int, Option]] = {name: {} for name in whole}
    for (name, bits), tried in fracs.items():
        best = min(tried, key=lambda frac: differing[name, bits, frac])
        options[name][bits] = Option(best, differing[name, bits, best] / total[name])
    return options


def ladder(options: Options, macs: Mapping[str, int]) -> list[dict[str, int]]:
    """Widths of all layers, from the widest on; each rung has one bit less than the one before."""
    bits = {name: max(known) for name, known in options.items()}
    rungs = [dict(bits)]

    def price(name: str) -> float:
        narrower, now = options[name][bits[name] - 1], options[name][bits[name]]
        return (narrower.share - now.share) / macs[name]

    while wide := [name for name in bits if bits[name] - 1 in options[name]]:
        bits[min(wide, key=price)] -= 1
        rungs.append(dict(bits))
    return rungs


def with_z(params: IntegerParams, options: Options, bits: Bits) -> IntegerParams:
    """`params` with these widths of z, and the best fraction for each."""
    fracs = tuple((name, options[name][b].frac) for name, b in bits.items())
    return replace(params, z_bits_of=tuple(bits.items()), z_frac_of=fracs)


def choose(
    options: Options,
    macs: Mapping[str, int],
    params: IntegerParams,
    logits: Callable[[IntegerParams], NDArray[np.float64]],
    labels: NDArray[np.int64],
    *,
    points: float = 0.1,
) -> ZChoice:
    """The narrowest rung of the `ladder` that costs at most `points` of accuracy.

    Args:
        options, macs: Of `sensitivity` and `reader_macs`.
        params: Widths to compare with.
        logits: Class scores (N, classes) of validation pictures by a network of these widths.
        labels: Their classes (N,).
        points: Percentage points that may be lost, of accuracy and of the mean probability of the
            right class.
    """
    def answers(tried: IntegerParams) -> tuple[NDArray[np.bool_], float]:
        """Which pictures are right, and the mean probability of the right class."""
        scores = logits(tried)
        likely = np.exp(scores - scores.max(axis=1, keepdims=True))
        right = np.take_along_axis(likely, labels[:, None], axis=1)[:, 0] / likely.sum(axis=1)
        return scores.argmax(axis=1) == labels, float(right.mean())

    before, sure = answers(params)
    hits, rungs, tried = int(before.sum()), ladder(options, macs), []
    taken = None
    good, bad = -1, len(rungs)
    while bad - good > 1:
        middle = (good + bad) // 2
        now, likely = answers(with_z(params, options, rungs[middle]))
        rung = Rung(rungs[middle], int(now.sum()), int((now & ~before).sum()),
                    int((before & ~now).sum()), likely)
        tried.append(rung)
        if 100 * (sure - rung.sure) > points:
            bad = middle
        else:
            good = middle
            if 100 * (hits - rung.hits) <= points * len(labels):
                taken = rung    # each good one is narrower than the good ones before
    chosen = params if taken is None else with_z(params, options, taken.bits)
    return ZChoice(chosen, options, macs, hits, sure, len(labels), tried, taken)


def _readers(network: IntegerNetwork) -> dict[str, Conv]:
    """The convolution that reads each layer's z, by the name of the layer."""
    by_source = {op.source: op for op in network.ops if isinstance(op, Conv)}
    return {name: by_source[next(iter(op.outputs))]
            for name, op in z_layers(network.ops).items()}


def _inputs(network: IntegerNetwork, image_q: NDArray[np.int8], batch: int,
            progress: Progress | None) -> Iterator[tuple[str, NDArray, NDArray | None]]:
    """(layer with a z, its accumulators, membrane that its reader adds to) of every batch."""
    layers, readers = z_layers(network.ops), _readers(network)
    added = {name: next(iter(reader.epilogue.inputs), None) for name, reader in readers.items()}
    keep = {op.source for op in layers.values()} | {u for u in added.values() if u is not None}
    for start in range(0, len(image_q), batch):
        part = image_q[start : start + batch]
        tensors = network.run(part, keep=keep)
        for name, op in layers.items():
            u = added[name]
            yield name, op.accumulate(tensors[op.source]), None if u is None else tensors[u]
        if progress is not None:
            progress(len(part))


def _whole_bits(network: IntegerNetwork, exact: "_Pairs", image_q: NDArray[np.int8], batch: int,
                progress: Progress | None) -> dict[str, int]:
    """n for every layer: each |z| is below 2^n."""
    largest = dict.fromkeys(z_layers(network.ops), 0)
    for name, acc, _ in _inputs(network, image_q, batch, progress):
        largest[name] = max(largest[name], int(np.abs(exact.z(name, acc)).max()))
    return {name: int(np.frexp(value / 2.0**WIDE.z_frac)[1]) for name, value in largest.items()}


class _Pairs:
    """The layers of a network that make a z, and the convolutions that read it."""

    def __init__(self, network: IntegerNetwork) -> None:
        self._params, self._layers = network.params, z_layers(network.ops)
        self._readers = _readers(network)

    def z(self, name: str, acc: NDArray, params: IntegerParams | None = None) -> NDArray:
        """z of a layer's accumulators."""
        epilogue = self._layers[name].epilogue
        made = epilogue.apply(acc, {}, params or self._params, {})
        return made[next(iter(epilogue.outputs))]

    def levels(self, name: str, acc: NDArray, u: NDArray | None, bits: int | None = None
               ) -> NDArray:
        """Levels behind a z of these bits, where the reader adds to membrane `u` if it does."""
        params = self._params if bits is None else replace(self._params, z_bits=bits)
        reader = self._readers[name]
        end = reader.epilogue
        if not isinstance(end, Fire | Integrate) or end.level is None:
            raise ValueError(f"{reader.name}: fires no levels that could tell what z is worth")
        sums = reader.accumulate(self.z(name, acc, params))
        tensors = {} if u is None else dict.fromkeys(end.inputs, u)
        return end.apply(sums, tensors, params, {})[end.level]
