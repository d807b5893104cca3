"""Run folders that are there: what each holds, and how to remove one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from stressbench import record, registry
from stressbench._util import files
from stressbench._util.locks import hold
from stressbench.errors import UserError
from stressbench.execution.store import FILES
from stressbench.record import Record
from stressbench.results import show, tables

_MOST_TEXT = 16 * 2**20  # bytes of a run.json

State = Literal["complete", "part", "partial", "damaged"]


@dataclass(frozen=True)
class RunFolder:
    """A run folder and how far its run is."""

    path: Path
    state: State
    """`part` is what `bench run --shard` finished; `partial` what the same `bench run` would resume."""
    date: datetime
    """When the record was made; of others, when something in the folder last changed."""
    about: str
    """The model, the images and the first metrics; without a record how many conditions are there, or what is wrong."""
    record: Record | None = None

    def fields(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        own: dict[str, Any] = {"folder": str(self.path), "state": self.state, "date": self.date.isoformat()}
        if self.record is None:
            return {**own, "about": self.about}
        one = self.record
        return {
            **own,
            "model": one.model.spec,
            "label": one.model.label,
            "suite": one.suite.name,
            "dataset": record.dataset_label(one),
            "n": one.dataset.n,
            "draws": one.draws,
            "metrics": one.metrics,
        }


def listed(folder: Path) -> list[RunFolder]:
    """The runs in a folder, or the folder itself if it is one, by date.

    Raises `UserError` for a folder that does not exist.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: name the one that `bench run --out` wrote to")
    found = [folder] if (folder / "run.json").is_file() else [one.parent for one in folder.glob("*/run.json")]
    return sorted(map(_read, found), key=lambda one: (one.date, one.path))


def _read(path: Path) -> RunFolder:
    changed = datetime.fromtimestamp(max(one.stat().st_mtime for one in (path, path / "run.json")), UTC)
    try:
        if (path / "record.json").is_file():
            found = record.load(path)
            about = (
                f"{found.model.label} on {record.dataset_label(found)}, {found.dataset.n:,} images: {_headline(found)}"
            )
            return RunFolder(path, "complete", found.created, about, found)
        there, total = _progress(path)
    except UserError as error:
        return RunFolder(path, "damaged", changed, str(error))
    state: State = "part" if (path / "part.json").is_file() else "partial"
    return RunFolder(path, state, changed, f"{there} of {total} conditions")


def _headline(found: Record) -> str:
    try:
        suite = registry.suite(found.suite.offer, task=found.dataset.task)
    except UserError as error:
        return str(error)
    return show.headline(suite, found)


def _progress(path: Path) -> tuple[int, int]:
    """How many conditions have a table, and how many there are; raises `UserError` for a damaged run.json."""
    there = tables.finished(path)
    try:
        identity: Mapping[str, Any] = json.loads(files.text(path / "run.json", _MOST_TEXT))
        conditions = identity["suite"]["conditions"]
        return sum(there.path(condition).is_file() for condition in conditions), len(conditions)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path / 'run.json'} is damaged: the same `bench run` makes it again") from error


def require_runs(paths: Sequence[Path]) -> list[Path]:
    """The run folders at these paths, each once.

    Raises `UserError` for a path that is not one, is a link, or holds what no run wrote.
    """
    found: dict[Path, None] = {}
    for path in paths:
        kept = "and nothing was deleted"
        if path.is_symlink() or not (path / "run.json").is_file():
            raise UserError(f"{path} is not a run folder, {kept}: name folders that `bench run` wrote")
        _progress(path)
        others = sorted(one.name for one in path.iterdir() if one.name not in FILES and one.suffix != ".partial")
        if others:
            raise UserError(f"{path} also holds {', '.join(others[:3])}, {kept}: move what is yours away first")
        found[path.resolve()] = None
    return list(found)


def size(path: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(one.lstat().st_size for one in path.rglob("*") if not one.is_dir())


def remove(paths: Sequence[Path]) -> Iterator[Path]:
    """Delete run folders, each as it is iterated.

    Raises `UserError` where a process is at work in one, and where it cannot be deleted.
    """
    for path in paths:
        try:
            with hold(path / "run.lock", f"at work in {path}", "delete the folder", timeout=0):
                pass
            shutil.rmtree(path)
        except OSError as error:
            raise UserError(f"{path} cannot be deleted: {error.strerror or error}") from error
        yield path
