"""Which layers a network has, in order, and which keys its state dict holds. NumPy-free, no torch.

Names and layout are those of the published code.
"""

from model.families.spec import QsdtSpec, STAGES


CHECKPOINT_SUFFIXES = (".pth", ".pt", ".pth.tar", ".tar", ".bin", ".ckpt", ".safetensors")
"""Names of files with a state dict; ``.safetensors`` is one format, the others are torch's."""

_SEP_KERNEL = 7


def steps(spec: QsdtSpec) -> tuple[tuple[str, str, int], ...]:
    """The updates of the membrane in order: (name, kind, stage index).

    Kinds: "downsample" replaces it; "sepconv", "convs", "attention" and "mlp" add to it.
    """
    found: list[tuple[str, str, int]] = []
    for stage, suffix in enumerate(STAGES):
        found.append((f"downsample{suffix}", "downsample", stage))
        for name, owner in spec.conv_blocks:
            if owner == stage:
                found += [(f"{name}.Conv", "sepconv", stage), (name, "convs", stage)]
        for name, owner in spec.transformer_blocks:
            if owner == stage:
                found += [(f"{name}.attn", "attention", stage), (f"{name}.mlp", "mlp", stage)]
    return tuple(found)


def state_shapes(spec: QsdtSpec) -> dict[str, tuple[int, ...]]:
    """Key -> shape of everything that a state dict of `spec` holds, in the published layout.

    Without the unused ``.act.`` keys; with ``num_batches_tracked``, which nothing here reads.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def lsq(name: str, shape: tuple[int, ...], *, bias: bool = False) -> None:
        shapes[f"{name}.weight"] = shape
        if spec.weight_bits != 32:
            shapes[f"{name}.alpha"], shapes[f"{name}.init_state"] = shape[:1], (1,)
        if bias:
            shapes[f"{name}.bias"] = shape[:1]

    def norm(name: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = (channels,)
        shapes[f"{name}.num_batches_tracked"] = ()

    cin = spec.in_channels
    for name, kind, stage in steps(spec):
        c = spec.dims[stage]
        if kind == "downsample":
            kernel = spec.stem_kernel if stage == 0 else 3
            lsq(f"{name}.encode_conv", (c, cin, kernel, kernel), bias=True)
            norm(f"{name}.encode_bn", c)
            cin = c
        elif kind == "sepconv":
            hidden = c * spec.sep_expansion
            lsq(f"{name}.pwconv1", (hidden, c, 1, 1))
            norm(f"{name}.bn1", hidden)
            lsq(f"{name}.dwconv", (hidden, 1, _SEP_KERNEL, _SEP_KERNEL))
            lsq(f"{name}.pwconv2", (c, hidden, 1, 1))
            norm(f"{name}.bn2", c)
        elif kind == "convs":
            hidden = c * spec.conv_expansion[stage]
            lsq(f"{name}.conv1", (hidden, c, 3, 3))
            norm(f"{name}.bn1", hidden)
            lsq(f"{name}.conv2", (c, hidden, 3, 3))
            norm(f"{name}.bn2", c)
        elif kind == "attention":
            for branch in ("q_conv", "k_conv", "v_conv", "proj_conv"):
                lsq(f"{name}.{branch}.0.body.0", (c, c, 1, 1))
                norm(f"{name}.{branch}.0.body.1.bn", c)
                lsq(f"{name}.{branch}.0.body.2.0", (c, 1, 3, 3))
                lsq(f"{name}.{branch}.0.body.2.1", (c, c, 1, 1))
                norm(f"{name}.{branch}.0.body.2.2", c)
                if branch == "proj_conv" or spec.mprf != "replace":
                    norm(f"{name}.{branch}.1", c)
                if branch != "proj_conv" and spec.mprf != "none":
                    norm(f"{name}.{branch.replace('conv', 'mprf')}", c)
            shapes[f"{name.removesuffix('.attn')}.layer_scale1"] = (c,)
        else:
            hidden = c * spec.mlp_ratio
            lsq(f"{name}.fc1_conv", (hidden, c, 1), bias=True)
            norm(f"{name}.fc1_bn", hidden)
            lsq(f"{name}.fc2_conv", (c, hidden, 1), bias=True)
            norm(f"{name}.fc2_bn", c)
            shapes[f"{name.removesuffix('.mlp')}.layer_scale2"] = (c,)
    lsq("head", (spec.classes, spec.dims[-1]), bias=True)
    return shapes
