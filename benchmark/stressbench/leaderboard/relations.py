"""What the numbers of one condition allow each other to be: whatever the images, no model can be outside.

The standard metrics of classification are known by their names: error or accuracy, nll, brier, ece, signed_ece, aurc,
and of attacks asr, attackable, images and robust_accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from stressbench.contracts import Metrics, Suite
from stressbench.leaderboard.numbers import Fault
from stressbench.record import Record
from stressbench.results.resampling import groups, half_width
from stressbench.results.scoring import summary

_SLACK = 1e-5  # by how much sums in float32 stray
_COUNT = 1e-3  # images
# The least of −ln(1 − x) / 2x² over 0 < x < 1: an image's Brier score is at most 2·(1 − p)², p being its true class's.
_NLL_OF_BRIER = 1.2277
_NARROWEST = 1 / 4  # of the standard error that the counts give: twenty groups miss it by 16 % on average


def rows(suite: Suite, record: Record) -> Iterator[Fault]:
    """Whether the numbers of each condition are possible together, at each number of draws."""
    if suite.rows != "image":
        return
    for i, row in enumerate(record.conditions):
        at: dict[str, Metrics] = {"metrics": row.metrics}
        for size in next(iter(row.curves.values()), {}):
            at[f"curves at {size}"] = {name: curve.get(size) for name, curve in row.curves.items()}
        for place, metrics in at.items():
            faults = [*_counts(suite, metrics, row.n)]
            if not faults and record.dataset.task == "classification":
                faults = [*_bounds(metrics, row.n, record.dataset.classes), *_attack(metrics, row.n)]
            yield from (Fault(f"conditions.{i}.{place}", message) for message in faults)
    yield from _jackknife(suite, record)


def _counts(suite: Suite, row: Metrics, n: int) -> Iterator[str]:
    for metric in suite.row_metrics:
        value = row.get(metric.name)
        of = n if metric.share_of == "n" else row.get(metric.share_of or "")
        if value is None or of is None:
            continue
        if of > n or abs(of - round(of)) > _COUNT:
            yield f"{metric.share_of} is {of:g}: it is a number of the {n} images"
        elif abs(value * of - round(value * of)) > max(_COUNT, 1e-6 * of):
            yield f"{metric.name} is {value}: of {of:g} images, no count gives that"


def _bounds(row: Metrics, n: int, classes: int | None) -> Iterator[str]:
    accuracy = row.get("accuracy")
    error = row.get("error") if accuracy is None else 1 - accuracy
    known = {name: row.get(name) for name in ("nll", "brier", "ece", "signed_ece", "aurc")}
    nll, brier, ece, signed, aurc = known.values()
    if ece is not None and signed is not None and ece < abs(signed) - _SLACK:
        yield f"ece is {ece}, below the size of signed_ece, {signed}"
    if nll is not None and brier is not None and nll < _NLL_OF_BRIER * brier - _SLACK:
        yield f"nll is {nll}: with a brier of {brier} it is {_NLL_OF_BRIER * brier:.6g} or more"
    if error is None:
        return
    # Where the most likely class is wrong, the true one has at most half of the probability; where it is right, it has
    # at least 1/C.
    most = 1 - 1 / classes if classes else 1.0
    low, high = error / 2, 2 * error + (1 - error) * most
    if brier is not None and not low - _SLACK <= brier <= high + _SLACK:
        yield f"brier is {brier}: with an error of {error:.6g} it is between {low:.6g} and {high:.6g}"
    least = error * math.log(2)
    if nll is not None and nll < least - _SLACK:
        yield f"nll is {nll}: with an error of {error:.6g} it is {least:.6g} or more"
    if signed is not None:
        confidence, least = signed + 1 - error, 1 / classes if classes else 0.0
        if not least - _SLACK <= confidence <= 1 + _SLACK:
            yield f"signed_ece is {signed}: with an error of {error:.6g} the mean confidence would be {confidence:.6g}"
    if aurc is not None:
        wrong, k = round(error * n), np.arange(1, n + 1)
        best, worst = np.maximum(k - (n - wrong), 0) @ (1 / k) / n, np.minimum(k, wrong) @ (1 / k) / n
        if not best - _SLACK <= aurc <= worst + _SLACK:
            yield f"aurc is {aurc}: with an error of {error:.6g} it is between {best:.6g} and {worst:.6g}"


def _attack(row: Metrics, n: int) -> Iterator[str]:
    """Of the images that were right before the attack, those that are right after it."""
    accuracy, asr, images, before = (row.get(name) for name in ("accuracy", "asr", "images", "attackable"))
    if accuracy is None or images is None or before is None:
        return
    if before > images:
        yield f"attackable is {before:g}, and there are {images:g} images"
    if asr is not None:
        low, high = (1 - asr) * before, images - asr * before
        if not low - _COUNT <= accuracy * images <= high + _COUNT:
            yield f"accuracy is {accuracy}: with an asr of {asr} it is {low / images:.6g} to {high / images:.6g}"
    robust = row.get("robust_accuracy")
    if robust is not None and images == n and robust > min(accuracy, before / n) + _SLACK:
        yield f"robust_accuracy is {robust}, more than the accuracy under this attack or without one"


def _jackknife(suite: Suite, record: Record) -> Iterator[Fault]:
    """Whether values without each group of images can be of the whole's value: on average, and in counts."""
    n = record.rows
    if not record.jackknife or any(row.n != n for row in record.conditions):
        return
    counted = {metric.name for metric in suite.row_metrics if metric.share_of == "n"}
    for name, sizes in record.jackknife.items():
        of = name.removeprefix("mean_").removeprefix("clean_")
        for size, without in sizes.items():
            value = record.curves.get(name, {}).get(size, record.metrics.get(name))
            if not without or value is None or len(without) != groups(n):
                continue
            field = f"jackknife.{name}.{size}"
            exact = of in counted or (of in ("nll", "brier") and of != name)
            yield from (Fault(field, one) for one in _around(value, without, n, exact))
            if of in counted and name == f"clean_{of}":
                yield from (Fault(field, one) for one in _counted(value, without, n))
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
            if without and not math.isclose(without[group], again[name] or 0.0, rel_tol=1e-5, abs_tol=1e-7):
                yield Fault(
                    f"jackknife.{name}.{size}",
                    f"is {without[group]} without group {group}, its conditions give {again[name]}",
                )
                return
