"""Seeded random networks that reach every corner of the integer arithmetic. NumPy only.

For tests of compiler and hardware: a random state dict of the published layout, with batch norms
set so that levels stay spread over 0..4 and, on demand, constants at their extremes; exported by
the same code as a trained one.
"""

from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from model.families.base import code_range, NetworkSpec
from model.families.layout import state_shapes
from model.families.parts import Layer
from model.families.qsdt import QsdtSpec
from model.families.sdt_v3 import SdtV3Spec
from model.families.sdt_v3_large import SdtV3LargeSpec
from model.integer import fixed_point, golden
from model.integer.epilogue import Epilogue, Fire, IntegerParams, Integrate, Raw
from model.integer.export import export
from model.integer.graph import Conv
from model.integer.network import IntegerNetwork


HEAD_SIZES = (4, 5, 8, 9, 12, 16, 24, 32, 45, 80)
"""Channels of one attention head that `random_spec` draws from."""

EXTREMES = ("zero", "negative", "thresholds", "u", "z", "attention")
"""What `random_state` can push to the limit: zero scales, negative scales, thresholds beyond the
accumulator's range, saturated membranes, saturated z, attention products beyond the last threshold.
Layers of an SDT-v3 have no z."""


@dataclass(frozen=True, eq=False)
class RandomNetwork:
    """A network, what it was made from, and a shape for its images (C, H, W), maybe odd, or for
    samples of them (T, C, H, W)."""

    spec: NetworkSpec
    params: IntegerParams
    state: dict[str, NDArray]
    network: IntegerNetwork

    def images(self, count: int, seed: int = 0) -> NDArray[np.int8]:
        """Random images (count, C, H, W), or samples (count, T, C, H, W): one of each extreme first
        (-128, 127), then noise."""
        rng = np.random.default_rng((seed, 1))
        image_q = rng.integers(-128, 128, (count, *self.network.input_shape)).astype(np.int8)
        image_q[:1], image_q[1:2] = -128, 127
        return image_q


def random_network(
    seed: int,
    *,
    extremes: tuple[str, ...] | None = None,
    min_size: int = 8,
    max_size: int = 24,
    max_dim: int = 96,
    head_size: int | None = None,
    params: IntegerParams | None = None,
    time_steps: int = 1,
    family: type[NetworkSpec] = QsdtSpec,
    levels: int = golden.MAX_LEVEL,
) -> RandomNetwork:
    """Make network number `seed`; the same arguments give the same network.

    Args:
        extremes: Some of `EXTREMES`; None draws each with probability one half.
        min_size, max_size: Range of image height and width, drawn apart, odd and even.
        max_dim: Largest dim of a stage.
        head_size: Channels of a head; None draws from `HEAD_SIZES`.
        params: Widths; None draws them too.
        time_steps: Images of a result; nothing that is drawn depends on it.
        family: `QsdtSpec`, `SdtV3Spec` or `SdtV3LargeSpec`.
        levels: The highest level D; nothing that is drawn depends on it.

    Raises:
        ValueError: If an argument is out of range.
    """
    rng = np.random.default_rng((seed, 0))
    if extremes is None:
        extremes = tuple(name for name in EXTREMES if rng.random() < 0.5)
    if not set(extremes) <= set(EXTREMES):
        raise ValueError(f"extremes must be some of {', '.join(EXTREMES)}, not {extremes}")
    if not 1 <= min_size <= max_size or max_dim < 8:
        raise ValueError("sizes must satisfy 1 <= min_size <= max_size, and max_dim be at least 8")
    draw = {SdtV3Spec: random_sdt_v3, SdtV3LargeSpec: random_sdt_v3_large}.get(family, random_spec)
    spec: NetworkSpec = draw(rng, max_dim=max_dim, head_size=head_size, name=f"random{seed}")
    params = params or random_params(rng)
    if not spec.has_z:
        params = replace(params, z_frac_of=())
    height, width = (int(size) for size in rng.integers(min_size, max_size + 1, 2))
    if "attention" in extremes:
        tokens = {SdtV3Spec: 64, SdtV3LargeSpec: 144}.get(family, 25)
        spec = _with_tokens(spec, height, width, tokens)
    state = random_state(rng, spec, params, extremes)
    spec = replace(spec, time_steps=time_steps, levels=levels)
    shape: tuple[int, ...] = (spec.in_channels, height, width)
    if time_steps > 1:
        shape = (time_steps, *shape)
    return RandomNetwork(spec, params, state, export(state, spec, params, input_shape=shape))


def _with_tokens(spec: NetworkSpec, height: int, width: int, wanted: int) -> NetworkSpec:
    """Lower strides, the last first, until attention sees `wanted` tokens, enough to saturate."""
    strides = list(spec.strides)
    for i in reversed(range(len(strides))):
        reduction = int(np.prod(strides))
        if -(-height // reduction) * -(-width // reduction) >= wanted:
            break
        strides[i] = 1
    return replace(spec, strides=tuple(strides))


def random_spec(
    rng: np.random.Generator, *, max_dim: int = 96, head_size: int | None = None, name: str
) -> QsdtSpec:
    """Draw dims 8..max_dim, head size, strides, depths of 1 or 2, ratios, 1 or 3 channels, bits."""

    def pick(*values: int) -> int:
        return int(rng.choice(values))

    fitting = [size for size in HEAD_SIZES if size <= max_dim]
    d = head_size or pick(*fitting)
    if d > max_dim:
        raise ValueError(f"head_size must be at most max_dim {max_dim}, not {d}")
    most = max_dim // d
    heads = pick(*range(-(-8 // d), min(most, 4) + 1)) if most > 1 else 1
    last = [d * heads * pick(*range(1, most // heads + 1)) for _ in range(2)]
    strides = tuple(pick(1, 2) for _ in range(5))
    reduction = int(np.prod(strides))
    channels = pick(1, 3)
    return QsdtSpec(
        name=name,
        in_channels=channels,
        image_size=-(-16 // reduction) * reduction,  # nominal: the network runs at any size
        classes=pick(2, 7, 10, 33),
        dims=(*(int(x) for x in rng.integers(8, min(64, max_dim) + 1, 3)), *last),
        strides=strides,
        depths=tuple(pick(1, 1, 2) for _ in range(5)),
        stem_kernel=pick(3, 5, 7),
        sep_expansion=pick(1, 2),
        conv_expansion=tuple(pick(1, 2) for _ in range(3)),
        mlp_ratio=pick(1, 2),
        heads=heads,
        weight_bits=pick(2, 3, 4),
        norm_mean=(0.5,) * channels,
        norm_std=(0.25,) * channels,
    )


def random_sdt_v3(
    rng: np.random.Generator, *, max_dim: int = 96, head_size: int | None = None, name: str
) -> SdtV3Spec:
    """The same for an SDT-v3, with values of 1, 2 or 4 times as many channels, and up to 8 bits.

    One in three has heads of 4, 9 or 16 channels, where an attention's sum can be a tie.
    """
    if head_size is None and rng.random() < 0.33:
        head_size = int(rng.choice([size for size in (4, 9, 16) if size <= max_dim]))
    drawn = random_spec(rng, max_dim=max_dim, head_size=head_size, name=name)
    shared = {item.name: getattr(drawn, item.name) for item in fields(NetworkSpec)}
    shared |= {"weight_bits": int(rng.choice((2, 3, 4, 8))),
               "value_expansion": int(rng.choice((1, 2, 4)))}
    return SdtV3Spec(**shared)


def random_sdt_v3_large(
    rng: np.random.Generator, *, max_dim: int = 96, head_size: int | None = None, name: str
) -> SdtV3LargeSpec:
    """The same for a large SDT-v3, with and without a 1x1 convolution in front of the attention."""
    drawn = random_sdt_v3(rng, max_dim=max_dim, head_size=head_size, name=name)
    shared = {item.name: getattr(drawn, item.name) for item in fields(NetworkSpec)}
    count = len(SdtV3LargeSpec.stages)
    shared |= {key: shared[key][:count] for key in ("dims", "strides", "depths")}
    return SdtV3LargeSpec(**shared, rep_conv=bool(rng.random() < 0.5))


def random_params(rng: np.random.Generator) -> IntegerParams:
    """Draw widths that any `random_spec` up to 96 channels fits; one in four is the default."""
    if rng.random() < 0.25:
        return IntegerParams()
    u_frac, z_frac = int(rng.integers(5, 13)), int(rng.integers(2, 9))
    overrides = (("proj_conv", max(z_frac - 1, 0)),) if rng.random() < 0.5 else ()
    return IntegerParams(
        u_frac=u_frac,
        u_bits=int(rng.integers(u_frac + 3, 19)),
        z_frac=z_frac,
        z_bits=int(rng.integers(z_frac + 2, 13)),
        z_frac_of=overrides,
        mult_bits=int(rng.integers(8, 19)),
    )


def random_state(
    rng: np.random.Generator, spec: NetworkSpec, params: IntegerParams,
    extremes: tuple[str, ...] = (),
) -> dict[str, NDArray]:
    """Draw a state dict of `spec` with the `extremes` named, as far as `params` limits them."""
    shapes = state_shapes(spec)
    state: dict[str, NDArray] = {}
    low, high = code_range(spec.weight_bits)
    for key, shape in shapes.items():
        if key.endswith(".alpha"):
            layer = key.removesuffix(".alpha")
            size = shapes[f"{layer}.weight"]
            q = np.clip(np.rint(rng.normal(0, 0.2 + high / 2.5, size)), low, high)
            q = np.where(rng.random(size) < 0.02, low, q).astype(np.float32)
            # Sums of about unit size: levels are worth about 0.35 +- 0.4, an image about 1.
            spread = np.sqrt((q.astype(np.float64) ** 2).sum() / len(q)) * 0.5 + 1e-3
            alpha = (rng.uniform(0.5, 1.5, shape) / spread).astype(np.float32)
            if "negative" in extremes:
                alpha[rng.random(shape) < 0.2] *= -1
            state[f"{layer}.weight"] = q * alpha.reshape(-1, *[1] * (q.ndim - 1))
            state[key] = alpha
        elif key.endswith(".init_state"):
            state[key] = np.ones(shape, dtype=np.float32)
        elif key.endswith(".running_mean"):
            norm = key.removesuffix("running_mean")
            state |= _batch_norm(rng, norm, shape, extremes, spec.highest)
        elif key.endswith((".layer_scale1", ".layer_scale2")):
            state[key] = (rng.choice([-1, 1], shape) * rng.uniform(0.2, 0.8, shape)).astype("f4")
        elif key not in state and key.endswith(".bias"):
            state[key] = rng.normal(0, 0.2, shape).astype(np.float32)
    push = _push if isinstance(spec, QsdtSpec) else _push_sdt_v3
    push(rng, spec, params, state, extremes)
    return {key: state[key] for key in shapes if key in state}


def _batch_norm(
    rng: np.random.Generator, norm: str, shape: tuple[int, ...], extremes: tuple[str, ...],
    highest: float,
) -> dict[str, NDArray]:
    """Moments of about 1; what it hands on has the size of `highest`."""
    inner = ".body." in norm  # followed by another one
    gamma = rng.uniform(0.5, 1.5, shape) if inner else rng.uniform(0.2, 0.7, shape)
    if "negative" in extremes:
        gamma[rng.random(shape) < 0.1] *= -1
    if "zero" in extremes:
        gamma[rng.random(shape) < 0.05] = 0
    return {
        f"{norm}weight": (highest * gamma).astype(np.float32),
        f"{norm}bias": (highest * rng.normal(0.2, 0.2, shape)).astype(np.float32),
        f"{norm}running_mean": rng.normal(0, 0.2, shape).astype(np.float32),
        f"{norm}running_var": rng.uniform(0.5, 1.5, shape).astype(np.float32),
        f"{norm}num_batches_tracked": np.zeros((), dtype=np.int64),
    }


def _some(
    rng: np.random.Generator, state: dict[str, NDArray], key: str, share: float = 0.15
) -> NDArray[np.bool_]:
    """A few of the channels of an entry, at least one."""
    chosen = rng.random(state[key].shape) < share
    chosen[rng.integers(len(chosen))] = True
    return chosen


def _shrink(rng: np.random.Generator, state: dict[str, NDArray], layer: str) -> None:
    """Steps of a few channels that are tiny rather than 0, which no checkpoint may have."""
    tiny = _some(rng, state, f"{layer}.alpha")
    weight = state[f"{layer}.weight"]
    weight[tiny] /= state[f"{layer}.alpha"][tiny, None, None, None]
    weight[tiny] *= np.float32(1e-20)
    state[f"{layer}.alpha"][tiny] = 1e-20


def _push(
    rng: np.random.Generator,
    spec: NetworkSpec,
    params: IntegerParams,
    state: dict[str, NDArray],
    extremes: tuple[str, ...],
) -> None:
    """Set constants to their extremes in place, in a few channels of every layer concerned."""
    some = partial(_some, rng, state)

    def put(key: str, value: float) -> None:
        state[key][some(key)] = value

    u_limit = 2.0 ** (params.u_bits - 1 - params.u_frac)
    z_limit = 2.0 ** (params.z_bits - 1 - params.z_frac)
    blocks = [name for name, _ in spec.transformer_blocks]
    seps = [f"{name}.Conv" for name, _ in spec.conv_blocks]
    if "zero" in extremes:
        for block in blocks:
            state[f"{block}.layer_scale1"][some(f"{block}.layer_scale1")] = 0
        for sep in seps:
            _shrink(rng, state, f"{sep}.dwconv")
    if "thresholds" in extremes:
        for sep in seps:
            put(f"{sep}.bn1.bias", 1e9)
            put(f"{sep}.bn1.bias", -1e9)
        for block in blocks:
            put(f"{block}.mlp.fc1_bn.bias", -1e9)
    if "u" in extremes:
        for block in blocks:
            put(f"{block}.layer_scale2", 4 * u_limit)
            put(f"{block}.layer_scale1", -4 * u_limit)
        put("downsample1_2.encode_bn.bias", 1.5 * u_limit)
        put("downsample1_2.encode_bn.bias", -1.5 * u_limit)
    if "z" in extremes:
        for sep in seps:
            grown = some(f"{sep}.dwconv.alpha")
            state[f"{sep}.dwconv.alpha"][grown] *= np.float32(8 * z_limit)
            state[f"{sep}.dwconv.weight"][grown] *= np.float32(8 * z_limit)
        for block in blocks:
            for branch in ("q", "proj"):
                key = f"{block}.attn.{branch}_conv.0.body.1.bn.weight"
                state[key][some(key)] *= np.float32(8 * z_limit)
    if "attention" in extremes:
        for block in blocks:
            for branch in "qkv":
                state[f"{block}.attn.{branch}_conv.1.bias"] += np.float32(2)


def _push_sdt_v3(
    rng: np.random.Generator,
    spec: NetworkSpec,
    params: IntegerParams,
    state: dict[str, NDArray],
    extremes: tuple[str, ...],
) -> None:
    """The same for an SDT-v3, a large one too."""

    def put(key: str, value: float) -> None:
        state[key][_some(rng, state, key)] = value

    limit = spec.highest * 2.0 ** (params.u_bits - 1 - params.u_frac)
    steps = [step for step in spec.steps if not step.replaces]
    fired = [layer.norms[-1] for step in steps for part in step.parts for layer in part.layers
             if layer.neuron and step.kind != "attention"]
    if "zero" in extremes:
        for step in steps:
            if step.kind == "sepconv":
                _shrink(rng, state, f"{step.name}.dwconv.0")
            elif scale := step.parts[-1].scale if isinstance(step.parts[-1], Layer) else "":
                put(scale, 0)
    if "thresholds" in extremes:
        for norm in fired:
            put(f"{norm}.bias", rng.choice((-1e9, 1e9)))
    for step in steps:
        if step.kind == "attention":
            if "u" in extremes:
                put(f"{step.name}.proj_conv.1.weight", 4 * limit)
                put(f"{step.name}.proj_conv.1.weight", -4 * limit)
            if "attention" in extremes:
                for branch in "qkv":
                    state[f"{step.name}.{branch}_conv.1.bias"] += np.float32(2 * spec.highest)
    if "u" in extremes:
        put("downsample1_2.encode_bn.bias", 1.5 * limit)
        put("downsample1_2.encode_bn.bias", -1.5 * limit)


def with_heads(
    found: RandomNetwork, seed: int = 0, *, channels: int | None = None, levels: int = 3,
    logits: bool = True,
) -> RandomNetwork:
    """The network with a small feature pyramid on its level maps, as an FPN detector has it.

    Of every second resolution, the coarsest first: a 1x1 convolution to `channels` whose membrane
    is added to the next finer one, by nearest neighbours; then a 3x3 and a predictor of its own.
    Outputs are "cls0", "cls1", ... from fine to coarse, "seg" of the finest map, which the host
    makes of levels, and, where `found` has more than one resolution, the finest membrane.

    Args:
        channels: Of the pyramid's maps; None draws 4..64.
        levels: Most resolutions.
        logits: Whether the class scores stay an output.
    """
    network, params = found.network, found.params
    rng = np.random.default_rng((seed, 2))
    size = channels or int(rng.choice((4, 8, 16, 20, 32, 48, 64)))
    shapes = {name: shape for name, (kind, *shape) in network.tensors().items() if kind == "level"}
    last = [name for name, (_, *hw) in shapes.items() if hw != [1, 1]][-1]
    pyramid = [last]    # from coarse to fine
    for name, (_, *hw) in reversed(shapes.items()):
        _, *coarse = shapes[pyramid[-1]]
        if [-(-x // 2) for x in hw] == coarse and hw != coarse and len(pyramid) < levels:
            pyramid.append(name)
    ops = list(network.ops if logits else network.ops[:-2])

    def conv(name: str, source: str, inputs: int, outputs: int, kernel: int, epilogue: Epilogue
             ) -> None:
        low, high = code_range(found.spec.weight_bits)
        weight = rng.integers(low, high + 1, (outputs, inputs, kernel, kernel)).astype(np.int8)
        ops.append(Conv(name, source, weight, 1, kernel // 2, epilogue))

    def affine(inputs: int, outputs: int) -> tuple[NDArray, NDArray]:
        spread = 1.5 * 2 ** (found.spec.weight_bits - 1) * np.sqrt(inputs)
        return (rng.choice([-1, 1, 1, 1], outputs) * rng.uniform(0.3, 1, outputs) / spread,
                rng.normal(0.3, 0.3, outputs))

    added: str | None = None
    for place, name in enumerate(pyramid):
        index, inputs = len(pyramid) - 1 - place, shapes[name][0]
        here = f"fpn{index}"
        scale = fixed_point.fixed_scale(*affine(inputs, size), frac=params.u_frac, params=params)
        conv(here, name, inputs, size, 1, Integrate(
            scale, f"{here}/u", added, f"{here}.lif", found.spec.levels, found.spec.half_even,
            upsample=1 if added is None else 2))
        added = f"{here}/u"
    for index in range(len(pyramid)):
        rule = fixed_point.thresholds(
            *affine(9 * size, size), acc_bits=params.acc_bits, levels=found.spec.levels,
            gain=found.spec.gain, half_even=found.spec.half_even)
        conv(f"out{index}", f"fpn{index}.lif", size, size, 3, Fire(rule, f"out{index}.lif"))
        classes = int(rng.integers(1, 20))
        conv(f"cls{index}", f"out{index}.lif", size, classes, 1,
             Raw(rng.normal(size=classes), rng.normal(size=classes), name=f"cls{index}"))
    conv("seg", "fpn0.lif", size, 21, 1,
         Raw(rng.normal(size=21), rng.normal(size=21), name="seg", on_host=True))
    return replace(found, network=IntegerNetwork(
        network.spec, params, ops, network.input_shape, network.origin, network.info,
        read_out=("fpn0/u",) if len(pyramid) > 1 else ()))
