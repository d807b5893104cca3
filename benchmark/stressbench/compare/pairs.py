"""Run folders → the differences of their metrics, with intervals and tests.

A resample draws images with replacement, and is the same one in all conditions and all runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from stressbench import registry, runs
from stressbench.compare.statistics import holm, interval, p_value
from stressbench.contracts import Metric, Suite
from stressbench.errors import UserError
from stressbench.record import Record
from stressbench.resampling import LEVEL, Numbers, Tables, Together
from stressbench.runs import Run

if TYPE_CHECKING:
    from stressbench.terminal import Screen

Interval = tuple[float, float]
Verdict = Literal["equal", "within noise", "first is better", "second is better"]

_TOLERANCE = 1e-6  # relative, between a metric in the record and as recomputed from the tables


@dataclass(frozen=True)
class Estimate:
    """A number, and its interval where all resamples define it."""

    value: float
    interval: Interval | None


@dataclass(frozen=True)
class Difference:
    """One metric of two runs; `difference` is the second's less the first's."""

    metric: Metric
    first: Estimate
    second: Estimate
    difference: Estimate
    p: float
    p_holm: float  # over the metrics of the pair
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
    resamples: int
    seed: int
    pairs: Sequence[Pair]


def compare(paths: Sequence[Path], resamples: int, seed: int, screen: Screen) -> Comparison:
    """Compare the first run folder with each of the others; the same arguments give the same numbers.

    Raises `UserError` for folders that are no runs, runs that do not compare, tables that are missing or damaged or do
    not give their record's metrics, and for fewer resamples than a test of so many metrics can do with.
    """
    found = runs.load_alike(paths)
    scorers = [_Scorer(run) for run in found]
    metrics = found[0].suite.metrics
    known = [[_known(run.record, metric) is not None for metric in metrics] for run in found]
    tested = max((sum(a and b for a, b in zip(known[0], other, strict=True)) for other in known[1:]), default=0)
    fewest = math.ceil(tested / (1 - LEVEL))
    if resamples < fewest:
        raise UserError(
            f"{resamples} resamples cannot show a difference in any of {tested} metrics: give --resamples {fewest} "
            "or more"
        )
    identical = [_identical(found[0], run) for run in found]
    boot, swapped = _resample(scorers, identical, resamples, seed, screen)
    pairs = []
    for second in range(1, len(found)):
        both = [i for i in range(len(metrics)) if known[0][i] and known[second][i]]
        pairs.append(
            Pair(
                first=0,
                second=second,
                identical=identical[second],
                differences=_differences(
                    [metrics[i] for i in both],
                    [run.record for run in (found[0], found[second])],
                    (boot[0][:, both], boot[second][:, both]),
                    swapped[second][:, both],
                ),
                unknown=[metric.name for i, metric in enumerate(metrics) if i not in both],
            )
        )
    return Comparison(found, resamples, seed, pairs)


class _Scorer:
    """A run's tables as the suite that made them scores them."""

    def __init__(self, run: Run) -> None:
        record = run.record
        self.tables = run.tables
        self._run, self._suite = run, _suite(run)
        again = self(self.tables)
        for metric, value in zip(run.suite.metrics, again, strict=True):
            recorded = _known(record, metric)
            same = math.isnan(value) if recorded is None else math.isclose(value, recorded, rel_tol=_TOLERANCE)
            if not same and not (recorded is not None and abs(value - recorded) < 1e-9):
                raise UserError(
                    f"{run.path}: its tables give {value:.6g} for {metric.name} and its record says {recorded}: "
                    "give the same `bench run` again"
                )

    def __call__(self, tables: Tables) -> Numbers:
        """The record's metrics, in the suite's order, NaN for unknown."""
        try:
            rows = self._suite.score(self._run.conditions, tables)
            metrics = self._suite.aggregate(self._run.conditions, rows, self._run.record.suite.baseline)
        except Exception as error:  # the suite is a plugin's
            raise UserError(
                f"the {self._suite.name} suite failed on tables of {self._run.path}: {registry.describe(error)}"
            ) from error
        values = [metrics[metric.name] for metric in self._suite.metrics]
        return np.array([math.nan if value is None else value for value in values])


def _suite(run: Run) -> Suite:
    """The suite with the options that the tables depend on."""
    info = run.record.suite
    if info.version != run.suite.version:
        raise UserError(
            f"{run.path} is of version {info.version} of the {info.name} suite and version {run.suite.version} is "
            "installed: run it again"
        )
    return registry.suite(info.name, {k: v for k, v in info.options.items() if k not in run.suite.free_options})


def _known(record: Record, metric: Metric) -> float | None:
    return record.metrics.get(metric.name)


def _identical(one: Run, two: Run) -> bool:
    return one is two or all(a.equals(b) for a, b in zip(one.tables, two.tables, strict=True))


def _resample(
    scorers: Sequence[_Scorer], identical: Sequence[bool], resamples: int, seed: int, screen: Screen
) -> tuple[list[Numbers], list[Numbers]]:
    """For each run, metrics from the same resamples of images, and differences to the first after random exchanges.

    Each is (resamples, metrics). What is identical to the first run is not computed again.
    """
    first, n = scorers[0], len(scorers[0].tables[0])
    draws, exchanges = (np.random.default_rng([seed, stream]) for stream in (0, 1))
    size = (resamples, len(first(first.tables)))
    boot = [np.zeros(size) for _ in scorers]
    swapped = [np.zeros(size) for _ in scorers]
    others = [i for i in range(1, len(scorers)) if not identical[i]]
    own = {i: Together(scorers[i].tables) for i in (0, *others)}
    stacks = {i: Together([_stack(a, b) for a, b in zip(first.tables, scorers[i].tables, strict=True)]) for i in others}
    with screen.progress("comparing", resamples, "resamples") as advance:
        for b in range(resamples):
            rows = draws.integers(n, size=n)
            for i in (0, *others):
                boot[i][b] = scorers[i](own[i].take(rows))
            second = np.arange(n) + n * exchanges.integers(2, size=n)
            for i in others:
                one, two = (stacks[i].take(rows) for rows in (second, (second + n) % (2 * n)))
                swapped[i][b] = scorers[i](two) - first(one)
            advance(1, f"{len(scorers)} runs")
    return [boot[0] if same else values for same, values in zip(identical, boot, strict=True)], swapped


def _stack(one: pd.DataFrame, two: pd.DataFrame) -> pd.DataFrame:
    """The rows of one run and then those of the other, with the columns that both have."""
    shared = [name for name in one.columns if name in two.columns]
    return pd.concat([one[shared], two[shared]], ignore_index=True)


def _differences(
    metrics: Sequence[Metric], records: Sequence[Record], boot: tuple[Numbers, Numbers], swapped: Numbers
) -> list[Difference]:
    values = [(records[0].metrics[m.name] or 0.0, records[1].metrics[m.name] or 0.0) for m in metrics]
    p = [p_value(two - one, swapped[:, i]) for i, (one, two) in enumerate(values)]
    found = []
    for i, (metric, adjusted) in enumerate(zip(metrics, holm(p), strict=True)):
        one, two = values[i]
        between = interval(two - one, boot[1][:, i] - boot[0][:, i])
        found.append(
            Difference(
                metric=metric,
                first=Estimate(one, interval(one, boot[0][:, i])),
                second=Estimate(two, interval(two, boot[1][:, i])),
                difference=Estimate(two - one, between),
                p=p[i],
                p_holm=adjusted,
                verdict=_verdict(metric, two - one, between, adjusted),
            )
        )
    return found


def _verdict(metric: Metric, difference: float, between: Interval | None, p: float) -> Verdict:
    if between is not None and not any(between):
        return "equal"
    if p >= 1 - LEVEL:
        return "within noise"
    return "second is better" if (difference < 0) == (metric.better == "lower") else "first is better"
