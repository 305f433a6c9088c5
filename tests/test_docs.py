"""The documentation: links lead somewhere, commands exist, snippets run, decisions are short."""

from pathlib import Path
import re
import shlex

import pytest

from gen.main import COMMANDS


ROOT = Path(__file__).resolve().parents[1]

PAGES = [path for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
         if "results" not in path.parts or path.name == "README.md"]


def name_of(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links(path):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        if not re.match(r"https?://", target):
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "decisions").glob("0*.md")), ids=name_of)
def test_decisions_are_short(path):
    assert len(path.read_text().splitlines()) <= 40


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def commands(path):
    """Command lines of a page: those of our own commands, in code."""
    text = path.read_text()
    found = re.findall(r"`((?:qsdt |python -m (?:gen|model)\.)[^`\n]*)`", text)
    for block in re.findall(r"```[a-z]*\n(.*?)```", text, re.DOTALL):
        found += re.findall(r"(?<![\w/])((?:qsdt|python -m (?:gen|model)\.\w+) [^&|\n]*)", block)
    return found


@pytest.mark.parametrize("path", [page for page in PAGES if commands(page)
                                  and "results" not in page.parts], ids=name_of)
def test_commands_have_these_options(path, capsys):
    from importlib import import_module

    for line in commands(path):
        words = [word for word in shlex.split(line.replace("…", ""), comments=True) if word]
        if words[0] == "qsdt":
            if len(words) == 1 or words[1] == "COMMAND" or words[1].startswith("-"):
                continue
            assert words[1] in COMMANDS, line
            module, rest = COMMANDS[words[1]][0], words[2:]
        else:
            module, rest = words[2], words[3:]
            if not hasattr(import_module(module), "cli"):
                continue
        with pytest.raises(SystemExit):
            import_module(module).cli(["--help"])
        text = capsys.readouterr().out
        for word in rest:
            if word.startswith("--"):
                assert word.split("=")[0] in text, f"{word} of: {line}"


def test_a_board_of_ones_own():
    text = (ROOT / "docs" / "tutorials" / "own-board.md").read_text()
    snippet = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    names = {}
    exec(snippet, names)  # noqa: S102
    assert names["MYBOARD"].part == "LFE5U-25F"


def test_every_check_of_the_model_has_its_test():
    """The numbered checks of docs/model.md, section 7, each named by a test."""
    text = (ROOT / "docs" / "model.md").read_text().partition("## 7. Acceptance checks")[2]
    numbers = re.findall(r"^(\d+)\. ", text, re.MULTILINE)
    assert numbers == [str(n) for n in range(1, len(numbers) + 1)] and len(numbers) >= 20
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r'"""Model check 7\.(\d+)\b', tests))
    assert set(numbers) <= named, sorted(set(numbers) - named, key=int)
    assert named <= set(numbers)


def test_site_names_every_page():
    """Pages of the site are in its navigation; records and decisions are reached by links."""
    text = (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        inside = page.relative_to(ROOT / "docs")
        if inside.parts[0] not in ("results", "decisions"):
            assert str(inside) in text, inside
