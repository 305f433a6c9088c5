"""Files of overrides: the user's own, and those that come with the project."""

from importlib import resources
from pathlib import Path

from model.error import InputError


__all__ = ["find_config", "shipped_configs"]


def shipped_configs() -> dict[str, Path]:
    """{name: file} of the configurations that come with the project.

    A wheel holds them beside this module, a checkout in its folder ``configs``.
    """
    here = Path(str(resources.files("gen.config")))
    for folder in (here / "configs", here.parents[1] / "configs"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    return {}


def find_config(name: str | Path) -> Path:
    """The file that ``--config`` names.

    One that is there goes first; else ``sdram``, ``sdram.yaml`` and ``configs/sdram.yaml`` mean
    the project's own from any folder.
    """
    path = Path(name)
    if path.exists():
        return path
    shipped = shipped_configs()
    own = path.parent in (Path("."), Path("configs")) and path.suffix in ("", ".yaml")
    if own and path.stem in shipped:
        return shipped[path.stem]
    raise InputError(f"{name}: no such file; name one, or a configuration that comes with the "
                     f"project ({', '.join(shipped)})")
