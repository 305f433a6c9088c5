"""Checks of values of files: messages of one line, whatever a value is."""

import pytest

from model.families.checks import check_choice, is_finite, is_positive_int, shown


def test_choices():
    check_choice("kind", "lite", ("lite", "faithful"))
    check_choice("bits", 4, (2, 4))
    with pytest.raises(ValueError, match="kind must be lite or faithful, not 'x'"):
        check_choice("kind", "x", ("lite", "faithful"))
    with pytest.raises(ValueError, match="bits must be 1 or 2, not True"):
        check_choice("bits", True, (1, 2))


def test_numbers():
    assert is_finite(0.5) and is_finite(-3)
    assert not any(map(is_finite, (float("nan"), float("inf"), True, "1", None)))
    assert is_positive_int(1) and not any(map(is_positive_int, (0, -1, 1.0, True, "1")))


def test_values_are_shown_in_one_short_line():
    nested: list = []
    nested.append(nested)
    for value in ("x" * 200, list(range(999)), 10**9999, nested):
        assert len(shown(value)) <= 60 and "\n" not in shown(value)
