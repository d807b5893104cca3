"""Checks of a record's numbers: the suite's metrics, their ranges, and everything that can be recomputed."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from stressbench import record as records
from stressbench.contracts import Metric, Metrics, Suite
from stressbench.errors import describe as describe_error
from stressbench.leaderboard.words import shown
from stressbench.record import Record
from stressbench.results.resampling import groups, metric_interval
from stressbench.results.scoring import summary

_TOLERANCE = 1e-6  # relative, between an aggregate as written and as recomputed
_ROUNDING = 1e-6  # how far a float32 sum may stray out of a metric's bounds

# Metrics that any images give, also all but one group of them.
ALWAYS_KNOWN = ("error", "accuracy", "nll", "brier", "ece", "aurc")


class Fault(NamedTuple):
    """One error and its field."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


def rows(suite: Suite, record: Record) -> Iterator[Fault]:
    """Whether rows and record have the suite's metrics, in their ranges, as the last values of their curves."""
    sizes = list(next(iter(record.curves.values()), {}))
    if sizes and sizes[-1] != str(record.draws):
        yield Fault("curves", f"end at {shown(sizes[-1])} draws, and the record has {record.draws}")
    if sizes != sorted(sizes, key=lambda size: (len(size), size)):
        yield Fault("curves", "are not in the order of their numbers of draws")
    yield from _measured(suite.metrics, record.metrics, record.curves, sizes, record.draws, "")
    for i, row in enumerate(record.conditions):
        yield from _measured(suite.row_metrics, row.metrics, row.curves, sizes, record.draws, f"conditions.{i}.")
        yield from _row_jackknife(suite, row, f"conditions.{i}.jackknife")


def _measured(
    metrics: Sequence[Metric],
    given: Metrics,
    curves: records.Curves,
    sizes: Sequence[str],
    draws: int,
    where: str,
) -> Iterator[Fault]:
    known = [metric.name for metric in metrics]
    parts: list[tuple[str, Collection[str]]] = [("metrics", given), *([("curves", curves)] if sizes or curves else [])]
    for part, have in parts:
        yield from (Fault(f"{where}{part}.{name}", "is missing") for name in known if name not in have)
        for name in have:
            if name not in known:
                yield Fault(f"{where}{part}", f"has {shown(name)}, which is not a metric of the suite")
    for metric in metrics:
        name, value = metric.name, given.get(metric.name)
        yield from _bounded(metric, value, f"{where}metrics.{name}")
        if name not in curves:
            continue
        if list(curves[name]) != list(sizes):
            yield Fault(f"{where}curves.{name}", "is over other numbers of draws than the record's first curve")
        elif not _same(curves[name].get(str(draws)), value):
            yield Fault(f"{where}curves.{name}", f"ends in {curves[name].get(str(draws))}, and the metric is {value}")
        for size, at in curves[name].items():
            yield from _bounded(metric, at, f"{where}curves.{name}.{shown(size)[1:-1]}")


def _row_jackknife(suite: Suite, row: records.Row, where: str) -> Iterator[Fault]:
    known = {metric.name: metric for metric in suite.row_metrics if metric.name in suite.baseline_metrics}
    for name, values in row.jackknife.items():
        if name not in known:
            yield Fault(where, f"has {shown(name)}, which no baseline of the suite needs")
        elif values is not None and len(values) != groups(row.n):
            yield Fault(f"{where}.{name}", f"has {len(values)} numbers, not {groups(row.n)}")
        else:
            for one in values or ():
                yield from _bounded(known[name], one, f"{where}.{name}")


def intervals(suite: Suite, record: Record) -> Iterator[Fault]:
    """Whether intervals follow from the jackknife; upgraded records have neither."""
    if not record.intervals and not record.jackknife:
        return
    for part, have in (("intervals", record.intervals), ("jackknife", record.jackknife)):
        for name in have.keys() ^ {metric.name for metric in suite.metrics}:
            yield Fault(
                part, f"of {shown(name)}: it {'is not a metric of the suite' if name in have else 'is missing'}"
            )
    count = groups(record.rows)
    for metric in suite.metrics:
        values = {str(record.draws): record.metrics.get(metric.name)} | record.curves.get(metric.name, {})
        ends, jackknife = record.intervals.get(metric.name, {}), record.jackknife.get(metric.name, {})
        for part, sizes in (("intervals", ends.keys()), ("jackknife", jackknife.keys())):
            for size in sizes ^ values.keys():
                yield Fault(f"{part}.{metric.name}", f"are {'' if size in sizes else 'not '}of {size} draws")
        for size in values.keys() & ends.keys() & jackknife.keys():
            yield from _interval(metric, values[size], ends[size], jackknife[size], (count, record.rows), size)


def _interval(
    metric: Metric,
    value: float | None,
    ends: tuple[float, float] | None,
    without: Sequence[float] | None,
    counts: tuple[int, int],
    size: str,
) -> Iterator[Fault]:
    count, n = counts  # of groups and of rows
    if without is None:
        if value is not None and metric.interval is not None and count and metric.name.endswith(ALWAYS_KNOWN):
            yield Fault(f"jackknife.{metric.name}.{size}", "is missing")
        again = None
    elif value is None or metric.interval is None or len(without) != count:
        wanted = 0 if value is None or metric.interval is None else count
        yield Fault(f"jackknife.{metric.name}.{size}", f"has {len(without)} numbers, not {wanted}")
        return
    else:
        for one in without:
            yield from _bounded(metric, one, f"jackknife.{metric.name}.{size}")
        again = metric_interval(metric, value, np.array(without), n)
    if not all(map(_same, again or (None, None), ends or (None, None))):
        yield Fault(f"intervals.{metric.name}.{size}", f"is {ends}, its jackknife gives {again}")


def _bounded(metric: Metric, value: float | None, field: str) -> Iterator[Fault]:
    low, high = metric.range
    if value is not None and not low - _ROUNDING <= value <= high + _ROUNDING:
        yield Fault(field, f"is {value}: it is between {low:g} and {high:g} ({metric.unit})")


def recomputed(suite: Suite, record: Record) -> Iterator[Fault]:
    """Whether aggregates and findings follow from the conditions."""
    conditions = [row.condition for row in record.conditions]
    rows = [row.metrics for row in record.conditions]
    sizes = next(iter(record.curves.values()), {})
    try:
        again = summary(suite, conditions, rows, record.suite.baseline)
        curves = {size: summary(suite, conditions, _at(record, size), record.suite.baseline) for size in sizes}
        findings = suite.findings(conditions, rows)
    except Exception as error:  # the suite is a plugin's, and the numbers are a stranger's
        yield Fault("conditions", f"cannot be summed up: {describe_error(error)}")
        return
    for name, value in again.items():
        if not _same(value, record.metrics.get(name)):
            yield Fault(f"metrics.{name}", f"is {record.metrics.get(name)}, its conditions give {value}")
    for size, metrics in curves.items():
        for name, value in metrics.items():
            if not _same(value, record.curves.get(name, {}).get(size)):
                given = record.curves.get(name, {}).get(size)
                yield Fault(f"curves.{name}.{size}", f"is {given}, its conditions give {value}")
    if findings != [finding for finding in record.findings if finding.source == "suite"]:
        checks = ", ".join(finding.check for finding in findings) or "none"
        yield Fault("findings", f"are not what its conditions give: {checks}")


def _at(record: Record, size: str) -> list[Metrics]:
    return [{name: curve.get(size) for name, curve in row.curves.items()} for row in record.conditions]


def _same(ours: float | None, theirs: float | None) -> bool:
    if ours is None or theirs is None:
        return ours is theirs
    return math.isclose(ours, theirs, rel_tol=_TOLERANCE, abs_tol=1e-9)
