"""Several runs in one table: a model a row, metrics across suites as columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stressbench._util import tabular
from stressbench.contracts import Metric
from stressbench.errors import UserError, did_you_mean
from stressbench.record import ModelInfo, dataset_label
from stressbench.results import runs
from stressbench.results.resampling import half_width
from stressbench.results.runs import Run
from stressbench.results.show import ARROW, HEADLINE, ROOM, interval, number

TIE = "†"  # beside a number that the images do not tell apart from the best one


@dataclass(frozen=True)
class Cell:
    """A metric of one run."""

    run: Run
    metric: Metric
    best: bool = False
    """Whether it is the best one of its column."""
    tied: bool = False
    """Whether the 95 % interval of its paired difference from the best one holds 0."""

    @property
    def value(self) -> float | None:
        return self.run.record.metrics.get(self.metric.name)

    @property
    def ends(self) -> tuple[float, float] | None:
        """The 95 % interval."""
        return self.run.record.intervals.get(self.metric.name, {}).get(str(self.run.record.draws))


@dataclass(frozen=True)
class Summary:
    """The columns by their headings, and the rows by what is in the first column."""

    columns: Sequence[str]
    rows: dict[str, dict[str, Cell]]

    def heading(self, column: str) -> str:
        """A column's heading, with an arrow in the better direction."""
        metric = next(cells[column].metric for cells in self.rows.values() if column in cells)
        return f"{column} {ARROW[metric.better]}".strip()


def summary(paths: Sequence[Path], names: Sequence[str] = (), called: Sequence[str] = ()) -> Summary:
    """`of_runs` of these run folders or record files; `called` name them where their models do not."""
    return of_runs(runs.load_all(paths, called), names)


def of_runs(found: Sequence[Run], names: Sequence[str] = ()) -> Summary:
    """Put the metrics called `names` of runs side by side; without names, each suite's first two that are known.

    Raises `UserError` where runs of one suite do not compare, where two runs are of the same model and suite, and for a
    metric that no run has.
    """
    suites: dict[str, list[Run]] = {}
    for run in found:
        suites.setdefault(run.record.suite.name, []).append(run)
    for alike in suites.values():
        for other in alike[1:]:
            runs.require_alike(alike[0], other)
    known = dict.fromkeys(metric.name for alike in suites.values() for metric in _known(alike))
    for name in names:
        if name not in known:
            raise UserError(f"no run has a metric '{name}': {did_you_mean(name, known)}known are: {', '.join(known)}")
    called = labels([run for alike in suites.values() for run in alike])
    table: dict[str, dict[str, Cell]] = {}
    columns: dict[str, int] = {}
    for suite, alike in suites.items():
        for metric in [m for m in _known(alike) if m.name in names] if names else _known(alike)[:HEADLINE]:
            shared = sum(metric.name in {m.name for m in _known(others)} for others in suites.values()) > 1
            heading = f"{suite} {metric.name}" if shared else metric.name
            columns[heading] = names.index(metric.name) if names else len(columns)
            for cell in _ranked([Cell(run, metric) for run in alike]):
                row = table.setdefault(called[cell.run.path], {})
                if heading in row:
                    raise UserError(
                        f"{row[heading].run.path} and {cell.run.path} are both of this model and suite: leave one out"
                    )
                row[heading] = cell
    return Summary(sorted(columns, key=lambda heading: columns[heading]), table)


def terminal(table: Summary) -> None:
    """Print a table: the best of each column bold, those that are not told apart from it with a dagger."""
    console = Console(highlight=False)
    console.width = max(console.width, ROOM)
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    shown.add_column("model", no_wrap=True)
    for column in table.columns:
        shown.add_column(Text(table.heading(column)), justify="right", no_wrap=True)
    for label, cells in table.rows.items():
        texts = [
            Text(text(cells[column]), style="bold" if cells[column].best else "") if column in cells else "–"
            for column in table.columns
        ]
        shown.add_row(Text(label), *texts)
    console.print(shown)
    if any(cell.tied for cells in table.rows.values() for cell in cells.values()):
        console.print(Text(f"{TIE} not told apart from the best by these images"), soft_wrap=True)


def as_markdown(table: Summary) -> str:
    """A Markdown table: the best of each column bold, those that are not told apart from it with a dagger."""

    def shown(cell: Cell) -> str:
        return f"**{text(cell)}**" if cell.best else text(cell)

    return tabular.markdown(_cells(table, tabular.escape, shown), left=["model"])


def as_latex(table: Summary) -> str:
    r"""A tabular of booktabs (`\usepackage{booktabs}`): the best bold, those not told apart from it with a dagger."""
    import pandas as pd

    def shown(cell: Cell) -> str:
        written = _latex(text(cell))
        return rf"\textbf{{{written}}}" if cell.best else written

    frame = pd.DataFrame(_cells(table, _latex, shown), dtype="object")
    written: str = frame.to_latex(index=False, escape=False, column_format="l" + "r" * len(table.columns))
    return written.removesuffix("\n")


def as_csv(table: Summary) -> str:
    """A line for each model and metric: the value and its interval, not rounded, and whether it is best or tied."""
    lines = []
    for label, cells in table.rows.items():
        for heading, cell in cells.items():
            low, high = cell.ends or (None, None)
            lines.append(
                {"model": label, "suite": cell.run.record.suite.name, "metric": heading, "value": cell.value,
                 "low": low, "high": high, "unit": cell.metric.unit, "best": cell.best, "tied": cell.tied}
            )  # fmt: skip
    return tabular.csv(lines)


def _known(alike: Sequence[Run]) -> list[Metric]:
    """The suite's metrics that at least one of its runs knows."""
    return [m for m in alike[0].suite.metrics if any(run.record.metrics.get(m.name) is not None for run in alike)]


def labels(found: Sequence[Run]) -> dict[Path, str]:
    """What each run is called: the model, and what tells it from others of the same name."""
    datasets = {run.record.dataset.fingerprint for run in found}
    alike: dict[str, dict[tuple[str, str], ModelInfo]] = {}  # the models of each name, by spec and weights
    for run in found:
        model = run.record.model
        alike.setdefault(model.label, {})[model.spec, model.weights_checksum] = model
    found_labels = {}
    for run in found:
        model = run.record.model
        label = model.label if len(datasets) == 1 else f"{model.label}, {dataset_label(run.record)}"
        which = _which(model, list(alike[model.label].values()))
        found_labels[run.path] = f"{label} ({which})" if which else label
    return found_labels


def _which(model: ModelInfo, alike: Sequence[ModelInfo]) -> str:
    """What tells a model from others of its name, in as few words as do; empty if it is the only one."""
    if len(alike) == 1:
        return ""
    ways: Sequence[Callable[[ModelInfo], str]] = (
        lambda one: one.spec,
        lambda one: ", ".join(f"seed {training.seed}" for training in one.training),
        lambda one: one.weights_checksum[-8:],
    )
    told = (way for way in ways if "" not in (texts := [way(one) for one in alike]) and len({*texts}) == len(alike))
    way = next(told, lambda one: f"{one.spec}, {one.weights_checksum[-8:]}")
    return way(model)


def _ranked(cells: Sequence[Cell]) -> list[Cell]:
    """The cells of a column, with the best ones and their ties marked; a metric without a direction has none."""
    metric = cells[0].metric
    values = [cell.value for cell in cells if cell.value is not None]
    if metric.better is None or len(values) < 2:
        return list(cells)
    extreme = min(values) if metric.better == "lower" else max(values)
    first = next(cell for cell in cells if cell.value == extreme)
    return [
        Cell(cell.run, metric, cell.value == extreme, cell.value != extreme and _tied(first, cell)) for cell in cells
    ]


def _tied(best: Cell, other: Cell) -> bool:
    """Whether the images do not tell a number from the best one; False where a record has no groups to say so."""
    if best.value is None or other.value is None:
        return False
    without = [
        cell.run.record.jackknife.get(cell.metric.name, {}).get(str(cell.run.record.draws)) for cell in (best, other)
    ]
    if without[0] is None or without[1] is None:
        return False
    half = half_width(np.subtract(without[0], without[1]))
    return half is not None and abs(best.value - other.value) <= half


def text(cell: Cell) -> str:
    """A number with its interval, and the mark of a tie."""
    ends = cell.ends
    around = "" if ends is None else f" ({interval(ends, cell.metric)})"
    return number(cell.value, cell.metric) + around + TIE * cell.tied


def _cells(table: Summary, plain: Callable[[str], str], shown: Callable[[Cell], str]) -> list[dict[str, str]]:
    return [
        {
            "model": plain(label),
            **{
                plain(table.heading(column)): shown(cells[column]) if column in cells else plain("–")
                for column in table.columns
            },
        }
        for label, cells in table.rows.items()
    ]


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "†": r"$^\dagger$", "↓": r"$\downarrow$",
    "↑": r"$\uparrow$", "×": r"$\times$",
}  # fmt: skip


def _latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)
