"""Who may import whom: the dependency direction that keeps the packages apart."""

import ast
from pathlib import Path
import sys

import pytest


ROOT = Path(__file__).resolve().parents[1]

PACKAGES = ("hw", "boards", "model", "sim", "gen")

STDLIB = sys.stdlib_module_names


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for package in PACKAGES
           for path in sorted((ROOT / package).rglob("*.py"))}


def imports(path, *, module_level=False):
    """Names that a file imports; with ``module_level`` without those inside functions."""
    found = []

    def visit(node):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.extend(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}: relative import"
                found.append(child.module)
                # `from model import golden` imports a module too.
                found.extend(f"{child.module}.{alias.name}" for alias in child.names
                             if f"{child.module}.{alias.name}" in MODULES)
            elif module_level and (isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
                                   or is_type_checking(child)):
                continue
            visit(child)

    visit(ast.parse(path.read_text(), str(path)))
    return found


def is_type_checking(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def tops(path, **options):
    return {name.split(".")[0] for name in imports(path, **options)}


def reached(name, seen=None):
    """Every module name that importing our module ``name`` imports, through our own modules."""
    seen = set() if seen is None else seen
    for target in imports(MODULES[name], module_level=True):
        if target not in seen:
            seen.add(target)
            for parent in [target, *(target.rsplit(".", n)[0]
                                     for n in range(1, target.count(".") + 1))]:
                if parent in MODULES:
                    seen.add(parent)
                    reached(parent, seen)
    return seen


def of(package):
    return [name for name in MODULES if name.split(".")[0] == package]


@pytest.mark.parametrize("name", of("hw"))
def test_hw(name):
    assert tops(MODULES[name]) - STDLIB <= {"amaranth", "hw"}


@pytest.mark.parametrize("name", of("boards"))
def test_boards(name):
    assert tops(MODULES[name]) - STDLIB <= {"amaranth", "amaranth_boards", "boards"}


@pytest.mark.parametrize("name", of("model"))
def test_model(name):
    assert not tops(MODULES[name]) & {"hw", "boards", "sim", "gen", "amaranth"}


@pytest.mark.parametrize("name", [name for name in of("model")
                                  if name in ("model.golden", "model.integer")])
def test_golden_needs_no_torch(name):
    assert not any(target.split(".")[0] == "torch" for target in reached(name))


@pytest.mark.parametrize("name", of("sim"))
def test_sim(name):
    assert not tops(MODULES[name]) & {"gen", "boards", "torch"}


@pytest.mark.parametrize("name", of("gen"))
def test_gen_runs_without_torch(name):
    """torch may be imported inside a function that loads a checkpoint, never to build or run."""
    assert "torch" not in tops(MODULES[name], module_level=True)
    loaded = reached(name)
    assert not any(target.split(".")[0] == "torch" for target in loaded), (
        f"{name} imports torch through "
        + ", ".join(sorted(m for m in loaded if m in MODULES
                           and "torch" in tops(MODULES[m], module_level=True))))


def test_nothing_but_tests_imports_gen():
    assert [name for name, path in MODULES.items()
            if not name.startswith("gen") and "gen" in tops(path)] == []


def test_nothing_imports_tests():
    assert [name for name, path in MODULES.items() if "tests" in tops(path)] == []
