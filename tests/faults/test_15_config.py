"""Row 15: configurations of wrong types, not UTF-8, too deep, with anchors that explode."""

from pathlib import Path
import time

import pytest

from gen.build import cli as build
from gen.config.spec import read_overrides
from model.error import InputError
from model.yaml_file import load, MAX_ALIASES, MAX_BYTES, MAX_DEPTH, MAX_NODES


FAULTS = Path(__file__).resolve().parents[1] / "data" / "faults" / "config"

MESSAGES = {
    "anchors_as_clock": "more than 16 aliases",
    "anchors_as_memory": "more than 16 aliases",
    "anchors_as_rows": "more than 16 aliases",
    "binary": "is not UTF-8 (byte 0)",
    "clock_nan": "clock_mhz must be a number, not nan",
    "clock_str": "clock_mhz must be a number, not 'fast'",
    "core_inf": "core must be a mapping, not inf",
    "core_int": "core must be a mapping, not 32",
    "core_list": "core must be a mapping, not ['rows', 32]",
    "deep_nesting": "more than 16 nested levels",
    "memstr": "memory_words must be a whole number, not 'lots'",
    "not_utf8": "is not UTF-8 (byte 64)",
    "rows_str": "core.rows must be a whole number, not '32'",
    "sdram_str": "sdram_mhz must be a number, not 'quick'",
    "tab": "is not YAML: found character '\\t' that cannot start any token in line 2",
    "twin3": "twin: Stall must be in 0..0.95, not 3",
    "utf16": "is not UTF-8 (byte 0)",
    "wrong_types": "the key 'core' is there twice",
}


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_file(name, tmp_path, capsys):
    path, out = FAULTS / f"{name}.yaml", tmp_path / "out"
    started = time.process_time()
    status = build(["--board", "ulx3s-85f", "--model", "qsdt_nano", "--config", str(path),
                    "--out", str(out), "--until", "config"])
    assert time.process_time() - started < 10
    error = capsys.readouterr().err.strip()
    assert status == 1
    assert "\n" not in error and len(error) < 400
    assert str(path) in error and MESSAGES[name] in error
    assert not out.exists()


def test_every_file_has_its_message():
    assert {path.stem for path in FAULTS.glob("*.yaml")} == set(MESSAGES)


@pytest.mark.parametrize("text, message", [
    ("core: {acc_bits: ~}", r"core\.acc_bits must be a whole number, not None"),
    ("core: {plane_skip: 1}", r"core\.plane_skip must be true or false, not 1"),
    ("core: {rows: true}", r"core\.rows must be a whole number, not True"),
    ("core: {rows: [1]}", r"core\.rows must be a whole number"),
    ("clock_mhz: .inf", "clock_mhz must be a number, not inf"),
    ("clock_mhz: 0", r"clock_mhz must be 1\.\.1000, not 0"),
    (f"clock_mhz: {10 ** 400}", r"clock_mhz must be 1\.\.1000, not 10000"),
    (f"clock_mhz: {'9' * 5000}", "a value cannot be read"),
    ("memory_words: 0", r"memory_words must be 1\.\.16777216, not 0"),
    ("memory_words: 1e6", "memory_words must be a whole number"),
    ("memory: [onchip]", r"memory must be one of onchip, sdram, not \['onchip'\]"),
    ("memory: ", "memory must be one of onchip, sdram, not None"),
    ("strip_rows: 128", r"strip_rows must be 1\.\.127, not 128"),
    ("fold: 0", r"fold must be 1\.\.64, not 0"),
    ("fold: 2026-13-45", "a value cannot be read"),
    ("1: 2", "keys must be texts, not 1"),
    ("? [a]\n: 1", "is not YAML: found unhashable key"),
    ("fold: 2\nfold: 4", "the key 'fold' is there twice"),
    ("a: 1\n--- \nb: 2", "is not YAML: but found another document"),
    ("fold: !!python/object:os.system 1", "is not YAML: could not determine a constructor"),
    ("fold: &a [*a]", "fold must be a whole number"),
    ("fold: \x07", "is not YAML: unacceptable character"),
])
def test_text(tmp_path, text, message):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        read_overrides(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_limits(tmp_path):
    path = tmp_path / "c.yaml"

    def taken(text):
        path.write_text(text)
        try:
            return bool(load(path))
        except InputError as error:
            assert "more than" in str(error)
            return False

    def aliases(count):
        return f"a: &a 1\nb: [{', '.join(['*a'] * count)}]"

    def nested(levels):
        return f"a: {'[' * levels}{']' * levels}"

    assert taken(aliases(MAX_ALIASES)) and not taken(aliases(MAX_ALIASES + 1))
    assert taken(nested(MAX_DEPTH - 1)) and not taken(nested(MAX_DEPTH))
    few = "a: 1".ljust(MAX_BYTES)
    assert taken(few) and not taken(few + " ")
    # The mapping, the key and the list are three.
    assert taken(f"a: [{'1,' * (MAX_NODES - 3)}]") and not taken(f"a: [{'1,' * (MAX_NODES - 2)}]")


def test_empty(tmp_path):
    path = tmp_path / "c.yaml"
    for text in ("", "# nothing\n", "{}", "~"):
        path.write_text(text)
        assert load(path) == {}


def test_folder(tmp_path):
    with pytest.raises(InputError, match="Cannot read .*: Is a directory"):
        load(tmp_path)
