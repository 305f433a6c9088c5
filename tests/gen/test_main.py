"""gen.main: the console script qsdt."""

import importlib
import os
from pathlib import Path
import re
import subprocess
import sys
import tomllib

import pytest

from gen import main


ROOT = Path(__file__).resolve().parents[2]

SCRIPT = "import sys; sys.argv[0] = '/usr/bin/qsdt'; from gen.main import cli; sys.exit(cli())"


def qsdt(*words, folder=ROOT, script=SCRIPT):
    # -P as in an installed script, whose own folder goes first and not the working one.
    return subprocess.run([sys.executable, "-P", "-c", script, *words], cwd=folder,
                          capture_output=True, text=True, timeout=120,
                          env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"})


def test_help_names_all_commands_and_imports_none():
    ended = qsdt("--help", script=SCRIPT.replace(
        "sys.exit(cli())", "\ntry: cli()\nexcept SystemExit: print(*sys.modules, sep='\\n')"))
    assert ended.returncode == 0 and ended.stderr == ""
    for name, (_, text) in main.COMMANDS.items():
        # A long name has its text in the next line.
        assert re.search(rf"^    {name}\s+{re.escape(text)}$", ended.stdout, re.MULTILINE)
    assert "numpy" not in ended.stdout.split() and "amaranth" not in ended.stdout.split()
    assert "3 something is not" in ended.stdout


def test_version():
    ended = qsdt("--version")
    assert ended.returncode == 0 and ended.stdout.startswith("qsdt ")


@pytest.mark.parametrize("words, text", [
    ([], "error: the following arguments are required: COMMAND; see qsdt --help\n"),
    (["bild"], "error: argument COMMAND: invalid choice: 'bild'"),
    (["build"], "error: the following arguments are required: --board; see qsdt build --help\n"),
])
def test_wrong_command_lines(words, text):
    ended = qsdt(*words)
    assert ended.returncode == 1 and ended.stderr.startswith(text)
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("name", main.COMMANDS)
def test_each_command_is_the_module_that_it_names(name):
    module, text = main.COMMANDS[name]
    assert callable(importlib.import_module(module).cli) and text
    assert module.rpartition(".")[2] == name, "model.command.called relies on it"


def test_names_in_the_working_folder_do_not_matter(tmp_path):
    for name in ("model", "gen", "random", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(7)")
    ended = qsdt("traffic", "--help", folder=tmp_path)
    assert ended.returncode == 0 and ended.stdout.startswith("usage: qsdt traffic ")


def test_the_script_of_the_project_is_this_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"qsdt": "gen.main:cli"}
    assert project["name"] == main.PROJECT


def test_interrupted_while_importing(monkeypatch, capsys):
    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "import_module", interrupted)
    assert main.cli(["build"]) == 130
    assert capsys.readouterr().err == "interrupted\n"
