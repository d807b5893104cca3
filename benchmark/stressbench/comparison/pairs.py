"""Run folders → the differences of their metrics, with intervals and tests.

Both come from the delete-a-group jackknife: the same images are left out of all conditions and of all runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from stressbench.comparison.statistics import holm, p_value
from stressbench.contracts import Metric, Suite
from stressbench.errors import UserError, describe
from stressbench.results import runs
from stressbench.results.resampling import LEVEL, ROUNDING, Numbers, metric_interval
from stressbench.results.runs import Run
from stressbench.results.scoring import Scores, left_out, scored

if TYPE_CHECKING:
    from stressbench._util.terminal import Screen

Interval = tuple[float, float]
Verdict = Literal["equal", "within noise", "not tested", "different", "first is better", "second is better"]

_TOLERANCE = 1e-6  # relative, between a metric in the record and as recomputed from the tables


@dataclass(frozen=True)
class Estimate:
    """A number and its interval; None where it has none."""

    value: float
    interval: Interval | None


@dataclass(frozen=True)
class Difference:
    """One metric of two runs; `difference` is the second's less the first's."""

    metric: Metric
    first: Estimate
    second: Estimate
    difference: Estimate
    p: float | None
    """None for a metric that has no interval or that leaving images out may leave undefined: there is no test."""
    p_holm: float | None
    """Adjusted for the number of tested metrics of the pair."""
    verdict: Verdict


@dataclass(frozen=True)
class Pair:
    """Two runs, by their places among those that are compared."""

    first: int
    second: int
    identical: bool  # every number in every table is the same
    differences: Sequence[Difference]
    unknown: Sequence[str]  # metrics that one of the two does not have


@dataclass(frozen=True)
class Comparison:
    """The first run against each of the others."""

    runs: Sequence[Run]
    pairs: Sequence[Pair]


@dataclass(frozen=True)
class _Scores:
    """Metrics of n images in the suite's order, NaN for unknown: (M,), and without each group of images: (G, M)."""

    n: int
    values: Numbers
    without: Numbers


def compare(paths: Sequence[Path], screen: Screen, labels: Sequence[str] = ()) -> Comparison:
    """Compare the first run folder with each of the others; raises `UserError` for one that is not a run, and below."""
    return compare_runs(runs.load_all(paths, labels), screen)


def compare_runs(found: Sequence[Run], screen: Screen) -> Comparison:
    """Compare the first run with each of the others.

    A record without its tables is compared by its metrics without each group of images, which it holds.

    Raises `UserError` for runs that do not compare, tables that are missing or damaged or do not give their record's
    metrics, records of earlier versions without their tables, and for runs on a single image.
    """
    for other in found[1:]:
        runs.require_alike(found[0], other)
    if found[0].record.rows < 2:
        raise UserError("runs on a single image have no intervals: run the models on more images")
    scores = []
    with screen.progress("comparing", len(found), "runs") as advance:
        for run in found:
            scores.append(_scores(run))
            advance(1, run.label)
    return Comparison(found, [_pair(found, scores, second) for second in range(1, len(found))])


def _pair(found: Sequence[Run], scores: Sequence[_Scores], second: int) -> Pair:
    metrics, (one, two) = found[0].suite.metrics, (scores[0], scores[second])
    known = ~np.isnan(two.values - one.values)
    return Pair(
        first=0,
        second=second,
        identical=_identical(found[0], found[second]),
        differences=_differences(
            [m for m, both in zip(metrics, known, strict=True) if both], _only(one, known), _only(two, known)
        ),
        unknown=[m.name for m, both in zip(metrics, known, strict=True) if not both],
    )


def _only(scores: _Scores, known: NDArray[np.bool_]) -> _Scores:
    return _Scores(scores.n, scores.values[known], scores.without[:, known])


def _scores(run: Run) -> _Scores:
    """What the suite that made the tables makes of them; the record has to have the same metrics."""
    if _is_alone(run) and any(sizes.get(str(run.record.draws)) for sizes in run.record.jackknife.values()):
        return _recorded(run)
    suite = run.configured_suite

    draws = run.record.draws
    scoring = (suite, run.conditions, {draws: run.tables}, run.record.suite.baseline)

    def numbers(found: Mapping[int, Scores]) -> Numbers:
        return np.array([found[draws].metrics[metric.name] for metric in suite.metrics], dtype=np.float64)

    with _suite_errors(suite, run):
        values = numbers(scored(*scoring))
    for metric, value in zip(suite.metrics, values, strict=True):
        recorded = run.record.metrics.get(metric.name)
        same = (
            math.isnan(value) if recorded is None else math.isclose(value, recorded, rel_tol=_TOLERANCE, abs_tol=1e-9)
        )
        if not same:
            raise UserError(
                f"{run.path}: its tables give {value:.6g} for {metric.name} and its record says {recorded}: "
                "run the same `bench run` again"
            )
    with _suite_errors(suite, run):
        without = np.stack([numbers(found) for found in left_out(*scoring)])
    return _Scores(run.record.rows, values, without)


@contextmanager
def _suite_errors(suite: Suite, run: Run) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the suite is a plugin's
        raise UserError(f"the {suite.name} suite failed on tables of {run.path}: {describe(error)}") from error


def _is_alone(run: Run) -> bool:
    """Whether there is a record and no folder with its tables."""
    return not run.path.is_dir()


def _recorded(run: Run) -> _Scores:
    """The metrics of a record, and its metrics without each group of images; NaN for those that it does not hold."""
    record, metrics = run.record, run.suite.metrics
    values = [record.metrics.get(metric.name) for metric in metrics]
    kept = [record.jackknife.get(metric.name, {}).get(str(record.draws)) for metric in metrics]
    count = max(len(column) for column in kept if column)
    without = [column or [math.nan] * count for column in kept]
    return _Scores(record.rows, np.array(values, dtype=np.float64), np.array(without, dtype=np.float64).T)


def _identical(one: Run, two: Run) -> bool:
    if one is two:
        return True
    return not (_is_alone(one) or _is_alone(two)) and all(
        a.equals(b) for a, b in zip(one.tables, two.tables, strict=True)
    )


def _differences(metrics: Sequence[Metric], one: _Scores, two: _Scores) -> list[Difference]:
    between = _Scores(one.n, two.values - one.values, two.without - one.without)
    # A difference may have either sign, and even between 0 % and 100 % it is not a share of images.
    signed = [
        replace(metric, bounds=(-math.inf, math.inf), interval=metric.interval and "jackknife") for metric in metrics
    ]
    p = [_p(metric, between, i) for i, metric in enumerate(metrics)]
    adjusted = iter(holm([value for value in p if value is not None]))
    found = []
    for i, metric in enumerate(metrics):
        p_holm = None if p[i] is None else next(adjusted)
        found.append(
            Difference(
                metric=metric,
                first=_estimate(metric, one, i),
                second=_estimate(metric, two, i),
                difference=_estimate(signed[i], between, i),
                p=p[i],
                p_holm=p_holm,
                verdict=_verdict(metric, between, i, p_holm),
            )
        )
    return found


def _estimate(metric: Metric, scores: _Scores, i: int) -> Estimate:
    value, without = float(scores.values[i]), scores.without[:, i]
    return Estimate(value, metric_interval(metric, value, without, scores.n))


def _p(metric: Metric, between: _Scores, i: int) -> float | None:
    if metric.interval is None or not np.isfinite(between.without[:, i]).all():
        return None
    return 1.0 if _equal(between, i) else p_value(float(between.values[i]), between.without[:, i])


def _equal(between: _Scores, i: int) -> bool:
    """Whether no group of images makes a difference."""
    return bool(np.abs([between.values[i], *between.without[:, i]]).max() <= ROUNDING)


def _verdict(metric: Metric, between: _Scores, i: int, p: float | None) -> Verdict:
    if p is None:
        return "not tested"
    if _equal(between, i):
        return "equal"
    if p >= 1 - LEVEL:
        return "within noise"
    if metric.better is None:
        return "different"
    return "second is better" if (between.values[i] < 0) == (metric.better == "lower") else "first is better"
