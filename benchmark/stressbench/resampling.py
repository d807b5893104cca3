"""Numbers again from other choices of the images: what chance there is in a result.

The unit is the image. Its rows are taken or left in the tables of all conditions at once, and the suite then scores
these as it scored the run. So it works for every metric of every suite, and what one image has in common with itself
(under other stress, in another model) stays together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Numbers = NDArray[np.float64]
Tables = Sequence["pd.DataFrame"]

LEVEL = 0.95  # of all intervals

_GROUPS = 20


def take(table: pd.DataFrame, rows: NDArray[np.int64]) -> pd.DataFrame:
    """Those rows as a table of its own: they are numbered as the first so many were, so that none is there twice."""
    taken = table.take(rows)
    taken.index = table.index[: len(rows)]
    taken["index"] = table["index"].to_numpy()[: len(rows)]
    return taken


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
    without = np.stack([score([take(table, np.flatnonzero(group != g)) for table in tables]) for g in range(groups)])
    variance = (groups - 1) * without.var(axis=0)
    return np.asarray(stdtrit(groups - 1, (1 + LEVEL) / 2) * np.sqrt(variance))
