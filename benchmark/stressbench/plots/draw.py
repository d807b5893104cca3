"""Draws all figures that can be made of some runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from matplotlib import style as mpl_style
from matplotlib.figure import Figure

from stressbench.contracts import Plane
from stressbench.errors import UserError, did_you_mean
from stressbench.plots import by_axis, draws, networks, planes, style, tables
from stressbench.plots.style import LeftOut
from stressbench.results import runs, selection
from stressbench.results.runs import Run

Draw = Callable[[Sequence[Run]], Figure]


def figures(found: Sequence[Run], metrics: Sequence[str] = ()) -> dict[str, Draw]:
    """The functions that draw the figures of these runs, by file name; they raise `LeftOut` if one cannot be drawn.

    Of `metrics`, if there are any, only those figures that are of a choice of metrics.
    """
    drawn: dict[str, Draw] = {}
    axes = selection.axes(found[0].suite, found[0].record.conditions)
    if metrics:
        axes = [replace(axis, metrics=tuple(metrics)) for axis in axes]
    for axis in axes:
        drawn[f"by-{axis.name}"] = partial(by_axis.against, axis)
        if axis.over:
            drawn[f"heat-map-by-{axis.name}"] = partial(by_axis.heat_map, axis)
    drawn["ensemble-size"] = partial(draws.ensemble_size, only=metrics)
    if metrics:
        return drawn
    for declared in found[0].suite.figures:
        if isinstance(declared, Plane):
            drawn[f"contour-of-{declared.metric}"] = partial(planes.contour, declared)
            drawn[f"surface-of-{declared.metric}"] = partial(planes.surface, declared)
        else:
            drawn[declared.name] = networks.figure(declared)
    drawn["reliability"] = partial(tables.reliability, axes)
    drawn["risk-coverage"] = partial(tables.risk_coverage, axes)
    drawn["sequence"] = tables.sequence
    return drawn


@dataclass(frozen=True)
class Drawn:
    """A figure's files, or the reason why there are none."""

    name: str
    files: Sequence[Path]
    why_not: str | None = None


def draw(
    paths: Sequence[Path],
    out: Path,
    labels: Sequence[str] = (),
    metrics: Sequence[str] = (),
    look: style.Look = style.DEFAULT,
) -> Iterator[Drawn]:
    """Draw each figure with all the given run folders and record files; the same runs give the same bytes.

    `labels` are what legends call the runs, where they are not called by their models. `metrics` are those to draw, in
    place of the suite's choice.

    Raises `UserError` for runs that cannot be compared, a metric that they do not have, damaged tables, and a folder
    that cannot be written.
    """
    found = runs.load_alike(paths, labels)
    known = [metric.name for metric in (*found[0].suite.row_metrics, *found[0].suite.metrics)]
    for metric in metrics:
        if metric not in known:
            hint = did_you_mean(metric, known)
            raise UserError(
                f"the {found[0].suite.name} suite has no metric '{metric}': {hint}it has {', '.join(known)}"
            )
    for name, drawn in rendered(found, metrics, look):
        yield Drawn(name, [], str(drawn)) if isinstance(drawn, LeftOut) else Drawn(name, style.save(drawn, out, name))


def rendered(
    found: Sequence[Run], metrics: Sequence[str] = (), look: style.Look = style.DEFAULT
) -> Iterator[tuple[str, style.Files | LeftOut]]:
    """Each figure's files by suffix, or why it cannot be drawn of these runs, which are alike."""
    with mpl_style.context(["default", look.rc]):  # a person's own settings would make other bytes
        for name, figure in figures(found, metrics).items():
            try:
                yield name, style.files(figure(found), look.pdf)
            except LeftOut as why:
                yield name, why
