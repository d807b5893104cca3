"""Numbers again from other choices of the images: what chance there is in a result.

The unit is the image. Its rows are taken or left in the tables of all conditions at once, and the suite then scores
these as it scored the run. So it works for every metric of every suite, and what one image has in common with itself
(under other stress, in another model) stays together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Tables = Sequence[pd.DataFrame]

LEVEL = 0.95  # of all intervals

_GROUPS = 20
_ROUNDING = 1e-12  # by how much sums of the same numbers in another order differ


class Together:
    """Tables of equally many rows, of which the same rows can be taken at once."""

    def __init__(self, tables: Tables) -> None:
        # Those with the same columns are one below the other: pandas takes as long for all of them as for a few.
        self._places: dict[str, list[int]] = {}
        for place, table in enumerate(tables):
            self._places.setdefault(str(table.dtypes.to_dict()), []).append(place)
        self._joined = [pd.concat([tables[place] for place in places]) for places in self._places.values()]
        self._count, self._n = len(tables), len(tables[0])

    def take(self, rows: NDArray[np.int64]) -> list[pd.DataFrame]:
        """Those rows of each table: they are numbered as the first so many were, so that none is there twice."""
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


def jackknife(score: Callable[[Tables], Numbers], tables: Tables) -> Numbers:
    """The numbers (M,) that `score` makes of tables of N images, without each of G groups of the images: (G, M).

    G is 20, or N where that is less. The images are dealt into the groups by chance, always the same one, so that the
    numbers of two models on the same images are without the same ones. One image has no groups: (0, M).
    """
    n = len(tables[0])
    count = groups(n)
    group = np.random.default_rng(0).permutation(n) % max(count, 1)
    together = Together(tables)
    without = [score(together.take(np.flatnonzero(group != g))) for g in range(count)]
    return np.stack(without) if without else np.empty((0, *score(tables).shape))


def groups(n: int) -> int:
    """How many groups `jackknife` makes of n images."""
    return min(_GROUPS, n) if n > 1 else 0


def half_width(without: Numbers) -> float:
    """Half the width of a number's 95 % interval, from what it is without each of G ≥ 2 groups of images: (G,).

    The delete-a-group jackknife (Kott, 2001, "The delete-a-group jackknife", Journal of Official Statistics 17):
    t · √((G−1)/G Σ_g (θ_g − θ̄)²), t being Student's 97.5 % quantile with G − 1 degrees of freedom. It needs 20
    scorings, where a bootstrap needs a thousand. Of differences θ_g between two models it is the paired interval's.
    """
    from scipy.special import stdtrit

    count = len(without)
    return float(stdtrit(count - 1, (1 + LEVEL) / 2) * math.sqrt((count - 1) * np.var(without)))


def interval(value: float, without: Numbers, within: tuple[float, float]) -> tuple[float, float] | None:
    """A number's 95 % interval, cut off where the number's range ends.

    None where it is the same without any group: no error among a few images does not mean that there is none to come.
    """
    if np.ptp(without) <= _ROUNDING * max(1.0, abs(value)):
        return None
    half = half_width(without)
    # A value may stray over an end by a rounding error.
    return min(value, max(value - half, within[0])), max(value, min(value + half, within[1]))
