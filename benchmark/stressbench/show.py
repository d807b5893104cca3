"""A record as a table for a person, on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stressbench.contracts import Metric, Suite
from stressbench.record import Record, Row

ARROW = {"lower": "↓", "higher": "↑", None: ""}  # which way is better

_MOST_ROWS = 30


def number(value: float | None, metric: Metric, spread: float | None = None) -> str:
    """A metric's value for a person, with its spread if there is one: fractions as percent, unknown as a dash."""
    if value is None:
        return "–"
    scale, digits, unit = (100, 1, " %") if metric.unit == "fraction" else (1, 3, "")
    around = "" if spread is None else f" ± {scale * spread:.{digits}f}"
    return f"{scale * value:.{digits}f}{around}{unit}"


def result(suite: Suite, record: Record, folder: Path) -> None:
    """Print a record on stdout: the conditions, the metrics, and where everything is."""
    console = Console(highlight=False)
    data = record.dataset
    draws = f", {record.draws} draws" if record.model.stochastic else ""
    title = f"{record.model.spec}{draws} · {record.suite.name} · {data.name}, {data.n:,} images, {data.stress} stress"
    console.print(Text(f"\n{title}"), soft_wrap=True)
    console.print(_conditions(suite, record.conditions))
    console.print(_metrics(suite, record))
    if record.curves:
        console.print(_curves(suite, record))
    for finding in record.findings:
        console.print(Text(f"doubtful ({finding.check}): {finding.message}"), soft_wrap=True)
    unknown = [name for name, value in record.metrics.items() if value is None]
    if unknown:
        console.print(Text(f"unknown for this run: {', '.join(unknown)}\n"), soft_wrap=True)
    for what, path in (("record", folder / "record.json"), ("tables", folder / "tables")):
        console.print(Text(f"{what}  {path}"), soft_wrap=True)


def _conditions(suite: Suite, rows: Sequence[Row]) -> Table:
    """A line a condition, or a line for each value of the first field where there are many."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    grouped = len(rows) > _MOST_ROWS
    fields = list(rows[0].condition)
    table.add_column(f"{fields[0]}, mean over {', '.join(fields[1:])}" if grouped else ", ".join(fields))
    # What only describes a condition is in the record, and would make the table too wide.
    shown = [metric for metric in suite.row_metrics if metric.better is not None]
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
    return ", ".join(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.condition.values())


def _curves(suite: Suite, record: Record) -> Table:
    """A line a metric, a column for each number of draws."""
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
    for metric in suite.metrics:
        value = record.metrics.get(metric.name)
        if value is not None:
            table.add_row(metric.name, ARROW[metric.better], number(value, metric))
    return table
