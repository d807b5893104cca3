"""Which conditions of a record are the points of one line, told by their keys alone: no suite is named here.

What `bench plot` and the leaderboard's page draw. A record may be a stranger's: where the number that places a
condition is none that an axis can have, or two conditions have one place, the line that they would be on is left out.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from stressbench.contracts import Condition
from stressbench.record import Record, Row

CLEAN = "none"  # what suites call the corruption, the signal or the attack of images without any
ACCURACY = "accuracy"
LARGEST = 1e9  # beyond it, ticks have no room and sums may overflow
QUARTERS: Mapping[float, str] = {k * math.pi / 4: text for k, text in enumerate(("0", "π/4", "π/2", "3π/4", "π"))}

Points = list[tuple[float, Row]]  # from the left


def by_draws(record: Record, metric: str) -> dict[int, float]:
    """The known values of a metric by number of draws, the fewest first."""
    curve = {int(size): value for size, value in record.curves.get(metric, {}).items()}
    return {size: value for size, value in sorted(curve.items()) if value is not None and size <= LARGEST}


def by_severity(rows: Sequence[Row]) -> dict[float, dict[str, Row]]:
    """The rows that have a severity: severity, the least first → what has it → row; at 0 are the clean images."""
    found: dict[float, dict[str, Row]] = defaultdict(dict)
    for row in rows:
        if "severity" in row.condition:
            severity = _number(row.condition["severity"])
            if severity is None:
                return {}
            found[severity][_rest(row.condition)] = row
    return dict(sorted(found.items()))


def bands(rows: Sequence[Row]) -> dict[str, Points]:
    """By signal, the rows with it in one band of frequencies, over the band's middle, 0 … π radians per pixel."""

    def middle(condition: Condition) -> float | None:
        low, high = _number(condition["low"]), _number(condition["high"])
        if low is None or high is None or not 0 <= low < high:
            return None
        return (low + high) / 2 if low + high <= 2 * math.pi else None

    banded = [row for row in rows if {"signal", "low", "high"} <= row.condition.keys() and not _is_clean(row)]
    return _panels(banded, lambda condition: str(condition["signal"]), middle)


def budgets(rows: Sequence[Row]) -> dict[str, Points]:
    """By attack, over ε, the rows of those that were made on all images, at the most budgets."""
    attacked = [
        row
        for row in rows
        if {"attack", "eps"} <= row.condition.keys()
        and row.condition["eps"] != 0
        and row.metrics.get("images", row.n) == row.n
    ]
    attacks = _panels(
        attacked,
        lambda condition: f"{condition['attack']}, {condition.get('norm', '')}".rstrip(", "),
        lambda condition: _number(condition["eps"]),
    )
    most = max(map(len, attacks.values()), default=0)
    return {attack: points for attack, points in attacks.items() if len(points) == most}


def clean(rows: Sequence[Row]) -> list[Row]:
    """The rows of images without any stress: one in most suites."""
    return [row for row in rows if _is_clean(row)]


def budget(eps: float) -> str:
    """The budget of an attack for people: 8/255, or a decimal number."""
    steps = 255 * eps
    return f"{steps:.0f}/255" if 0 < eps < 1 and abs(steps - round(steps)) < 1e-6 else f"{eps:.3g}"


def _panels(
    rows: Sequence[Row], name: Callable[[Condition], str], place: Callable[[Condition], float | None]
) -> dict[str, Points]:
    found: dict[str, list[tuple[float | None, Row]]] = defaultdict(list)
    for row in rows:
        found[name(row.condition)].append((place(row.condition), row))
    panels = {}
    for title, placed in found.items():
        points = {at: row for at, row in placed if at is not None}
        if len(points) == len(placed):
            panels[title] = sorted(points.items(), key=lambda point: point[0])
    return panels


def _rest(condition: Condition) -> str:
    """What has a severity."""
    return ", ".join(str(value) for key, value in condition.items() if key != "severity")


def _is_clean(row: Row) -> bool:
    return CLEAN in row.condition.values()


def _number(value: str | int | float) -> float | None:
    return value if not isinstance(value, str) and abs(value) <= LARGEST else None
