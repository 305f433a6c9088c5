"""The portable file of a quantised network, ``.qsd``: read and written without torch.

A safetensors file. Tensors: the state dict with its published names, but int8 "<layer>.weight.q"
for the weights; alphas, biases, batch norms and layer scales as they were trained. The integer
constants follow from these and the widths, so one file serves every form and every width. Its
one metadata entry "qsd" is a JSON object: format, version, spec, params (default widths), graph
(the operators that the writer saw, for readers and as a check), origin (of weights that were not
trained: what they are) and sha256 over all of it.
A file of version 5 is of a network with heads for dense prediction or an attention whose scale
depends on the tokens (dense_heads and attention_tokens of its spec). One of version 4 is of another
family than the QSD-Transformer, which its spec names. One of version 3 is of a network that takes
several images for a result (spec.time_steps); one of version 2 has widths of z by layer
(params.z_bits_of), one of version 1 has neither.
The same input gives the same bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open, SafetensorError
from safetensors.numpy import save as to_safetensors

from model.data.dataset import DataInfo
from model.families.base import code_range, NetworkSpec
from model.families.layout import state_shapes
from model.families.qsdt import QsdtSpec
from model.families.spec import from_dict
from model.files import write_atomic
from model.integer.epilogue import IntegerParams
from model.integer.export import codes, export, State


FORMAT, VERSION = "qsd", 5
ONE_WIDTH, WIDTHS, TIME_STEPS, FAMILY = 1, 2, 3, 4
"""Versions of files of QSD-Transformers: that take single images, whose z all have one width or
have widths by layer, and that take several; and of other families. All of these classify images,
with an attention of the published scale; what such files say has not changed."""

FILE_BYTES_MAX = 1 << 28
"""Bytes of a file: four for every weight of the largest network
(`model.families.spec.WEIGHTS_MAX`), which takes one for each and little more for all else."""

_UNUSED = (".init_state", ".num_batches_tracked")


class QsdError(ValueError):
    """A file is not a readable .qsd file; the message names it and the cause."""


def stored_state(state: State, spec: NetworkSpec) -> dict[str, NDArray]:
    """The entries of `state` that a file keeps, weights as int8 "<layer>.weight.q"."""
    kept: dict[str, NDArray] = {}
    bits = _bits(spec)
    for key in state_shapes(spec):
        layer = key.removesuffix(".weight")
        if key.endswith(".weight") and f"{layer}.alpha" in state:
            kept[f"{key}.q"] = codes(state, layer, bits[layer])
        elif not key.endswith(_UNUSED):
            kept[key] = state[key]
    return {key: np.ascontiguousarray(value) for key, value in sorted(kept.items())}


def _bits(spec: NetworkSpec) -> dict[str, int]:
    """Bits of weights by the keys of layers."""
    return {layer.key: spec.bits_of(layer) for layer in spec.layers}


def float_state(state: State) -> dict[str, NDArray]:
    """The full published state dict of a stored one: weight = float32(q * alpha).

    Quantising that weight again gives q back. Entries already in published form stay.
    """
    full: dict[str, NDArray] = {}
    for key, value in state.items():
        layer = key.removesuffix(".weight.q")
        if layer != key:
            alpha = state[f"{layer}.alpha"].reshape(-1, *[1] * (value.ndim - 1))
            full[f"{layer}.weight"] = value.astype(np.float32) * alpha
            full[f"{layer}.init_state"] = np.ones(1, dtype=np.float32)
        else:
            full[key] = value
            if key.endswith(".running_mean"):
                norm = key.removesuffix("running_mean")
                full[f"{norm}num_batches_tracked"] = np.zeros((), dtype=np.int64)
    return full


def to_bytes(
    state: State,
    spec: NetworkSpec,
    params: IntegerParams | None = None,
    *,
    origin: str = "",
    info: DataInfo | None = None,
) -> bytes:
    """Content of the file. Raises ValueError if the network cannot be exported at `params`."""
    spec.check_integer_form()
    params, tensors = params or IntegerParams(), stored_state(state, spec)
    header = {
        "format": FORMAT,
        "version": _version(params, spec),
        "spec": spec.to_dict(),
        "params": params.to_dict(),
        "graph": export(tensors, spec, params).listing(),
    }
    if origin:
        header["origin"] = origin
    if info is not None:
        header["data"] = info.to_dict()
    header["sha256"] = _digest(header, tensors)
    # One entry: the order of several is not fixed in safetensors' own writer.
    return to_safetensors(tensors, metadata={"qsd": _canonical(header)})


def save(
    path: str | os.PathLike, state: State, spec: NetworkSpec, params: IntegerParams | None = None
) -> None:
    """Write the file in one piece: an error or interruption leaves what was there before."""
    write_atomic(path, to_bytes(state, spec, params))


@dataclass(frozen=True, eq=False)
class QsdContent:
    """What a file holds: spec, default widths, stored state; what weights are that were not
    trained ("" for others); what it keeps of the data that it was trained on, or None."""

    spec: NetworkSpec
    params: IntegerParams
    state: dict[str, NDArray]
    origin: str = ""
    info: DataInfo | None = None


def load(path: str | os.PathLike) -> tuple[NetworkSpec, IntegerParams, dict[str, NDArray]]:
    """Spec, default widths and stored state of what `read` returns, which raises the same."""
    content = read(path)
    return content.spec, content.params, content.state


def read(path: str | os.PathLike) -> QsdContent:
    """Read a file.

    Raises:
        QsdError: If the file is not a .qsd file, is of another version, damaged, or incomplete.
        OSError: If it cannot be read.
    """
    path = Path(path)
    with open(path, "rb") as file:  # safetensors' own message for a missing file lacks the path
        size = os.fstat(file.fileno()).st_size
    if size > FILE_BYTES_MAX:
        raise QsdError(f"{path}: {size:,} bytes, more than {FILE_BYTES_MAX:,}; no such network can "
                       "be built")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, TypeError, ValueError, KeyError) as error:
        raise QsdError(f"{path} is not a complete .qsd file: {error}") from None
    header = _header(path, metadata.get("qsd"))
    digest = header.pop("sha256", None)
    if digest != _digest(header, tensors):
        raise QsdError(f"{path} is damaged: its content does not have the SHA-256 it states")
    try:
        spec = from_dict(header["spec"])
        params = IntegerParams(**header["params"])
        if header["version"] != _version(params, spec):
            raise ValueError(f"spec and params are not those of format version "
                             f"{header['version']}: convert the checkpoint again")
        origin = header.get("origin", "")
        if not isinstance(origin, str):
            raise TypeError(f"origin must be a text, not {origin!r:.40}")
        info = None if "data" not in header else DataInfo.from_dict(header["data"])
        if info is not None and len(info.classes) != spec.classes:
            raise ValueError(f"{len(info.classes)} class names for {spec.classes} classes")
    except (KeyError, TypeError, ValueError) as error:
        raise QsdError(f"{path}: {error}") from None
    _check_tensors(path, tensors, spec)
    try:
        network = export(tensors, spec, params)
    except ValueError as error:
        raise QsdError(f"{path}: {error}") from None
    if header.get("graph") != network.listing():
        raise QsdError(f"{path} was written for another graph than this version builds")
    return QsdContent(spec, params, tensors, origin, info)


def _version(params: IntegerParams, spec: NetworkSpec) -> int:
    if spec.dense_heads is not None or spec.attention_tokens:
        return VERSION
    if not isinstance(spec, QsdtSpec):
        return FAMILY
    if spec.time_steps > 1:
        return TIME_STEPS
    return WIDTHS if params.z_bits_of else ONE_WIDTH


def _header(path: Path, text: str | None) -> dict[str, Any]:
    try:
        header = json.loads(text or "")
    except (ValueError, RecursionError):  # also numbers of thousands of digits, and deep nesting
        header = None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise QsdError(f"{path} is a safetensors file, but not a .qsd file")
    if header.get("version") not in range(ONE_WIDTH, VERSION + 1):
        raise QsdError(
            f"{path} has format version {header.get('version')}, this program reads {ONE_WIDTH} "
            f"to {VERSION}"
        )
    return header


def _check_tensors(path: Path, tensors: Mapping[str, NDArray], spec: NetworkSpec) -> None:
    shapes, bits = state_shapes(spec), _bits(spec)
    wanted: dict[str, tuple[int, ...]] = {}
    for key, shape in shapes.items():
        quantised = key.endswith(".weight") and f"{key.removesuffix('weight')}alpha" in shapes
        if not key.endswith(_UNUSED):
            wanted[f"{key}.q" if quantised else key] = shape
    for key in sorted({*wanted, *tensors}):
        if key not in tensors or key not in wanted:
            raise QsdError(f"{path}: {key} is {'missing' if key in wanted else 'not expected'}")
        value = tensors[key]
        if value.shape != wanted[key]:
            raise QsdError(f"{path}: {key} must have shape {wanted[key]}, not {value.shape}")
        if not key.endswith(".q"):
            good = value.dtype.kind == "f" and np.isfinite(value).all()
        else:
            low, high = code_range(bits[key.removesuffix(".weight.q")])
            good = value.dtype == np.int8 and low <= value.min() <= value.max() <= high
        if not good:
            raise QsdError(f"{path}: {key} has values that no exported network has")


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _digest(header: Mapping[str, Any], tensors: Mapping[str, NDArray]) -> str:
    state = hashlib.sha256(_canonical(header).encode())
    for key, value in sorted(tensors.items()):
        state.update(f"{key}|{value.dtype.str}|{value.shape}|".encode())
        state.update(value.tobytes())
    return state.hexdigest()
