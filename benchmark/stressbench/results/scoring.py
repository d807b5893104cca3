"""Tables → metrics: the one place where a suite scores and aggregates, for runs, comparisons and the leaderboard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stressbench.contracts import Condition, Metrics, Suite
from stressbench.results.resampling import leave_out

if TYPE_CHECKING:
    from stressbench.record import Baseline
    from stressbench.results.resampling import Tables


@dataclass(frozen=True)
class Scores:
    """Metrics at one number of draws."""

    rows: Sequence[Metrics]
    """Of each condition."""
    metrics: Metrics
    """Of the record, in the suite's order."""


def summary(
    suite: Suite, conditions: Sequence[Condition], rows: Sequence[Metrics], baseline: Baseline | None
) -> Metrics:
    """The record's metrics, in the suite's order, from the conditions' metrics; None for unknown."""
    found = {**suite.aggregate(conditions, rows), **suite.normalise(conditions, rows, baseline)}
    return {metric.name: found.get(metric.name) for metric in suite.metrics}


def scored(
    suite: Suite, conditions: Sequence[Condition], tables: Mapping[int, Tables], baseline: Baseline | None
) -> dict[int, Scores]:
    """The scores by number of draws, from the conditions' tables by number of draws."""
    found = {}
    for size, of_size in tables.items():
        rows = suite.score(conditions, of_size)
        found[size] = Scores(rows, summary(suite, conditions, rows, baseline))
    return found


def left_out(
    suite: Suite, conditions: Sequence[Condition], tables: Mapping[int, Tables], baseline: Baseline | None
) -> Iterator[dict[int, Scores]]:
    """The same without each group of images in turn, normalised by the baseline without the same group."""
    together = [table for of_size in tables.values() for table in of_size]
    count = len(conditions)
    for group, part in enumerate(leave_out(together)):
        by_size = {size: part[i * count : (i + 1) * count] for i, size in enumerate(tables)}
        yield scored(suite, conditions, by_size, None if baseline is None else baseline.without(group))
