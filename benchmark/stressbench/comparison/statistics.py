"""Tests of differences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stressbench.results.resampling import Numbers, standard_error


def p_value(difference: float, without: Numbers) -> float:
    """Two-sided p-value of a difference, from its values without each of G ≥ 2 groups of images, (G,).

    Student's t-test of difference / `standard_error` with G − 1 degrees of freedom, the counterpart of `half_width`,
    for any metric. For a mean and one image in each group it is the paired t-test.

    It is at least 2^(1−G), the smallest p-value of a sign test of the groups: few images cannot show more, and the
    standard error is 0 if all groups give the same difference.
    """
    from scipy.special import stdtr

    count, error = len(without), standard_error(without)
    t = abs(difference) / error if error else math.inf
    return max(2 * float(stdtr(count - 1, -t)), 2.0 ** (1 - count))


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted for multiple tests, which controls the family-wise error rate (Holm, 1979)."""
    adjusted = [1.0] * len(p)
    highest = 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = highest
    return adjusted
