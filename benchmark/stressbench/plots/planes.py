"""A row metric over two numbers of the conditions: contours and surfaces, all on one scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.axes3d import Axes3D  # type: ignore[import-untyped]
from numpy.typing import NDArray

from stressbench.contracts import Axis, Metric, Plane
from stressbench.plots import style
from stressbench.plots.style import LeftOut
from stressbench.results import selection
from stressbench.results.conditions import written
from stressbench.results.runs import Run

_MOST = 3  # panels of a run
_LEVELS = 12
_MOST_LINES = 101  # of a surface's mesh, in each direction
_COLOURS = "cividis"


@dataclass(frozen=True)
class _Grid:
    """The heights of one panel, in the unit of the axis."""

    title: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    z: NDArray[np.float64]
    """(len(y), len(x))"""


@dataclass(frozen=True)
class _Drawing:
    """What the contours and the surfaces of some runs have in common."""

    label: str
    grids: Sequence[_Grid]
    columns: int
    """Panels side by side: those of one run if it has several."""

    @property
    def range(self) -> tuple[float, float]:
        """The least and the greatest height of all panels; where they agree, a range of 1."""
        heights = np.concatenate([grid.z.ravel() for grid in self.grids])
        low, high = float(heights.min()), float(heights.max())
        return low, high if high > low else low + 1

    @property
    def levels(self) -> NDArray[np.float64]:
        """At equal distances; at equal ratios if the largest height is 10 times the smallest or more."""
        low, high = self.range
        levels = np.geomspace(low, high, _LEVELS + 1) if self.by_ratio else np.linspace(low, high, _LEVELS + 1)
        levels[[0, -1]] = low, high  # without the rounding that would leave the extremes uncoloured
        return levels

    @property
    def by_ratio(self) -> bool:
        low, high = self.range
        return low > 0 and high >= 10 * low

    @property
    def colours(self) -> ScalarMappable:
        return ScalarMappable(LogNorm(*self.range) if self.by_ratio else Normalize(*self.range), _COLOURS)

    def bar(self, figure: Figure, axes: Sequence[Axes]) -> None:
        """Add the colour bar of all panels."""
        ticks = self.levels[::2]
        digits = max(0, 1 - math.floor(math.log10(ticks[1] - ticks[0])))
        bar = figure.colorbar(self.colours, ax=axes, label=self.label, ticks=ticks, aspect=25)
        bar.ax.set_yticklabels([f"{tick:.3g}" if self.by_ratio else f"{tick:.{digits}f}" for tick in ticks])
        bar.ax.minorticks_off()


def contour(plane: Plane, runs: Sequence[Run]) -> Figure:
    """Contours at common levels, a panel for each run and value of the `over` keys; of those, the first three.

    Where no run differs over the `over` keys, as of deterministic models, each has one panel.
    """
    drawing = _drawing(plane, runs)
    figure, axes = style.panels(len(drawing.grids), drawing.columns, 2.3)
    for ax, grid in zip(axes, drawing.grids, strict=True):
        ax.contourf(grid.x, grid.y, grid.z, drawing.levels, norm=drawing.colours.norm, cmap=_COLOURS)
        ax.contour(grid.x, grid.y, grid.z, drawing.levels, colors="white", linewidths=0.4)
        ax.set_aspect("equal")
        ax.set_title(grid.title)
        ax.set_xlabel(plane.x)
        ax.set_ylabel(plane.y)
        ax.locator_params(nbins=3)
        ax.grid(False)
    drawing.bar(figure, axes)
    return figure


def surface(plane: Plane, runs: Sequence[Run]) -> Figure:
    """Surfaces with one vertical scale, in the panels and colours of the contours."""
    drawing = _drawing(plane, runs)
    figure, flat = style.panels(len(drawing.grids), drawing.columns, 2.4)
    drawn = []
    for ax, grid in zip(flat, drawing.grids, strict=True):
        spec = ax.get_subplotspec()
        ax.remove()
        solid: Axes3D = figure.add_subplot(spec, projection="3d")
        x, y = np.meshgrid(grid.x, grid.y)
        looks = {"norm": drawing.colours.norm, "cmap": _COLOURS, "edgecolor": "#00000040", "linewidth": 0.2}
        solid.plot_surface(x, y, grid.z, rcount=_MOST_LINES, ccount=_MOST_LINES, **looks)
        solid.set_zlim(*drawing.range)
        solid.set_title(grid.title)
        solid.set_xlabel(plane.x, labelpad=-6)
        solid.set_ylabel(plane.y, labelpad=-6)
        solid.tick_params(labelsize=6, pad=-3)
        solid.tick_params(axis="z", pad=0)
        solid.locator_params(nbins=4)
        solid.view_init(elev=28, azim=-60)
        solid.set_box_aspect(None, zoom=0.9)
        drawn.append(solid)
    drawing.bar(figure, drawn)
    return figure


def _drawing(plane: Plane, runs: Sequence[Run]) -> _Drawing:
    """The grids of all panels; raises `LeftOut` if a point is missing."""
    metric = next((one for one in runs[0].suite.row_metrics if one.name == plane.metric), None)
    if metric is None:
        raise LeftOut(f"the conditions have no metric {plane.metric}")
    surfaces = [list(_points(plane, run, metric).items())[:_MOST] for run in runs]
    if all(points == of_run[0][1] for of_run in surfaces for _, points in of_run):  # of deterministic models
        surfaces = [of_run[:1] for of_run in surfaces]
    several = len(surfaces[0])  # the runs all have the same conditions
    panels = [
        (name, title, points)
        for name, of_run in zip(style.names(runs), surfaces, strict=True)
        for title, points in of_run
    ]
    columns = several if several > 1 else min(_MOST, len(runs))
    grids = [
        _grid(style.wrapped(name, 30) + (f"\n{title}" if several > 1 else ""), points, metric)
        for name, title, points in panels
    ]
    return _Drawing(style.axis(metric), grids, columns)


def _points(plane: Plane, run: Run, metric: Metric) -> dict[str, dict[tuple[float, float], float]]:
    """The heights of a run by position, for each value of the `over` keys."""
    found: dict[str, dict[tuple[float, float], float]] = {}
    for row in run.record.conditions:
        title = ", ".join(f"{key} {written(row.condition[key])}" for key in plane.over if key in row.condition)
        x, y = (selection.place(Axis(key), row.condition) for key in (plane.x, plane.y))
        if x is None or y is None:
            raise LeftOut(f"a condition has no numbers {plane.x} and {plane.y}")
        found.setdefault(title, {})[x, y] = style.shown(row.metrics.get(metric.name), metric)
    return found


def _grid(title: str, points: dict[tuple[float, float], float], metric: Metric) -> _Grid:
    x, y = (np.array(sorted({at[axis] for at in points})) for axis in (0, 1))
    z = np.array([[points.get((float(one), float(other)), math.nan) for one in x] for other in y])
    if min(z.shape) < 2 or not np.isfinite(z).all():
        raise LeftOut(f"{metric.name} is not known at all points of a grid")
    return _Grid(title, x, y, z)
