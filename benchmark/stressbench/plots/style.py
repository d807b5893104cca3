"""Common style of all figures: size, colours, panels, labels, and reproducible files."""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from stressbench._util.files import replace, writing
from stressbench.contracts import Metric
from stressbench.results.show import ARROW

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

    from stressbench.results.runs import Run

WIDTH = 6.9  # inches: the text of a page in two columns, at which fonts have their size

_PANEL = 2.2  # inches that a panel needs

# Okabe and Ito's colours (2008), which people who see fewer colours tell apart; markers and dashes tell them in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "os^Dv<>"
_DASHES = ("-", "--", "-.", ":")

_INITIALS = {"nll", "ece", "cec", "asr", "auc", "aurc", "auroc"}

RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # it comes with matplotlib, so that every machine draws the same
    "font.size": 8,
    "axes.titlesize": "medium",
    "figure.figsize": (WIDTH, WIDTH),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "text.parse_math": False,  # a model's name is not a formula, whatever characters it has
    "savefig.dpi": 200,
    "svg.hashsalt": "stressbench",  # or the names inside an SVG would be random
}


Files = Mapping[str, bytes]


@dataclass(frozen=True)
class Look:
    """What a paper asks of its figures."""

    width: float = WIDTH
    """Of a whole figure, in inches; panels stand below each other where there is no room beside."""
    font_size: float = 8.0
    """In points."""
    pdf: bool = False
    """Whether to write PDF files, too."""

    @property
    def rc(self) -> dict[str, Any]:
        return RC | {"font.size": self.font_size, "figure.figsize": (self.width, self.width)}


DEFAULT = Look()


class LeftOut(Exception):
    """The reason why a figure cannot be drawn of these runs."""


def panels(count: int, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with `count` axes in rows of at most `columns`, each row `height` inches high."""
    full = mpl.rcParams["figure.figsize"][0]
    most = max(1, int(full / _PANEL))
    columns = min(columns, count, most)
    rows = math.ceil(count / columns)
    # Room above for the legend; a single panel need not be as wide as the page.
    figure = Figure(figsize=(full * (1 + columns) / (1 + most), 0.4 + rows * height), layout="constrained")
    grid: list[Axes] = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for spare in grid[count:]:
        spare.remove()
    return figure, grid[:count]


def split(ax: Axes, shares: Sequence[int]) -> list[Axes]:
    """Replace one axes by two or more, one above the other, with a common x axis."""
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


def logarithmic(axis: Axis, subs: Sequence[float] = (1.0,)) -> None:
    """Write the ticks of a logarithmic axis as plain numbers; matplotlib's own are formulas, which `RC` turns off."""
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def line(place: int) -> dict[str, Any]:
    """The style of the line of the run with this index."""
    return {
        "color": COLOURS[place % len(COLOURS)],
        "marker": _MARKERS[place % len(_MARKERS)],
        "linestyle": _DASHES[place // len(COLOURS) % len(_DASHES)],
    }


def names(runs: Sequence[Run]) -> list[str]:
    """The name of each run in figures: its model, with its folder if two runs have the same model."""
    count = Counter(run.label for run in runs)
    return [run.label if count[run.label] == 1 else f"{run.label} ({run.path.name})" for run in runs]


def legend(
    figure: Figure, runs: Sequence[Run], notes: Sequence[str] = (), others: Sequence[Line2D] = (), **alike: Any
) -> None:
    """Add a legend above the panels; `alike` are the properties that all lines share.

    `notes` are what follows each run's name, and `others` further entries.
    """
    room = int(12 * figure.get_figwidth())  # characters
    texts = [f"{name}: {note}" if note else name for name, note in zip_longest(names(runs), notes, fillvalue="")]
    lines = [Line2D([], [], label=wrapped(text, room), **line(i) | alike) for i, text in enumerate(texts)]
    columns = 2 if len(lines) > 1 and all(len(text) <= room // 2 for text in texts) else 1
    figure.legend(handles=[*lines, *others], loc="outside upper center", ncols=columns)


def wrapped(name: str, width: int) -> str:
    """A model's name in lines of limited length, broken between its options if possible."""
    return textwrap.fill(re.sub(r",(?! )", ", ", name), width, break_on_hyphens=False)


def label(name: str) -> str:
    """The label of a corruption, a perturbation or a metric."""
    return " ".join(word.upper() if word in _INITIALS else word for word in name.split("_"))


def axis(metric: Metric) -> str:
    """A metric as the label of an axis, with its unit and an arrow in the better direction."""
    unit = {"fraction": " (%)", "nats": " (nats)", "number": ""}[metric.unit]
    return f"{label(metric.name)}{unit} {ARROW[metric.better]}"


def shown(value: float | None, metric: Metric) -> float:
    """A value in the unit of its axis; NaN, which is not drawn, if unknown."""
    if value is None:
        return math.nan
    return 100 * value if metric.unit == "fraction" else value


def files(figure: Figure, pdf: bool = False) -> Files:
    """A figure as PNG and SVG, and as PDF if asked for, by suffix."""
    # The solver of the layout differs in the last bit from one time to the next.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for ax in figure.axes:
        left, bottom, width, height = ax.get_position().bounds
        ax.set_position((round(left, 4), round(bottom, 4), round(width, 4), round(height, 4)))
    found = {}
    formats: dict[str, dict[str, None]] = {"png": {}, "svg": {"Date": None}}
    if pdf:
        formats["pdf"] = {"CreationDate": None}
    for suffix, metadata in formats.items():
        content = io.BytesIO()
        figure.savefig(content, format=suffix, metadata=metadata)
        found[suffix] = content.getvalue()
    return found


def save(found: Files, out: Path, name: str) -> list[Path]:
    """Write the files of a figure and return their paths. Raises `UserError` if they cannot be written."""
    paths = [out / f"{name}.{suffix}" for suffix in found]
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        for path, content in zip(paths, found.values(), strict=True):
            replace(path, content)
    return paths
