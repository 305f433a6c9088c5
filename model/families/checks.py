"""Checks of values that come from files; no torch here."""

__all__ = ["check_choice", "is_finite", "is_positive_int", "shown"]


def check_choice(field: str, value: object, choices: tuple[object, ...]) -> None:
    """Raise ValueError unless `value` is one of `choices`."""
    if isinstance(value, bool) or value not in choices:
        known = f"{', '.join(map(str, choices[:-1]))} or {choices[-1]}"
        raise ValueError(f"{field} must be {known}, not {shown(value)}")


def is_finite(value: object) -> bool:
    """Whether `value` is a number, not a truth value, NaN or infinite."""
    return (isinstance(value, int | float) and not isinstance(value, bool)
            and abs(value) < float("inf"))


def is_positive_int(value: object) -> bool:
    """Whether `value` is a whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def shown(value: object) -> str:
    """`value` for a message of one line, whatever a file holds in its place."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # an integer of too many digits
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."
