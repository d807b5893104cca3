"""Lines: metrics over ensemble sizes, accuracy over frequency and over the budget of an attack."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from stressbench import series
from stressbench.contracts import Metric
from stressbench.plots import style
from stressbench.plots.style import LeftOut
from stressbench.record import Row
from stressbench.runs import Run
from stressbench.series import ACCURACY, Points


def ensemble_size(runs: Sequence[Run]) -> Figure:
    """The record's metrics over the number of draws, a panel a metric."""
    drawn = [
        metric
        for metric in runs[0].suite.metrics
        if any(len(_curve(run, metric)) > 1 for run in runs)  # one size is no curve
    ]
    if not drawn:
        raise LeftOut("no run has metrics at several ensemble sizes (`bench run --sizes 1,2,5,10`)")
    sizes = sorted({size for run in runs for metric in drawn for size in _curve(run, metric)})
    figure, axes = style.panels(len(drawn), 3, 2.0)
    for ax, metric in zip(axes, drawn, strict=True):
        for i, run in enumerate(runs):
            curve = _curve(run, metric)
            if len(curve) == 1 and not run.record.model.stochastic:  # the same at any size
                curve = dict.fromkeys((sizes[0], sizes[-1]), *curve.values())
            ax.plot(list(curve), list(curve.values()), **style.line(i))
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(FixedLocator(sizes))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xticks(sizes, [str(size) for size in sizes])
        ax.set_xlabel("ensemble size (draws)")
        ax.set_ylabel(style.axis(metric))
    style.legend(figure, runs)
    return figure


def _curve(run: Run, metric: Metric) -> dict[int, float]:
    """The known values by size; of a run without a curve, the one at its own number of draws."""
    curve = series.by_draws(run.record, metric.name)
    own = run.record.metrics.get(metric.name)
    if not run.record.curves.get(metric.name) and own is not None:
        curve = {run.record.draws: own}
    return {size: style.shown(value, metric) for size, value in curve.items()}


def frequency(runs: Sequence[Run]) -> Figure:
    """Accuracy with a signal in one band of frequencies, over the middle of the band; dashed: clean images."""
    figure = _accuracy(runs, "signal, low and high", series.bands)
    for ax in figure.axes:
        ax.set_xlim(0, math.pi)
        ax.set_xticks(list(series.QUARTERS), list(series.QUARTERS.values()))
        ax.set_xlabel("frequency (radians per pixel)")
    return figure


def budget(runs: Sequence[Run]) -> Figure:
    """Accuracy under attacks over ε; those that were made at fewer budgets than others are left out."""
    figure = _accuracy(runs, "attack and eps", series.budgets, clean_at=0.0)
    attacks = series.budgets(runs[0].record.conditions)
    budgets = sorted({eps for points in attacks.values() for eps, _ in points} | {0.0})
    for ax in figure.axes:
        ax.set_xticks(budgets, [series.budget(eps) for eps in budgets])
        ax.set_xlabel("ε (pixels are in 0…1)")
    return figure


def _accuracy(
    runs: Sequence[Run],
    keys: str,
    panels: Callable[[Sequence[Row]], Mapping[str, Points]],
    clean_at: float | None = None,
) -> Figure:
    """Accuracy over x, a panel for each name; that on clean images is a point at `clean_at`, or else a dashed line."""
    drawn = panels(runs[0].record.conditions)
    if not drawn:
        raise LeftOut(f"no condition has {keys}")
    metric = next((metric for metric in runs[0].suite.row_metrics if metric.name == ACCURACY), None)
    if metric is None:
        raise LeftOut("the conditions have no accuracy")
    figure, axes = style.panels(len(drawn), 3, 2.2)
    for ax, name in zip(axes, drawn, strict=True):
        for i, run in enumerate(runs):
            rows = run.record.conditions
            points = [(x, style.shown(row.metrics.get(metric.name), metric)) for x, row in panels(rows).get(name, [])]
            for row in series.clean(rows):
                value = style.shown(row.metrics.get(metric.name), metric)
                if clean_at is None:
                    ax.axhline(value, color=style.line(i)["color"], linestyle="--", linewidth=0.8)
                else:
                    points.append((clean_at, value))
            ax.plot(*zip(*sorted(points), strict=True), **style.line(i))
        ax.set_title(style.label(name))
        ax.set_ylabel(style.axis(metric))
        ax.set_ylim(0, 100)
    style.legend(figure, runs)
    return figure
