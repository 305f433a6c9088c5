"""Checkpoints of the float network: published ones, and those that `model.train` writes.

Nothing in a file is executed: torch's restricted unpickler reads tensors and plain containers, and
from published files argparse.Namespace, and refuses everything else.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
import json
import logging
import math
import os
from pathlib import Path, PurePosixPath, PureWindowsPath
import pickle
import re
from typing import Any
import warnings
import zipfile
import zlib

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file as load_safetensors
import torch

from model.data.dataset import DataInfo
from model.families.base import FLOAT_BITS, NetworkSpec
from model.families.infer import family_of, infer_spec
from model.families.layout import CHECKPOINT_SUFFIXES, state_shapes
from model.families.merge import chains, merge_chains
from model.families.qsdt import QsdtSpec
from model.families.sdt_v3_large import SdtV3LargeSpec
from model.families.spec import from_dict
from model.training import brevitas


log = logging.getLogger(__name__)

FILE_BYTES_MAX = 1 << 30
"""Bytes of a checkpoint, which is read into memory whole: enough for the largest network that a
spec may ask for (`model.families.spec.WEIGHTS_MAX`) with the two moments of its optimiser."""

ELEMENTS_MAX = 1 << 28
"""Numbers in all tensors of a state dict together; one tensor may repeat a few bytes endlessly."""

PREFIXES = ("backbone.", "module.", "model.", "net.", "_orig_mod.")
"""What wrappers put before every key: removed in any order and nesting."""

COPIES = ("model", "state_dict", "model_state_dict", "model_state", "net", "module")
"""Keys under which programs save the weights, in the order in which they are taken."""

AVERAGED = ("model_ema", "state_dict_ema", "ema_state_dict", "ema")
"""The same for the moving average (EMA) of the weights."""

PRETRAINED = "pretraining"
"""Entry of a file of `model.pretrain`."""

_DEPTH_MAX = 4
"""Wrappers inside each other that are unpacked; no program makes more than two."""

_UNUSED = re.compile(r"\.act\.")  # activation steps of the published layers: never read
_COUNTERS = ("total_ops", "total_params")  # what the profiler thop leaves in a state dict


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message names the file and the key or cause."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a file holds: spec; state dict with the published names; class names and fitting of the
    pictures that it was trained on, where the file tells; whether the head is trained."""

    spec: NetworkSpec
    state: dict[str, NDArray]
    info: DataInfo | None = None
    head: bool = True


def load(
    path: str | os.PathLike, **given: Any
) -> tuple[NetworkSpec, dict[str, NDArray]]:
    """Spec and state dict of what `read` returns; arguments and errors as there."""
    found = read(path, **given)
    return found.spec, found.state


def read(
    path: str | os.PathLike,
    *,
    heads: int | None = None,
    image_size: int | None = None,
    weight_bits: int | None = None,
    levels: int | None = None,
    averaged: bool = False,
    headless: bool = False,
    without_kd: bool = False,
) -> Checkpoint:
    """Read a checkpoint with one of `CHECKPOINT_SUFFIXES`; values become NumPy arrays.

    Family, dims, depths, ratios and classes come from keys and shapes; what these do not tell is
    taken as published, and logged. Integers of Brevitas are taken as they are, see
    `model.training.brevitas`. Chains of two 1x1 convolutions of a large SDT-v3 come as one,
    see `model.families.merge`. A file of `model.train` states the whole spec, and what is given
    here must agree with it. The weights may lie under any of `COPIES` or `AVERAGED` and have any of
    `PREFIXES`; where a file holds several copies, which one is taken is logged.

    Args:
        heads: Attention heads, which a published file does not tell; 8 if not given, but for a
            QSD-Transformer.
        image_size: Side of the images, of which shapes tell nothing either; 224 if not given.
        weight_bits: LSQ bits; 4, as published, if not given. Files with real weights have 32
            whatever is given.
        levels: D, the highest level; 4 if not given.
        averaged: Take the moving average (EMA) of the weights where others are there too.
        headless: Take a file of `model.pretrain`, whose head is not trained.
        without_kd: Leave out the second head of a network that was trained with distillation.

    Raises:
        CheckpointError: If the file is unsafe, damaged or incomplete, or a value is unusable.
        OSError: If it cannot be read.
    """
    path = Path(path)
    try:
        content = unpickle(path)
        head = not isinstance(content, Mapping) or PRETRAINED not in content
        if not (head or headless):
            raise ValueError("its head is not trained: qsdt train --init starts from such a file")
        options = {"heads": heads, "image_size": image_size, "weight_bits": weight_bits,
                   "levels": levels}
        spec_dict: Mapping[str, Any] | None = None
        if isinstance(content, Mapping) and isinstance(content.get(brevitas.KEY), Mapping):
            state, options["weight_bits"] = _from_brevitas(content[brevitas.KEY], weight_bits,
                                                           without_kd=without_kd)
        else:
            spec_dict, copy = copy_of(content, path, averaged=averaged)
            state = state_of(copy, without_kd=without_kd)
        given = {name: value for name, value in options.items() if value is not None}
        if spec_dict is None:
            if pairs := _chains_of(state):
                state = merge_chains(state)
                log.info("%s: %d chains of two 1x1 convolutions merged into one each", path, pairs)
            spec = inferred(state, stem(path), given)
        else:
            spec = from_dict(spec_dict)
            for name, value in given.items():
                if name == "weight_bits" and spec.weight_bits == FLOAT_BITS:
                    continue
                if getattr(spec, name) != value:
                    raise ValueError(f"{name} is {getattr(spec, name)} in this file, not {value}")
        check(state, spec)
        if spec_dict is None:
            log.info("%s: %s", path, taken_as_published(spec))
        info = None
        if spec_dict is not None and "data" in content:
            info = DataInfo.from_dict(content["data"])
            if len(info.classes) != spec.classes:
                raise ValueError(f"{len(info.classes)} class names for {spec.classes} classes")
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return Checkpoint(spec, state, info, head)


def taken_as_published(spec: NetworkSpec) -> str:
    """What no state dict tells, in words."""
    sizes = [str(dim // spec.heads) for dim in dict.fromkeys(spec.dims[3:])]
    return (f"{spec.title} by its keys; what these do not tell: T {spec.time_steps}, "
            f"D {spec.levels}, {spec.heads} heads of {' and '.join(sizes)} channels, attention "
            f"scale {spec.attention_scale}, images of {spec.image_size} pixels")


def tensors(state: Mapping[str, NDArray]) -> dict[str, torch.Tensor]:
    """The state dict that torch takes, of its own memory."""
    return {key: torch.from_numpy(np.array(value)) for key, value in state.items()}


def stem(path: Path) -> str:
    """Name of a checkpoint without its suffix, which may be a double one."""
    for suffix in sorted(CHECKPOINT_SUFFIXES, key=len, reverse=True):
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def load_vectors(path: str | os.PathLike) -> tuple[NetworkSpec, dict[str, NDArray]]:
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
    spec = inferred(state, Path(path).stem, given)
    check(state, spec)
    return spec, state


def check(state: Mapping[str, NDArray], spec: NetworkSpec) -> None:
    """Raise ValueError naming the first key of `state` that does not fit `spec` or is unusable.

    Required: exactly the published keys, as `check_shapes` says.
    """
    check_shapes(state, state_shapes(spec))


def check_shapes(state: Mapping[str, NDArray], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ValueError naming the first key of `state` that is not in `shapes` or is unusable.

    Required: exactly these keys (batch counters may lack) with their shapes, finite real values,
    init_state 1 (else a step was never set), steps other than 0, variances of at least 0.
    """
    missing = [k for k in shapes if k not in state and "num_batches" not in k]
    if missing and all(key.endswith((".running_mean", ".running_var")) for key in missing):
        raise ValueError(f"{missing[0]}: missing, as are statistics of {len(missing) - 1} more "
                         "batch norms; save the whole state_dict(), not the parameters alone")
    for verb, keys in (
        ("missing", missing),
        ("not expected", [k for k in state if k not in shapes]),
    ):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise ValueError(f"{', '.join(keys[:3])}{more}: {verb}")
    for key, value in state.items():
        if value.shape != shapes[key]:
            raise ValueError(f"{key} must have shape {shapes[key]}, not {value.shape}")
        whole = key.endswith((".init_state", ".num_batches_tracked"))
        if value.dtype.kind not in ("fiub" if whole else "f"):
            raise ValueError(f"{key} must be of real numbers, not {value.dtype}: save the float "
                             "weights, which still have their steps")
        if not np.isfinite(value).all():
            raise ValueError(f"{key} must be finite, but has NaN or infinite values")
        if key.endswith(".init_state") and not (value == 1).all():
            raise ValueError(f"{key} must be 1: this layer's step was never initialised")
        if key.endswith(".alpha") and not value.all():
            raise ValueError(f"{key} must not be 0")
        if key.endswith(".running_var") and not (value >= 0).all():
            raise ValueError(f"{key} must not be negative")


def unpickle(path: Path) -> Any:
    """Content of a checkpoint: tensors, plain containers and numbers. Executes nothing.

    Raises ValueError, without the file's name, or OSError.
    """
    size = path.stat().st_size
    if size > FILE_BYTES_MAX:
        raise ValueError(f"{size:,} bytes, more than {FILE_BYTES_MAX:,}; save the weights alone")
    try:
        if path.suffix == ".safetensors":
            return load_safetensors(path)
        _check_zip(path)
        with warnings.catch_warnings(), torch.serialization.safe_globals(_harmless()):
            warnings.simplefilter("ignore")  # about how the file was saved
            return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, _Damaged):
        raise
    except MemoryError:
        raise ValueError("needs more memory than there is; save the weights alone") from None
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if asked:
            raise ValueError(f"unsafe checkpoint refused: it asks for {asked[1]}") from None
        said = re.search(r"Unsupported [\w ]+", str(error))
        raise ValueError(
            f"not a PyTorch checkpoint, or an unsafe one ({said[0] if said else 'refused'})"
        ) from None
    except Exception as error:  # damaged bytes can raise anything inside the unpickler
        cause = f"{type(error).__name__} {error}".strip().splitlines()[0].partition(". ")[0]
        raise ValueError(f"not a PyTorch checkpoint, or a damaged one ({cause})") from None


class _Damaged(ValueError):
    """Refused by our own checks, whose messages say all."""


def _check_zip(path: Path) -> None:
    """Check what torch passes over: the checksums of a zip archive, and how large it unpacks."""
    if not zipfile.is_zipfile(path):
        return  # the format before torch 1.6, which has no checksums
    with zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > FILE_BYTES_MAX:
            raise _Damaged(f"unpacks to more than {FILE_BYTES_MAX:,} bytes; save the weights alone")
        try:
            wrong = archive.testzip()
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as bad:
            raise _Damaged(f"a damaged zip archive ({bad}); copy it again") from None
    if wrong is not None:
        raise _Damaged(f"damaged: the checksum of {wrong} is wrong; copy it again")


def _harmless() -> list[Any]:
    """What trainings leave beside the weights and what runs nothing when it is built: options,
    paths, NumPy's numbers and arrays (scores, states of random generators)."""
    scalar, array = (value.__reduce__()[0] for value in (np.float64(0), np.zeros(1)))
    functions = [(function, f"numpy.{package}.multiarray.{name}")
                 for function, name in ((scalar, "scalar"), (array, "_reconstruct"))
                 for package in ("core", "_core")]
    kinds = [type(np.dtype(code)) for code in "?bhilqBHILQefd"]
    paths: list[tuple[type, str]] = [
        (PurePosixPath, f"pathlib.{name}") for name in ("PosixPath", "PurePosixPath")
    ]
    paths += [(PureWindowsPath, f"pathlib.{name}") for name in ("WindowsPath", "PureWindowsPath")]
    paths += [(kind, f"pathlib._local.{name.rpartition('.')[2]}") for kind, name in paths]
    return [argparse.Namespace, np.dtype, np.ndarray, *kinds, *functions, *paths]


def copy_of(
    content: Any, path: Path, *, averaged: bool
) -> tuple[Mapping[str, Any] | None, Mapping[str, Any]]:
    """Spec, if stated, and the state dict that is taken of what a file holds."""
    if not isinstance(content, Mapping):
        raise ValueError(f"a checkpoint must be a dictionary, not {type(content).__name__}")
    spec = content.get("spec") if isinstance(content.get("spec"), Mapping) else None
    for _ in range(_DEPTH_MAX):
        plain = [key for key in COPIES if isinstance(content.get(key), Mapping)]
        mean = [key for key in AVERAGED if isinstance(content.get(key), Mapping)]
        found = mean + plain if averaged else plain + mean
        if not found:
            break
        if len(found) > 1:
            log.warning("%s: holds %s; %s is taken%s", path, " and ".join(found), found[0],
                        " (--averaged takes the other)" if mean and not averaged else "")
        content = content[found[0]]
    return spec, content


def state_of(content: Mapping[str, Any], *, without_kd: bool = False) -> dict[str, NDArray]:
    """Cleaned state dict of what a program saved."""
    state: dict[str, NDArray] = {}
    left = ELEMENTS_MAX
    for name, value in content.items():
        key = _plain(str(name))
        if _UNUSED.search(key) or key.rpartition(".")[2] in _COUNTERS:
            continue
        if "weight_quant.tensor_quant" in key:
            raise ValueError(f"{key}: a state dict of Brevitas, which does not hold its integers; "
                             "write the module with model.training.brevitas.save")
        if key.startswith("head_kd."):
            if without_kd:
                continue
            raise ValueError(
                "has a second head, head_kd, of distillation: its evaluation averages both heads, "
                "which this network does not do; qsdt convert --without-kd takes the first alone"
            )
        if not isinstance(value, torch.Tensor):
            raise ValueError(f"{key} must be a tensor, not {type(value).__name__}")
        left -= value.numel()
        if left < 0:
            raise ValueError(f"{key}: more than {ELEMENTS_MAX:,} numbers in all; no such network "
                             "can be built")
        if key in state:
            raise ValueError(f"{key} is there twice, with and without prefix")
        state[key] = _array(key, value)
    return state


def _from_brevitas(
    content: Mapping[str, Any], weight_bits: int | None, *, without_kd: bool
) -> tuple[dict[str, NDArray], int]:
    """State dict and bits of what `model.training.brevitas.save` wrote. Module trees of other
    programs, such as spikingjelly's, would come in beside it."""
    family = family_of(map(_plain, brevitas.keys(content)))
    allowed = [bits for bits in family.WEIGHT_BITS if bits != FLOAT_BITS]
    made, bits = brevitas.unpacked(content, allowed)
    if weight_bits not in (None, bits):
        raise ValueError(f"weight_bits is {bits} in this file, not {weight_bits}")
    return state_of(made, without_kd=without_kd), bits


def _plain(name: str) -> str:
    """A key without what wrappers put before it."""
    while name.startswith(PREFIXES):
        name = name.partition(".")[2]
    return name


def _array(key: str, value: torch.Tensor) -> NDArray:
    kind = (
        "sparse" if value.layout != torch.strided
        else "quantised" if value.is_quantized
        else "without values (meta)" if value.is_meta
        else "nested" if value.is_nested
        else str(value.dtype).removeprefix("torch.")
    )
    try:
        if value.dtype in (torch.float16, torch.bfloat16):
            value = value.float()
        return value.detach().resolve_conj().resolve_neg().contiguous().numpy()
    except (TypeError, RuntimeError, NotImplementedError):
        raise ValueError(f"{key} is {kind}; save it as a dense float32 tensor") from None


def inferred(state: Mapping[str, NDArray], name: str, given: Mapping[str, int]) -> NetworkSpec:
    """The spec of a classifier's state dict; `given` what keys do not tell. Raises ValueError."""
    values: dict[str, Any] = dict(given)
    family = family_of(state)
    if family is not QsdtSpec:    # all published ones have as many
        values.setdefault("heads", family.heads)
    stages = [state.get(f"downsample{suffix}.encode_conv.weight") for suffix in family.stages[3:]]
    dims = [len(stage) for stage in stages if stage is not None and stage.ndim == 4]
    if len(dims) == len(stages):
        common = math.gcd(*dims)
        known = [n for n in range(1, common + 1) if common % n == 0]
        if values.get("heads") not in known:
            said = f"not {values['heads']}" if "heads" in values else "and shapes do not tell which"
            raise ValueError(
                f"heads must be one of {', '.join(map(str, known))} (they divide the dims "
                f"{' and '.join(map(str, dims))} of stages {' and '.join(family.stages[3:])}), "
                f"{said}"
            )
    try:
        return infer_spec(state, name=name, **values)
    except (IndexError, ZeroDivisionError, TypeError) as error:
        raise ValueError(f"shapes are not those of {family.title} ({error})") from None


def _chains_of(state: Mapping[str, NDArray]) -> int:
    """Chains of 1x1 convolutions of a large SDT-v3; 0 for other families."""
    return len(chains(state)) if family_of(state) is SdtV3LargeSpec else 0
