"""How every tensor of a network is laid out on a core, and whether the core's widths hold it."""

from dataclasses import dataclass

import numpy as np

from gen.compile.fold import choose_folds, Fold
from gen.compile.layout import FeatureMap, head_lanes, head_slot
from gen.compile.supported import rounding, whole_levels
from gen.compile.wide import halves_bound, has_wide
from gen.isa.limits import MAP_SIZE, POSITION_WORDS
from hw.config import attention_bits_min, attention_cap, LEVELS_MAX, MEMBRANE_BITS, Z_BITS_MIN
from model.error import DoesNotFit, InputError
from model.integer.graph import Attention, Conv, Depthwise, Pool, Raw, RepConv


__all__ = ["NetworkMaps", "attention_bits", "check", "depthwise_half", "make_maps",
           "upper_half_unused"]


@dataclass(frozen=True)
class NetworkMaps:
    """Layouts of a network's tensors.

    ``maps`` has the :class:`gen.compile.layout.FeatureMap` of every tensor by name, as its maker
    sees it, ``folds`` the :class:`gen.compile.fold.Fold` of every convolution; ``stem`` are the
    arguments of :func:`gen.compile.layout.im2col` for the image.
    """

    maps: dict
    folds: dict
    stem: dict


def make_maps(network, config, most_fold):
    """Lay out every tensor of a network; ``most_fold`` as in :func:`gen.compile.compile_network`.

    Returns
    -------
    NetworkMaps
    """
    rows = config.rows
    tensors = network.tensors()
    maps, slots = {}, {}
    for op in network.ops:
        if isinstance(op, Attention):
            slots |= _attention_lanes(op, tensors, rows)
    first = network.ops[0]
    folds, shared, copies = choose_folds(network.ops, tensors, rows, most_fold,
                                         config.psum_words)
    for op in network.ops:
        fold = folds.get(op.name, Fold()).target
        for name, kind in op.outputs.items():
            maps[name] = FeatureMap.make(
                name, "u" if kind == "raw" else kind, tensors[name][1:], config, slots.get(name),
                shared.get(name, 1), z_bits=network.params.z_bits_for(name),
                copies=copies.get(name, (1, False))[0],
                whole=copies.get(name, (1, False))[1]).folded(fold)
    if network.time_steps > 1:
        source = network.ops[-1].inputs[0]
        if not any(isinstance(op, Pool) and op.level == source for op in network.ops):
            raise ValueError(f"The last operator must read a mean to add up "
                             f"{network.time_steps} images, not {source}")
        maps[source] = maps[source].of_steps(network.time_steps)
    if not (isinstance(first, Conv) and first.source == "image"):
        raise ValueError(f"The first operator must be a convolution of the image, "
                         f"not {first.name}")
    kernel = first.weight.shape[-1]
    out = maps[next(iter(first.outputs))]
    # The host hands over patches, so the stem is a 1x1 convolution (docs/decisions).
    stem = {"kernel": kernel, "stride": first.stride, "padding": first.padding,
            "fold": out.fold}
    if out.fold > 1 and out.fold * out.channels > rows:
        stem["columns_first"] = True    # else every output group needs all of a patch's words
    columns = kernel + first.stride * (out.fold - 1)
    maps["image"] = FeatureMap.make(
        "image", "image", (first.weight.shape[1] * kernel * columns, out.height, out.width),
        config)
    return NetworkMaps(maps, folds, stem)


def _attention_lanes(op, tensors, rows):
    """{name: channel of every lane} of what attention reads and makes.

    Heads that are wider in v than in q and k have words of v of their own. So they have words of q,
    while those of k are shared: where q is 0, the other heads of a word of k add nothing. One field
    has the stride of both, so k lies behind q, in the same positions.
    """
    channels = {name: tensors[name][1] for name in (op.query, op.key, op.value, op.level)}
    alone = channels[op.query] != channels[op.value]
    lanes = {name: head_lanes(count, op.heads, rows, alone=alone)
             for name, count in channels.items()}
    key = head_lanes(channels[op.key], op.heads, rows)
    if alone and op.query != op.key and len(key) < len(lanes[op.key]):
        query = np.full(len(lanes[op.query]), -1)
        used = np.flatnonzero(key >= 0)
        query[key[used] * op.heads // channels[op.key] * rows + used % rows] = key[used]
        lanes[op.query] = np.concatenate([query, np.full(len(key), -1)])
        lanes[op.key] = np.concatenate([np.full(len(query), -1), key])
    return lanes


def upper_half_unused(tensor, group):
    """Whether a channel group of a map has no channels in the upper half of its lanes."""
    return (tensor.only(group).lanes[tensor.rows // 2:] < 0).all()


def depthwise_half(network, rows):
    """Whether :attr:`hw.config.CoreConfig.depthwise_half` saves something."""
    tensors = network.tensors()
    return any(isinstance(op, Depthwise) and not has_wide(op)
               and 0 < tensors[op.source][1] % rows <= rows // 2 for op in network.ops)


def attention_bits(ops):
    """Least :attr:`hw.config.CoreConfig.attention_bits` with which no level of the operators
    depends on saturation."""
    attentions = [op for op in ops if isinstance(op, Attention)]
    bits = attention_bits_min(max((op.levels for op in attentions), default=LEVELS_MAX))
    while any(attention_cap(bits) < op.thresholds[-1] for op in attentions):
        bits += 1
    return bits


def check(network, config, maps):
    """Refuse what the widths of the core cannot hold, naming the resource: DoesNotFit.

    ``maps`` are those of :class:`NetworkMaps`.
    """
    params = network.params
    if rounding(network.ops) - {config.half_even}:
        raise InputError("Half even: levels of the network are rounded half "
                         f"{'up' if config.half_even else 'to even'}, those of the core half "
                         f"{'to even' if config.half_even else 'up'}; leave core.half_even out")
    if whole_levels(network.ops) and not config.whole_levels:
        raise InputError("Whole levels: the network has neurons that fire the membrane itself, "
                         "those of the core fire D times it; leave core.whole_levels out")
    if network.levels != config.levels:
        raise InputError(f"Levels: the network's are 0..{network.levels}, those of the core "
                         f"0..{config.levels}; leave core.levels out")
    for name, have, need in (
            ("Membrane fraction", config.membrane_frac, params.u_frac),
            ("Membrane width", MEMBRANE_BITS, params.u_bits),
            ("Accumulator width", config.acc_bits, params.acc_bits)):
        if have != need:
            raise DoesNotFit(f"{name} in bits (must be equal)", needed=need, available=have)
    for name, bits in network.z_widths().items():
        if bits < Z_BITS_MIN:
            raise InputError(f"{name} has {bits} bits, the core computes with {Z_BITS_MIN} at "
                             "least; see --z-bits-of")
        if bits > config.z_bits:
            raise DoesNotFit(f"Width of z in bits, for {name}", needed=bits,
                             available=config.z_bits)
    if params.mult_bits > config.multiplier_bits:
        raise DoesNotFit("multiplier bits", needed=params.mult_bits,
                         available=config.multiplier_bits)
    limit = 1 << (config.acc_bits - 1)
    for op in network.ops:
        if has_wide(op):
            if not config.wide_weights:
                raise InputError(f"Wide weights: {op.name} has weights of more than 4 bits, which "
                                 "the core does not multiply with; leave core.wide_weights out")
            bound = halves_bound(network, op)[0].max()
            if bound >= limit:
                raise DoesNotFit(f"largest accumulator of {op.name}, in halves",
                                 needed=int(bound), available=limit - 1)
        for stage, bound in enumerate(network.acc_bounds(op)):
            allowed = limit
            if isinstance(op, RepConv) and stage == 0:
                allowed = 1 << 17  # what the depthwise unit reads of a partial sum
            if isinstance(getattr(op, "epilogue", None), Raw):
                allowed = 1 << 15
            if bound.max() >= allowed:
                raise DoesNotFit(f"largest accumulator of {op.name}",
                                 needed=int(bound.max()), available=allowed - 1)
        if isinstance(op, Attention):
            size = maps[op.query].channels // op.heads
            words, _ = head_slot(size, config.rows)
            if words > config.head_words:
                raise DoesNotFit(f"words for heads of {size} channels in {op.name}",
                                 needed=words, available=config.head_words)
            bits = attention_bits([op])
            if bits > config.attention_bits:
                raise DoesNotFit(f"attention bits for {op.name}", needed=bits,
                                 available=config.attention_bits)
        if isinstance(op, Pool):
            source = maps[op.source]
            bits = MEMBRANE_BITS + (source.height * source.width - 1).bit_length()
            if bits > config.acc_bits:
                raise DoesNotFit(f"accumulator bits for the sums of {op.name}",
                                 needed=bits, available=config.acc_bits)
    for tensor in maps.values():
        for what, need, have in (
                ("rows or columns", max(tensor.height, tensor.width), MAP_SIZE),
                ("pool words per position", tensor.position_words, POSITION_WORDS)):
            if need > have:
                raise DoesNotFit(f"{what} of {tensor.name}", needed=need, available=have)
