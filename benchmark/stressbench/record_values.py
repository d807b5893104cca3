"""What pydantic would take for a field of a record although JSON says something else."""

from __future__ import annotations

from datetime import datetime


def number(value: object) -> object:
    """What JSON writes as a number: neither a truth value nor digits in quotes; raises `ValueError` for these."""
    if isinstance(value, bool | str):
        raise ValueError("expected a number")
    return value


def not_a_truth_value(value: object) -> object:
    """Text or a number; raises `ValueError` for a truth value."""
    if isinstance(value, bool):
        raise ValueError("expected text or a number")
    return value


def date(value: object) -> object:
    """A date in words, since pydantic takes numbers for seconds since 1970; raises `ValueError` for these."""
    if not isinstance(value, datetime) and "T" not in str(value):
        raise ValueError("expected a date and a time in ISO 8601, as 2026-01-31T12:00:00Z")
    return value
