"""Random networks paired with random core configurations, for tests of compiler and RTL."""

from dataclasses import replace

import numpy as np

from gen.compile.compiler import compile_network
from gen.compile.maps import attention_bits
from gen.compile.wide import has_wide
from hw.config import attention_bits_min, CoreConfig
from model.error import DoesNotFit
from model.families.qsdt import QsdtSpec
from model.families.sdt_v3 import SdtV3Spec
from model.families.spec import MODELS
from model.integer import golden
from model.integer.export import export
from model.integer.graph import (
    Attention,
    Conv,
    Fire,
    IntegerParams,
    Integrate,
    Pool,
    RepConv,
    Thresholds,
)
from model.integer.network import IntegerNetwork
from model.integer.random_network import random_network, random_state, with_heads


HEADS = (5, 9, 45, 80)


Z_LAYERS = ("dwconv", "q_conv", "k_conv", "v_conv", "proj_conv")
"""What layers with a z are called."""


def mixed_z(params, rng, *, most=None):
    """``params`` with another width and fraction of z for every kind of layer: the narrowest that
    hardware knows, ``most`` (or what the others have), and some between."""
    bits = [4, *rng.integers(4, (most or params.z_bits) + 1, len(Z_LAYERS) - 2).tolist(),
            most or params.z_bits]
    rng.shuffle(bits)
    fracs = np.minimum(rng.integers(1, 8, len(Z_LAYERS)), np.array(bits) - 1).tolist()
    return replace(params, z_bits_of=tuple(zip(Z_LAYERS, bits, strict=True)),
                   z_frac_of=tuple(zip(Z_LAYERS, fracs, strict=True)))


def random_case(seed, *, max_size=20, mixed=False, time_steps=1, family=QsdtSpec, levels=4):
    """(RandomNetwork, CoreConfig): widths, memory sizes and array side drawn from ``seed``.

    Every fourth case forces one of the head sizes that fit no word. With ``mixed``, layers have
    z of several widths, and some saturate. With ``time_steps`` the network takes so many images.
    ``family`` is one of :data:`model.families.spec.FAMILIES`; SDT-v3s are small.
    ``levels`` is the highest level.
    """
    rng = np.random.default_rng((seed, 77))
    frac = int(rng.integers(5, 13))
    acc_bits = int(rng.integers(25, 29))
    params = IntegerParams(acc_bits=acc_bits, u_frac=frac, z_frac=int(rng.integers(2, 7)),
                           z_bits=int(rng.integers(6, 15)), mult_bits=int(rng.integers(8, 19)))
    if mixed:
        params = mixed_z(params, np.random.default_rng((seed, 78)))
    if family is SdtV3Spec:
        found = random_network(seed, params=params, max_dim=24, max_size=12,
                               time_steps=time_steps, family=family, levels=levels)
    else:
        found = random_network(seed, params=params, max_size=max_size, time_steps=time_steps,
                               levels=levels, extremes=("z", "negative") if mixed else None,
                               head_size=HEADS[seed // 4 % len(HEADS)] if seed % 4 == 0 else None)
    rows = int(rng.choice([16, 32, 64]))
    config = CoreConfig(
        rows=rows, load_rows=int(rng.choice([rows // 4, rows // 2])),
        neuron_lanes=int(rng.choice([4, 8])), acc_bits=acc_bits, membrane_frac=frac,
        z_bits=params.z_bits,
        multiplier_bits=max(8, params.mult_bits), psum_words=int(rng.choice([128, 256, 512])),
        pool_bank_words=int(rng.choice([512, 1024, 2048])) * (64 // rows),
        weight_fifo_words=int(rng.choice([32, 64, 256])), head_words=8,
        attention_bits=max(attention_bits_min(levels) + seed % 5,
                           attention_bits(found.network.ops)),
        levels=levels,
        half_even=family.half_even, depthwise_half=seed % 3 == 1,
        wide_weights=any(map(has_wide, found.network.ops)),
        plane_skip=seed % 2 == 1 and params.z_bits >= 8)
    return found, config


def with_wide_values(network, factor):
    """The network with ``factor`` times as many channels of v, in each head: copies of those that
    are there, in another order."""
    rng, ops, heads = np.random.default_rng(factor), [], {}
    for op in network.ops:
        if isinstance(op, Attention):
            heads |= {op.value: op.heads, op.level: op.heads}

    def order(channels, count):
        """Places of the channels of every head, so many times."""
        places = np.arange(channels).reshape(count, -1)
        return np.stack([np.concatenate([rng.permutation(own) for _ in range(factor)])
                         for own in places]).reshape(-1)

    for op in network.ops:
        if isinstance(op, Conv) and isinstance(op.epilogue, Fire) and op.epilogue.level in heads:
            at, rule = order(len(op.weight), heads[op.epilogue.level]), op.epilogue.thresholds
            op = replace(op, weight=op.weight[at], epilogue=replace(
                op.epilogue, thresholds=Thresholds(
                    rule.thresholds[at], rule.invert[at], rule.constant[at])))
        elif isinstance(op, RepConv) and op.source in heads:
            at = order(op.pointwise.shape[1], heads[op.source])
            op = replace(op, pointwise=op.pointwise[:, at])
        ops.append(op)
    return IntegerNetwork(network.spec, network.params, ops, network.input_shape)


def headed(found, seed, **options):
    """The RandomNetwork with the heads of ``with_heads``, for images of a multiple of 16 columns,
    as the layout of upsampled membranes wants them."""
    channels, height, width = found.network.input_shape
    network = IntegerNetwork(found.network.spec, found.params, found.network.ops,
                             (channels, height, -(-width // 16) * 16))
    return with_heads(replace(found, network=network), seed, **options)


def compile_case(seed, **kwargs):
    """(RandomNetwork, Program): the pool is doubled until the network fits."""
    found, config = random_case(seed, **kwargs)
    while True:
        try:
            return found, compile_network(found.network, config)
        except DoesNotFit:
            config = replace(config, pool_bank_words=2 * config.pool_bank_words)


def ties(network, image_q):
    """How many levels of each kind of operator would differ if half did not go to even.

    Returns
    -------
    dict
        "u", of membranes; "mean", of their means; "attention".
    """
    made, frac, levels = network.run(image_q), network.params.u_frac, network.levels
    found = dict.fromkeys(("u", "mean", "attention"), 0)
    for op in network.ops:
        rule = getattr(op, "epilogue", None)
        if isinstance(rule, Integrate) and rule.level:
            u = made[rule.u_out].astype(np.int64)
            up, even = (golden.fire_membrane(u, u_frac=frac, levels=levels, half_even=half)
                        for half in (False, True))
            found["u"] += int((up != even).sum())
        elif isinstance(op, Pool):
            u = made[op.source].astype(np.int64)
            up, even = (golden.pool_fire(u, u_frac=frac, levels=levels, half_even=half)
                        for half in (False, True))
            found["mean"] += int((up != even).sum())
        elif isinstance(op, Attention):
            size = network.tensors()[op.query][1] // op.heads
            exact = made[f"{op.block}/qktv"].astype(np.int64)
            found["attention"] += sum(
                int((16 * exact**2 == ((2 * k - 1) * levels**3) ** 2 * size).sum())
                for k in range(1, levels + 1))
    return found


def at_the_top(network, image_q):
    """How often what makes levels is at the highest one, D: counts by kind of operator.

    Returns
    -------
    dict
        "u", of membranes that are worth a level above D; "fire", of
        sums that reach the last threshold; "attention", of its sums.
    """
    made, frac, levels = network.run(image_q), network.params.u_frac, network.levels
    found = dict.fromkeys(("u", "fire", "attention"), 0)
    for op in network.ops:
        rule = getattr(op, "epilogue", None)
        if isinstance(rule, Integrate) and rule.level:
            u = made[rule.u_out].astype(np.int64)
            found["u"] += int((levels * u >> frac > levels).sum())
            assert made[rule.level].max() <= levels
        elif isinstance(rule, Fire):
            found["fire"] += int((made[rule.level] == levels).sum())
        elif isinstance(op, Attention):
            found["attention"] += int((made[op.level] == levels).sum())
    return found


def folding_network(rows, fold, *, size=32, **changes):
    """A random network whose first maps have ``rows // fold`` channels, so that they fold.

    ``changes`` are those of its :class:`model.families.spec.QsdtSpec`.
    """
    spec = replace(MODELS["qsdt_nano"], dims=(rows // fold, rows, rows, rows, rows),
                   strides=(2, 2, 2, 1, 1), image_size=size,
                   **{"conv_expansion": (fold, 1, 1), "sep_expansion": fold, **changes})
    params = IntegerParams()
    state = random_state(np.random.default_rng(0), spec, params)
    return export(state, spec, params, input_shape=(1, size, size))
