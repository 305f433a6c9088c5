import subprocess

import pytest

from model.code import code_digest, commit, source_digest


@pytest.fixture
def tree(tmp_path):
    """A step, what it imports, and what that imports inside a function."""
    for name, text in {
            "gen/__init__.py": "", "gen/flow/__init__.py": "",
            "gen/flow/step.py": "import json\nfrom gen.pnr import slow\nimport numpy as np\n",
            "gen/pnr/slow.py": "def f():\n    from gen.pnr.delays import WIRE\n    return WIRE\n",
            "gen/pnr/delays.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
                                 "    from gen.unused import x\nWIRE = 0.1\n",
            "gen/unused.py": "x = 1\n"}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_all_that_is_imported(tree):
    found = code_digest("gen.flow.step", root=tree)
    assert list(found) == ["gen", "gen.flow.step", "gen.pnr.delays", "gen.pnr.slow",
                           "numpy"]


def test_what_counts(tree):
    before = code_digest("gen.flow.step", root=tree)
    path = tree / "gen" / "pnr" / "delays.py"
    text = path.read_text()
    path.write_text(f'"""Delays."""\n\n# Measured.\n{text}"""Of a tile."""\n')
    assert code_digest("gen.flow.step", root=tree) == before
    path.write_text(text.replace("0.1", "0.2"))
    after = code_digest("gen.flow.step", root=tree)
    assert [name for name in before if before[name] != after[name]] == ["gen.pnr.delays"]


def test_source_digest(tmp_path):
    path = tmp_path / "a.py"
    path.write_text("def f(x):\n    return x + 1\n")
    first = source_digest(path)
    path.write_text('def f(x):\n    """One more."""\n    return (x +\n            1)\n')
    assert source_digest(path) == first
    path.write_text("def f(x):\n    return x + 2\n")
    assert source_digest(path) != first


def test_commit(tmp_path):
    """Of a repository of its own; a changed file is told, one that git does not know is not."""
    def git(*arguments):
        return subprocess.run(["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b",
                               *arguments], check=True, capture_output=True, text=True).stdout

    assert commit(tmp_path) == "unknown"
    git("init", "-q")
    assert commit(tmp_path) == "unknown"
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "a")
    git("tag", "v1")
    head = git("rev-parse", "HEAD").strip()
    (tmp_path / "b").write_text("1")
    assert commit(tmp_path) == head
    (tmp_path / "a").write_text("2")
    assert commit(tmp_path) == f"{head}-dirty"
    folder = tmp_path / "installed"
    folder.mkdir()
    assert commit(folder) == "unknown"
