"""Formats conditions for people, by their values alone."""

from __future__ import annotations

from stressbench.contracts import Condition


def describe(condition: Condition) -> str:
    """A condition, formatted: `fog, severity 3`."""
    return ", ".join(
        written(value) if isinstance(value, str) else f"{key} {written(value)}" for key, value in condition.items()
    )


def written(value: str | int | float, digits: int = 6) -> str:
    """A field of a condition, formatted with the given number of digits.

    >>> written(0.1), written(8 / 255), written(3.14159265)
    ('0.1', '8/255', '3.14159')
    """
    if isinstance(value, str):
        return value
    return budget(value, digits) if isinstance(value, float) else str(value)


def budget(eps: float, digits: int = 6) -> str:
    """The budget of an attack in the usual notation: a short decimal number, or n/255."""
    decimal, steps = f"{eps:.3g}", 255 * eps
    whole = 0 < eps < 1 and abs(steps - round(steps)) < 1e-6
    return f"{steps:.0f}/255" if whole and float(decimal) != eps else f"{eps:.{digits}g}"
