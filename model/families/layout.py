"""Which keys the state dict of a network holds, and what names such a file has; no torch."""

from collections.abc import Iterable

from model.families.base import FLOAT_BITS, NetworkSpec


CHECKPOINT_SUFFIXES = (".pth", ".pt", ".pth.tar", ".tar", ".bin", ".ckpt", ".safetensors")
"""Names of files with a state dict; ``.safetensors`` is one format, the others are torch's."""


def state_shapes(spec: NetworkSpec) -> dict[str, tuple[int, ...]]:
    """Key -> shape of everything that a state dict of `spec` holds, in the published layout.

    Without the unused ``.act.`` keys; with ``num_batches_tracked``, which nothing here reads.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in spec.layers:
        cout, key = layer.shape[:1], layer.key
        shapes[f"{key}.weight"] = layer.shape
        if spec.bits_of(layer) != FLOAT_BITS:
            shapes[f"{key}.alpha"], shapes[f"{key}.init_state"] = cout, (1,)
        if layer.bias:
            shapes[f"{key}.bias"] = cout
        for norm in layer.norms:
            shapes |= dict.fromkeys(norm_keys(norm), cout)
            shapes[f"{norm}.num_batches_tracked"] = ()
        if layer.scale:
            shapes[layer.scale] = cout
    return shapes


def norm_keys(norm: str) -> Iterable[str]:
    """Keys of the numbers of a batch norm, (C,) each."""
    return (f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var"))
