"""Scores without each group of images → the intervals of a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from stressbench.contracts import Metric, Suite
from stressbench.record import Intervals, Jackknife, Record
from stressbench.results.resampling import metric_interval
from stressbench.results.scoring import Scores


def with_intervals(
    record: Record, suite: Suite, whole: Mapping[int, Scores], parts: Sequence[Mapping[int, Scores]]
) -> Record:
    """The record with an interval around every metric at every number of draws, and the values that they are made from.

    `whole` are its scores by number of draws, and `parts` those without each group of images.
    """
    rows = []
    for i, row in enumerate(record.conditions):
        left = {name: [part[record.draws].rows[i][name] for part in parts] for name in suite.baseline_metrics}
        jackknife = {name: None if None in values else values for name, values in left.items() if values}
        rows.append(row.model_copy(update={"jackknife": jackknife}))
    intervals, kept = _intervals(suite.metrics, record.rows, whole, parts)
    return record.model_copy(update={"intervals": intervals, "jackknife": kept, "conditions": rows})


def _intervals(
    metrics: Sequence[Metric], n: int, whole: Mapping[int, Scores], parts: Sequence[Mapping[int, Scores]]
) -> tuple[Intervals, Jackknife]:
    intervals: Intervals = {metric.name: {} for metric in metrics}
    jackknife: Jackknife = {metric.name: {} for metric in metrics}
    for size, scores in whole.items():
        for metric in metrics:
            name = metric.name
            value = _number(scores.metrics[name])
            without = np.array([_number(part[size].metrics[name]) for part in parts], dtype=np.float64)
            known = metric.interval is not None and len(parts) > 1 and bool(np.isfinite([value, *without]).all())
            intervals[name][str(size)] = metric_interval(metric, value, without, n)
            jackknife[name][str(size)] = without.tolist() if known else None
    return intervals, jackknife


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
