"""The tables of a run: one Parquet file for each condition, read completely or not at all.

A file holds a table for each number of draws, one below the other; the column `draws` says which. A table has a row for
each image; a column holds a number for each image, or a list of equal length.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stressbench.errors import UserError
from stressbench.spec import slug

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow

    from stressbench.contracts import Condition

META = b"stressbench"
DRAWS = "draws"
RESERVED = frozenset({DRAWS, "index", "label"})  # columns that suites do not fill

RANGES = "ranges"  # the folder of the tables of ranges of images

Images = tuple[int, int]  # the first one of a range, and the one after its last
Columns = Mapping[str, NDArray[np.generic]]  # (N,) or (N, K) each


def encode(tables: Mapping[int, Columns]) -> pyarrow.Table:
    """Encode the tables of one condition, by number of draws, as a file; all have the same columns."""
    import pyarrow

    def array(values: NDArray[np.generic]) -> pyarrow.Array:
        if values.ndim == 1:
            return pyarrow.array(values)
        return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.ravel()), values.shape[1])

    first = next(iter(tables.values()))
    draws = np.concatenate([np.full(len(next(iter(table.values()))), size) for size, table in tables.items()])
    columns = {name: array(np.concatenate([table[name] for table in tables.values()])) for name in first}
    return pyarrow.table({DRAWS: pyarrow.array(draws), **columns})


def types(table: pyarrow.Table) -> list[str]:
    """The type of each column's numbers, in words."""
    return [str(getattr(column.type, "value_type", column.type)) for column in table.schema]


def columns(table: pd.DataFrame) -> Columns:
    """The columns that a table was encoded from."""
    return {
        str(name): np.stack(values.to_list()) if values.dtype == object else values.to_numpy()
        for name, values in table.items()
    }


class Tables:
    """The tables in a run's folder. Tables that were written for another run are not used."""

    def __init__(self, folder: Path, identity: str) -> None:
        """`identity` is the content of run.json, without the newline."""
        self.folder = folder
        self.tables = folder / "tables"
        self._digest = digest(identity)

    def path(self, condition: Condition, images: Images | None = None) -> Path:
        """The path of a condition's tables; its name consists of the condition's keys and values.

        Those of a range of its images have a folder of their own.
        """
        text = "-".join(f"{key}={value}" for key, value in condition.items())
        # Where a key or a value has the signs that join them, two conditions could have one such text.
        clear = text.count("-") == len(condition) - 1 and text.count("=") == len(condition)
        name = slug(text if clear else json.dumps(dict(condition)))
        if images is None:
            return self.tables / f"{name}.parquet"
        return self.folder / RANGES / name / f"{images[0]}-{images[1]}.parquet"

    def read(
        self, condition: Condition, rows: int, images: Images | None = None
    ) -> tuple[dict[int, pd.DataFrame], float] | None:
        """A condition's finished tables by number of draws and the seconds they took; None if there are none yet.

        Those of a range of its images, where one is given. Raises `Damaged` for a file that does not hold complete
        tables of this run and condition with `rows` rows each.
        """
        import pyarrow
        import pyarrow.parquet as pq

        path = self.path(condition, images)
        if not path.exists():
            return None
        try:
            table = pq.read_table(path, partitioning=None, page_checksum_verification=True)
            meta = json.loads(table.schema.metadata[META])
            whose, seconds = (meta["run"], meta["condition"], meta.get("images")), float(meta["seconds"])
            # Pages have checksums, their names and types have none.
            same_columns = table.column_names == meta["columns"] and types(table) == meta.get("types", types(table))
            sizes, counts = np.unique(table[DRAWS].to_numpy().astype(np.int64), return_counts=True)
            frame = table.drop_columns([DRAWS]).to_pandas()
        except (OSError, ValueError, KeyError, TypeError, pyarrow.ArrowException) as error:
            raise Damaged(path, "it does not read") from error
        if whose != (self._digest, dict(condition), images and list(images)):
            raise Damaged(path, "it belongs to another run")
        if not same_columns:
            raise Damaged(path, "its columns are not those that were written")
        if len(sizes) == 0 or any(count != rows for count in counts):
            raise Damaged(path, f"it has {len(frame)} of {rows * max(len(sizes), 1)} rows")
        found = {
            int(size): frame.iloc[i * rows : (i + 1) * rows].reset_index(drop=True) for i, size in enumerate(sizes)
        }
        return found, seconds

    def ranges(self, condition: Condition) -> list[Images]:
        """The ranges of a condition's images that have tables, in order."""
        folder = self.path(condition, (0, 0)).parent
        names = [re.fullmatch(r"([0-9]{1,15})-([0-9]{1,15})\.parquet", path.name) for path in folder.glob("*")]
        return sorted((int(name[1]), int(name[2])) for name in names if name)

    def whole(self, rows: Iterable[tuple[Condition, int]]) -> tuple[dict[int, list[pd.DataFrame]], float]:
        """The tables of conditions with their numbers of rows, all there, by number of draws, and all their seconds."""
        found = [self.read(condition, count) for condition, count in rows]
        there = [one for one in found if one is not None]
        assert len(there) == len(found), "written or found whole a moment ago, and the folder is locked"
        by_size = {size: [tables[size] for tables, _ in there] for size in there[0][0]}
        return by_size, sum(seconds for _, seconds in there)


def finished(folder: Path) -> Tables:
    """The tables of a run folder; raises `UserError` for any other folder."""
    try:
        text = (folder / "run.json").read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder} has no run.json that can be read, so it is not a run: give a folder that `bench run` wrote"
        ) from error
    return Tables(folder, text.removesuffix("\n"))


class Damaged(Exception):
    """A table that cannot be used; a run reports it and computes it again."""

    def __init__(self, path: Path, why: str) -> None:
        self.what = f"{path} is damaged ({why})"
        super().__init__(f"{self.what}: computing it again")


def digest(identity: str) -> str:
    return hashlib.sha256(identity.encode()).hexdigest()
