"""Lines: metrics over ensemble sizes, accuracy over frequency and over the budget of an attack."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from stressbench.contracts import Condition, Metric
from stressbench.plots import style
from stressbench.plots.style import LeftOut
from stressbench.runs import Run

CLEAN = "none"  # what suites call the corruption, the signal or the attack of images without any
_ACCURACY = "accuracy"


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
    curve = run.record.curves.get(metric.name) or {str(run.record.draws): run.record.metrics.get(metric.name)}
    return {int(size): style.shown(value, metric) for size, value in curve.items() if value is not None}


def frequency(runs: Sequence[Run]) -> Figure:
    """Accuracy with a signal in one band of frequencies, over the middle of the band; dashed: clean images."""
    keys = ("signal", "low", "high")
    banded = _panels(runs[0], keys, lambda c: str(c["signal"]), lambda c: float(c["high"]) > float(c["low"]))
    figure = _accuracy(runs, banded, lambda c: (float(c["low"]) + float(c["high"])) / 2)
    for ax in figure.axes:
        ax.set_xlim(0, math.pi)
        ax.set_xticks([k * math.pi / 4 for k in range(5)], ["0", "π/4", "π/2", "3π/4", "π"])
        ax.set_xlabel("frequency (radians per pixel)")
    return figure


def budget(runs: Sequence[Run]) -> Figure:
    """Accuracy under attacks over ε; those that were made at fewer budgets than others are left out."""
    attacks = swept(runs[0])
    figure = _accuracy(runs, attacks, lambda c: float(c["eps"]), clean_at=0.0)
    budgets = sorted({float(c["eps"]) for tried in attacks.values() for c in tried} | {0.0})
    for ax in figure.axes:
        ax.set_xticks(budgets, [style.budget(eps) for eps in budgets])
        ax.set_xlabel("ε (pixels are in 0…1)")
    return figure


def swept(run: Run) -> dict[str, list[Condition]]:
    """By attack, the conditions of those that were made on all images, at the most budgets."""
    part = [row.condition for row in run.record.conditions if row.metrics.get("images", row.n) != row.n]
    attacks = _panels(
        run,
        ("attack", "eps"),
        lambda c: f"{c['attack']}, {c.get('norm', '')}",
        lambda c: c["eps"] != 0 and c not in part,
    )
    most = max(map(len, attacks.values()))
    return {attack: tried for attack, tried in attacks.items() if len(tried) == most}


def _panels(
    run: Run, keys: Sequence[str], name: Callable[[Condition], str], stressed: Callable[[Condition], bool]
) -> dict[str, list[Condition]]:
    """The stressed conditions that have these keys, by the panel that they are drawn in."""
    found: dict[str, list[Condition]] = defaultdict(list)
    for condition in run.conditions:
        if all(key in condition for key in keys) and stressed(condition):
            found[name(condition).rstrip(", ")].append(condition)
    if not found:
        raise LeftOut(f"no condition has {', '.join(keys[:-1])} and {keys[-1]}")
    return dict(found)


def _accuracy(
    runs: Sequence[Run],
    drawn: Mapping[str, Sequence[Condition]],
    x: Callable[[Condition], float],
    clean_at: float | None = None,
) -> Figure:
    """Accuracy over x, a panel for each name; that on clean images is a point at `clean_at`, or else a dashed line."""
    metric = next((metric for metric in runs[0].suite.row_metrics if metric.name == _ACCURACY), None)
    if metric is None:
        raise LeftOut("the conditions have no accuracy")
    figure, axes = style.panels(len(drawn), 3, 2.2)
    for ax, (name, conditions) in zip(axes, drawn.items(), strict=True):
        for i, run in enumerate(runs):
            rows = [(row.condition, style.shown(row.metrics.get(metric.name), metric)) for row in run.record.conditions]
            points = [(x(condition), value) for condition, value in rows if condition in conditions]
            for condition, value in rows:
                if CLEAN not in condition.values():
                    continue
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
