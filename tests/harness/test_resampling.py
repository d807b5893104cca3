"""Intervals around a record's numbers, against closed forms, a plain bootstrap and simulations of what is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from stressbench import metrics
from stressbench.contracts import Metric
from stressbench.results.resampling import (
    AlignedTables,
    Numbers,
    Tables,
    half_width,
    interval,
    leave_out,
    metric_interval,
)


def table(**columns: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"index": np.arange(len(next(iter(columns.values())))), **columns})


def mean(tables: Tables) -> Numbers:
    return np.array([each["x"].mean() for each in tables])


def jackknife(score: Callable[[Tables], Numbers], tables: Tables) -> Numbers:
    return np.array([score(part) for part in leave_out(tables)])


def half_widths(score: Callable[[Tables], Numbers], tables: Tables) -> Numbers:
    """0 for a number that no image moves, which has no interval."""
    return np.array([half_width(without) or 0.0 for without in jackknife(score, tables).T])


def ece(tables: Tables) -> Numbers:
    columns = (torch.tensor(tables[0][name].to_numpy()) for name in ("confidence", "correct"))
    return np.array([metrics.expected_calibration_error(*columns)])


def test_of_a_mean_of_twenty_it_is_students_interval() -> None:
    x = np.random.default_rng(1).normal(size=20)  # as many as groups: leaving one image out
    low, high = scipy.stats.t.interval(0.95, 19, x.mean(), scipy.stats.sem(x))
    assert half_widths(mean, [table(x=x)]) == pytest.approx([(high - low) / 2])


@pytest.mark.parametrize("n", [2, 3, 7])
def test_fewer_images_than_groups_are_left_out_one_by_one(n: int) -> None:
    x = np.random.default_rng(n).normal(size=n)
    low, high = scipy.stats.t.interval(0.95, n - 1, x.mean(), scipy.stats.sem(x))
    assert half_widths(mean, [table(x=x)]) == pytest.approx([(high - low) / 2])


def test_of_a_calibration_error_it_is_about_as_wide_as_a_plain_bootstraps() -> None:
    generator = np.random.default_rng(0)
    ratios = []
    for _ in range(6):
        confidence = generator.uniform(0.3, 1, 1000)
        data = table(confidence=confidence, correct=(generator.uniform(size=1000) < 0.8 * confidence).astype(float))
        plain = [ece([data.iloc[generator.integers(1000, size=1000)]])[0] for _ in range(200)]
        ratios.append(half_widths(ece, [data])[0] / (1.96 * np.std(plain)))
    assert 0.9 < np.mean(ratios) < 1.3  # each with 19 degrees of freedom, and so known to about a sixth


def test_nineteen_in_twenty_hold_the_truth() -> None:
    generator = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        wrong = [table(x=(generator.uniform(size=200) < p).astype(float)) for p in (0.2, 0.4)]
        covered.append(np.abs(mean(wrong) - (0.2, 0.4)) <= half_widths(mean, wrong))
    assert (np.mean(covered, axis=0) > 0.92).all()
    assert (np.mean(covered, axis=0) < 0.98).all()


def test_an_image_stays_together_with_itself_under_other_stress() -> None:
    x = np.random.default_rng(2).normal(size=300)
    alone, twice, undone = (
        half_widths(lambda tables: mean(tables).mean(keepdims=True), tables)
        for tables in ([table(x=x)], [table(x=x), table(x=x)], [table(x=x), table(x=-x)])
    )
    assert twice == pytest.approx(alone)  # and not less by √2, as of other images
    assert undone == pytest.approx(0, abs=1e-12)


def test_images_in_an_order_are_dealt_by_chance() -> None:
    # Sorted by class, say: groups of neighbours would differ as the classes do.
    x = np.repeat(np.arange(10.0), 200)
    assert half_widths(mean, [table(x=x)])[0] == pytest.approx(1.96 * scipy.stats.sem(x), rel=0.4)


def test_without_each_group_and_with_all_of_the_others() -> None:
    without = jackknife(lambda tables: np.array([tables[0]["x"].sum()]), [table(x=2.0 ** np.arange(45))])[:, 0]
    left_out = [{bit for bit in range(45) if not int(total) >> bit & 1} for total in without]
    assert sorted(map(len, left_out)) == [2] * 15 + [3] * 5
    assert set.union(*left_out) == set(range(45))


def test_what_is_not_defined_without_some_images_has_none() -> None:
    x = np.array([math.nan, 1.0, 2.0, 3.0])
    known = half_widths(lambda tables: np.array([tables[0]["x"].to_numpy().mean(), len(tables[0])]), [table(x=x)])
    assert np.isnan(known).tolist() == [True, False]
    assert not list(leave_out([table(x=np.ones(1))]))


def test_an_interval_ends_where_the_metric_does() -> None:
    without = np.array([0.09, 0.11] * 10)
    half = half_width(without)
    assert interval(0.1, without, (-math.inf, math.inf)) == pytest.approx((0.1 - half, 0.1 + half))
    assert interval(0.05, without, (0, 1)) == pytest.approx((0, 0.05 + half))
    assert interval(0.95, without, (0, 1)) == pytest.approx((0.95 - half, 1))
    assert (interval(1 + 1e-9, without, (0, 1)) or (0, 0))[1] == 1 + 1e-9
    assert interval(0.0, np.zeros(20), (0, 1)) is None  # no error of few images is not none of all
    assert interval(0.3, np.full(20, 0.3) + np.arange(20) % 2 * 1e-16, (0, 1)) is None


@given(st_numpy.arrays(np.float64, st.integers(2, 60), elements=st.floats(-1e6, 1e6)), st.floats(0.125, 8))
def test_it_scales_with_what_it_is_around(x: np.ndarray, factor: float) -> None:
    once, scaled = (half_widths(mean, [table(x=values)]) for values in (x, factor * x + 1))
    assert (once >= 0).all()
    assert scaled == pytest.approx(factor * once, rel=1e-6, abs=1e-6)
    assert half_widths(mean, [table(x=x)]).tolist() == once.tolist()


def test_rows_that_are_taken_are_numbered_anew() -> None:
    (taken,) = AlignedTables([table(x=np.array([5.0, 6.0, 7.0]))]).take(np.array([2, 2, 0]))
    assert taken["x"].tolist() == [7, 7, 5]
    assert taken["index"].tolist() == [0, 1, 2] == taken.index.tolist()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32))
def test_rows_of_all_tables_are_those_of_each(n: int, m: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    columns = [
        {"x": random.normal(size=n), "right": random.random(n) < 0.5},
        {"x": random.normal(size=n)},
        {"x": random.normal(size=n).astype(np.float32)},
        {"x": random.normal(size=n), "right": random.random(n) < 0.5},
    ]
    rows = random.integers(n, size=min(m, n))
    taken = AlignedTables([table(**each) for each in columns]).take(rows)
    for found, each in zip(taken, columns, strict=True):
        assert list(found) == ["index", *each]
        assert found["index"].tolist() == found.index.tolist() == list(range(len(rows)))
        for name, values in each.items():
            assert found[name].dtype == values.dtype
            np.testing.assert_array_equal(found[name].to_numpy(), values[rows])


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_proportion_that_no_image_moves_has_an_interval(value: float) -> None:
    error, without = Metric("error", "fraction", "lower", interval="proportion"), np.full(20, value)
    ends = scipy.stats.binomtest(round(200 * value), 200).proportion_ci(0.95, method="wilson")
    assert metric_interval(error, value, without, 200) == pytest.approx((ends.low, ends.high))
    assert metric_interval(replace(error, interval="jackknife"), value, without, 200) is None  # an ECE, say
    assert metric_interval(error, 0.3, np.full(20, 0.3), 200) is None
    moved = 0.3 + 0.01 * np.arange(20)
    assert metric_interval(error, 0.4, moved, 200) == interval(0.4, moved, (0, 1))


def test_an_interval_of_none_is_where_it_cannot_be() -> None:
    place, without = Metric("worst_frequency", "number", None, interval=None), np.array([0.2, 2.9] * 10)
    assert metric_interval(place, 0.2, without, 200) is None
    error = replace(place, interval="jackknife")
    assert metric_interval(error, math.nan, without, 200) is None
    assert metric_interval(error, 0.2, np.array([0.2, math.nan]), 200) is None
    assert metric_interval(error, 0.2, np.empty(0), 1) is None
