"""Metrics over the number of draws."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from stressbench.contracts import Metric
from stressbench.plots import style
from stressbench.plots.style import LeftOut
from stressbench.results import selection
from stressbench.results.runs import Run


def ensemble_size(runs: Sequence[Run], only: Collection[str] = ()) -> Figure:
    """The record's metrics, or `only` some of them, over the number of draws: a panel for each metric."""
    drawn = [
        metric
        for metric in runs[0].suite.metrics
        if metric.name in (only or [metric.name])
        and any(len(_curve(run, metric)) > 1 for run in runs)  # one size does not make a curve
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
            ends = _ends(run, metric, curve)
            low, high = ([end[side] for end in ends.values()] for side in (0, 1))
            ax.fill_between(list(ends), low, high, color=style.line(i)["color"], alpha=0.15, linewidth=0)
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(FixedLocator(sizes))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xticks(sizes, [str(size) for size in sizes])
        ax.set_xlabel("ensemble size (draws)")
        ax.set_ylabel(style.axis(metric))
    style.legend(figure, runs)
    return figure


def _curve(run: Run, metric: Metric) -> dict[int, float]:
    """The known values by size; for a run without a curve, the value at its own number of draws."""
    curve = selection.by_draws(run.record, metric.name)
    own = run.record.metrics.get(metric.name)
    if not run.record.curves.get(metric.name) and own is not None:
        curve = {run.record.draws: own}
    return {size: style.shown(value, metric) for size, value in curve.items()}


def _ends(run: Run, metric: Metric, curve: Collection[int]) -> dict[int, tuple[float, float]]:
    """The 95 % interval at each size that has one; that of a deterministic model's only size at all of them."""
    record = run.record
    known = record.intervals.get(metric.name, {})
    found = {size: known.get(str(size if record.model.stochastic else record.draws)) for size in curve}
    return {
        size: (style.shown(ends[0], metric), style.shown(ends[1], metric))
        for size, ends in found.items()
        if ends is not None
    }
