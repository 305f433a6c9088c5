"""FAULTS row 23: nobody is left alone at the end: each command names the one that follows."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

from gen.main import COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_names_the_next_one(name):
    module = import_module(COMMANDS[name][0])
    calls = [node for node in ast.walk(ast.parse(Path(module.__file__).read_text()))
             if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
             and node.func.id == "next_step"]
    named = [node.args[0].value for node in calls if isinstance(node.args[0], ast.Constant)]
    assert calls, f"{module.__name__} does not say what comes next"
    assert set(named) <= {module for module, _ in COMMANDS.values()}
