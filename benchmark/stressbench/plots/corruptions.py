"""A metric under each corruption at each severity: as a heat map, and as boxes over corruptions by severity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stressbench import series
from stressbench.contracts import Metric
from stressbench.plots import style
from stressbench.plots.style import LeftOut
from stressbench.runs import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BOXED = ("error", "nll", "ece")  # those of these that the conditions have


def heat_map(runs: Sequence[Run]) -> Figure:
    """The conditions' first metric, a panel a run, all on one scale."""
    corruptions, severities = _grid(runs[0])
    metric = runs[0].suite.row_metrics[0]
    cells = [_cells(run, metric) for run in runs]
    known = [value for each in cells for value in each.ravel() if not math.isnan(value)]
    if not known:
        raise LeftOut(f"no condition has a number for {metric.name}")
    low, high = min(known), max(known)
    digits = 1 if metric.unit == "fraction" else 2
    figure, axes = style.panels(len(runs), 3, 0.18 * len(corruptions) + 0.7)
    for ax, run, values, name in zip(axes, runs, cells, style.names(runs), strict=True):
        image = ax.imshow(values, vmin=low, vmax=high, aspect="auto", cmap="cividis")
        for y, x in np.ndindex(*values.shape):
            if not math.isnan(values[y, x]):
                dark = values[y, x] < (low + high) / 2
                ax.text(
                    x,
                    y,
                    f"{values[y, x]:.{digits}f}",
                    ha="center",
                    va="center",
                    fontsize=6,
                    color="white" if dark else "black",
                )
        ax.set_xticks(range(len(severities)), [str(severity) for severity in severities])
        ax.set_yticks(range(len(corruptions)), [style.label(corruption) for corruption in corruptions])
        ax.label_outer()
        ax.set_xlabel("severity")
        clean = _clean(run, metric)
        title = style.wrapped(name, 72 // min(len(runs), 3))
        ax.set_title(title if math.isnan(clean) else f"{title}\nclean {clean:.{digits}f}")
        ax.grid(False)
        ax.tick_params(length=0)
    figure.colorbar(image, ax=axes, label=style.axis(metric))
    return figure


def boxes(runs: Sequence[Run]) -> Figure:
    """Median, quartiles, least and greatest over corruptions by severity; a dashed line is the clean images' number."""
    corruptions, severities = _grid(runs[0])
    metrics = [metric for metric in runs[0].suite.row_metrics if metric.name in _BOXED]
    if not metrics or len(corruptions) < 2:
        raise LeftOut("a box is over several corruptions, and of the error, NLL or ECE")
    figure, axes = style.panels(len(metrics), 3, 2.4)
    width = 0.8 / len(runs)
    for ax, metric in zip(axes, metrics, strict=True):
        for i, run in enumerate(runs):
            colour = style.line(i)["color"]
            values = _cells(run, metric).T
            ax.boxplot(
                [column[~np.isnan(column)] for column in values],
                positions=np.arange(len(severities)) + (i - (len(runs) - 1) / 2) * width,
                widths=0.8 * width,
                whis=(0, 100),
                patch_artist=True,
                boxprops={"facecolor": colour, "edgecolor": colour, "alpha": 0.45},
                medianprops={"color": colour, "linewidth": 1.5},
                whiskerprops={"color": colour},
                capprops={"color": colour},
            )
            ax.axhline(_clean(run, metric), color=colour, linestyle="--", linewidth=0.8)
        ax.set_xticks(range(len(severities)), [str(severity) for severity in severities])
        ax.set_xlabel("severity")
        ax.set_ylabel(style.axis(metric))
        ax.set_ylim(bottom=0)
        ax.yaxis.set_major_locator(MaxNLocator(6))
        ax.grid(False, axis="x")
    style.legend(figure, runs, marker="s", linestyle="none", markersize=6)
    return figure


def _grid(run: Run) -> tuple[list[str], list[float]]:
    """The corruptions in the run's order and the severities in theirs, without the clean images."""
    stressed = {severity: rows for severity, rows in series.by_severity(run.record.conditions).items() if severity != 0}
    if not stressed:
        raise LeftOut("no condition has a severity")
    return list(dict.fromkeys(corruption for rows in stressed.values() for corruption in rows)), list(stressed)


def _cells(run: Run, metric: Metric) -> NDArray[np.float64]:
    """(corruptions, severities), in the unit of the axis, NaN where there is no number."""
    corruptions, severities = _grid(run)
    rows = series.by_severity(run.record.conditions)
    return np.array(
        [
            [style.shown(rows[s][c].metrics.get(metric.name) if c in rows[s] else None, metric) for s in severities]
            for c in corruptions
        ]
    )


def _clean(run: Run, metric: Metric) -> float:
    """The clean images' number, in the unit of the axis; NaN where there is none."""
    rows = list(series.by_severity(run.record.conditions).get(0, {}).values())
    return style.shown(rows[0].metrics.get(metric.name) if rows else None, metric)
