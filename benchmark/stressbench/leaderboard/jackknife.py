"""What a metric's values without each group of images allow: they are around the whole's, and follow from the rows'."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from stressbench.contracts import Suite
from stressbench.leaderboard import provenance
from stressbench.leaderboard.numbers import Fault
from stressbench.record import Record
from stressbench.results.resampling import ROUNDING, groups, half_width
from stressbench.results.scoring import summary

_SLACK = 1e-5  # by how much sums in float32 stray
_COUNT = 1e-3  # images
_NARROWEST = 1 / 4  # of the standard error that the counts give: twenty groups miss it by 16 % on average


def faults(suite: Suite, record: Record) -> Iterator[Fault]:
    """Whether values without each group of images can be of the whole's value: on average, and in counts."""
    n = record.rows
    if not record.jackknife or any(row.n != n for row in record.conditions):
        return
    clean = record.conditions[0].metrics
    counted = {one.name for one in suite.row_metrics if one.share_of == "n" or clean.get(one.share_of or "") == n}
    attacked = {f"{row.condition['attack']}_accuracy" for row in record.conditions if "attack" in row.condition}
    kinds = {metric.name: metric for metric in suite.metrics}
    for name, sizes in record.jackknife.items():
        of = "accuracy" if name in attacked else name.removeprefix("mean_").removeprefix("clean_")
        for size, without in sizes.items():
            value = record.curves.get(name, {}).get(size, record.metrics.get(name))
            if not without or value is None or len(without) != groups(n):
                continue
            field = f"jackknife.{name}.{size}"
            exact = of in counted or (of in ("nll", "brier") and of != name)
            yield from (Fault(field, one) for one in _around(value, without, n, exact))
            if of in counted and not name.startswith("mean_"):
                yield from (Fault(field, one) for one in _counted(value, without, n))
            ours = record.suite.distribution == provenance.OURS  # another's share may be the same for all images
            if ours and suite.rows == "image" and kinds[name].unit == "fraction" and kinds[name].bounds is None:
                yield from (Fault(field, one) for one in _alike(value, without))
    missing = [metric for metric in suite.baseline_metrics if not record.conditions[0].jackknife.get(metric)]
    if missing and provenance.complete(record):
        yield Fault("conditions.0.jackknife", f"is without {', '.join(missing)}, which pair it with a baseline")
    for i, row in enumerate(record.conditions):
        for metric, values in row.jackknife.items():
            value = row.metrics.get(metric)
            if values and value is not None and len(values) == groups(n):
                exact = metric in counted or metric in ("nll", "brier")
                found = [*_around(value, values, n, exact), *(_counted(value, values, n) if metric in counted else ())]
                yield from (Fault(f"conditions.{i}.jackknife.{metric}", one) for one in found)
    yield from _narrow(suite, record, counted)
    yield from _parts(suite, record)


def _left(n: int) -> np.ndarray:
    """The images that are left without each of the groups."""
    return np.array([n - len(range(group, n, groups(n))) for group in range(groups(n))])


def _around(value: float, without: Sequence[float], n: int, exact: bool) -> Iterator[str]:
    """A mean over images is the mean of its values without each group; any other metric is within its interval."""
    mean = float(np.average(without, weights=_left(n)))
    allowed = _SLACK * max(1.0, abs(value)) if exact else (half_width(np.array(without)) or 0.0) + _SLACK
    if abs(mean - value) > allowed:
        yield f"is around {mean:.6g}, and the metric is {value}"


def _alike(value: float, without: Sequence[float]) -> Iterator[str]:
    """A share that is neither end of its range is not the same in each of the groups."""
    if max(without) - min(without) < ROUNDING and _SLACK < value < 1 - _SLACK:
        yield f"is {without[0]} without each of the {len(without)} groups: no images are so alike"


def _counted(value: float, without: Sequence[float], n: int) -> Iterator[str]:
    """A share of the images is one of those left, and what each group adds is no more than its images."""
    left = _left(n)
    counts = np.array(without) * left
    if np.abs(counts - counts.round()).max() > _COUNT:
        yield "holds a share that no count of the images gives"
    elif (np.abs(2 * (value * n - counts) - (n - left)) > n - left + _COUNT).any():
        yield "leaves out more images than a group has"


def _narrow(suite: Suite, record: Record, counted: set[str]) -> Iterator[Fault]:
    """Whether the interval of a share, or of a mean of shares, is as wide as independent conditions would make it."""
    for name, sizes in record.jackknife.items():
        prefix, _, of = name.partition("_")
        if of not in counted or prefix not in ("mean", "clean"):
            continue
        for size, without in sizes.items():
            value = record.curves.get(name, {}).get(size, record.metrics.get(name))
            half = half_width(np.array(without)) if without else None
            if half is None or value is None:
                continue
            shares = [row.metrics[of] for row in record.conditions if prefix == "mean" or row.metrics[of] == value]
            variance = [share * (1 - share) for share in shares if share is not None]
            if not variance:
                continue
            k = len(variance) if prefix == "mean" else 1
            least = _NARROWEST * 2 * math.sqrt(float(np.mean(variance)) / k / record.rows)
            if half < least:
                yield Fault(
                    f"intervals.{name}.{size}", f"is ± {half:.2g}, narrower than its conditions allow: {least:.2g}"
                )


def _parts(suite: Suite, record: Record) -> Iterator[Fault]:
    """Whether the aggregates' jackknife is the one of their conditions, where the conditions have theirs."""
    needed = suite.baseline_metrics
    if not needed or not all(row.jackknife.get(name) for row in record.conditions for name in needed):
        return
    conditions, given = [row.condition for row in record.conditions], record.suite.baseline
    follow = {f"{prefix}{name}" for prefix in ("mean_", "clean_") for name in needed} | suite.normalise(
        conditions, [row.metrics for row in record.conditions], given
    ).keys()
    size = str(record.draws)
    for group in range(groups(record.rows)):
        rows = [row.without(group).metrics for row in record.conditions]
        again = summary(suite, conditions, rows, given and given.without(group))
        for name in sorted(follow & again.keys()):
            without = record.jackknife.get(name, {}).get(size)
            if not without and None not in (again[name], record.metrics.get(name)):
                yield Fault(f"jackknife.{name}.{size}", f"is missing, and its conditions give {again[name]}")
                return
            if without and not math.isclose(without[group], again[name] or 0.0, rel_tol=1e-5, abs_tol=1e-7):
                yield Fault(
                    f"jackknife.{name}.{size}",
                    f"is {without[group]} without group {group}, its conditions give {again[name]}",
                )
                return
