"""The records of the leaderboard: one JSON file a result, under records/<dataset>/<suite>/<model>.json."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stressbench import record as records
from stressbench.errors import UserError
from stressbench.leaderboard import check
from stressbench.leaderboard.check import Fault
from stressbench.leaderboard.places import RECORDS, places, result
from stressbench.record import Record
from stressbench.store import replace as put
from stressbench.store import writing


def add(run: Path, root: Path, replace: bool) -> Path:
    """Copy a run's record to its place; returns the file.

    Raises `UserError` for a record with faults, and, unless `replace`, where the same result is there with other
    numbers.
    """
    record = records.load(run)
    board = {where: other for where, other in readable(root).items() if result(other) != result(record)}
    require_faultless(run, check.faults(record, list(board.values())))
    path, other = (root / place for place in places(record))
    if path.exists() and result(records.load(path)) != result(record):
        path = other
    if path.exists() and not replace:
        there = records.load(path)
        if there.conditions != record.conditions or there.metrics != record.metrics:
            raise UserError(
                f"{path} has other numbers for the same run: look why, or put this in its place with --replace"
            )
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, record.to_json().encode())
    return path


def load_all(root: Path) -> dict[Path, Record]:
    """Every record of the leaderboard by its path from `root`, in the order of the paths.

    Raises `UserError` for the first file that has a fault.
    """
    found = readable(root)
    for path in _files(root):
        require_faultless(root / path, check.file(root / path, root, found))
    return found


def readable(root: Path) -> dict[Path, Record]:
    """Those files of the leaderboard that are records, with or without faults, by their path from `root`."""
    found = {}
    for path in _files(root):
        if (root / path).is_file() and not (root / path).is_symlink():
            try:
                found[path] = records.load(root / path)
            except UserError:
                continue  # it is told of where this file itself is checked
    return found


def require_faultless(path: Path, faults: Sequence[Fault]) -> None:
    """Raises `UserError` with the first fault, where there is one."""
    if faults:
        more = f" (and {len(faults) - 1} more: `bench leaderboard check` lists them)" if len(faults) > 1 else ""
        raise UserError(f"{path}: {faults[0]}{more}; records are made by runs and not edited")


def _files(root: Path) -> list[Path]:
    return sorted(path.relative_to(root) for path in (root / RECORDS).rglob("*.json"))
