"""Intervals and tests from resampled numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stressbench.resampling import LEVEL, Numbers


def interval(estimate: float, resampled: Numbers) -> tuple[float, float] | None:
    """The basic bootstrap interval [2θ̂ − q_{1−α/2}, 2θ̂ − q_{α/2}] (Davison and Hinkley, 1997, section 5.2.1).

    `resampled` (B,) are the estimates from resamples and q their quantiles. None where one of them is not defined.
    Reflecting the quantiles at the estimate takes off the bias that resampling adds to a calibration error.
    """
    if not np.isfinite(resampled).all():
        return None
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return 2 * estimate - float(high), 2 * estimate - float(low)


def p_value(difference: float, permuted: Numbers) -> float:
    """Two-sided: (1 + #{|d_b| ≥ |d|}) / (1 + B), never 0 (Phipson and Smyth, 2010).

    `permuted` (B,) are the differences under random exchanges; one that is not defined counts against the difference.
    """
    # The same difference may come out of sums in another order.
    smaller = np.abs(permuted) < abs(difference) - 1e-9 * abs(difference) - 1e-12
    return (1 + int((~smaller).sum())) / (1 + len(permuted))


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted so that those below α keep the chance of any false finding below α (Holm, 1979)."""
    adjusted = [1.0] * len(p)
    highest = 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = highest
    return adjusted
