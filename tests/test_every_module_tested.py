"""Every module of hw, gen and model has a test: of its own, or one that :data:`HELD_BY` names.

The test of ``hw/array/reader.py`` is ``tests/hw/array/test_reader.py``, or
``tests/rtl/test_reader.py``.
"""

import ast
from functools import cache
from pathlib import Path
import re

import pytest


ROOT = Path(__file__).resolve().parents[1]

HELD_BY = {
    # Blocks of a unit that the test of the unit compares with the reference, bit by bit.
    "hw/core.py": "tests/rtl/test_nano.py",
    "hw/boot/master.py": "tests/rtl/test_boot.py",
    "hw/boot/scores.py": "tests/rtl/test_boot.py",
    "hw/boot/spi.py": "tests/hw/boot/test_flash.py",
    "hw/sdram/banks.py": "tests/hw/sdram/test_scheduler.py",
    "hw/sdram/pattern.py": "tests/hw/sdram/test_memory_test.py",
    "hw/sdram/segments.py": "tests/hw/sdram/test_scheduler.py",

    # Interfaces and numbers: what they say, their users are tested against.
    "hw/boot_layout.py": "tests/rtl/test_boot.py",
    "hw/port.py": "tests/hw/memory/test_pool.py",
    "hw/register.py": "tests/hw/link/test_register_file.py",
    "hw/sdram_config.py": "tests/hw/sdram/test_datasheet.py",

    # What a command prints of the trainings of this test.
    "model/dense_evaluation.py": "tests/model/training/test_task.py",

    # Loops that torch's layers are compared with, through what calls them.
    "model/families/kernels.py": "tests/model/families/test_fused.py",

    # Steps of the compiler: random networks run on the ISS like the integer model.
    "gen/compile/emit.py": "tests/gen/compile/test_waits.py",
    "gen/compile/group.py": "tests/gen/compile/test_compiler.py",
    "gen/compile/heights.py": "tests/gen/compile/test_compiler.py",
    "gen/compile/maps.py": "tests/gen/compile/test_compiler.py",
    "gen/compile/operators.py": "tests/gen/compile/test_compiler.py",
    "gen/compile/residency.py": "tests/gen/compile/test_compiler.py",
    "gen/compile/rings.py": "tests/gen/compile/test_compiler.py",
    "gen/isa/program.py": "tests/gen/compile/test_waits.py",
    "gen/machine/iss.py": "tests/gen/compile/test_compiler.py",
    "gen/machine/processes.py": "tests/gen/machine/test_cost.py",

    # Checks, and what builds and runs a network.
    "gen/build.py": "tests/gen/test_commands.py",
    "gen/bench/proof.py": "tests/gen/bench/test_bitstream.py",
    "gen/proof/static.py": "tests/gen/test_prove.py",
    "gen/bench/step.py": "tests/gen/bench/test_link_steps.py",
    "gen/check/compare.py": "tests/rtl/test_simulate.py",
    "gen/check/record.py": "tests/gen/test_commands.py",
    "gen/check/trace.py": "tests/gen/compile/test_excerpt.py",
    "gen/config/resources.py": "tests/gen/config/test_derive.py",
    "gen/config/shell.py": "tests/rtl/test_run.py",
    "gen/config/spec.py": "tests/faults/test_15_config.py",
    "gen/device/check.py": "tests/faults/test_03_memory_checked.py",
    "gen/device/port.py": "tests/faults/test_13_serial_ports.py",
    "gen/device/software.py": "tests/gen/device/test_device.py",
    "gen/device/session.py": "tests/faults/test_01_restarted_board.py",
    "gen/device/transport.py": "tests/gen/device/test_device.py",
    "gen/host.py": "tests/gen/test_doctor.py",
    "gen/proof/build.py": "tests/gen/test_prove.py",
    "gen/proof/gate.py": "tests/gen/test_prove.py",
    "gen/proof/record.py": "tests/gen/test_prove.py",
    "gen/report.py": "tests/gen/flow/test_page.py",
    "gen/traffic.py": "tests/faults/test_21_cheap_first.py",

    # Networks: parts of one that its tests compare with published vectors, or with each other.
    "model/convert.py": "tests/model/training/test_checkpoint.py",
    "model/data/class_folder.py": "tests/model/data/test_options.py",
    "model/data/object_files.py": "tests/model/data/test_coco.py",
    "model/data/pictures.py": "tests/faults/test_17_picture_bombs.py",
    "model/error.py": "tests/model/test_command.py",
    "model/families/base.py": "tests/model/families/test_network.py",
    "model/families/e_spikeformer.py": "tests/model/families/test_sdt_v3.py",
    "model/families/e_spikeformer_large.py": "tests/model/families/test_sdt_v3_large.py",
    "model/families/infer.py": "tests/model/training/test_start.py",
    "model/families/layout.py": "tests/model/training/test_checkpoint.py",
    "model/families/lsq.py": "tests/model/families/test_network.py",
    "model/families/make.py": "tests/model/test_train.py",
    "model/families/parts.py": "tests/model/families/test_network.py",
    "model/families/qsdt.py": "tests/model/families/test_network.py",
    "model/families/spec.py": "tests/model/families/test_network.py",
    "model/families/spec_file.py": "tests/model/data/test_options.py",
    "model/families/taps.py": "tests/model/families/test_backbone.py",
    "model/families/work.py": "tests/model/test_energy.py",
    "model/integer/epilogue.py": "tests/model/integer/test_network.py",
    "model/integer/export.py": "tests/model/integer/test_network.py",
    "model/integer/fixed_point.py": "tests/model/integer/test_network.py",
    "model/integer/graph.py": "tests/model/integer/test_network.py",
    "model/integer/qsd_file.py": "tests/model/training/test_checkpoint.py",
    "model/integer/random_network.py": "tests/model/integer/test_network.py",
    "model/integer/widths.py": "tests/model/test_evaluate.py",
    "model/published/layers.py": "tests/model/published/test_detector.py",
    "model/published/semantic_fpn.py": "tests/model/published/test_segmenter.py",
    "model/training/ablation.py": "tests/model/test_ablation.py",
    "model/training/energy.py": "tests/model/test_energy.py",
    "model/training/information.py": "tests/model/test_information.py",
    "model/training/information_report.py": "tests/model/test_information.py",
    "model/training/logbook.py": "tests/model/test_train.py",
    "model/training/measures.py": "tests/model/test_train.py",
    "model/training/optimise.py": "tests/model/test_train.py",
    "model/training/session.py": "tests/model/test_train.py",
    "model/training/trainer.py": "tests/model/test_train.py",
    "model/yaml_file.py": "tests/model/training/test_recipe.py",
    "model/zoo.py": "tests/model/integer/test_synthetic.py",
}
"""Modules without a test of their own, and the test that holds each."""

STEPS = 2
"""How far a module may be inside of one that its test imports: a part, or a part of a part."""


@cache
def imports(path):
    """Dotted names that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def modules_of(package):
    """Paths of a package's modules, from the root; those that hold code."""
    return sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob("*.py")
                  if path.name not in ("__init__.py", "__main__.py"))


def dotted(path):
    return path.removesuffix(".py").replace("/", ".")


MODULES = modules_of("hw") + modules_of("gen") + modules_of("model")

# Parsed now, at import: the parser of CPython 3.11 may fail behind a test that recurses deeply.
for path in (ROOT / "tests").rglob("*.py"):
    imports(path)

PARTS = {dotted(path): imports(ROOT / path) for path in MODULES + modules_of("sim")}


@cache
def reached(test):
    """Modules that a test has to do with: those that it, or a helper in tests/, imports or names
    as commands; their parts, and parts of parts."""
    files, names, left = set(), set(), [test]
    while left:
        files.add(path := left.pop())
        names |= imports(path) | set(re.findall(r"\bgen(?:\.\w+)+", path.read_text()))
        helpers = {ROOT / f"{name.replace('.', '/')}.py" for name in imports(path)
                   if name.startswith("tests.")}
        left += [helper for helper in helpers - files if helper.is_file()]
    found = names & PARTS.keys()
    for _ in range(STEPS):
        found = found | {part for name in found for part in PARTS[name] & PARTS.keys()}
    return found


def own_tests(module):
    """The test files that carry a module's name and have to do with it."""
    path = Path(module)
    places = (ROOT / "tests" / path.parent, ROOT / "tests" / "rtl")
    return [test for place in places if (test := place / f"test_{path.stem}.py").is_file()
            and dotted(module) in reached(test)]


@pytest.mark.parametrize("module", MODULES)
def test_module_has_a_test(module):
    path = Path(module)
    if own_tests(module):
        return
    assert module in HELD_BY, (
        f"{module} has no test: write tests/{path.parent}/test_{path.stem}.py, or name in HELD_BY "
        "the test that holds it")
    test = ROOT / HELD_BY[module]
    assert test.is_file(), f"{HELD_BY[module]}, which is to hold {module}, does not exist"
    assert dotted(module) in reached(test), (
        f"{HELD_BY[module]} neither imports {dotted(module)} nor what contains it")


@pytest.mark.parametrize("module", HELD_BY)
def test_row_is_needed(module):
    assert module in MODULES, f"{module} is gone: take its row out of HELD_BY"
    assert not own_tests(module), (
        f"{module} has a test of its own: take its row out of HELD_BY")
