"""Resampling of images: the sampling error of any metric of any suite.

The unit is the image: its rows are selected in the tables of all conditions at once, and the suite scores the selected
rows as it scored the run. Dependence between conditions and between models on the same image is thus preserved.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stressbench.contracts import Metric

Numbers = NDArray[np.float64]
Tables = Sequence[pd.DataFrame]

LEVEL = 0.95  # of all intervals

_GROUPS = 20
ROUNDING = 1e-12  # by how much sums of the same numbers in another order differ


class AlignedTables:
    """Tables of equal length, from which the same rows can be selected."""

    def __init__(self, tables: Tables) -> None:
        # Those with the same columns are one below the other: pandas takes as long for all of them as for a few.
        self._places: dict[str, list[int]] = {}
        for place, table in enumerate(tables):
            self._places.setdefault(str(table.dtypes.to_dict()), []).append(place)
        self._joined = [pd.concat([tables[place] for place in places]) for places in self._places.values()]
        self._count, self._n = len(tables), len(tables[0])

    def take(self, rows: NDArray[np.int64]) -> list[pd.DataFrame]:
        """The given rows of each table, numbered from 0 again."""
        found: dict[int, pd.DataFrame] = {}
        for places, joined in zip(self._places.values(), self._joined, strict=True):
            starts = self._n * np.arange(len(places))[:, None]
            taken = joined.take((starts + rows).ravel())
            first = (starts + np.arange(len(rows))).ravel()
            taken.index = joined.index[first]
            taken["index"] = joined["index"].to_numpy()[first]
            for number, place in enumerate(places):
                found[place] = taken.iloc[number * len(rows) : (number + 1) * len(rows)]
        return [found[place] for place in range(self._count)]


def leave_out(tables: Tables) -> Iterator[Tables]:
    """Tables of N images without each of G groups of the images in turn, for the jackknife.

    G is 20, or N if that is less. Images are assigned to groups at random with a fixed seed, so the groups are the same
    for two models on the same images. A single image has no groups.
    """
    # Tables of other images have rows of their own, which are dealt into as many groups.
    count = min(groups(len(table)) for table in tables)
    alike: dict[int, list[int]] = {}
    for place, table in enumerate(tables):
        alike.setdefault(len(table), []).append(place)
    together = {n: AlignedTables([tables[place] for place in places]) for n, places in alike.items()}
    group = {n: np.random.default_rng(0).permutation(n) % max(count, 1) for n in alike}
    for g in range(count):
        found: dict[int, pd.DataFrame] = {}
        for n, places in alike.items():
            found |= zip(places, together[n].take(np.flatnonzero(group[n] != g)), strict=True)
        yield [found[place] for place in range(len(tables))]


def groups(n: int) -> int:
    """The number of groups that `leave_out` makes of n images."""
    return min(_GROUPS, n) if n > 1 else 0


def half_width(without: Numbers) -> float | None:
    """Half the width of a metric's 95 % interval, from its values without each of G ≥ 2 groups of images, (G,).

    The delete-a-group jackknife (Kott, 2001, "The delete-a-group jackknife", Journal of Official Statistics 17):
    t · √((G−1)/G Σ_g (θ_g − θ̄)²) with Student's 97.5 % quantile t at G − 1 degrees of freedom. It needs 20 scorings,
    a bootstrap about a thousand. For differences θ_g between two models it gives the paired interval.

    None if all θ_g are equal: no error among a few images does not mean an error rate of 0.
    """
    from scipy.special import stdtrit

    error = standard_error(without)
    return float(stdtrit(len(without) - 1, (1 + LEVEL) / 2)) * error if error else None


def standard_error(without: Numbers) -> float:
    """√((G−1)/G Σ_g (θ_g − θ̄)²), the standard error in `half_width`; 0 if all θ_g are equal."""
    if np.ptp(without) <= ROUNDING * max(1.0, float(np.abs(without).max())):
        return 0.0
    return math.sqrt((len(without) - 1) * np.var(without))


def interval(value: float, without: Numbers, within: tuple[float, float]) -> tuple[float, float] | None:
    """A metric's 95 % interval, cut off at the ends of its range; None if `half_width` is None."""
    half = half_width(without)
    if half is None:
        return None
    # A value may stray over an end by a rounding error.
    return min(value, max(value - half, within[0])), max(value, min(value + half, within[1]))


def metric_interval(metric: Metric, value: float, without: Numbers, n: int) -> tuple[float, float] | None:
    """The 95 % interval of a metric of n images by the metric's method, from its values without each group, (G,).

    None for a metric without intervals, for a single image, if the metric is undefined without one of the groups, and
    if all groups give the same value.
    """
    if metric.interval is None or len(without) < 2 or not np.isfinite([value, *without]).all():
        return None
    found = interval(value, without, metric.range)
    if found is None and metric.interval == "proportion" and min(abs(value), abs(1 - value)) <= ROUNDING:
        return wilson(round(value), n)
    return found


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of n images (Wilson, 1927), which 0 and 1 have too: 0 of 200 is [0, 1.9 %].

    (p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n), z being the normal distribution's 97.5 % quantile. It is
    valid too for the mean of values in [0, 1] that are all 0: the share of images with another value is at least as
    large as the mean. The same goes for values that are all 1.
    """
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)
