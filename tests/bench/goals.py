"""Lines with goals, which `table.py` gathers from the output of the other scripts."""

from __future__ import annotations

MARK = "→ "
_FIELDS = " | "


def line(name: str, value: float | str, at_most: float | None = None, at_least: float | None = None) -> None:
    """Print what was measured beside its goal; a text in place of the value says why there is none."""
    goal = f"≤ {at_most:g}" if at_most is not None else f"≥ {at_least:g}"
    if isinstance(value, str):
        shown, met = value, "–"
    else:
        shown = f"{value:.2f}" if value < 10 else f"{value:.0f}"
        met = "yes" if (value <= at_most if at_most is not None else value >= (at_least or 0.0)) else "no"
    print(MARK + _FIELDS.join((name, shown, goal, met)), flush=True)


def fields(text: str) -> list[str] | None:
    """The name, value, goal and verdict of a printed line; None for any other line."""
    return text.removeprefix(MARK).rstrip("\n").split(_FIELDS) if text.startswith(MARK) else None
