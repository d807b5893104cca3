"""Runs → the files of all figures that can be drawn of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib import style as mpl_style
from matplotlib.figure import Figure

from stressbench import runs
from stressbench.plots import corruptions, curves, style, tables
from stressbench.plots.style import LeftOut
from stressbench.runs import Run

FIGURES: Mapping[str, Callable[[Sequence[Run]], Figure]] = {
    "corruptions": corruptions.heat_map,
    "severities": corruptions.boxes,
    "ensemble-size": curves.ensemble_size,
    "reliability": tables.reliability,
    "frequency": curves.frequency,
    "budget": curves.budget,
    "sequence": tables.sequence,
}


@dataclass(frozen=True)
class Drawn:
    """A figure's files, or why there are none."""

    name: str
    files: Sequence[Path]
    why_not: str | None = None


def draw(paths: Sequence[Path], out: Path) -> Iterator[Drawn]:
    """Each figure of run folders and record files, all in one set of figures; the same runs give the same bytes.

    Raises `UserError` for runs that do not compare, damaged tables, and a folder that cannot be written.
    """
    found = runs.load_alike(paths)
    with mpl_style.context(["default", style.RC]):  # a person's own settings would make other bytes
        for name, figure in FIGURES.items():
            try:
                drawn = figure(found)
            except LeftOut as why:
                yield Drawn(name, [], str(why))
            else:
                yield Drawn(name, style.save(drawn, out, name))
