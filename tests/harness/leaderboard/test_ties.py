"""Ranks that are shared by what the jackknives do not tell apart."""

from __future__ import annotations

import numpy as np

from stressbench.leaderboard.ties import Standing, standings
from stressbench.results.resampling import half_width

LOWER = "lower"


def test_ranks_by_hand() -> None:
    """Against each pair's interval, one pair at a time."""
    generator = np.random.default_rng(0)
    values = list(generator.uniform(0.2, 0.3, 30))
    common = generator.normal(0, 0.01, 20)
    without = [list(value + common + generator.normal(0, 0.004, 20)) for value in values]

    def better(i: int, j: int) -> bool:
        half = half_width(np.array(without[i]) - np.array(without[j]))
        assert half is not None
        return values[j] - values[i] > half

    found = standings(values, without, LOWER)
    everyone = range(len(values))
    for i, one in enumerate(found):
        assert one is not None
        assert one.order == sum(other < values[i] for other in values)
        assert one.rank == 1 + sum(better(j, i) for j in everyone if j != i)
        assert one.last == len(values) - sum(better(i, j) for j in everyone if j != i)
    assert 1 < len({one.rank for one in found if one}) < len(values)


def test_without_jackknives_the_values_decide_and_equal_ones_share() -> None:
    assert standings([0.2, None, 0.1, 0.2 + 1e-14], [None] * 4, LOWER) == [
        Standing(1, 2, 3), None, Standing(0, 1, 1), Standing(2, 2, 3),
    ]  # fmt: skip
    assert standings([0.2, 0.1], [None, None], "higher") == [Standing(0, 1, 1), Standing(1, 2, 2)]
    # One that has none is told from others by its value.
    assert standings([0.2, 0.21], [[0.1, 0.3], None], LOWER) == [Standing(0, 1, 1), Standing(1, 2, 2)]


def test_a_metric_that_no_group_moves_is_told_apart_by_any_difference() -> None:
    assert standings([0.0, 1e-6, 0.0], [[0.0] * 20, [1e-6] * 20, [0.0] * 20], LOWER) == [
        Standing(0, 1, 2), Standing(2, 3, 3), Standing(1, 1, 2),
    ]  # fmt: skip


def test_no_results_have_no_ranks() -> None:
    assert standings([], [], LOWER) == []
    assert standings([None], [None], LOWER) == [None]
