"""Which results a metric tells apart: ranks, and how far each could be off, from the records' jackknives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stressbench.results.resampling import LEVEL, ROUNDING

_TIE = 12  # decimal places to which two numbers that are one differ by the order of a sum


class Standing(NamedTuple):
    """The place of a result by one metric.

    Results that are not told apart share a rank: it is one more than the number of results that are told apart from
    this one and better. `last` is the number of results less those that are told apart and worse.
    """

    order: int
    """From 0 for the best value; equal values in the order that they were given in."""
    rank: int
    last: int


def standings(
    values: Sequence[float | None],
    without: Sequence[Sequence[float] | None],
    better: Literal["lower", "higher"],
) -> list[Standing | None]:
    """The standing of each of N results by one metric; None where its value is unknown.

    `without` are the metric's values without each of the same groups of images. Two results are told apart if the 95 %
    interval of their difference by the delete-a-group jackknife does not hold 0: the paired one, on the same images,
    and of this pair alone. Where one of them has no jackknife, their values decide.

    >>> standings([0.10, 0.12, 0.30], [[0.09, 0.11], [0.13, 0.11], [0.29, 0.31]], "lower")
    [Standing(order=0, rank=1, last=2), Standing(order=1, rank=1, last=3), Standing(order=2, rank=2, last=3)]
    """
    known = [i for i, value in enumerate(values) if value is not None]
    sign = 1 if better == "lower" else -1
    scores: NDArray[np.float64] = sign * np.array([values[i] for i in known], dtype=np.float64).round(_TIE)
    ahead = (scores[:, None] < scores) & _apart(scores, [without[i] for i in known])
    found: list[Standing | None] = [None] * len(values)
    for order, k in enumerate(np.argsort(scores, kind="stable")):
        found[known[k]] = Standing(order, 1 + int(ahead[:, k].sum()), len(known) - int(ahead[k].sum()))
    return found


def _apart(scores: NDArray[np.float64], without: Sequence[Sequence[float] | None]) -> NDArray[np.bool_]:
    """Whether each two of N scores differ by more than the half-width of their difference: (N, N)."""
    from scipy.special import stdtrit

    apart = np.abs(scores[:, None] - scores)
    count = max((len(one) for one in without if one), default=0)
    able = np.array([one is not None and len(one) == count > 1 for one in without])
    if not able.any():
        return apart > 0
    groups = np.array([one for one, is_able in zip(without, able, strict=True) if is_able])
    around = groups - groups.mean(axis=1, keepdims=True)
    # ‖a − b‖² for each two rows; a sum of squares that is 0 but for rounding is 0.
    squares = np.square(around).sum(axis=1)
    spread = np.clip(squares[:, None] + squares - 2 * around @ around.T, 0, None)
    spread[spread < count * ROUNDING] = 0
    half = np.zeros((len(scores), len(scores)))
    half[np.ix_(able, able)] = stdtrit(count - 1, (1 + LEVEL) / 2) * np.sqrt((count - 1) / count * spread)
    return apart > half
