"""What the tables say of networks: distributions of numbers, and numbers over depth."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from stressbench.contracts import Distribution, Profile
from stressbench.plots import style
from stressbench.plots.style import LeftOut
from stressbench.results.conditions import describe
from stressbench.results.runs import Run

Numbers = NDArray[np.float64]

_KERNEL = 1 / 200  # its standard deviation, as a share of the range of all runs
_POINTS = 1000


def figure(declared: Distribution | Profile) -> Callable[[Sequence[Run]], Figure]:
    """The function that draws what a suite declares of its tables."""
    if isinstance(declared, Profile):
        return partial(profile, declared)
    return partial(density if declared.weights else histogram, declared)


def histogram(declared: Distribution, runs: Sequence[Run]) -> Figure:
    """The share of each run's numbers in bins of equal width on a logarithmic axis; dashed: the medians.

    A panel for each condition. Negative numbers have no place on the axis: the legend states their share.
    """
    numbers = _of_conditions(runs, declared.column)
    positive = np.concatenate([values[values > 0] for of_runs in numbers for values in of_runs])
    if not len(positive):
        raise LeftOut(f"no number of the column '{declared.column}' is positive")
    low, high = (math.log10(end) for end in (positive.min(), positive.max()))
    room = max(0.02 * (high - low), 0.01)
    most = max(len(values) for of_runs in numbers for values in of_runs)
    edges = np.logspace(low - room, high + room, math.ceil(2 * most ** (1 / 3)) + 1)  # Rice's rule
    figure, axes = style.panels(len(numbers), 2, 2.8)
    for ax, of_runs, condition in zip(axes, numbers, runs[0].conditions, strict=True):
        for i, values in enumerate(of_runs):
            if not len(values):
                continue
            colour, dashes = style.line(i)["color"], style.line(i)["linestyle"]
            shares = 100 * np.histogram(values, edges)[0] / len(values)
            ax.stairs(shares, edges, color=colour, linestyle=dashes, linewidth=1.2)
            ax.stairs(shares, edges, color=colour, alpha=0.15, fill=True)
            if (median := float(np.median(values))) > 0:
                ax.axvline(median, color=colour, linestyle=(0, (3, 2)), linewidth=0.8)
        ax.set_xscale("log")
        style.logarithmic(ax.xaxis, (1, 2, 5) if edges[-1] < 1000 * edges[0] else (1,))
        ax.set_xlim(10 ** (low - 2 * room), 10 ** (high + 2 * room))
        ax.set_ylim(bottom=0)
        ax.set_xlabel(declared.label)
        ax.set_ylabel("share (%)")
        if len(numbers) > 1:
            ax.set_title(describe(condition))
    notes = []
    for i in range(len(runs)):
        values = np.concatenate([of_runs[i] for of_runs in numbers])
        negative = float((values <= 0).mean()) if len(values) else 0.0
        notes.append(f"{100 * negative:.0f} % are not positive" if negative else "")
    style.legend(figure, runs, notes, marker="none")
    return figure


def density(declared: Distribution, runs: Sequence[Run]) -> Figure:
    """The weighted density of each run's numbers, a Gaussian about each; a panel for each condition.

    The standard deviation of all Gaussians is 1/200 of the range of all runs' numbers. The vertical axis is
    logarithmic and ends at a tenth of what one of the network's parameters would add.
    """
    nodes, weights = (_of_conditions(runs, name, unknown=True) for name in (declared.column, declared.weights))
    known = np.concatenate([values[~np.isnan(values)] for of_runs in nodes for values in of_runs])
    if not len(known):
        raise LeftOut(f"the column '{declared.column}' has no number")
    width = _KERNEL * (known.max() - known.min()) or 1.0
    at = np.linspace(known.min() - 4 * width, known.max() + 4 * width, _POINTS)
    figure, axes = style.panels(len(nodes), 2, 2.8)
    for place, ax in enumerate(axes):
        for i in range(len(runs)):
            there = ~np.isnan(nodes[place][i])
            values, shares = nodes[place][i][there], weights[place][i][there]
            if not shares.sum() > 0:
                continue
            bells = np.exp(-(((at[:, None] - values) / width) ** 2) / 2) / (width * math.sqrt(2 * math.pi))
            of_run = bells @ (shares / shares.sum())
            style_of_run = style.line(i) | {"marker": "none"}
            ax.plot(at, np.maximum(of_run, np.finfo(float).tiny), **style_of_run)
        ax.set_yscale("log")
        style.logarithmic(ax.yaxis)
        peak = 1 / (width * math.sqrt(2 * math.pi))  # of all weight in one place
        ax.set_ylim(0.1 * peak / max(run.record.model.parameters for run in runs), 2 * peak)
        ax.set_xlabel(declared.label)
        ax.set_ylabel("density")
        if len(nodes) > 1:
            ax.set_title(describe(runs[0].conditions[place]))
    style.legend(figure, runs, marker="none")
    return figure


def profile(declared: Profile, runs: Sequence[Run]) -> Figure:
    """Means over the rows with 95 % intervals (Student's t), a panel for each condition and column; marks are rings."""
    _require_columns(runs, [declared.along, *declared.columns, *([declared.marks] if declared.marks else [])])
    wanted = [
        (place, column)
        for place in range(len(runs[0].tables))
        for column in declared.columns
        if any(not np.isnan(_cells(run, place, column)).all() for run in runs)
    ]
    if not wanted:
        raise LeftOut(f"the columns {', '.join(declared.columns)} have no numbers")
    figure, axes = style.panels(len(wanted), 3, 2.4)
    for ax, (place, column) in zip(axes, wanted, strict=True):
        for i, run in enumerate(runs):
            _line(ax, declared, run, place, column, i)
        ax.set_xlabel(declared.label)
        ax.set_ylabel(declared.columns[column])
        if len(runs[0].tables) > 1:
            ax.set_title(describe(runs[0].conditions[place]))
    rings = [Line2D([], [], label=declared.marked, **_ring("#444444"), linestyle="none")] if declared.marked else []
    style.legend(figure, runs, others=rings)
    return figure


def _line(ax: Axes, declared: Profile, run: Run, place: int, column: str, index: int) -> None:
    from scipy import stats

    along, values = _cells(run, place, declared.along)[0], _cells(run, place, column)
    if np.isnan(values).all():
        return
    n, mean = len(values), values.mean(axis=0)
    look = style.line(index)
    ax.plot(along, mean, **look)
    if n > 1:
        half = stats.t.ppf(0.975, n - 1) * values.std(axis=0, ddof=1) / math.sqrt(n)
        ax.fill_between(along, mean - half, mean + half, color=look["color"], alpha=0.2, linewidth=0)
    if declared.marks:
        marked = _cells(run, place, declared.marks)[0] > 0
        ax.plot(along[marked], mean[marked], **_ring(look["color"]), linestyle="none")


def _ring(colour: str) -> dict[str, Any]:
    return {"marker": "o", "markersize": 7, "markerfacecolor": "none", "markeredgecolor": colour}


def _of_conditions(runs: Sequence[Run], column: str, unknown: bool = False) -> list[list[Numbers]]:
    """All numbers of a column, by condition and run; without unknown ones unless they are wanted."""
    _require_columns(runs, [column])
    cells = [[_cells(run, place, column).ravel() for run in runs] for place in range(len(runs[0].tables))]
    return cells if unknown else [[values[~np.isnan(values)] for values in of_runs] for of_runs in cells]


def _cells(run: Run, place: int, column: str) -> Numbers:
    """A column of a condition's table: (N, K), or (N,)."""
    return np.stack(run.tables[place][column].to_list()).astype(np.float64)


def _require_columns(runs: Sequence[Run], columns: Sequence[str]) -> None:
    """Raises `LeftOut` for a run without tables, or without one of these columns."""
    for run in runs:
        if not run.has_tables:
            raise LeftOut(f"{run.path} is a record without its tables")
        for column in columns:
            if any(column not in table.columns for table in run.tables):
                raise LeftOut(
                    f"the tables have no column '{column}': see whether an option of the suite adds it "
                    f"(`bench show {run.record.suite.name}`)"
                )
