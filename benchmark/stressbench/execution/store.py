"""The run folder: one Parquet table a condition, each written whole or not at all, and the record.

<out>/<run>/run.json                  what was run; it decides the folder's name
<out>/<run>/tables/<condition>.parquet
<out>/<run>/ranges/<condition>/<first>-<last + 1>.parquet   of some images, until the condition's table is there
<out>/<run>/findings.json             what the run noticed about the model on its first images
<out>/<run>/record.json
<out>/<run>/record.sha256             its digest, which tells whether it is as the run wrote it
<out>/<run>/part.json             in place of the record, where the run has a part of the conditions alone
<out>/<run>/run.lock              held while a process is at work here
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stressbench._util.files import replace, writing
from stressbench._util.locks import hold
from stressbench.results.tables import META, RANGES, Columns, Images, Tables, digest, encode, types
from stressbench.spec import slug

if TYPE_CHECKING:
    from stressbench.contracts import Condition


_FINDINGS = "findings.json"
_PART = "part.json"
_DIGEST = "record.sha256"
FILES = frozenset({"run.json", "tables", RANGES, "record.json", "run.lock", _FINDINGS, _PART, _DIGEST})
"""What a run folder holds."""


class Store(Tables):
    """One run's folder, to write to."""

    def __init__(self, folder: Path, identity: str) -> None:
        super().__init__(folder, identity)
        self._text = identity + "\n"

    @classmethod
    def of(cls, out: Path, title: str, identity: Mapping[str, Any]) -> Store:
        """`identity` holds everything that decides the tables' numbers; runs that share it share the folder."""
        text = json.dumps(identity, sort_keys=True, indent=2, ensure_ascii=False)
        return cls(out / f"{slug(title)}-{digest(text)[:8]}", text)

    def open(self, fresh: bool) -> AbstractContextManager[object]:
        """Make the folder, without old tables if `fresh`, and hold it until the returned lock is released.

        Raises `UserError` where it cannot be written, or where another process is at work in it.
        """
        with writing(self.folder):
            self.tables.mkdir(parents=True, exist_ok=True)
            busy = f"at work in {self.folder}"
            lock = hold(self.folder / "run.lock", busy, "choose a folder with --out")
            if fresh:
                for file in ("record.json", _DIGEST, _FINDINGS, _PART):
                    (self.folder / file).unlink(missing_ok=True)
                for table in self.tables.iterdir():
                    table.unlink()
                shutil.rmtree(self.folder / RANGES, ignore_errors=True)
            for left in self.folder.rglob("*.partial"):  # of a run that was killed while it wrote
                left.unlink()
            replace(self.folder / "run.json", self._text.encode())
        return lock

    def write(
        self, condition: Condition, found: Mapping[int, Columns], seconds: float, images: Images | None = None
    ) -> None:
        """Commit a condition's tables by number of draws, in one file: the same columns in each, a row an image.

        Those of a range of its images, where one is given.
        """
        import pyarrow
        import pyarrow.parquet as pq

        table = encode(found)
        meta = {
            "run": self._digest,
            "condition": dict(condition),
            "seconds": seconds,
            "columns": table.column_names,
            "types": types(table),
            **({} if images is None else {"images": images}),
        }
        table = table.replace_schema_metadata({META: json.dumps(meta)})
        buffer = pyarrow.BufferOutputStream()
        pq.write_table(table, buffer, write_page_checksum=True)
        path = self.path(condition, images)
        with writing(self.folder):
            path.parent.mkdir(parents=True, exist_ok=True)
            replace(path, buffer.getvalue().to_pybytes())

    def drop_ranges(self, condition: Condition) -> None:
        """Delete the tables of ranges of a condition's images."""
        shutil.rmtree(self.path(condition, (0, 0)).parent, ignore_errors=True)
        with suppress(OSError):  # another condition has some
            (self.folder / RANGES).rmdir()

    def take(self, other: Tables, condition: Condition) -> None:
        """Commit a condition's tables as another folder of the same run has them."""
        with writing(self.folder):
            replace(self.path(condition), other.path(condition).read_bytes())

    def read_findings(self) -> str | None:
        """What `write_findings` committed; None where there is nothing that reads as text."""
        try:
            return (self.folder / _FINDINGS).read_text(encoding="utf-8")
        except (OSError, ValueError):
            return None

    def write_findings(self, text: str) -> None:
        """Commit what the run noticed about its model."""
        self._write(_FINDINGS, text)

    def write_part(self, text: str) -> None:
        """Commit what a record without its scores says."""
        self._write(_PART, text)

    def write_record(self, text: str) -> None:
        """Commit the record."""
        self._write("record.json", text)
        self._write(_DIGEST, digest(text) + "\n")

    def record_is_as_written(self) -> bool:
        """Whether the record is the one that `write_record` committed last, and nobody has edited it."""
        try:
            text = (self.folder / "record.json").read_bytes().decode()
            return (self.folder / _DIGEST).read_bytes().decode() == digest(text) + "\n"
        except (OSError, ValueError):
            return False

    def _write(self, name: str, text: str) -> None:
        with writing(self.folder):
            replace(self.folder / name, text.encode())
