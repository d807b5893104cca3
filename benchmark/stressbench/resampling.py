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


def half_widths(score: Callable[[Tables], Numbers], tables: Tables) -> Numbers:
    """Half the width of a 95 % interval around each of the numbers (M,) that `score` makes of tables of N images.

    The delete-a-group jackknife (Kott, 2001, "The delete-a-group jackknife", Journal of Official Statistics 17):
    the images are dealt into G = 20 groups by chance, always the same one; θ_g is a number without group g, and
    t · √((G−1)/G Σ_g (θ_g − θ̄)²), t being Student's 97.5 % quantile with G − 1 degrees of freedom, the half-width.
    It needs 20 scorings, where a bootstrap needs a thousand. NaN where a θ_g is not defined; of a single image, all.
    """
    from scipy.special import stdtrit

    n = len(tables[0])
    groups = min(_GROUPS, n)
    if groups < 2:
        return np.full_like(score(tables), math.nan)
    group = np.random.default_rng(0).permutation(n) % groups
    together = Together(tables)
    without = np.stack([score(together.take(np.flatnonzero(group != g))) for g in range(groups)])
    variance = (groups - 1) * without.var(axis=0)
    return np.asarray(stdtrit(groups - 1, (1 + LEVEL) / 2) * np.sqrt(variance))
