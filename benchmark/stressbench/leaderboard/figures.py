"""What the page draws of a group: the figures of `bench plot` that need no per-image tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from stressbench import series
from stressbench.contracts import Metric
from stressbench.leaderboard.curves import Axis, Chart, Curve, Model, chart
from stressbench.leaderboard.ranking import Group
from stressbench.record import Record, Row
from stressbench.series import ACCURACY, LARGEST, Points
from stressbench.show import number

_MOST = 8  # lines that colours still tell apart
_METRICS = 3  # of the conditions, by severity
_SHADES = 8

_DRAWS = Axis("draws", logarithmic=True)
_SEVERITY = Axis("severity")
_BUDGET = Axis("ε (pixels are in 0…1)", series.budget)
_FREQUENCY = Axis("frequency (radians per pixel)", "{:.2f}".format, ticks=series.QUARTERS)


@dataclass(frozen=True)
class _Panel:
    title: str
    axis: Axis
    metric: Metric
    read: Callable[[Record], Curve]
    holds: tuple[float, ...] = ()


@dataclass(frozen=True)
class Figure:
    """Charts with the same models."""

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
    """Those that the records have numbers for, each of the best models that have them."""
    ranked = [one.entry for one in group.ranked()]
    for title, note, panels in (_by_draws(group), _by_severity(group), _by_frequency(group), _by_budget(group)):
        read = [[panel.read(entry.record) for panel in panels] for entry in ranked]
        able = [place for place, curves in enumerate(read) if any(curve.drawable for curve in curves)]
        # A model keeps its colour from one figure to the next where there are colours for all.
        models = {
            place: Model(group.name(ranked[place]), place if len(ranked) <= _MOST else i)
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
    """The conditions' first metric of the best model, by what has a severity and by severity; a lone line is none."""
    best, metric = group.ranked()[0], group.suite.row_metrics[0]
    entry = best.entry
    stressed = {
        severity: rows for severity, rows in series.by_severity(entry.record.conditions).items() if severity != 0
    }
    names = list(dict.fromkeys(name for rows in stressed.values() for name in rows))
    values = {
        (name, severity): rows[name].metrics.get(metric.name) if name in rows else None
        for severity, rows in stressed.items()
        for name in names
    }
    known = [value for value in values.values() if value is not None]
    if len(names) < 2 or best.rank is None or not known or max(map(abs, known)) > LARGEST:
        return None
    low, high = min(known), max(known)

    def cell(value: float | None) -> Cell:
        if value is None:
            return Cell(number(value, metric), None)
        share = (value - low) / (high - low) if high > low else 0.0
        return Cell(number(value, metric), min(int(_SHADES * share), _SHADES - 1))

    return HeatMap(
        f"{metric.name} by {_what(entry.record)} and severity: {group.name(entry)}, the best",
        [_SEVERITY.text(severity) for severity in stressed],
        [(name, [cell(values[name, severity]) for severity in stressed]) for name in names],
    )


# --- the figures: a title, a note, and a panel a metric, a signal or an attack ------------------------------------


def _by_draws(group: Group) -> tuple[str, str, list[_Panel]]:
    metric = group.metrics[0]

    def read(record: Record) -> Curve:
        return Curve({float(size): value for size, value in series.by_draws(record, metric.name).items()})

    return "By number of draws", "", [_Panel(_title(metric, "the number of draws"), _DRAWS, metric, read)]


def _by_severity(group: Group) -> tuple[str, str, list[_Panel]]:
    metrics = [metric for metric in group.suite.row_metrics if metric.better is not None]
    note = f"Each point is the mean of the conditions with that severity, which differ in their {_what(group.record)}."
    if 0 in series.by_severity(group.record.conditions):
        note += " Severity 0 is the clean images."
    panels = [_Panel(_title(metric, "severity"), _SEVERITY, metric, _means(metric), (0.0,)) for metric in metrics]
    return "By severity", note, panels[:_METRICS]


def _by_frequency(group: Group) -> tuple[str, str, list[_Panel]]:
    note = "A signal in one band of frequencies is drawn at the middle of the band. Level lines: the clean images."
    return "By frequency", note, _accuracies(group, series.bands, _FREQUENCY, "frequency", clean_at=None)


def _by_budget(group: Group) -> tuple[str, str, list[_Panel]]:
    note = "The attacks that were made on all images, at the most budgets. ε = 0 is the clean images."
    return "By budget of an attack", note, _accuracies(group, series.budgets, _BUDGET, "ε", clean_at=0.0)


def _accuracies(
    group: Group,
    split: Callable[[Sequence[Row]], Mapping[str, Points]],
    axis: Axis,
    over: str,
    clean_at: float | None,
) -> list[_Panel]:
    """A panel for each name that conditions are split by; clean images have their place, or else are a level."""
    metric = next((metric for metric in group.suite.row_metrics if metric.name == ACCURACY), None)
    if metric is None:
        return []

    def panel(name: str) -> _Panel:
        def read(record: Record) -> Curve:
            points = {at: row.metrics.get(metric.name) for at, row in split(record.conditions).get(name, [])}
            clean = next((row.metrics.get(metric.name) for row in series.clean(record.conditions)), None)
            if clean_at is not None:
                points[clean_at] = clean
            known = {at: value for at, value in points.items() if value is not None}
            return Curve(known, clean if clean_at is None else None)

        return _Panel(_title(metric, over, name), axis, metric, read, (0.0, 1.0))

    return [panel(name) for name in split(group.record.conditions)]


def _means(metric: Metric) -> Callable[[Record], Curve]:
    """Over all that has a severity, at the severities that all of it has and where all of it is known."""

    def read(record: Record) -> Curve:
        rows = series.by_severity(record.conditions)
        names = {name for severity, at in rows.items() if severity != 0 for name in at}
        means = {}
        for severity, at in rows.items():
            values = [value for row in at.values() if (value := row.metrics.get(metric.name)) is not None]
            if len(values) == len(at) and (severity == 0 or at.keys() == names):
                means[severity] = sum(values) / len(values)
        return Curve(means)

    return read


def _title(metric: Metric, over: str, name: str = "") -> str:
    facts = [*(["nats"] if metric.unit == "nats" else []), *([f"{metric.better} is better"] if metric.better else [])]
    return f"{metric.name} against {over}" + (f": {name}" if name else "") + (f" ({', '.join(facts)})" if facts else "")


def _what(record: Record) -> str:
    """The keys of what has a severity."""
    keys = dict.fromkeys(key for row in record.conditions if "severity" in row.condition for key in row.condition)
    return " and ".join(key for key in keys if key != "severity")
