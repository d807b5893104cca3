"""A record formatted for the terminal, as Markdown and as CSV."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stressbench._util import tabular
from stressbench._util.tabular import escape
from stressbench.contracts import Metric, Suite
from stressbench.record import Intervals, Record, Row
from stressbench.results.conditions import written

ARROW = {"lower": "↓", "higher": "↑", None: ""}  # which way is better

_MOST_ROWS = 30
_MOST_DIGITS = 12  # behind the point: what is smaller still is as good as 0
HEADLINE = 2  # metrics of a suite where there is room for few
# Columns that a table may take: it takes what it needs, since a number that is cut off is a wrong one.
ROOM = 300


def number(value: float | None, metric: Metric, spread: float | None = None) -> str:
    """A metric's value, formatted, with its spread if there is one: fractions as percent, unknown as a dash.

    Numbers that are not fractions have three decimal places, or as many as two significant digits need.

    >>> variance = Metric("variance", "number", "lower")
    >>> number(2.5, variance), number(0.0000541, variance), number(0.25, variance, spread=0.0041)
    ('2.500', '0.000054', '0.2500 ± 0.0041')
    """
    if value is None:
        return "–"
    if metric.unit == "fraction":
        around = "" if spread is None else f" ± {100 * spread:.1f}"
        return f"{100 * value:.1f}{around} %"
    digits = max(_digits(value), _digits(spread or 0))
    return f"{value:.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")


def _digits(*values: float) -> int:
    """How many decimal places show two significant digits of the largest of these numbers: at least three."""
    largest = max(map(abs, values))
    return 3 if largest == 0 else min(max(3, 1 - math.floor(math.log10(largest))), _MOST_DIGITS)


def interval(ends: tuple[float, float] | None, metric: Metric) -> str:
    """An interval in the metric's unit: `41.2 – 43.6 %`; empty if unknown."""
    if ends is None:
        return ""
    if metric.unit == "fraction":
        return f"{100 * ends[0]:.1f} – {100 * ends[1]:.1f} %"
    low, high = (f"{end:.{_digits(*ends)}f}" for end in ends)
    return f"{low} – {high}"


def change(value: float, ends: tuple[float, float] | None, metric: Metric) -> str:
    """A difference and its interval; fractions in percentage points: `+0.50 pp [-0.50, +1.00]`."""
    factor, digits, unit = (100, 2, " pp") if metric.unit == "fraction" else (1, _digits(value, *(ends or ())), "")

    def signed(one: float) -> str:
        return f"{round(factor * one, digits) + 0:+.{digits}f}"

    around = "" if ends is None else " [{}, {}]".format(*map(signed, ends))
    return f"{signed(value)}{unit}{around}"


def result(suite: Suite, record: Record, folder: Path, every: bool = False) -> None:
    """Print a record on stdout: conditions, metrics, and the paths of its files.

    Many conditions are averaged in groups unless `every` one is to have its line.
    """
    console = Console(highlight=False)
    console.width = max(console.width, ROOM)
    console.print(Text(f"\n{_title(record)}"), soft_wrap=True)
    console.print(_conditions(suite, record.conditions, every))
    console.print(_metrics(suite, record))
    if record.curves:
        console.print(_curves(suite, record))
    for finding in record.findings:
        console.print(Text(f"doubtful ({finding.check}): {finding.message}"), soft_wrap=True)
    unknown = [name for name, value in record.metrics.items() if value is None]
    if unknown:
        console.print(Text(f"unknown for this run: {', '.join(unknown)}\n"), soft_wrap=True)
    for what, path in (("record", folder / "record.json"), ("tables", folder / "tables")):
        if path.exists():
            console.print(Text(f"{what}  {path}"), soft_wrap=True)


def markdown(suite: Suite, record: Record) -> str:
    """The conditions, metrics and curves as Markdown tables."""
    parts = [escape(_title(record))]
    cells = [{name: escape(cell) for name, cell in line.items()} for line in by_condition(suite, record)]
    parts.append(tabular.markdown(cells, left=_fields(record)))
    known = [m for m in suite.metrics if record.metrics.get(m.name) is not None]
    if known:
        lines = [
            {"metric": _heading(m), "value": number(record.metrics[m.name], m), "95 % interval": _own(record, m)}
            for m in known
        ]
        parts.append(tabular.markdown(lines, left=["metric"]))
    curves = [
        {"metric by draws": _heading(m), **{size: number(value, m) for size, value in record.curves[m.name].items()}}
        for m in known
        if m.name in record.curves
    ]
    if curves:
        parts.append(tabular.markdown(curves, left=["metric by draws"]))
    parts += [escape(f"doubtful ({finding.check}): {finding.message}") for finding in record.findings]
    return "\n\n".join(parts)


def by_condition(suite: Suite, record: Record) -> list[dict[str, str]]:
    """A line for each condition: its fields, and its metrics as they are shown."""
    return [
        {
            **{name: _value(row.condition.get(name)) for name in _fields(record)},
            **{_heading(m): number(row.metrics.get(m.name), m) for m in suite.row_metrics},
        }
        for row in record.conditions
    ]


def as_csv(suite: Suite, record: Record) -> str:
    """A line for each metric of each condition and of the record; the latter have empty condition columns.

    Values are not rounded and have the unit that the line names (fraction, nats); `low` and `high` are the ends of the
    95 % interval.
    """
    who = {
        "model": record.model.spec,
        "label": record.model.label,
        "suite": record.suite.name,
        "dataset": record.dataset.name,
    }
    nothing = dict.fromkeys(_fields(record))
    units = {m.name: m for m in suite.row_metrics}, {m.name: m for m in suite.metrics}
    unknown: Intervals = {}
    scopes = [({**nothing, **row.condition}, row.metrics, row.curves, unknown, units[0]) for row in record.conditions]
    scopes.append((nothing, record.metrics, record.curves, record.intervals, units[1]))
    lines = []
    for where, metrics, curves, intervals, known in scopes:
        for name, metric in known.items():
            for draws, value in ({str(record.draws): metrics.get(name)} | curves.get(name, {})).items():
                low, high = intervals.get(name, {}).get(draws) or (None, None)
                lines.append(
                    {**who, **where, "draws": draws, "metric": name, "value": value, "low": low, "high": high,
                     "unit": metric.unit, "better": metric.better}
                )  # fmt: skip
    return tabular.csv(lines)


def _title(record: Record) -> str:
    data = record.dataset
    draws = f", {record.draws} draw{'' if record.draws == 1 else 's'}" if record.model.stochastic else ""
    called = record.model.spec if record.model.name is None else f"{record.model.name} ({record.model.spec})"
    return f"{called}{draws} · {record.suite.name} · {data.name}, {data.n:,} images, {data.stress} stress"


def _heading(metric: Metric) -> str:
    return f"{metric.name} {ARROW[metric.better]}"


def _fields(record: Record) -> list[str]:
    """The keys of the conditions, in order of appearance."""
    return list(dict.fromkeys(name for row in record.conditions for name in row.condition))


def headline(suite: Suite, record: Record) -> str:
    """The suite's first metrics that are known, with their intervals, and the checks that found reasons for doubt."""
    known = [m for m in suite.metrics if record.metrics.get(m.name) is not None][:HEADLINE]
    parts = [
        f"{m.name} {number(record.metrics[m.name], m)}{f' ({own})' if (own := _own(record, m)) else ''}" for m in known
    ]
    doubts = ", ".join(finding.check for finding in record.findings)
    return ", ".join(parts) + (f"; doubtful: {doubts}" if doubts else "")


def _conditions(suite: Suite, rows: Sequence[Row], every: bool) -> Table:
    """A line for each condition, or, if there are many, for each value of the first field."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    grouped = len(rows) > _MOST_ROWS and not every
    fields = list(rows[0].condition)
    table.add_column(f"{fields[0]}, mean over {', '.join(fields[1:])}" if grouped else ", ".join(fields))
    # What only describes a condition is in the record, and would make the table too wide; so would dashes alone.
    measured = {name for row in rows for name, value in row.metrics.items() if value is not None}
    shown = [metric for metric in suite.row_metrics if metric.better is not None and metric.name in measured]
    for metric in shown:
        table.add_column(metric.name, justify="right")
    lines: dict[str, list[Row]] = {}
    for row in rows:
        name = str(row.condition[fields[0]]) if grouped else _cell(row)
        lines.setdefault(name, []).append(row)
    for name, members in lines.items():
        cells = []
        for metric in shown:
            values = [row.metrics.get(metric.name) for row in members]
            known = [value for value in values if value is not None]
            cells.append(number(sum(known) / len(known) if len(known) == len(values) else None, metric))
        table.add_row(Text(name), *cells)
    return table


def _cell(row: Row) -> str:
    return ", ".join(_value(value) for value in row.condition.values())


def _value(value: str | float | None) -> str:
    return "–" if value is None else written(value, digits=4)


def _curves(suite: Suite, record: Record) -> Table:
    """A line for each metric, a column for each number of draws."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("metric by draws")
    table.add_column("")
    for size in next(iter(record.curves.values())):
        table.add_column(size, justify="right")
    for metric in suite.metrics:
        curve = record.curves.get(metric.name, {})
        if any(value is not None for value in curve.values()):
            table.add_row(metric.name, ARROW[metric.better], *(number(value, metric) for value in curve.values()))
    return table


def _metrics(suite: Suite, record: Record) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("metric")
    table.add_column("")
    table.add_column("value", justify="right")
    table.add_column("95 % interval" if record.intervals else "", justify="right")
    for metric in suite.metrics:
        value = record.metrics.get(metric.name)
        if value is not None:
            table.add_row(metric.name, ARROW[metric.better], number(value, metric), _own(record, metric))
    return table


def _own(record: Record, metric: Metric) -> str:
    """The interval at the record's own number of draws."""
    return interval(record.intervals.get(metric.name, {}).get(str(record.draws)), metric)
