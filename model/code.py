"""What code a result depends on: part of its digest, so that no stale result is reused."""

import ast
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
import subprocess
import sys

from model.files import digest_bytes


__all__ = ["PACKAGES", "ROOT", "code_digest", "commit", "source_digest"]


ROOT = Path(__file__).resolve().parents[1]
"""Where the packages of this project lie."""

PACKAGES = ("boards", "gen", "hw", "model", "sim")
"""Their names: what else is imported counts by its version."""


def code_digest(*modules: str, root: Path = ROOT) -> dict[str, str]:
    """Digests of modules and of all that they import from this project, directly or not.

    An import inside a function counts, one for type checkers does not. Of other packages the
    version counts; those of the standard library do not.

    Parameters
    ----------
    modules : str
        Full names, e.g. ``gen.flow.synth``.
    root : Path
        Folder of the packages.

    Returns
    -------
    dict
        ``{module: digest}`` and ``{package: version}``, sorted by name.
    """
    found: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        top = name.split(".")[0]
        if name in found or top in sys.stdlib_module_names:
            continue
        if top not in PACKAGES:
            found |= _version(top)
            continue
        base = root.joinpath(*name.split("."))
        path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
        # ``from package import name`` names a module or something in the package.
        if path.is_file():
            found[name], imported = _read(path, path.stat().st_mtime_ns)
            waiting += imported
    return dict(sorted(found.items()))


def commit(root: Path = ROOT) -> str:
    """The commit that the code is of, with ``-dirty`` if files were changed since.

    ``unknown`` where it does not lie in a repository of its own (an installed package), or
    without git.
    """
    if not (root / ".git").exists():
        return "unknown"
    try:
        ended = subprocess.run(
            ["git", "-C", root, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return ended.stdout.strip() or "unknown"


def source_digest(path: Path) -> str:
    """SHA-256 of what a Python file does: comments, layout and docstrings do not count."""
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            # A string that stands alone is a docstring, also below a constant.
            vars(node)["body"] = [part for part in body if not (
                isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)
                and isinstance(part.value.value, str))]
    return digest_bytes(ast.dump(tree).encode())


@cache
def _version(package: str) -> dict[str, str]:
    try:
        return {package: version(package)}
    except PackageNotFoundError:
        return {}


@cache
def _read(path: Path, changed: int) -> tuple[str, list[str]]:
    """Digest and imports of a file; ``changed`` is its time, for the cache."""
    return source_digest(path), list(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    """Names that a file imports: modules, their packages, and what it takes from them."""
    waiting: list[ast.AST] = [ast.parse(path.read_bytes())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))
        waiting += ast.iter_child_nodes(node)
