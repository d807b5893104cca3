"""Row metrics against an axis of their suite: lines, boxes and heat maps."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import NDArray

from stressbench.contracts import Axis, Metric
from stressbench.plots import style
from stressbench.plots.style import LeftOut
from stressbench.results import selection
from stressbench.results.resampling import metric_interval
from stressbench.results.runs import Run
from stressbench.results.selection import Panel

# What a label of the axis needs, as a share of it: lying, and standing upright.
_ROOM, _ROOM_UPRIGHT = 0.16, 0.06


def against(axis: Axis, runs: Sequence[Run]) -> Figure:
    """A panel for each metric and each panel of the axis; dashed: clean images that have no position on the axis.

    Several conditions at a position are a box: median, quartiles, minimum and maximum; dashed: clean images.
    """
    drawn = _panels(axis, runs[0])
    metrics = selection.metrics(axis, runs[0].suite)
    if not metrics:
        raise LeftOut(f"the conditions have no metric to draw against {axis.name}")
    if axis.lines and len(runs) == 1:
        return _together(axis, drawn, runs[0], metrics)
    boxes = any(len(panel.names) > 1 for panel in drawn)
    together = [(panel, metric) for metric in metrics for panel in drawn]
    figure, axes = style.panels(len(together), 3, 2.4)
    for ax, (panel, metric) in zip(axes, together, strict=True):
        (_boxes if boxes else _lines)(ax, axis, panel.title, runs, metric)
        ax.set_title(style.label(panel.title))
        ax.set_xlabel(axis.label)
        ax.set_ylabel(style.axis(metric))
        low, high = min(selection.scale(metric)), max(selection.scale(metric))
        if high > low:
            ax.set_ylim(style.shown(low, metric), style.shown(high, metric))
        elif metric.range[0] >= low:
            ax.set_ylim(bottom=low)
        ax.yaxis.set_major_locator(MaxNLocator(6))
    squares: dict[str, Any] = {"marker": "s", "linestyle": "none", "markersize": 6}
    style.legend(figure, runs, **(squares if boxes else {}))
    return figure


def _together(axis: Axis, drawn: Sequence[Panel], run: Run, metrics: Sequence[Metric]) -> Figure:
    """A panel for each metric, with a line for each panel of the axis."""
    figure, axes = style.panels(len(metrics), 3, 2.4)
    name = " ".join(axis.panels)
    for ax, metric in zip(axes, metrics, strict=True):
        places: set[float] = set()
        for i, panel in enumerate(drawn):
            points = selection.curve(axis, panel.title, run.record.conditions, metric).points
            values = [style.shown(value, metric) for value in points.values()]
            ax.plot(list(points), values, **style.line(i), label=f"{name} {panel.title}")
            _band(ax, axis, panel.title, run, metric, style.line(i)["color"])
            places |= points.keys()
        _ticks(ax, axis, places)
        ax.set_xlabel(axis.label)
        ax.set_ylabel(style.axis(metric))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=min(len(drawn), 5))
    return figure


def _lines(ax: Axes, axis: Axis, title: str, runs: Sequence[Run], metric: Metric) -> None:
    places: set[float] = set()
    for i, run in enumerate(runs):
        curve = selection.curve(axis, title, run.record.conditions, metric)
        if curve.level is not None:
            ax.axhline(style.shown(curve.level, metric), color=style.line(i)["color"], linestyle="--", linewidth=0.8)
        ax.plot(list(curve.points), [style.shown(value, metric) for value in curve.points.values()], **style.line(i))
        _band(ax, axis, title, run, metric, style.line(i)["color"])
        places |= curve.points.keys()
    if axis.kind == "radians":
        ax.set_xlim(0, math.pi)
        ax.set_xticks(list(selection.QUARTERS), list(selection.QUARTERS.values()))
    else:
        _ticks(ax, axis, places)


def _band(ax: Axes, axis: Axis, title: str, run: Run, metric: Metric, colour: str) -> None:
    """The 95 % interval around each point of a curve, over images; none of a record without its tables."""
    ends: dict[float, tuple[float, float]] = {}
    without = [selection.curve(axis, title, rows, metric).points for rows in run.left_out]
    for at, value in selection.curve(axis, title, run.record.conditions, metric).points.items():
        values = np.array([points.get(at, math.nan) for points in without])
        if (found := metric_interval(metric, value, values, run.record.rows)) is not None:
            ends[at] = found
    low, high = ([style.shown(end[side], metric) for end in ends.values()] for side in (0, 1))
    ax.fill_between(list(ends), low, high, color=colour, alpha=0.2, linewidth=0)


def _ticks(ax: Axes, axis: Axis, places: Collection[float]) -> None:
    """A label at each position, as far as they have room.

    The axis is logarithmic where that gives them more of it, and labels stand upright where they would touch.
    """
    at = sorted(places)
    if not at:
        return
    scaled = np.array(at)
    if at[0] > 0 and _nearest(np.log(at)) > _nearest(scaled) < _ROOM:
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(NullLocator())
        scaled = np.log(at)
    shown = at[-1:]
    span = scaled[-1] - scaled[0]
    last = scaled[-1]
    for place, where in zip(reversed(at[:-1]), scaled[-2::-1], strict=True):
        if last - where >= _ROOM_UPRIGHT * span:
            shown, last = [place, *shown], where
    ax.set_xticks(shown, [selection.text(axis, one) for one in shown], rotation=90 if _nearest(scaled) < _ROOM else 0)


def _nearest(places: NDArray[np.float64]) -> float:
    """The smallest gap between neighbours, as a share of the whole."""
    return float(np.diff(places).min() / (places[-1] - places[0])) if len(places) > 1 else 1.0


def _boxes(ax: Axes, axis: Axis, title: str, runs: Sequence[Run], metric: Metric) -> None:
    width = 0.8 / len(runs)
    places: list[float] = []
    for i, run in enumerate(runs):
        colour = style.line(i)["color"]
        (panel,) = (panel for panel in _panels(axis, run) if panel.title == title)
        places = list(panel.rows)
        values = _cells(panel, metric).T
        ax.boxplot(
            [column[~np.isnan(column)] for column in values],
            positions=np.arange(len(places)) + (i - (len(runs) - 1) / 2) * width,
            widths=0.8 * width,
            whis=(0, 100),
            patch_artist=True,
            boxprops={"facecolor": colour, "edgecolor": colour, "alpha": 0.45},
            medianprops={"color": colour, "linewidth": 1.5},
            whiskerprops={"color": colour},
            capprops={"color": colour},
        )
        ax.axhline(_clean(axis, run, metric), color=colour, linestyle="--", linewidth=0.8)
    ax.set_xticks(range(len(places)), [selection.text(axis, at) for at in places])
    ax.grid(False, axis="x")


def heat_map(axis: Axis, runs: Sequence[Run]) -> Figure:
    """The first metric by `over` keys and position, a panel for each run, all on one scale."""
    metric = next(iter(selection.metrics(axis, runs[0].suite)), None)
    if metric is None:
        raise LeftOut(f"the conditions have no metric to draw against {axis.name}")
    drawn = [panel for run in runs if (panel := selection.heat_map(axis, run.record.conditions)) is not None]
    if not drawn:
        raise LeftOut(
            f"a heat map needs several conditions at a position, which differ in their {' and '.join(axis.over)}"
        )
    cells = [_cells(panel, metric) for panel in drawn]
    known = [value for each in cells for value in each.ravel() if not math.isnan(value)]
    if not known:
        raise LeftOut(f"no condition has a number for {metric.name}")
    low, high = min(known), max(known)
    digits = 1 if metric.unit == "fraction" else 2
    names = drawn[0].names
    figure, axes = style.panels(len(runs), 3, 0.18 * len(names) + 0.7)
    columns = sum(ax.get_position().y0 == axes[0].get_position().y0 for ax in axes)
    for ax, run, values, name in zip(axes, runs, cells, style.names(runs), strict=True):
        image = ax.imshow(values, vmin=low, vmax=high, aspect="auto", cmap="cividis")
        for y, x in np.ndindex(*values.shape):
            if not math.isnan(values[y, x]):
                colour = "white" if values[y, x] < (low + high) / 2 else "black"
                ax.text(x, y, f"{values[y, x]:.{digits}f}", ha="center", va="center", fontsize=6, color=colour)
        ax.set_xticks(range(values.shape[1]), [selection.text(axis, at) for at in drawn[0].rows])
        ax.set_yticks(range(len(names)), [style.label(one) for one in names])
        ax.label_outer()
        ax.set_xlabel(axis.label)
        clean = _clean(axis, run, metric)
        title = style.wrapped(name, int(9 * figure.get_figwidth() / columns))
        ax.set_title(title if math.isnan(clean) else f"{title}\nclean {clean:.{digits}f}")
        ax.grid(False)
        ax.tick_params(length=0)
    figure.colorbar(image, ax=axes, label=style.axis(metric))
    return figure


def _panels(axis: Axis, run: Run) -> list[Panel]:
    found = selection.panels(axis, run.record.conditions)
    if not found:
        raise LeftOut(f"no stressed condition has {' and '.join(axis.keys)}")
    return found


def _cells(panel: Panel, metric: Metric) -> np.ndarray:
    """(values of `over` keys, positions), in the unit of the axis; NaN if unknown."""
    rows = [[at.get(name) for at in panel.rows.values()] for name in panel.names]
    return np.array(
        [[style.shown(None if row is None else row.metrics.get(metric.name), metric) for row in line] for line in rows]
    )


def _clean(axis: Axis, run: Run, metric: Metric) -> float:
    """The value on clean images, in the unit of the axis; NaN if unknown."""
    row = selection.clean(axis, run.record.conditions)
    return style.shown(None if row is None else row.metrics.get(metric.name), metric)
