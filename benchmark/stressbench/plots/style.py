"""What all figures share: size, colours, panels, labels, and files that are the same bytes each time."""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from stressbench.contracts import Metric
from stressbench.show import ARROW
from stressbench.store import replace, writing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from stressbench.runs import Run

WIDTH = 6.9  # inches: the text of a page in two columns, at which fonts have their size

# Okabe and Ito's colours (2008), which people who see fewer colours tell apart; markers and dashes tell them in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "os^Dv<>"
_DASHES = ("-", "--", "-.", ":")

_INITIALS = {"nll", "ece", "cec", "asr", "auc", "aurc", "auroc"}

RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # it comes with matplotlib, so that every machine draws the same
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "text.parse_math": False,  # a model's name is no formula, whatever is in it
    "savefig.dpi": 200,
    "svg.hashsalt": "stressbench",  # or the names inside an SVG would be random
}


class LeftOut(Exception):
    """Why a figure cannot be drawn of these runs."""


def panels(count: int, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with so many axes in rows of at most `columns`, each row `height` inches high."""
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    # Room above for the legend; a single panel need not be as wide as the page.
    figure = Figure(figsize=(WIDTH * (1 + columns) / 4, 0.4 + rows * height), layout="constrained")
    grid: list[Axes] = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for spare in grid[count:]:
        spare.remove()
    return figure, grid[:count]


def split(ax: Axes, shares: Sequence[int]) -> list[Axes]:
    """Two axes or more, one above the other with one x axis, in the place of one."""
    spec = ax.get_subplotspec()
    assert spec is not None, "the axes of `panels` are in a grid"
    inner = spec.subgridspec(len(shares), 1, height_ratios=shares, hspace=0.05)
    figure = ax.figure
    ax.remove()
    axes = [figure.add_subplot(inner[0])]
    axes += [figure.add_subplot(inner[place], sharex=axes[0]) for place in range(1, len(shares))]
    for above in axes[:-1]:
        above.tick_params(labelbottom=False)
    return axes


def line(place: int) -> dict[str, Any]:
    """How the line of the run at a place looks."""
    return {
        "color": COLOURS[place % len(COLOURS)],
        "marker": _MARKERS[place % len(_MARKERS)],
        "linestyle": _DASHES[place // len(COLOURS) % len(_DASHES)],
    }


def names(runs: Sequence[Run]) -> list[str]:
    """What figures call each run: its model, and its folder too where two have the same."""
    count = Counter(run.label for run in runs)
    return [run.label if count[run.label] == 1 else f"{run.label} ({run.path.name})" for run in runs]


def legend(figure: Figure, runs: Sequence[Run], **alike: Any) -> None:
    """Say above the panels which line is which run; `alike` is what all lines have in common."""
    room = int(12 * figure.get_figwidth())  # characters
    lines = [Line2D([], [], label=wrapped(name, room), **line(i) | alike) for i, name in enumerate(names(runs))]
    columns = 2 if len(lines) > 1 and all(len(name) <= room // 2 for name in names(runs)) else 1
    figure.legend(handles=lines, loc="outside upper center", ncols=columns)


def wrapped(name: str, width: int) -> str:
    """A model's name in lines of at most so many characters, broken between its options where it can be."""
    return textwrap.fill(re.sub(r",(?! )", ", ", name), width, break_on_hyphens=False)


def label(name: str) -> str:
    """What a figure calls a corruption, a perturbation or a metric."""
    return " ".join(word.upper() if word in _INITIALS else word for word in name.split("_"))


def axis(metric: Metric) -> str:
    """A metric as the name of an axis, with its unit and an arrow to where it is better."""
    unit = {"fraction": " (%)", "nats": " (nats)", "number": ""}[metric.unit]
    return f"{label(metric.name)}{unit} {ARROW[metric.better]}"


def shown(value: float | None, metric: Metric) -> float:
    """A value in the unit of its axis; NaN, which is not drawn, for unknown."""
    if value is None:
        return math.nan
    return 100 * value if metric.unit == "fraction" else value


def save(figure: Figure, out: Path, name: str) -> list[Path]:
    """Write a figure as PNG and SVG; returns the paths. Raises `UserError` where they cannot be written."""
    # The solver of the layout differs in the last bit from one time to the next.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for ax in figure.axes:
        left, bottom, width, height = ax.get_position().bounds
        ax.set_position((round(left, 4), round(bottom, 4), round(width, 4), round(height, 4)))
    paths = []
    for suffix, metadata in (("png", {}), ("svg", {"Date": None})):
        content = io.BytesIO()
        figure.savefig(content, format=suffix, metadata=metadata)
        path = out / f"{name}.{suffix}"
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
            replace(path, content.getvalue())
        paths.append(path)
    return paths
