"""Finding networks: shipped ones by name, others by file. One entry point for every command.

Torch is imported only where a ``.pth`` file is read.
"""

from dataclasses import dataclass
from importlib import resources
import os
from pathlib import Path

from numpy.typing import NDArray

from model import export, qsd_file
from model.epilogue import IntegerParams
from model.integer import IntegerNetwork
from model.spec import MODELS, QsdtSpec


@dataclass(frozen=True, eq=False)
class Weights:
    """A trained network before its integer constants are chosen.

    spec; params, the widths its file recommends (None for a ``.pth``); state, published keys.
    """

    spec: QsdtSpec
    params: IntegerParams | None
    state: dict[str, NDArray]


def shipped() -> tuple[str, ...]:
    """Names of the networks whose weights come with this package."""
    folder = resources.files("model") / "weights"
    if not folder.is_dir():
        return ()
    names = (Path(entry.name) for entry in folder.iterdir())
    return tuple(sorted(name.stem for name in names if name.suffix == ".qsd"))


def read(
    model: str | None = None,
    weights: str | os.PathLike | None = None,
    heads: int | None = None,
) -> Weights:
    """Read a shipped network by name, or a ``.qsd`` or ``.pth`` file.

    Args:
        model: A name in `shipped`.
        weights: A file; where both are given its spec must be that of `model`.
        heads: Attention heads, needed for a published ``.pth``; must agree with other files.

    Raises:
        ValueError: Naming the cause; an unknown name lists the known ones.
        OSError: If a file cannot be read.
    """
    if weights is not None:
        found = _read_file(Path(weights), heads)
        if model is not None:
            _check_known(model)
            if found.spec.dims != MODELS[model].dims or found.spec.depths != MODELS[model].depths:
                raise ValueError(f"{weights} does not hold a {model}: its dims or depths differ")
        return found
    if model is None:
        raise ValueError("a model name or a weights file must be given")
    _check_known(model)
    if model not in shipped():
        raise ValueError(
            f"no weights of {model} are shipped (only of {', '.join(shipped()) or 'none'}): "
            "name a .qsd or .pth file with --weights"
        )
    with resources.as_file(resources.files("model") / "weights" / f"{model}.qsd") as path:
        return _read_file(path, heads)


def load(
    model: str | None = None,
    weights: str | os.PathLike | None = None,
    heads: int | None = None,
    params: IntegerParams | None = None,
    form: export.Form = "integer",
    input_shape: tuple[int, int, int] | None = None,
) -> IntegerNetwork:
    """`read` and export. `params` None takes the file's widths, or the defaults for a ``.pth``."""
    found = read(model, weights, heads)
    return network(found, params=params, form=form, input_shape=input_shape)


def network(
    weights: Weights,
    *,
    params: IntegerParams | None = None,
    form: export.Form = "integer",
    input_shape: tuple[int, int, int] | None = None,
) -> IntegerNetwork:
    """The integer network of what `read` returned."""
    chosen = params or weights.params
    return export.export(weights.state, weights.spec, chosen, form=form, input_shape=input_shape)


def _check_known(model: str) -> None:
    known = sorted({*MODELS, *shipped()})
    if model not in known:
        raise ValueError(f"model must be one of {', '.join(known)}, not {model}")


def _read_file(path: Path, heads: int | None) -> Weights:
    if path.suffix == ".qsd":
        spec, params, state = qsd_file.load(path)
        if heads is not None and heads != spec.heads:
            raise ValueError(f"{path}: heads is {spec.heads} in this file, not {heads}")
        return Weights(spec, params, state)
    if path.suffix in (".pth", ".pt"):
        try:
            from model import checkpoint  # torch is not needed for anything else
        except ModuleNotFoundError as error:
            raise ValueError(
                f"reading {path} needs {error.name}: pip install torch, or convert the file "
                "to .qsd where torch is installed"
            ) from None
        spec, state = checkpoint.load(path, heads=heads)
        return Weights(spec, None, state)
    raise ValueError(f"weights must be a .qsd or .pth file, not {path}")
