"""The records of the leaderboard: one JSON file a result, under records/<dataset>/<suite>/<model>.json."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

from stressbench import record as records
from stressbench import registry
from stressbench.contracts import Metrics, Suite
from stressbench.errors import UserError
from stressbench.record import Record
from stressbench.spec import slug
from stressbench.store import replace as put
from stressbench.store import writing

_TOLERANCE = 1e-6  # relative, between an aggregate as written and as recomputed


def add(run: Path, root: Path, replace: bool) -> Path:
    """Copy a run's record to its place; returns the file.

    Raises `UserError` for a record of a narrowed run, for one whose aggregates do not follow from its conditions,
    and, unless `replace`, where the same result is there with other numbers.
    """
    record = records.load(run)
    suite = check(record, str(run))
    if not _complete(suite, record):
        raise UserError(
            f"{run} is of a run over {len(record.conditions)} conditions and the {record.suite.name} suite has "
            f"{len(suite.conditions())}: the leaderboard takes whole runs"
        )
    folder = root / "records" / slug(dataset_label(record)) / slug(record.suite.name)
    path = folder / f"{slug(record.model.spec)}.json"
    if path.exists() and _what(records.load(path)) != _what(record):
        digest = hashlib.sha256(json.dumps(_what(record), sort_keys=True).encode()).hexdigest()
        path = path.with_name(f"{path.stem}-{digest[:8]}.json")
    if path.exists() and not replace:
        there = records.load(path)
        if there.conditions != record.conditions or there.metrics != record.metrics:
            raise UserError(
                f"{path} has other numbers for the same run: look why, or put this in its place with --replace"
            )
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        put(path, record.to_json().encode())
    return path


def load_all(root: Path) -> list[tuple[Path, Record]]:
    """Every record of the leaderboard with its path from `root`, checked, in the order of the paths."""
    found = []
    for path in sorted((root / "records").rglob("*.json")):
        record = records.load(path)
        check(record, str(path))
        found.append((path.relative_to(root), record))
    return found


def dataset_label(record: Record) -> str:
    """The dataset's name; a copy whose pixels are not the published ones never goes by the plain name."""
    return f"{record.dataset.name}-altered" if record.dataset.altered else record.dataset.name


def check(record: Record, where: str) -> Suite:
    """The record's suite, after recomputing the record's metrics, curves and findings from its conditions.

    Raises `UserError` that starts with `where`, for an unknown suite or version and for the first metric that differs.
    """
    suite = registry.suite(record.suite.name)
    if suite.version != record.suite.version:
        raise UserError(
            f"{where} is of version {record.suite.version} of the {suite.name} suite and version {suite.version} is "
            "installed: run it again"
        )
    conditions = [row.condition for row in record.conditions]
    try:
        rows = [row.metrics for row in record.conditions]
        again = suite.aggregate(conditions, rows, record.suite.baseline)
        findings = suite.findings(conditions, rows)
        sizes = next(iter(record.curves.values()), {})
        curves = {size: suite.aggregate(conditions, _at(record, size), record.suite.baseline) for size in sizes}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where}: its conditions are not those of the {suite.name} suite: run it again") from error
    _compare(again, record.metrics, f"{where}: metrics", suite)
    for size, metrics in curves.items():
        _compare(metrics, {name: curve.get(size) for name, curve in record.curves.items()}, f"{where}: curves", suite)
    if findings != record.findings:
        raise UserError(f"{where}: findings are not what its conditions give: do not edit records")
    return suite


def _at(record: Record, size: str) -> list[Metrics]:
    return [{name: curve.get(size) for name, curve in row.curves.items()} for row in record.conditions]


def _compare(again: Metrics, given: Metrics, where: str, suite: Suite) -> None:
    for name in sorted(again.keys() | given.keys()):
        if name not in again or name not in given:
            raise UserError(f"{where}.{name} is not what the {suite.name} suite has: do not edit records")
        ours, theirs = again[name], given[name]
        if (ours is None) != (theirs is None) or (
            ours is not None and theirs is not None and not math.isclose(ours, theirs, rel_tol=_TOLERANCE, abs_tol=1e-9)
        ):
            raise UserError(f"{where}.{name} is {theirs}, and its conditions give {ours}: do not edit records")


def _complete(suite: Suite, record: Record) -> bool:
    have = [row.condition for row in record.conditions]
    return all(dict(condition) in have for condition in suite.conditions())


def _what(record: Record) -> dict[str, object]:
    """What was run: two records that agree in this are one result."""
    return {
        "dataset": record.dataset.model_dump(mode="json"),
        "model": [record.model.spec, record.model.distribution, record.model.weights_checksum],
        "draws": record.draws,
        "seed": record.seed,
        "precision": record.precision,
    }
