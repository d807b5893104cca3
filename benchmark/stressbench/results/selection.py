"""Selects what figures show of a record: the conditions of each panel and curve, by the axes of its suite.

Both `bench plot` and the leaderboard's page draw this selection. Records are untrusted: a panel is left out if the
position of one of its conditions is not a finite number, or if two of its conditions have the same position.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stressbench.contracts import Axis, Condition, Metric, Suite
from stressbench.record import Record, Row
from stressbench.results.conditions import budget, written

LARGEST = 1e9  # beyond it, ticks have no room and sums may overflow
QUARTERS: Mapping[float, str] = {k * math.pi / 4: text for k, text in enumerate(("0", "π/4", "π/2", "3π/4", "π"))}
_METRICS = 3


@dataclass(frozen=True)
class Panel:
    """The conditions of one panel of a figure."""

    title: str
    """The values of the axis' `panels` keys; empty if there are none."""
    rows: Mapping[float, Mapping[str, Row]]
    """Position on the axis, ascending → values of the axis' `over` keys → row."""

    @property
    def names(self) -> list[str]:
        """The values of the axis' `over` keys, in the record's order."""
        return list(dict.fromkeys(name for at in self.rows.values() for name in at))


@dataclass(frozen=True)
class Curve:
    """Values over an axis, and optionally a horizontal level, in the metric's unit."""

    points: Mapping[float, float]
    level: float | None = None

    @property
    def drawable(self) -> bool:
        """Whether a curve has two or more points and no outlier that would flatten all other curves."""
        values = [*self.points.values(), self.level or 0.0]
        return len(self.points) > 1 and all(abs(value) <= LARGEST for value in values)


def axes(suite: Suite, rows: Sequence[Row]) -> Sequence[Axis]:
    """The axes that a suite declares; if it declares none, the only key of its conditions if that is a number."""
    keys = {tuple(row.condition) for row in rows}
    if suite.axes or len(keys) != 1:
        return suite.axes
    (key, *others) = next(iter(keys))
    return () if others or any(isinstance(row.condition[key], str) for row in rows) else (Axis(key),)


def metrics(axis: Axis, suite: Suite) -> list[Metric]:
    """The row metrics that are drawn against an axis."""
    if axis.metrics:
        return [metric for metric in suite.row_metrics if metric.name in axis.metrics]
    return [metric for metric in suite.row_metrics if metric.better is not None][:_METRICS]


def panels(axis: Axis, rows: Sequence[Row]) -> list[Panel]:
    """The panels of an axis, of stressed conditions; panels with fewer positions than others are left out."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        partial = axis.count is not None and row.metrics.get(axis.count, row.n) != row.n
        if not partial and not is_clean((axis,), row.condition) and row.condition.keys() >= {*axis.keys}:
            found[_words(row.condition, axis.panels)].append(row)
    placed = [Panel(title, by_place) for title, members in found.items() if (by_place := _placed(axis, members))]
    most = max((len(panel.rows) for panel in placed), default=0)
    return [panel for panel in placed if len(panel.rows) == most]


def heat_map(axis: Axis, rows: Sequence[Row]) -> Panel | None:
    """The panel of an axis that summarises several conditions at each position, if it has exactly one panel."""
    found = panels(axis, rows)
    return found[0] if axis.over and len(found) == 1 and len(found[0].names) > 1 else None


def clean(axis: Axis, rows: Sequence[Row]) -> Row | None:
    """The row of clean images."""
    return next((row for row in rows if is_clean((axis,), row.condition)), None)


def is_clean(axes: Sequence[Axis], condition: Condition) -> bool:
    """Whether a condition is that of clean images according to one of the axes."""
    return any(axis.clean is not None and axis.clean.items() <= condition.items() for axis in axes)


def curve(axis: Axis, title: str, rows: Sequence[Row], metric: Metric) -> Curve:
    """The mean of a metric over the `over` keys, at each position where all of its values are known.

    Clean images are a point if their condition has a position on the axis, otherwise a level.
    """
    panel = next((panel for panel in panels(axis, rows) if panel.title == title), Panel(title, {}))
    points: dict[float, float] = {}
    for at, cells in panel.rows.items():
        values = [value for row in cells.values() if (value := row.metrics.get(metric.name)) is not None]
        if len(values) == len(panel.names):
            points[at] = sum(values) / len(values)
    unstressed = clean(axis, rows)
    level = None if unstressed is None else unstressed.metrics.get(metric.name)
    position = None if unstressed is None else place(axis, unstressed.condition)
    if position is None or level is None:
        return Curve(points, level)
    return Curve(dict(sorted({**points, position: level}.items())))


def place(axis: Axis, condition: Condition) -> float | None:
    """The position of a condition on an axis; None if it has no valid one."""
    values = [condition.get(key) for key in axis.keys]
    known = [value for value in values if isinstance(value, int | float) and abs(value) <= LARGEST]
    if len(known) < len(values) or (len(known) == 2 and known[0] >= known[1]):
        return None
    if axis.kind == "radians" and not 0 <= known[0] <= known[-1] <= 2 * math.pi - known[0]:
        return None
    return sum(known) / len(known) if len(known) > 1 else known[0]


def text(axis: Axis, at: float) -> str:
    """A position on an axis, formatted."""
    return budget(at) if axis.kind == "budget" else f"{at:.2f}" if axis.kind == "radians" else f"{at:g}"


def scale(metric: Metric) -> tuple[float, ...]:
    """The values that a metric's axis includes: 0, and also 1 for fractions for which higher is better."""
    return (0.0, 1.0) if metric.unit == "fraction" and metric.better == "higher" else (0.0,)


def by_draws(record: Record, metric: str) -> dict[int, float]:
    """The known values of a metric by number of draws, in ascending order."""
    known = {int(size): value for size, value in record.curves.get(metric, {}).items()}
    return {size: value for size, value in sorted(known.items()) if value is not None and size <= LARGEST}


def _placed(axis: Axis, rows: Sequence[Row]) -> dict[float, dict[str, Row]]:
    """The rows of a panel by position; empty if one has no position, or if two have the same."""
    found: dict[float, dict[str, Row]] = defaultdict(dict)
    for row in rows:
        at = place(axis, row.condition)
        if at is None:
            return {}
        found[at][_words(row.condition, axis.over)] = row
    return dict(sorted(found.items())) if sum(map(len, found.values())) == len(rows) else {}


def _words(condition: Condition, keys: Sequence[str]) -> str:
    return ", ".join(written(condition[key]) for key in keys if key in condition)
