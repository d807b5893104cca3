"""The sampling error of a mean over trainings of one model, each measured on the same images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import variance

from stressbench.results.resampling import LEVEL, ROUNDING


def half_width(values: Sequence[float], error: float, freedom: float) -> float | None:
    """Half the width of the 95 % interval of the mean of K values, one of each training, over images and trainings.

    A random-effects sum: t · √(e² + s²/K). e is the standard error of the mean over images, as `error`, with `freedom`
    degrees of freedom: the trainings stay the same in it. s² is the sample variance of the values, which share their
    images, so that it is the trainings' and not the images'. What an image means to one training alone is in both
    terms: the interval is rather too wide than too narrow. Student's t has
    (e² + s²/K)² / (e⁴/freedom + (s²/K)²/(K − 1)) degrees of freedom (Satterthwaite, 1946). For values that are
    differences of two models on the same images, training by training, the interval is paired.

    Of a single training, it is that over images alone: t · e. None if nothing varies.

    >>> round(half_width([0.1, 0.2, 0.3], error=0.05, freedom=19), 4)
    0.1886
    """
    from scipy.special import stdtrit

    parts = [(error**2, freedom)]
    if len(values) > 1 and max(values) - min(values) > ROUNDING * max(1.0, *map(abs, values)):
        parts.append((variance(values) / len(values), len(values) - 1))
    total = math.fsum(part for part, _ in parts)
    if not total:
        return None
    shares = math.fsum((part / total) ** 2 / degrees for part, degrees in parts)
    # As many as make no difference: scipy has no t distribution of infinitely many.
    return float(stdtrit(min(1 / shares, 1e9) if shares else 1e9, (1 + LEVEL) / 2)) * math.sqrt(total)
