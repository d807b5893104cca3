"""Checks of a record that need no model.

A record is untrusted input. Its conditions must be the suite's and its numbers within their ranges; every field that
follows from others is computed again and compared.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import get_args

from pydantic import ValidationError

from stressbench import record as records
from stressbench import registry
from stressbench.contracts import Condition, Suite
from stressbench.errors import UserError
from stressbench.leaderboard import facts, jackknife, numbers, provenance, relations
from stressbench.leaderboard.numbers import Fault
from stressbench.leaderboard.paths import RECORDS, paths, result
from stressbench.leaderboard.words import shown, strange
from stressbench.record import Precision, Record
from stressbench.results.conditions import describe
from stressbench.spec import parse

_ENOUGH = 100  # images on which two networks do not agree in every digit
_FILE = "file"  # the distribution of a model of a file
_PINNED = re.compile(r"[\w-]+\.py@[0-9a-f]{12}:\w+")
_CLOCKS = timedelta(days=1)  # by how much a contributor's clock may be ahead


def file(
    path: Path, root: Path, board: Mapping[Path, Record], now: datetime | None = None, fresh: Collection[Path] = ()
) -> list[Fault]:
    """The faults of a file of the leaderboard in `root`; `board` holds the leaderboard's records.

    The date is compared with `now` if given; building the pages must not depend on the clock. `fresh` are the files,
    relative to `root`, that the same submission adds: none of them is a baseline for another one.
    """
    inside = _inside(path, root)
    if inside is None or inside.parts[0] != RECORDS:
        return [Fault("", f"is not in {root / RECORDS}: `bench leaderboard add` puts a record in its place")]
    if path.is_symlink() or (path.exists() and not path.is_file()):
        return [Fault("", "is not a regular file")]
    try:
        record = records.load(path)
    except UserError as error:
        return _unreadable(error, path)
    others = {where: other for where, other in board.items() if where != inside}
    found = faults(
        record, list(others.values()), facts.known(root), [others[where] for where in fresh if where in others]
    )
    if inside not in paths(record):
        found.append(Fault("", f"belongs in {root / paths(record)[0]}"))
    found += source(record, path)
    if inside in fresh:
        found += incomplete(record)
    if now is not None and record.created.tzinfo is not None and record.created > now + _CLOCKS:
        found.append(Fault("created", f"is {record.created.isoformat()}, which is still to come"))
    return found


def incomplete(record: Record) -> Iterator[Fault]:
    """What a record of an older version lacks, which a new submission has to have."""
    if not provenance.complete(record):  # else `faults` says it
        yield from provenance.missing(record)


def source(record: Record, path: Path) -> list[Fault]:
    """Whether a model of a file has that file, and what it imports, in the folder beside the record of its name.

    They are read and not run: a reader of the leaderboard can see what the network is.
    """
    faults = []
    for i, plugin in enumerate(record.model.plugins):
        if plugin.distribution != _FILE:
            continue
        folder, name = path.with_suffix(""), plugin.name.removeprefix(f"{_FILE}:")
        if not _PINNED.fullmatch(name):
            faults.append(Fault(f"model.plugins.{i}.name", f"is {shown(plugin.name)}, without the file's digest"))
            continue
        try:
            registry.find("models", _FILE).load().find(str(folder / name))
        except UserError as error:
            faults.append(Fault(f"model.plugins.{i}.name", f"needs its source in {folder}: {error}"))
    return faults


def faults(
    record: Record, others: Sequence[Record], known: facts.Known = MappingProxyType({}), fresh: Sequence[Record] = ()
) -> list[Fault]:
    """The faults of a record, by itself and in relation to the leaderboard's other records, some of them `fresh`."""
    found = [Fault(*one) for one in strange(record)]
    if found:
        return found  # what follows takes these words to be names
    found = [*_facts(record), *_data(record, others, known)]
    try:
        suite = standard(record)
    except UserError as error:
        return [*found, Fault("suite", str(error))]
    conditions = [*_conditions(suite, record)]
    counts = [] if conditions else [*_counts(suite, record)]  # which asks the suite about them
    found += [*facts.stress(suite, record.dataset), *_suite(suite, record), *provenance.seen(suite, record)]
    found += [] if conditions or counts else provenance.timing(suite, record)
    rows = [*counts, *conditions, *numbers.rows(suite, record), *_baseline(suite, record, others, fresh)]
    if rows := rows or [*numbers.recomputed(suite, record), *numbers.intervals(suite, record)]:
        return [*found, *rows]
    # These take shapes and ranges to be right.
    return [*found, *relations.rows(suite, record), *jackknife.faults(suite, record)]


def standard(record: Record) -> Suite:
    """The record's suite without its scoring options.

    Raises `UserError` for a suite that is not installed or has another version, and for unknown options.
    """
    name = f"{record.suite.distribution}/{record.suite.name}"
    suite = registry.suite(name, task=record.dataset.task)
    if suite.version != record.suite.version:
        raise UserError(
            f"is version {record.suite.version} of {record.suite.name} and version {suite.version} is installed: run "
            "it again"
        )
    return registry.suite(name, decisive(record, suite), record.dataset.task)


def decisive(record: Record, suite: Suite) -> dict[str, str]:
    """The record's suite options that affect tables."""
    return {k: v for k, v in record.suite.options.items() if k not in suite.scoring_options}


# --- the parts ------------------------------------------------------------------------------------------------


def _inside(path: Path, root: Path) -> Path | None:
    """A path relative to the leaderboard's folder, links of folders resolved; None for a path outside it."""
    whole = path.parent.resolve() / path.name
    return whole.relative_to(root.resolve()) if whole.is_relative_to(root.resolve()) and path.name else None


def _unreadable(error: UserError, path: Path) -> list[Fault]:
    """Why a file is not a record: its invalid fields, if it can be parsed."""
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
    """Consistency between the fields of a record."""
    try:
        written = str(parse(record.model.spec))
    except UserError as error:
        yield Fault("model.spec", str(error))
    else:
        if written != record.model.spec:
            yield Fault("model.spec", f"is {shown(record.model.spec)}, which is written {shown(written)}")
        yield from provenance.faults(record)
        yield from facts.model(record)
    if record.precision not in get_args(Precision):
        yield Fault("precision", f"is {shown(record.precision)}: it is one of {', '.join(get_args(Precision))}")
    if not record.model.stochastic and record.draws != 1:
        yield Fault("draws", f"is {record.draws}, and a deterministic model has one draw")


def _data(record: Record, others: Sequence[Record], known: facts.Known) -> Iterator[Fault]:
    """Whether the images are those of the named dataset."""
    data = record.dataset
    label = facts.label(record)
    there = {*known, *(other.dataset.name for other in others)} - {data.name}
    if meant := next((name for name in sorted(there) if facts.plain(name) == facts.plain(data.name)), None):
        yield Fault("dataset.name", f"is {shown(data.name)}, which looks like {meant} and is not")
    yield from facts.images(label, data, "dataset", known)
    for i, (name, source) in enumerate(facts.sources(record)):
        yield from facts.images(name, source, f"sources.{i}", known)
    sure = data.n in known.get(label, {})  # then the others may be wrong, and this one is not kept out for it
    same = [other for other in others if facts.label(other) == label and other.dataset.n == data.n and not sure]
    foreign = [other for other in same if other.dataset.fingerprint != data.fingerprint]
    if foreign:
        yield Fault(
            "dataset.fingerprint",
            f"is {data.fingerprint}, and {foreign[0].model.spec} on the first {data.n} images of {label} has "
            f"{foreign[0].dataset.fingerprint}: these are other images",
        )
    for other in same:
        for name in ("classes", "image_size"):
            ours, theirs = getattr(data, name), getattr(other.dataset, name)
            if None not in (ours, theirs) and ours != theirs:
                yield Fault(f"dataset.{name}", f"is {ours}, and {other.model.spec} on the same images has {theirs}")
                return
    for other in others:
        if other.model == record.model and other.suite.name == record.suite.name and result(other) == result(record):
            yield Fault("", f"is the same result as {paths(other)[0]}: one file a result")
            break
        if _copied(record, other):
            yield Fault("conditions", f"are those of {paths(other)[0]}, which is of other weights")
            break


def _copied(record: Record, other: Record) -> bool:
    """Whether all numbers of enough images are another model's."""
    return (
        other.model.weights_checksum != record.model.weights_checksum
        and other.suite.name == record.suite.name
        and other.dataset.content == record.dataset.content
        and record.rows >= _ENOUGH
        and [row.metrics for row in other.conditions] == [row.metrics for row in record.conditions]
    )


def _conditions(suite: Suite, record: Record) -> Iterator[Fault]:
    """Whether the record has each condition of the suite once, and no others except those that its options add."""
    wanted = {frozenset(condition.items()): condition for condition in suite.conditions()}
    have = {frozenset(row.condition.items()) for row in record.conditions}
    for key, condition in wanted.items():
        if key not in have:
            yield Fault("conditions", f"{describe(condition)} is missing: the leaderboard takes whole runs")
    known = set(wanted) if have <= wanted.keys() else {*wanted, *_added(record)}
    seen = set()
    order = [key for row in record.conditions if (key := frozenset(row.condition.items())) in wanted]
    if len(order) == len(wanted) and order != list(wanted):
        yield Fault("conditions", "are not in the order of the suite's")
    for i, row in enumerate(record.conditions):
        key = frozenset(row.condition.items())
        if key not in known:
            yield Fault(f"conditions.{i}", f"is of {shown(row.condition)}, which the {suite.name} suite does not have")
        elif key in wanted and not _written_alike(wanted[key], row.condition):
            yield Fault(f"conditions.{i}", f"is of {shown(row.condition)}, which the suite writes {wanted[key]}")
        elif key in seen:
            yield Fault(f"conditions.{i}", f"is there twice: {describe(row.condition)}")
        seen.add(key)


def _written_alike(ours: Condition, theirs: Condition) -> bool:
    """Whether equal numbers are of the same kind: 1.0 is not written where the suite says 1."""
    return all(type(theirs[key]) is type(value) for key, value in ours.items())


def _suite(suite: Suite, record: Record) -> Iterator[Fault]:
    """Whether protocol and other sets of images are those that the suite has for this dataset."""
    if record.suite.protocol is not None:
        with suppress(Exception):  # it is a plugin's, and the dataset a stranger's
            wanted = suite.protocol(record.dataset)
            if record.suite.protocol != wanted:
                yield Fault("suite.protocol", f"is {shown(record.suite.protocol)}, and the suite's is {shown(wanted)}")
    used = {suite.source(row.condition) for row in record.conditions}
    for i, source in enumerate(record.sources):
        fitted = source.name == record.dataset.name and source.split != record.dataset.split
        if source.name not in used and not fitted:
            yield Fault(f"sources.{i}", f"is {shown(source.name)}, on which no condition was measured")
        elif (source.name, source.split) in {(other.name, other.split) for other in record.sources[:i]}:
            yield Fault(f"sources.{i}", f"is {shown(source.name)} again")
    listed = {(source.name, source.split) for source in record.sources}
    if suite.fitted_on is not None and (record.dataset.name, suite.fitted_on) not in listed:
        yield Fault(
            "sources", f"lack the {suite.fitted_on} split of {record.dataset.name}, which the suite learns from"
        )


def _added(record: Record) -> list[frozenset[tuple[str, str | int | float]]]:
    """The suite's conditions with all options of the record."""
    try:
        suite = registry.suite(
            f"{record.suite.distribution}/{record.suite.name}", record.suite.options, record.dataset.task
        )
    except UserError:
        return []  # one of them names a file of another machine
    return [frozenset(condition.items()) for condition in suite.conditions()]


def _counts(suite: Suite, record: Record) -> Iterator[Fault]:
    """Whether each condition has as many images as its dataset."""
    if record.dataset.split != suite.split:
        yield Fault("dataset.split", f"is {shown(record.dataset.split)}: these results are on the {suite.split} split")
    if suite.rows != "image":
        if record.sketches:
            yield Fault("sketches", f"are of images, which the {suite.name} suite has no rows of")
        return
    n: dict[str | None, int] = {None: record.dataset.n, **{source.name: source.n for source in record.sources}}
    if record.sketches and len(record.sketches) != len(record.conditions):
        yield Fault("sketches", f"are of {len(record.sketches)} conditions, and there are {len(record.conditions)}")
    for i, row in enumerate(record.conditions):
        source = suite.source(row.condition)
        if source not in n:
            yield Fault("sources", f"lack {shown(source)}, which conditions.{i} is of")
        elif row.n != (wanted := n[source]):
            yield Fault(f"conditions.{i}.n", f"is {row.n}, and the dataset has {wanted} images")


def _baseline(suite: Suite, record: Record, others: Sequence[Record], fresh: Sequence[Record]) -> Iterator[Fault]:
    """Whether the baseline is known; with an invented baseline any model would look good."""
    given = record.suite.baseline
    if given == suite.baseline(record.dataset):
        return
    if given is None:
        yield Fault("suite.baseline", f"is missing: the {suite.name} suite has one for {record.dataset.name}")
        return
    # Its own, too: the model that the others are measured by is in their table with exactly 1.
    alike = [
        one
        for one in (record, *others)
        if one.suite.name == suite.name and one.dataset.content == record.dataset.content
    ]
    same = [one for one in alike if one.model.spec == given.model and one.conditions == given.conditions]
    if any(one not in fresh for one in same):
        return
    if same:
        yield Fault(
            "suite.baseline",
            f"is {shown(given.model)}, whose record is of the same submission: submit that alone, first",
        )
        return
    yield Fault(
        "suite.baseline",
        f"is neither the one of the {suite.name} suite nor a record of this leaderboard: add the record of "
        f"{shown(given.model)} first",
    )
