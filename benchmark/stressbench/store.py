"""The run folder: one Parquet table a condition, each written whole or not at all, and the record.

<out>/<run>/run.json                  what was run; it decides the folder's name
<out>/<run>/tables/<condition>.parquet
<out>/<run>/record.json
<out>/<run>/run.lock              held while a process is at work here
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from stressbench.errors import UserError
from stressbench.spec import slug

if TYPE_CHECKING:
    import pandas as pd

    from stressbench.contracts import Condition

_META = b"stressbench"


class Tables:
    """The tables in a run's folder; one that was written for another run is not taken for one of these."""

    def __init__(self, folder: Path, identity: str) -> None:
        """`identity` is what run.json says, without the line's end."""
        self.folder = folder
        self.tables = folder / "tables"
        self._digest = _digest(identity)

    def path(self, condition: Condition) -> Path:
        """Where a condition's table is, or will be."""
        return self.tables / (slug("-".join(str(value) for value in condition.values())) + ".parquet")

    def read(self, condition: Condition, rows: int) -> tuple[pd.DataFrame, float] | None:
        """A finished table and the seconds it took, or None where there is none yet.

        Raises `Damaged` for a file that is not the whole table of this run and condition.
        """
        import pyarrow
        import pyarrow.parquet as pq

        path = self.path(condition)
        if not path.exists():
            return None
        try:
            table = pq.read_table(path, partitioning=None, page_checksum_verification=True)
            meta = json.loads(table.schema.metadata[_META])
            whose, seconds = (meta["run"], meta["condition"]), float(meta["seconds"])
            frame = table.to_pandas()
        except (OSError, ValueError, KeyError, TypeError, pyarrow.ArrowException) as error:
            raise Damaged(path, "it does not read") from error
        if whose != (self._digest, dict(condition)):
            raise Damaged(path, "it belongs to another run")
        if len(frame) != rows:
            raise Damaged(path, f"it has {len(frame)} of {rows} rows")
        return frame, seconds


def finished(folder: Path) -> Tables:
    """The tables of a folder in which a run was made; raises `UserError` for a folder that is none."""
    try:
        text = (folder / "run.json").read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder} has no run.json that can be read, so it is no run's folder: give a folder that `bench run` wrote"
        ) from error
    return Tables(folder, text.removesuffix("\n"))


class Store(Tables):
    """One run's folder, to write to.

    `identity` holds everything that decides the tables' numbers; runs that share it share the folder.
    """

    def __init__(self, out: Path, title: str, identity: Mapping[str, Any]) -> None:
        text = json.dumps(identity, sort_keys=True, indent=2, ensure_ascii=False)
        super().__init__(out / f"{slug(title)}-{_digest(text)[:8]}", text)
        self._text = text + "\n"

    def open(self, fresh: bool) -> FileLock:
        """Make the folder, without old tables if `fresh`, and hold it until the returned lock is released.

        Raises `UserError` where it cannot be written, or where another process is at work in it.
        """
        with writing(self.folder):
            self.tables.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / "run.lock", timeout=0)
            try:
                lock.acquire()
            except Timeout as error:
                raise UserError(f"another process is at work in {self.folder}: wait for it, or end it") from error
            if fresh:
                (self.folder / "record.json").unlink(missing_ok=True)
                for table in self.tables.iterdir():
                    table.unlink()
            for left in self.folder.rglob("*.partial"):  # of a run that was killed while it wrote
                left.unlink()
            replace(self.folder / "run.json", self._text.encode())
        return lock

    def write(self, condition: Condition, columns: Mapping[str, Any], seconds: float) -> None:
        """Commit a condition's table: columns of equal length, NumPy arrays, one row an image."""
        import pyarrow
        import pyarrow.parquet as pq

        meta = {"run": self._digest, "condition": dict(condition), "seconds": seconds}
        table = pyarrow.table(dict(columns)).replace_schema_metadata({_META: json.dumps(meta)})
        buffer = pyarrow.BufferOutputStream()
        pq.write_table(table, buffer, write_page_checksum=True)
        with writing(self.folder):
            replace(self.path(condition), buffer.getvalue().to_pybytes())

    def write_record(self, text: str) -> Path:
        """Commit the record; returns its path."""
        path = self.folder / "record.json"
        with writing(self.folder):
            replace(path, text.encode())
        return path


class Damaged(Exception):
    """A table that cannot be used; a run names it to the person and computes it again."""

    def __init__(self, path: Path, why: str) -> None:
        self.what = f"{path} is damaged ({why})"
        super().__init__(f"{self.what}: computing it again")


def _digest(identity: str) -> str:
    return hashlib.sha256(identity.encode()).hexdigest()


def replace(path: Path, content: bytes) -> None:
    """Put a file in place in one step, so that no reader, and no kill or full disk, ever leaves a half."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """What the file system refuses is the user's to mend: say it in a line."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "free some space, then give the same command again" if full else "choose another folder with --out"
        raise UserError(f"cannot write to {folder}: {error.strerror or error}. To go on, {advice}") from error
