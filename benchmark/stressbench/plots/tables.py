"""Figures that need the per-image tables: of confidence and correctness, and along a sequence."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from stressbench import metrics
from stressbench.contracts import Axis
from stressbench.plots import style
from stressbench.plots.style import LeftOut
from stressbench.results import selection
from stressbench.results.conditions import describe
from stressbench.results.runs import Run

_FRAME = re.compile(r"relative_confidence_(\d+)")  # a suite's columns, one a frame
_BINS = 10
_MOST_GROUPS = 16


def reliability(declared: Sequence[Axis], runs: Sequence[Run]) -> Figure:
    """Accuracy over confidence in ten bins of width 0.1, and below it the share of the images in each bin.

    A panel for each position on the suite's axes and for clean images; only the latter if there would be too many.
    Where a panel is of several conditions, all of their images are together in its bins, and in the ECE that it states.
    """
    groups = _ranked(declared, runs)
    figure, axes = style.panels(len(groups), 3, 2.6)
    for ax, (name, places) in zip(axes, groups.items(), strict=True):
        top, bottom = style.split(ax, [3, 1])
        top.plot([0, 100], [0, 100], color="grey", linewidth=0.8, linestyle=":")
        for i, run in enumerate(runs):
            share, confidence, accuracy = _bins([run.tables[place] for place in places])
            there = share > 0
            top.plot(100 * confidence[there], 100 * accuracy[there], clip_on=False, **style.line(i))
            bottom.stairs(100 * share, np.linspace(0, 100, _BINS + 1), color=style.line(i)["color"])
            error = 100 * float((share[there] * np.abs(accuracy - confidence)[there]).sum())
            where, colour = (0.04, 0.96 - 0.1 * i), style.line(i)["color"]
            top.text(*where, f"ECE {error:.1f} %", color=colour, transform=top.transAxes, va="top", fontsize="small")
        top.set_title(name)
        top.set_ylim(0, 100)
        top.set_ylabel("accuracy (%)")
        bottom.set_xlim(0, 100)
        bottom.set_ylim(0, 100)
        bottom.set_ylabel("images (%)")
        bottom.set_xlabel("confidence (%)")
    style.legend(figure, runs)
    return figure


def risk_coverage(declared: Sequence[Axis], runs: Sequence[Run]) -> Figure:
    """The error among the most confident images over their share, in the panels of `reliability`.

    Where a panel is of several conditions, it has the mean of their curves, whose area is the mean of their AURC.
    """
    groups = _ranked(declared, runs)
    figure, axes = style.panels(len(groups), 3, 2.0)
    for ax, (name, places) in zip(axes, groups.items(), strict=True):
        for i, run in enumerate(runs):
            curves = [metrics.risk_coverage(*_confidences([run.tables[place]])).numpy() for place in places]
            risk = np.mean(curves, axis=0)
            coverage = np.arange(1, len(risk) + 1) / len(risk)
            ax.plot(100 * coverage, 100 * risk, **style.line(i) | {"marker": "none"})
        ax.set_title(name)
        ax.set_xlim(0, 100)
        ax.set_ylim(bottom=0)
        ax.set_xlabel("coverage (%)")
        ax.set_ylabel("error (%) ↓")
    style.legend(figure, runs, marker="none")
    return figure


def _ranked(declared: Sequence[Axis], runs: Sequence[Run]) -> Mapping[str, Sequence[int]]:
    """The groups of tables that have confidences; raises `LeftOut` without."""
    _need_tables(runs)
    if not {"confidence", "correct"} <= set(runs[0].tables[0].columns):
        raise LeftOut("the tables have no confidence, or do not say which predictions are correct")
    return _groups(declared, runs[0])


def _groups(axes: Sequence[Axis], run: Run) -> Mapping[str, Sequence[int]]:
    """The indices of the conditions of each panel, by the panel's name."""
    rows = run.record.conditions
    clean = [k for k, row in enumerate(rows) if selection.is_clean(axes, row.condition)]
    groups = {"clean": clean} if clean else {}
    for axis in axes:
        for panel in selection.panels(axis, rows):
            for at, cells in panel.rows.items():
                title = ", ".join(filter(None, (panel.title, f"{axis.name} {selection.text(axis, at)}")))
                groups[title] = [rows.index(row) for row in cells.values()]
    if not groups:
        raise LeftOut("no condition has a place on an axis, and none is of clean images")
    return groups if len(groups) <= _MOST_GROUPS or not clean else {"clean": clean}


def _bins(tables: Sequence[pd.DataFrame]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Share, mean confidence and accuracy in each bin, over the images of all tables."""
    share, confidence, accuracy = metrics.calibration_bins(*_confidences(tables), _BINS)
    return share.numpy(), confidence.numpy(), accuracy.numpy()


def _confidences(tables: Sequence[pd.DataFrame]) -> tuple[Tensor, Tensor]:
    """The confidences, and which predictions are correct, of the images of all tables."""
    confidence, correct = (
        torch.from_numpy(np.concatenate([table[name].to_numpy(dtype=np.float64) for table in tables]))
        for name in ("confidence", "correct")
    )
    return confidence, correct


def sequence(runs: Sequence[Run]) -> Figure:
    """Relative confidence, p̄(y) / max p̄, by frame, averaged over images: a panel for each condition."""
    _need_tables(runs)
    places = [place for place, table in enumerate(runs[0].tables) if _frames(table)]
    if not places:
        raise LeftOut("no table has a relative confidence for each frame of a sequence")
    figure, axes = style.panels(len(places), 3, 1.8)
    for ax, place in zip(axes, places, strict=True):
        for i, run in enumerate(runs):
            table = run.tables[place]
            frames = _frames(table)
            ax.plot(
                list(frames), [table[name].mean() for name in frames.values()], **style.line(i) | {"marker": "none"}
            )
        ax.set_title(style.label(describe(runs[0].conditions[place])))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_xlabel("frame")
        ax.set_ylabel("relative confidence")
    style.legend(figure, runs, marker="none")
    return figure


def _frames(table: pd.DataFrame) -> dict[int, str]:
    found = {int(match[1]): name for name in table.columns if (match := _FRAME.fullmatch(name))}
    return dict(sorted(found.items()))


def _need_tables(runs: Sequence[Run]) -> None:
    for run in runs:
        if not run.has_tables:
            raise LeftOut(f"{run.path} is a record without its tables")
