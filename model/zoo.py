"""Finding networks: by name or by file. One entry point for every command.

A name stands for, in this order, the weights shipped with this package, a file in the user's cache
folder (see `cache_folder`, `cached_names`), or seeded synthetic weights, which are announced as
such wherever they go. Nothing is downloaded. Torch is imported only where a ``.pth`` file is read.
"""

from dataclasses import dataclass
from importlib import resources
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model.command import require
from model.data.dataset import DataInfo
from model.families.base import NetworkSpec
from model.families.layout import CHECKPOINT_SUFFIXES
from model.families.spec import MODELS
from model.families.spec_file import is_spec_file, read_spec, shipped_spec, shipped_specs
from model.integer import export, qsd_file
from model.integer.epilogue import IntegerParams
from model.integer.network import IntegerNetwork
from model.integer.synthetic import NOTICE, synthetic_state


if TYPE_CHECKING:
    from model.families.network import SpikingTransformer


log = logging.getLogger(__name__)

PUBLISHED = {
    "qsdt_t": "15M_1x4_w4a1t4_74_5.pth",
    "qsdt_l": "SD_Transformer_v2-L_6.8M_1x4_w4a1t4_80_3.pth",
    "sdt_v3_l": "V3_19.0M_1x4.pth",
}
"""Names that the published checkpoints have, as far as they are known."""


@dataclass(frozen=True, eq=False)
class Weights:
    """A network before its integer constants are chosen.

    spec; params, the widths its file recommends (None for others); state, published keys; origin,
    what the weights are if they were not trained, "" otherwise; info, class names and fitting of
    the pictures it was trained on, if the file tells.
    """

    spec: NetworkSpec
    params: IntegerParams | None
    state: dict[str, NDArray]
    origin: str = ""
    info: DataInfo | None = None


def shipped() -> tuple[str, ...]:
    """Names of the networks whose weights come with this package."""
    folder = resources.files("model") / "weights"
    if not folder.is_dir():
        return ()
    names = (Path(entry.name) for entry in folder.iterdir())
    return tuple(sorted(name.stem for name in names if name.suffix == ".qsd"))


def cache_folder() -> Path:
    """Where users put weights that are not shipped: ``$XDG_CACHE_HOME/qsdt``, by default
    ``~/.cache/qsdt`` (XDG Base Directory Specification; relative values are ignored)."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "qsdt"


def cached_names(model: str) -> tuple[str, ...]:
    """File names that stand for `model` in the cache folder, the first found is taken."""
    names = (f"{model}.qsd", f"{model}.pth")
    return (*names, PUBLISHED[model]) if model in PUBLISHED else names


def read(
    model: str | None = None,
    weights: str | os.PathLike | None = None,
    heads: int | None = None,
    *,
    seed: int = 0,
) -> Weights:
    """Read or make a network by name, or read a ``.qsd`` or ``.pth`` file.

    Args:
        model: A name that `spec_of` knows, see above for what it stands for, or a spec
            (``F.yaml``), whose weights are synthetic unless `weights` are given.
        weights: A file; where both are given its spec must be that of `model`.
        heads: Attention heads, needed for a published ``.pth``; must agree with other files.
        seed: Of synthetic weights, where nothing else is found.

    Raises:
        ValueError: Naming the cause; an unknown name lists the known ones.
        OSError: If a file cannot be read.
    """
    if weights is not None:
        found = _read_file(Path(weights), heads)
        if model is not None:
            wanted = spec_of(model)
            if found.spec.family != wanted.family:
                raise ValueError(f"{weights} does not hold a {model}: it is of the family "
                                 f"{found.spec.title}, not {wanted.title}")
            if found.spec.dims != wanted.dims or found.spec.depths != wanted.depths:
                raise ValueError(f"{weights} does not hold a {model}: its dims or depths differ")
        return found
    if model is None:
        raise ValueError("a model name or a weights file must be given")
    if is_spec_file(model):
        spec = spec_of(model)
        log.warning("%s: no --weights: weights of seed %d; %s", model, seed, NOTICE)
        return Weights(spec, None, synthetic_state(spec, seed), NOTICE)
    spec = spec_of(model)
    if model in shipped():
        with resources.as_file(resources.files("model") / "weights" / f"{model}.qsd") as path:
            return _read_file(path, heads)
    for name in cached_names(model):
        path = cache_folder() / name
        if path.is_file():
            log.info("%s: weights from %s", model, path)
            return read(model, path, heads or spec.heads)
    log.warning(
        "%s: no weights are shipped and %s has none of %s: weights of seed %d; %s",
        *(model, cache_folder(), ", ".join(cached_names(model)), seed, NOTICE),
    )
    return Weights(spec, None, synthetic_state(spec, seed), NOTICE)


def load(
    model: str | None = None,
    weights: str | os.PathLike | None = None,
    heads: int | None = None,
    params: IntegerParams | None = None,
    form: export.Form = "integer",
    input_shape: tuple[int, ...] | None = None,
) -> IntegerNetwork:
    """`read` and export. `params` None takes the file's widths, or the defaults for a ``.pth``."""
    found = read(model, weights, heads)
    return network(found, params=params, form=form, input_shape=input_shape)


def network(
    weights: Weights,
    *,
    params: IntegerParams | None = None,
    form: export.Form = "integer",
    input_shape: tuple[int, ...] | None = None,
) -> IntegerNetwork:
    """The integer network of what `read` returned."""
    return export.export(
        *(weights.state, weights.spec, params or weights.params),
        form=form,
        input_shape=input_shape,
        origin=weights.origin,
        info=weights.info,
    )


def float_network(weights: Weights) -> "SpikingTransformer":
    """The network of what `read` returned in PyTorch, in evaluation mode, float32.

    Quantised weights go through their int8 codes, whose float32 rounding is the published one.
    """
    import torch  # only this form needs it

    from model.families.make import make_network

    network = make_network(weights.spec)
    state = qsd_file.float_state(qsd_file.stored_state(weights.state, weights.spec))
    network.load_state_dict({key: torch.from_numpy(np.array(x)) for key, x in state.items()})
    return network.eval()


def spec_of(model: str, *, classes: int | None = None) -> NetworkSpec:
    """The spec of a name in `MODELS` or ``model/specs``, or of a file (`model.families.spec_file`).

    `classes` is taken where a file leaves it out. Raises ValueError or InputError.
    """
    if is_spec_file(model):
        return read_spec(model, classes=classes)
    if model not in MODELS and model in shipped_specs():
        return shipped_spec(model, classes=classes)
    if model not in MODELS:
        known = sorted({*MODELS, *shipped_specs()})
        raise ValueError(f"model must be one of {', '.join(known)} or a spec (F.yaml), not {model}")
    return MODELS[model]


def _read_file(path: Path, heads: int | None) -> Weights:
    if path.suffix == ".qsd":
        content = qsd_file.read(path)
        spec, origin = content.spec, content.origin
        if heads is not None and heads != spec.heads:
            raise ValueError(f"{path}: heads is {spec.heads} in this file, not {heads}")
        if origin:
            log.warning("%s: %s", path, origin)
        return Weights(spec, content.params, content.state, origin, content.info)
    if path.name.lower().endswith(CHECKPOINT_SUFFIXES):
        require(
            "torch", what=f"reads {path}; a .qsd file, made where torch is installed, needs none"
        )
        from model.training import checkpoint  # torch is not needed for anything else

        found = checkpoint.read(path, heads=heads)
        return Weights(found.spec, None, found.state, info=found.info)
    raise ValueError(
        f"{path}: weights must be a .qsd file or a checkpoint ({', '.join(CHECKPOINT_SUFFIXES)})"
    )
