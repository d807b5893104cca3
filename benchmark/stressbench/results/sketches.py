"""Sketches of per-image tables: eight numbers a column, by which two runs of the same images compare row by row.

A sketch is a random projection (Johnson and Lindenstrauss, 1984; Alon, Matias and Szegedy, 1996) of a column x of M
numbers: s_k = Σ_i ±x_i / √M with fixed random signs. Of two runs, the mean of (s_k − s'_k)² is an unbiased estimate of
the mean square of x_i − x'_i.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stressbench.results.tables import RESERVED

if TYPE_CHECKING:
    import pandas as pd

SIZE = 8
"""Numbers in a sketch: one byte of random signs for each row."""
MOST_COLUMNS = 64
"""Of a table, the first ones; other columns have no sketch, so that a record stays small."""
_DIGITS = 5  # of each number: rounding them is less than what another device changes


def sketch(table: pd.DataFrame) -> dict[str, str]:
    """A table's sketches by column, each as eight numbers with blanks between them. Unknown values (NaN) count as 0.

    >>> import pandas as pd
    >>> sketch(pd.DataFrame({"index": [0, 1], "nll": [0.5, 2.0]}))
    {'nll': '1.7678 -1.0607 -1.0607 -1.7678 1.7678 1.0607 -1.0607 -1.0607'}
    """
    names = [name for name in table.columns if name not in RESERVED][:MOST_COLUMNS]
    return {name: _projected(column(table, name)) for name in names}


def column(table: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """A column's numbers, (M,): those of (N, K) one after the other, and 0 for NaN."""
    values = table[name].to_numpy()
    if values.dtype == object:
        values = np.concatenate([np.zeros(0), *values])
    return np.nan_to_num(values.astype(np.float64))


def distance(one: str, other: str) -> float:
    """An estimate of the root mean square of the differences between two columns, from their sketches, in their unit.

    It is √(χ²/8) of the true one, with a χ² of eight degrees of freedom: between 0.45 and 1.6 of it in 98 of 100 cases.

    >>> distance("1 1 1 1 1 1 1 1", "1 1 1 1 1 1 1 3")
    0.7071067811865476
    """
    difference = np.array(one.split(), dtype=np.float64) - np.array(other.split(), dtype=np.float64)
    return math.sqrt(float(np.mean(difference**2)))


def _projected(values: NDArray[np.float64]) -> str:
    # A hash's output of any length begins with that of any smaller one, and is the same in every version of NumPy.
    noise = np.frombuffer(hashlib.shake_128(b"stressbench").digest(len(values)), dtype=np.uint8)
    signs = 1.0 - 2.0 * np.unpackbits(noise).reshape(len(values), SIZE)
    projected = values @ signs / math.sqrt(max(len(values), 1))
    return " ".join(f"{number:.{_DIGITS}g}" for number in projected)
