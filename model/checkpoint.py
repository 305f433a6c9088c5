"""Checkpoints of the float network: published ones, and those that `model.train` writes.

Nothing in a file is executed: torch's restricted unpickler reads tensors and plain containers, and
from published files argparse.Namespace, and refuses everything else.
"""

import argparse
from collections.abc import Mapping
import json
import math
import os
from pathlib import Path
import pickle
import re
from typing import Any
import warnings

import numpy as np
from numpy.typing import NDArray
import torch

from model.layout import state_shapes
from model.spec import infer_spec, QsdtSpec


_PREFIXES = ("backbone.", "module.")
_UNUSED = re.compile(r"\.act\.")  # activation steps of the published layers: never read


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message names the file and the key or cause."""


def load(
    path: str | os.PathLike,
    *,
    heads: int | None = None,
    image_size: int | None = None,
    weight_bits: int | None = None,
) -> tuple[QsdtSpec, dict[str, NDArray]]:
    """Read a ``.pth`` file: spec and state dict with the published names, as NumPy arrays.

    Dims, depths, ratios and classes come from the shapes. A file of `model.train` states the
    whole spec, and what is given here must agree with it.

    Args:
        heads: Attention heads, which a published file does not tell.
        image_size: Side of the images, of which shapes tell nothing either; 224 if not given.
        weight_bits: LSQ bits; 4, as published, if not given.

    Raises:
        CheckpointError: If the file is unsafe, damaged or incomplete, or a value is unusable.
        OSError: If it cannot be read.
    """
    path = Path(path)
    try:
        spec_dict, state = _state_of(_unpickle(path))
        given = {"heads": heads, "image_size": image_size, "weight_bits": weight_bits}
        given = {name: value for name, value in given.items() if value is not None}
        if spec_dict is None:
            spec = _inferred(state, path.stem, given)
        else:
            spec = QsdtSpec.from_dict(spec_dict)
            for name, value in given.items():
                if getattr(spec, name) != value:
                    raise ValueError(f"{name} is {getattr(spec, name)} in this file, not {value}")
        check(state, spec)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return spec, state


def load_vectors(path: str | os.PathLike) -> tuple[QsdtSpec, dict[str, NDArray]]:
    """Read the network of a golden-vector archive (``.npz``), whose weights are "<layer>.weight.q".

    Returns the same as `load`, with weight = float32(q * alpha).
    """
    with np.load(path, allow_pickle=False) as archive:
        config = json.loads(str(archive["config"]))
        entries = {key: archive[key] for key in archive.files if "." in key and "/" not in key}
    state: dict[str, NDArray] = {}
    for key, value in entries.items():
        if key.endswith(".weight.q"):
            alpha = entries[f"{key.removesuffix('.weight.q')}.alpha"]
            alpha = alpha.reshape(-1, *[1] * (value.ndim - 1))
            state[key.removesuffix(".q")] = value.astype(np.float32) * alpha
        else:
            state[key] = value
    given = {"heads": config["model"]["num_heads"], "image_size": config["image_size"]}
    spec = _inferred(state, Path(path).stem, given)
    check(state, spec)
    return spec, state


def check(state: Mapping[str, NDArray], spec: QsdtSpec) -> None:
    """Raise ValueError naming the first key of `state` that does not fit `spec` or is unusable.

    Required: exactly the published keys (batch counters may lack) with their shapes, finite
    values, init_state 1 (else a step was never set), steps other than 0, variances of at least 0.
    """
    shapes = state_shapes(spec)
    for verb, keys in (
        ("missing", [k for k in shapes if k not in state and "num_batches" not in k]),
        ("not expected", [k for k in state if k not in shapes]),
    ):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise ValueError(f"{', '.join(keys[:3])}{more}: {verb}")
    for key, value in state.items():
        if value.shape != shapes[key]:
            raise ValueError(f"{key} must have shape {shapes[key]}, not {value.shape}")
        if not np.isfinite(value).all():
            raise ValueError(f"{key} must be finite, but has NaN or infinite values")
        if key.endswith(".init_state") and not (value == 1).all():
            raise ValueError(f"{key} must be 1: this layer's step was never initialised")
        if key.endswith(".alpha") and not value.all():
            raise ValueError(f"{key} must not be 0")
        if key.endswith(".running_var") and not (value >= 0).all():
            raise ValueError(f"{key} must not be negative")


def _unpickle(path: Path) -> Any:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")  # about how the file was saved
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if asked:
            raise ValueError(f"unsafe checkpoint refused: it asks for {asked[1]}") from None
        cause = re.search(r"Unsupported [\w ]+", str(error))
        raise ValueError(
            f"not a PyTorch checkpoint, or an unsafe one ({cause[0] if cause else 'refused'})"
        ) from None
    except Exception as error:  # damaged bytes can raise anything inside the unpickler
        cause = f"{type(error).__name__} {error}".strip().splitlines()[0].partition(". ")[0]
        raise ValueError(f"not a PyTorch checkpoint, or a damaged one ({cause})") from None


def _state_of(content: Any) -> tuple[Mapping[str, Any] | None, dict[str, NDArray]]:
    """Spec, if stated, and cleaned state dict of what a file holds."""
    if not isinstance(content, Mapping):
        raise ValueError(f"a checkpoint must be a dictionary, not {type(content).__name__}")
    spec = content.get("spec") if isinstance(content.get("spec"), Mapping) else None
    for key in ("model", "state_dict"):
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    state: dict[str, NDArray] = {}
    for name, value in content.items():
        key = str(name)
        while key.startswith(_PREFIXES):
            key = key.partition(".")[2]
        if _UNUSED.search(key):
            continue
        if not isinstance(value, torch.Tensor):
            raise ValueError(f"{key} must be a tensor, not {type(value).__name__}")
        if value.dtype in (torch.float16, torch.bfloat16):
            value = value.float()
        if key in state:
            raise ValueError(f"{key} is there twice, with and without prefix")
        state[key] = value.detach().contiguous().numpy()
    return spec, state


def _inferred(state: Mapping[str, NDArray], name: str, given: Mapping[str, int]) -> QsdtSpec:
    values = dict(given)
    stages = [state.get(f"downsample{suffix}.encode_conv.weight") for suffix in "34"]
    if all(stage is not None and stage.ndim == 4 for stage in stages):
        dims = [len(stage) for stage in stages]
        common = math.gcd(*dims)
        known = [n for n in range(1, common + 1) if common % n == 0]
        if values.get("heads") not in known:
            said = f"not {values['heads']}" if "heads" in values else "and shapes do not tell which"
            raise ValueError(
                f"heads must be one of {', '.join(map(str, known))} (they divide the dims "
                f"{dims[0]} and {dims[1]} of stages 3 and 4), {said}"
            )
    try:
        return infer_spec(state, name=name, **values)
    except (IndexError, ZeroDivisionError, TypeError) as error:
        raise ValueError(f"shapes are not those of a QSD-Transformer ({error})") from None
