"""What is wrong with a record: everything about it that can be found without its model.

A record is a stranger's text. Its conditions have to be the suite's, its numbers within their ranges, and whatever
follows from others of its fields is made again from these and compared.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
from pydantic import ValidationError

from stressbench import record as records
from stressbench import registry
from stressbench.contracts import Metric, Metrics, Suite
from stressbench.datasets.digits import digits
from stressbench.datasets.fingerprint import fingerprint
from stressbench.datasets.parquet import RESERVED
from stressbench.errors import UserError
from stressbench.leaderboard.places import RECORDS, dataset_label, places, result
from stressbench.leaderboard.words import shown, strange
from stressbench.predict import Precision
from stressbench.record import Record
from stressbench.resampling import groups, interval
from stressbench.runner import describe
from stressbench.spec import parse

_TOLERANCE = 1e-6  # relative, between an aggregate as written and as recomputed
_ROUNDING = 1e-6  # how far a float32 sum may stray out of a metric's bounds
_CLOCKS = timedelta(days=1)  # by how much a contributor's clock may be ahead
# The sets whose pixels come with the harness, so that their fingerprints are known everywhere.
_EMBEDDED = {"digits": digits}


class Fault(NamedTuple):
    """One thing that is wrong, and in which field."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


def file(path: Path, root: Path, board: Mapping[Path, Record], now: datetime | None = None) -> list[Fault]:
    """All that is wrong with a file of the leaderboard in `root`, whose records, this one or not, are `board`.

    Its date is compared with `now` where that is given; the pages are built from the records alone, without a clock.
    """
    inside = _inside(path, root)
    if inside is None or inside.parts[0] != RECORDS:
        return [Fault("", f"is not in {root / RECORDS}: `bench leaderboard add` puts a record in its place")]
    if path.is_symlink() or (path.exists() and not path.is_file()):
        return [Fault("", "is no plain file")]
    try:
        record = records.load(path)
    except UserError as error:
        return _unreadable(error, path)
    found = faults(record, [other for where, other in board.items() if where != inside])
    if inside not in places(record):
        found.append(Fault("", f"belongs in {root / places(record)[0]}"))
    if now is not None and record.created.tzinfo is not None and record.created > now + _CLOCKS:
        found.append(Fault("created", f"is {record.created.isoformat()}, which is still to come"))
    return found


def faults(record: Record, others: Sequence[Record]) -> list[Fault]:
    """All that is wrong with a record, for itself and beside the others of its leaderboard."""
    found = [Fault(*one) for one in strange(record)]
    if found:
        return found  # what follows takes these words to be names
    found = [*_facts(record), *_data(record, others)]
    try:
        suite = standard(record)
    except UserError as error:
        return [*found, Fault("suite", str(error))]
    rows = [*_conditions(suite, record), *_rows(suite, record), *_baseline(suite, record, others)]
    return [*found, *(rows or [*_recomputed(suite, record), *_intervals(suite, record)])]


def standard(record: Record) -> Suite:
    """The suite that a record is of, without the options that only choose conditions or sum them up differently.

    Raises `UserError` for a suite that is not installed or has another version, and for options that it does not have.
    """
    name = f"{record.suite.distribution}/{record.suite.name}"
    suite = registry.suite(name)
    if suite.version != record.suite.version:
        raise UserError(
            f"is version {record.suite.version} of {record.suite.name} and version {suite.version} is installed: run "
            "it again"
        )
    return registry.suite(name, decisive(record, suite))


def decisive(record: Record, suite: Suite) -> dict[str, str]:
    """Those of a record's suite options that decide the tables."""
    return {k: v for k, v in record.suite.options.items() if k not in suite.free_options}


# --- the parts ------------------------------------------------------------------------------------------------


def _inside(path: Path, root: Path) -> Path | None:
    """A path from the leaderboard's folder, None for one that is not in it; its folders' links are followed."""
    whole = path.parent.resolve() / path.name
    return whole.relative_to(root.resolve()) if whole.is_relative_to(root.resolve()) and path.name else None


def _unreadable(error: UserError, path: Path) -> list[Fault]:
    """Why a file is no record: each of its fields that is wrong, where it got so far as to have fields."""
    if isinstance(error.__cause__, ValidationError):
        return [
            Fault(
                ".".join(map(str, one["loc"])),
                one["msg"] if isinstance(one["input"], dict | list) else f"is {shown(one['input'])}: {one['msg']}",
            )
            for one in error.__cause__.errors(include_url=False)
        ]
    return [Fault("", str(error).removeprefix(str(path)).strip())]


def _facts(record: Record) -> Iterator[Fault]:
    """What has to hold between the fields of any record."""
    if record.created.tzinfo is None:
        yield Fault("created", "has no time zone: dates are UTC")
    try:
        written = str(parse(record.model.spec))
    except UserError as error:
        yield Fault("model.spec", str(error))
    else:
        if written != record.model.spec:
            yield Fault("model.spec", f"is {shown(record.model.spec)}, which is written {shown(written)}")
    if record.precision not in get_args(Precision):
        yield Fault("precision", f"is {shown(record.precision)}: it is one of {', '.join(get_args(Precision))}")
    if not record.model.stochastic and record.draws != 1:
        yield Fault("draws", f"is {record.draws}, and a deterministic model has one draw")
    if record.dataset.stress == "generated" and record.dataset.stress_verified is not None:
        yield Fault("dataset.stress_verified", "is for official files, and the stress was generated")
    if record.timing.seconds < 0 or record.timing.images_per_second < 0:
        yield Fault("timing", "is negative")
    for i, row in enumerate(record.conditions):
        if row.n != record.dataset.n:
            yield Fault(f"conditions.{i}.n", f"is {row.n}, and the dataset has {record.dataset.n} images")


def _data(record: Record, others: Sequence[Record]) -> Iterator[Fault]:
    """Whether the images are those that go by this name."""
    data = record.dataset
    if data.split != "test":
        yield Fault("dataset.split", f"is {shown(data.split)}: results are on the test split")
    if re.sub(r"[^a-z0-9]", "", data.name.lower()) in RESERVED and data.name not in RESERVED:
        yield Fault("dataset.name", f"is {shown(data.name)}, which looks like a published set's and is not")
    if data.name in _EMBEDDED:
        images = _EMBEDDED[data.name]("test")
        if data.n > len(images.images):
            yield Fault("dataset.n", f"is {data.n}, and {data.name} has {len(images.images)} test images")
        elif data.altered or data.fingerprint != fingerprint(images, data.n):
            yield Fault("dataset.fingerprint", f"is not that of the first {data.n} test images of {data.name}")
    label = dataset_label(record)
    same = [other for other in others if dataset_label(other) == label and other.dataset.n == data.n]
    foreign = [other for other in same if other.dataset.fingerprint != data.fingerprint]
    if foreign:
        yield Fault(
            "dataset.fingerprint",
            f"is {data.fingerprint}, and {foreign[0].model.spec} on the first {data.n} images of {label} has "
            f"{foreign[0].dataset.fingerprint}: these are other images",
        )
    for other in others:
        if other.model == record.model and other.suite.name == record.suite.name and result(other) == result(record):
            yield Fault("", f"is the same result as {places(other)[0]}: one file a result")
            break


def _conditions(suite: Suite, record: Record) -> Iterator[Fault]:
    """Whether all conditions of the suite are there, once, and no others but those that its options add."""
    wanted = {frozenset(condition.items()): condition for condition in suite.conditions()}
    have = {frozenset(row.condition.items()) for row in record.conditions}
    for key, condition in wanted.items():
        if key not in have:
            yield Fault("conditions", f"{describe(condition)} is missing: the leaderboard takes whole runs")
    known = set(wanted) if have <= wanted.keys() else {*wanted, *_added(record)}
    seen = set()
    for i, row in enumerate(record.conditions):
        key = frozenset(row.condition.items())
        if key not in known:
            yield Fault(f"conditions.{i}", f"is of {shown(row.condition)}, which the {suite.name} suite does not have")
        elif key in seen:
            yield Fault(f"conditions.{i}", f"is there twice: {describe(row.condition)}")
        seen.add(key)


def _added(record: Record) -> list[frozenset[tuple[str, str | int | float]]]:
    """The conditions that the suite has with all options of the record."""
    try:
        suite = registry.suite(f"{record.suite.distribution}/{record.suite.name}", record.suite.options)
    except UserError:
        return []  # one of them names a file of another machine
    return [frozenset(condition.items()) for condition in suite.conditions()]


def _rows(suite: Suite, record: Record) -> Iterator[Fault]:
    """Whether rows and record have the suite's metrics, in their ranges, and curves that end in them."""
    sizes = list(next(iter(record.curves.values()), {}))
    if sizes and sizes[-1] != str(record.draws):
        yield Fault("curves", f"end at {shown(sizes[-1])} draws, and the record has {record.draws}")
    if sizes != sorted(sizes, key=lambda size: (len(size), size)):
        yield Fault("curves", "are not in the order of their numbers of draws")
    yield from _measured(suite.metrics, record.metrics, record.curves, sizes, record.draws, "")
    for i, row in enumerate(record.conditions):
        yield from _measured(suite.row_metrics, row.metrics, row.curves, sizes, record.draws, f"conditions.{i}.")


def _measured(
    metrics: Sequence[Metric],
    given: Metrics,
    curves: records.Curves,
    sizes: Sequence[str],
    draws: int,
    where: str,
) -> Iterator[Fault]:
    known = [metric.name for metric in metrics]
    parts: list[tuple[str, Collection[str]]] = [("metrics", given), *([("curves", curves)] if sizes or curves else [])]
    for part, have in parts:
        yield from (Fault(f"{where}{part}.{name}", "is missing") for name in known if name not in have)
        for name in have:
            if name not in known:
                yield Fault(f"{where}{part}", f"has {shown(name)}, which is no metric of the suite")
    for metric in metrics:
        name, value = metric.name, given.get(metric.name)
        yield from _bounded(metric, value, f"{where}metrics.{name}")
        if name not in curves:
            continue
        if list(curves[name]) != list(sizes):
            yield Fault(f"{where}curves.{name}", "is over other numbers of draws than the record's first curve")
        elif not _same(curves[name].get(str(draws)), value):
            yield Fault(f"{where}curves.{name}", f"ends in {curves[name].get(str(draws))}, and the metric is {value}")
        for size, at in curves[name].items():
            yield from _bounded(metric, at, f"{where}curves.{name}.{shown(size)[1:-1]}")


def _intervals(suite: Suite, record: Record) -> Iterator[Fault]:
    """Whether intervals follow from the metrics without each group of images; upgraded records have neither."""
    if not record.intervals and not record.jackknife:
        return
    for part, have in (("intervals", record.intervals), ("jackknife", record.jackknife)):
        for name in have.keys() ^ {metric.name for metric in suite.metrics}:
            yield Fault(part, f"of {shown(name)}: it {'is no metric of the suite' if name in have else 'is missing'}")
    for metric in suite.metrics:
        values = {str(record.draws): record.metrics.get(metric.name)} | record.curves.get(metric.name, {})
        intervals, jackknife = record.intervals.get(metric.name, {}), record.jackknife.get(metric.name, {})
        for part, sizes in (("intervals", intervals.keys()), ("jackknife", jackknife.keys())):
            for size in sizes ^ values.keys():
                yield Fault(f"{part}.{metric.name}", f"are {'' if size in sizes else 'not '}of {size} draws")
        for size in values.keys() & intervals.keys() & jackknife.keys():
            yield from _interval(metric, values[size], intervals[size], jackknife[size], record.dataset.n, size)


def _interval(
    metric: Metric,
    value: float | None,
    ends: tuple[float, float] | None,
    without: Sequence[float] | None,
    n: int,
    size: str,
) -> Iterator[Fault]:
    if without is None:
        again = None
    elif value is None or len(without) != groups(n):
        wanted = 0 if value is None else groups(n)
        yield Fault(f"jackknife.{metric.name}.{size}", f"has {len(without)} numbers, not {wanted}")
        return
    else:
        for one in without:
            yield from _bounded(metric, one, f"jackknife.{metric.name}.{size}")
        again = interval(value, np.array(without), metric.range)
    if not all(map(_same, again or (None, None), ends or (None, None))):
        yield Fault(f"intervals.{metric.name}.{size}", f"is {ends}, its jackknife gives {again}")


def _bounded(metric: Metric, value: float | None, field: str) -> Iterator[Fault]:
    low, high = metric.range
    if value is not None and not low - _ROUNDING <= value <= high + _ROUNDING:
        yield Fault(field, f"is {value}: it is between {low:g} and {high:g} ({metric.unit})")


def _baseline(suite: Suite, record: Record, others: Sequence[Record]) -> Iterator[Fault]:
    """Whether what the record is normalised by is known: made-up errors of a baseline would make any model good."""
    given = record.suite.baseline
    if given == suite.baseline(record.dataset):
        return
    if given is None:
        yield Fault("suite.baseline", f"is missing: the {suite.name} suite has one for {record.dataset.name}")
        return
    # Its own, too: the model that the others are measured by is in their table with exactly 1.
    alike = [one for one in (record, *others) if one.suite.name == suite.name and one.dataset == record.dataset]
    if any(one.model.spec == given.model and one.conditions == given.conditions for one in alike):
        return
    yield Fault(
        "suite.baseline",
        f"is neither the one of the {suite.name} suite nor a record of this leaderboard: add the record of "
        f"{shown(given.model)} first",
    )


def _recomputed(suite: Suite, record: Record) -> Iterator[Fault]:
    """Whether aggregates and findings are what the conditions give."""
    conditions = [row.condition for row in record.conditions]
    rows = [row.metrics for row in record.conditions]
    sizes = next(iter(record.curves.values()), {})
    try:
        again = suite.aggregate(conditions, rows, record.suite.baseline)
        curves = {size: suite.aggregate(conditions, _at(record, size), record.suite.baseline) for size in sizes}
        findings = suite.findings(conditions, rows)
    except Exception as error:  # the suite is a plugin's, and the numbers are a stranger's
        yield Fault("conditions", f"cannot be summed up: {registry.describe(error)}")
        return
    for name, value in again.items():
        if not _same(value, record.metrics.get(name)):
            yield Fault(f"metrics.{name}", f"is {record.metrics.get(name)}, its conditions give {value}")
    for size, metrics in curves.items():
        for name, value in metrics.items():
            if not _same(value, record.curves.get(name, {}).get(size)):
                given = record.curves.get(name, {}).get(size)
                yield Fault(f"curves.{name}.{size}", f"is {given}, its conditions give {value}")
    if findings != record.findings:
        told = ", ".join(finding.check for finding in findings) or "none"
        yield Fault("findings", f"are not what its conditions give: {told}")


def _at(record: Record, size: str) -> list[Metrics]:
    return [{name: curve.get(size) for name, curve in row.curves.items()} for row in record.conditions]


def _same(ours: float | None, theirs: float | None) -> bool:
    if ours is None or theirs is None:
        return ours is theirs
    return math.isclose(ours, theirs, rel_tol=_TOLERANCE, abs_tol=1e-9)
