"""Whether a replay agrees with its record: metrics within tolerances, their mean over conditions, and row by row."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from stressbench.contracts import Metric
from stressbench.record import Precision, Record
from stressbench.results.conditions import describe
from stressbench.results.resampling import Tables
from stressbench.results.sketches import column, distance

# How far a number may be from the record's, between devices, libraries and batch sizes. Rounding moves a network's
# outputs by some 1e-5 of their size in float32, and by some 1e-2 in bfloat16, whose numbers have eight bits; an attack
# that climbs along them ends a little further away. A fraction counts images, and one at the edge between two classes,
# or two calibration bins, may fall to the other side.
_SMOOTH: dict[Precision, float] = {"float32": 1e-3, "bfloat16": 2e-2}  # of the value, or of 1 if that is more
_FRACTION: dict[Precision, float] = {"float32": 5e-3, "bfloat16": 2e-2}  # or `_AT_THE_EDGE` images, if that is more
_AT_THE_EDGE = 2
_SKETCHED = 2.0  # how many times the true distance of rows a sketch may say: more in one of 10,000


@dataclass(frozen=True)
class Agreement:
    """What a comparison found."""

    lines: list[str]
    """One for each condition."""
    differing: int
    """How many conditions differ."""
    biased: list[str]
    """A line for each metric that is off by less than its tolerance, and in the same direction everywhere."""
    differences: dict[str, float]
    """Metric → the largest difference over the conditions, in the metric's unit."""
    rows: dict[str, float]
    """Column of the per-image tables → the largest root mean square difference; empty for a record without sketches."""


def compare(
    metrics: Sequence[Metric], record: Record, again: Record, tables: Tables, precision: Precision
) -> Agreement:
    """Compare a record with one of some of its conditions that was made again, from these per-image tables."""
    lines: list[str] = []
    differing = 0
    apart: dict[str, list[float]] = {metric.name: [] for metric in metrics}
    most: dict[str, float] = {metric.name: 0.0 for metric in metrics}
    rows: dict[str, float] = {}
    places = {frozenset(row.condition.items()): i for i, row in enumerate(record.conditions)}
    for i, row in enumerate(again.conditions):
        place, faults = places[frozenset(row.condition.items())], []
        for metric in metrics:
            was, now = record.conditions[place].metrics[metric.name], row.metrics[metric.name]
            if was is not None and now is not None:
                tolerance = allowed(metric, was, row.n, precision)
                apart[metric.name].append(now - was)
                most[metric.name] = max(most[metric.name], tolerance)
                if abs(now - was) > tolerance:
                    faults.append(
                        f"{metric.name} is {was:.6g} in the record and {now:.6g} here, over {tolerance:.2g} apart"
                    )
            elif was != now:
                faults.append(f"{metric.name} is {was} in the record and {now} here")
        for name, difference in _between_rows(record, place, again, i):
            rows[name] = max(rows.get(name, 0.0), difference)
            if difference > (limit := allowed_rows(column(tables[i], name), row.n, precision)):
                faults.append(f"{name} is {difference:.2g} apart from image to image, over {limit:.2g}")
        differing += bool(faults)
        lines.append(f"{describe(row.condition)}: {'; '.join(faults) or 'agrees'}")
    largest = {name: max(map(abs, values), default=0.0) for name, values in apart.items()}
    return Agreement(lines, differing, [*_biased(apart, most)], largest, rows)


def allowed(metric: Metric, value: float, n: int, precision: Precision) -> float:
    """The tolerance between a replayed metric of n images and the record's value, in the metric's unit."""
    if metric.unit == "fraction":
        return _share(n, precision)
    return _SMOOTH[precision] * max(1.0, abs(value))


def allowed_rows(values: NDArray[np.float64], n: int, precision: Precision) -> float:
    """The tolerance between a replayed column of n images, (M,), and the record's: of a root mean square difference.

    Each value may be off by as much as a metric of its size, and those of as many images as a fraction may be off by
    can be anywhere in the column's range; twice that, since it is compared with an estimate. Whole numbers, such as
    0 and 1 for wrong and right, differ by at least 1.
    """
    span = float(np.ptp(values)) if len(values) else 0.0
    if (values == np.round(values)).all():
        span = max(span, 1.0)
    rounding = _SMOOTH[precision] * max(1.0, float(np.abs(values).max(initial=0.0)))
    return _SKETCHED * (rounding + math.sqrt(_share(n, precision)) * span)


def systematic(count: int) -> float:
    """How far the mean of signed differences over `count` conditions may be from 0, in tolerances of one.

    Rounding errors have either sign, so their mean shrinks with the root of the count, but the same images are at an
    edge in several conditions: never below a third.

    >>> systematic(1), systematic(4), systematic(100)
    (1.0, 0.5, 0.3333333333333333)
    """
    return max(1 / 3, 1 / math.sqrt(count))


def _share(n: int, precision: Precision) -> float:
    """The share of n images that may be on the other side of an edge."""
    return max(_FRACTION[precision], _AT_THE_EDGE / n)


def _between_rows(record: Record, place: int, again: Record, i: int) -> Iterator[tuple[str, float]]:
    """How far the rows of a condition are apart, by column that both have."""
    if record.sketches and again.sketches:
        theirs, ours = record.sketches[place], again.sketches[i]
        yield from ((name, distance(theirs[name], ours[name])) for name in theirs if name in ours)


def _biased(apart: Mapping[str, Sequence[float]], most: Mapping[str, float]) -> Iterator[str]:
    for name, values in apart.items():
        if values and abs(mean := fmean(values)) > (limit := most[name] * systematic(len(values))):
            side = "lower" if mean > 0 else "higher"
            yield f"{name}: {abs(mean):.2g} {side} in the record on average, over {limit:.2g}"
