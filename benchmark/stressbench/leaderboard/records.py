"""The records of the leaderboard: one JSON file a result, under records/<dataset>/<suite>/<model>.json."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from stressbench import record as records
from stressbench._util.files import replace as put
from stressbench._util.files import writing
from stressbench.errors import UserError
from stressbench.leaderboard import check, facts
from stressbench.leaderboard.numbers import Fault
from stressbench.leaderboard.paths import RECORDS, paths, result
from stressbench.record import Record


def add(run: Path, root: Path, replace: bool, sources: Sequence[Path] = ()) -> Path:
    """Copy a run's record to its place; returns the file.

    `sources` are the file of a `file:` model, and then those that it imports from beside it: they go into the folder of
    the record's name. Raises `UserError` for an invalid record, for a model whose file is missing, and, unless
    `replace`, if the same result exists with other numbers.
    """
    record = records.load(run)
    board = {where: other for where, other in readable(root).items() if result(other) != result(record)}
    require_faultless(run, check.faults(record, list(board.values()), facts.known(root)))
    path, other = (root / place for place in paths(record))
    if path.exists() and result(records.load(path)) != result(record):
        path = other
    if path.exists() and not replace:
        there = records.load(path)
        if there.conditions != record.conditions or there.metrics != record.metrics:
            raise UserError(
                f"{path} has other numbers for the same run: look why, or put this in its place with --replace"
            )
    _add_sources(sources, path.with_suffix(""))
    if faults := check.source(record, path):
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)
        raise UserError(f"{run}: {faults[0]}; pass the file, and what it imports, with --source")
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, record.to_json().encode())
    return path


def _add_sources(sources: Sequence[Path], folder: Path) -> None:
    for source in sources:
        beside = source.resolve()
        top = sources[0].resolve().parent
        if not beside.is_relative_to(top):
            raise UserError(f"{source} is not beside {sources[0]}, which imports it")
        target = folder / beside.relative_to(top)
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            put(target, source.read_bytes())


def load_all(root: Path) -> dict[Path, Record]:
    """Every record of the leaderboard by its path relative to `root`, in the order of the paths.

    Raises `UserError` for the first invalid file.
    """
    found = readable(root)
    for path in _files(root):
        require_faultless(root / path, check.file(root / path, root, found))
    return found


def readable(root: Path) -> dict[Path, Record]:
    """All files of the leaderboard that can be read as records, valid or not, by their path relative to `root`."""
    found = {}
    for path in _files(root):
        if (root / path).is_file() and not (root / path).is_symlink():
            try:
                found[path] = records.load(root / path)
            except UserError:
                continue  # it is reported where this file itself is checked
    return found


def require_faultless(path: Path, faults: Sequence[Fault]) -> None:
    """Raises `UserError` with the first fault, if there is one."""
    if faults:
        more = f" (and {len(faults) - 1} more: `bench leaderboard check` lists them)" if len(faults) > 1 else ""
        raise UserError(f"{path}: {faults[0]}{more}; records are made by runs and not edited")


def _files(root: Path) -> list[Path]:
    return sorted(path.relative_to(root) for path in (root / RECORDS).rglob("*.json"))
