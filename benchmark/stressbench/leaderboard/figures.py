"""The page's figures of a group: those of `bench plot` that need no per-image tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from stressbench.contracts import Axis, Metric
from stressbench.leaderboard.curves import Chart, Model, Scale, chart
from stressbench.leaderboard.ranking import Group
from stressbench.record import Record, Row
from stressbench.results import selection
from stressbench.results.selection import LARGEST, Curve
from stressbench.results.show import number

_MOST = 8  # lines that colours still tell apart
_SHADES = 8

_DRAWS = Scale("draws", logarithmic=True)


@dataclass(frozen=True)
class _Panel:
    title: str
    axis: Scale
    metric: Metric
    read: Callable[[Record], Curve]
    holds: tuple[float, ...] = ()


@dataclass(frozen=True)
class Figure:
    """Charts of the same models."""

    title: str
    note: str
    charts: Sequence[Chart]
    models: Sequence[Model]
    left_out: int  # models that could be drawn, beyond those that colours tell apart


@dataclass(frozen=True)
class Cell:
    text: str
    shade: int | None  # 0 for the least of the table … 7 for the most


@dataclass(frozen=True)
class HeatMap:
    title: str
    heads: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]


def figures(group: Group) -> Iterator[Figure]:
    """The figures for which the records have numbers, each of the best models."""
    ranked = [one.entry for one in group.own]
    for title, note, panels in (_by_draws(group), *(_by_axis(group, axis) for axis in _axes(group))):
        read = [[panel.read(entry.record) for panel in panels] for entry in ranked]
        able = [place for place, curves in enumerate(read) if any(curve.drawable for curve in curves)]
        # A model keeps its colour from one figure to the next where there are colours for all.
        models = {
            place: Model(group.label(ranked[place]), place if len(ranked) <= _MOST else i)
            for i, place in enumerate(able[:_MOST])
        }
        charts = []
        for k, panel in enumerate(panels):
            drawn = [(model, read[place][k]) for place, model in models.items() if read[place][k].drawable]
            if drawn:
                charts.append(chart(panel.title, panel.axis, panel.metric, drawn, panel.holds))
        if charts:
            yield Figure(title, note, charts, list(models.values()), len(able) - len(models))


def heat_map(group: Group) -> HeatMap | None:
    """The first row metric of the best model, by the `over` keys and positions of the first axis that has several."""
    best = group.own[0]
    entry = best.entry
    rows = entry.record.conditions
    axis, panel = next(
        ((axis, panel) for axis in _axes(group) if (panel := selection.heat_map(axis, rows)) is not None), (None, None)
    )
    metric = next(iter(selection.metrics(axis, group.suite)), None) if axis else None
    if best.rank is None or axis is None or panel is None or metric is None:
        return None
    values = {
        (name, at): cells[name].metrics.get(metric.name) if name in cells else None
        for at, cells in panel.rows.items()
        for name in panel.names
    }
    known = [value for value in values.values() if value is not None]
    if not known or max(map(abs, known)) > LARGEST:
        return None
    low, high = min(known), max(known)

    def cell(value: float | None) -> Cell:
        if value is None:
            return Cell(number(value, metric), None)
        share = (value - low) / (high - low) if high > low else 0.0
        return Cell(number(value, metric), min(int(_SHADES * share), _SHADES - 1))

    return HeatMap(
        f"{metric.name} by {' and '.join(axis.over)} and {axis.name}: {group.label(entry)}, the best",
        [selection.text(axis, at) for at in panel.rows],
        [(name, [cell(values[name, at]) for at in panel.rows]) for name in panel.names],
    )


# --- the figures: a title, a note, and a panel a metric and each of an axis' own -----------------------------------


def _axes(group: Group) -> Sequence[Axis]:
    return selection.axes(group.suite, group.record.conditions)


def _by_draws(group: Group) -> tuple[str, str, list[_Panel]]:
    metric = group.by or group.metrics[0]

    def read(record: Record) -> Curve:
        return Curve({float(size): value for size, value in selection.by_draws(record, metric.name).items()})

    return "By number of draws", "", [_Panel(_title(metric, "the number of draws"), _DRAWS, metric, read)]


def _by_axis(group: Group, axis: Axis) -> tuple[str, str, list[_Panel]]:
    rows = group.record.conditions
    ticks = selection.QUARTERS if axis.kind == "radians" else {}
    scale = Scale(axis.label, partial(selection.text, axis), ticks=ticks)
    over = axis.label.partition(" (")[0]  # without the unit

    def panel(title: str, metric: Metric) -> _Panel:
        def read(record: Record) -> Curve:
            return selection.curve(axis, title, record.conditions, metric)

        return _Panel(_title(metric, over, title), scale, metric, read, selection.scale(metric))

    drawn = selection.panels(axis, rows)
    panels = [panel(one.title, metric) for metric in selection.metrics(axis, group.suite) for one in drawn]
    return f"By {axis.name}", _note(axis, rows), panels


def _note(axis: Axis, rows: Sequence[Row]) -> str:
    told = []
    if axis.over:
        told.append(
            f"Each point is the mean of the conditions with that {axis.name}, which differ in their "
            f"{' and '.join(axis.over)}."
        )
    if len(axis.keys) > 1:
        told.append(f"A range of {axis.name} is drawn at its middle.")
    if axis.count is not None:
        told.append("Only what was measured on all images is drawn.")
    clean = selection.clean(axis, rows)
    if clean is not None:
        at = selection.place(axis, clean.condition)
        told.append(
            "Level lines: the clean images."
            if at is None
            else f"{axis.name.capitalize()} {selection.text(axis, at)} is the clean images."
        )
    return " ".join(told)


def _title(metric: Metric, over: str, name: str = "") -> str:
    facts = [*(["nats"] if metric.unit == "nats" else []), *([f"{metric.better} is better"] if metric.better else [])]
    return f"{metric.name} against {over}" + (f": {name}" if name else "") + (f" ({', '.join(facts)})" if facts else "")
