"""Replays a record: runs a few of its conditions again and compares the results."""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from torch import nn

from stressbench import __version__, registry, weights
from stressbench import record as records
from stressbench._util.terminal import Screen
from stressbench.contracts import Dataset
from stressbench.datasets.cache import ImageCache
from stressbench.errors import UserError
from stressbench.execution import models, plan, pretrained
from stressbench.execution.executors import alone
from stressbench.execution.identity import identify
from stressbench.execution.plan import Plan
from stressbench.execution.request import RunRequest
from stressbench.execution.runner import Run
from stressbench.leaderboard import check, facts, notes
from stressbench.leaderboard.agreement import Agreement, compare
from stressbench.leaderboard.notes import Note
from stressbench.leaderboard.paths import RECORDS, result, training
from stressbench.leaderboard.records import readable, require_faultless
from stressbench.record import Record
from stressbench.results.resampling import Tables

# A replay by default finds this share of made-up conditions but for this chance.
_MADE_UP, _MISSED = 8 / 75, 0.05


@dataclass(frozen=True)
class Means:
    """The inputs of a replay that are not in a record."""

    weights: Sequence[Path] = ()
    dataset: str | None = None  # the name that the dataset is registered by, where the record calls it otherwise
    data_dir: Path | None = None
    batch_size: int | None = None
    device: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What the comparison found, and the note if one was written."""

    agreement: Agreement
    note: Path | None


def replay(path: Path, root: Path, count: int | None, seed: int, means: Means, screen: Screen) -> Outcome:
    """Run a record's first condition and `count` others again, by default `enough`; leave a note if all agree.

    The first condition is always included, since a suite may measure others relative to it. Only records in the
    leaderboard get a note.

    Raises `UserError` for an invalid record, and if images or weights are not those of the record.
    """
    record = records.load(path)
    others = [other for other in readable(root).values() if result(other) != result(record)]
    require_faultless(path, check.faults(record, others, facts.known(root)))
    planned = _plan(record, means)
    first, *rest = planned.conditions
    chosen = random.Random(seed).sample(rest, min(count or enough(len(rest)), len(rest)))
    planned = replace(planned, conditions=[first, *(condition for condition in rest if condition in chosen)])
    again, tables = _run(record, planned, root, partial(_split, record, means), screen)
    found = compare(planned.suite.row_metrics, record, again, tables, planned.precision)
    whole = path.resolve()
    if found.differing or found.biased or not whole.is_relative_to(root.resolve() / RECORDS):
        return Outcome(found, None)
    note = Note(
        record=notes.digest(path),
        replayed=datetime.now(UTC).replace(microsecond=0),
        stressbench=__version__,
        device=again.environment.device,
        seed=seed,
        conditions=[dict(condition) for condition in planned.conditions],
        differences=found.differences,
        rows=found.rows,
    )
    return Outcome(found, notes.write(root, whole.relative_to(root.resolve()), note))


def _plan(record: Record, means: Means) -> Plan:
    """The run of a record, without the suite's scoring options."""
    data = record.dataset
    dataset = _split(record, means, "test")
    request = RunRequest(
        suites=(f"{record.suite.distribution}/{record.suite.name}",),
        models=(record.model.spec,),
        dataset=means.dataset or data.name,
        suite_options=check.decisive(record, check.standard(record)),
        stress=data.stress,
        weights=means.weights,
        draws=record.draws if record.model.stochastic else None,
        limit=data.n,
        batch_size=means.batch_size,
        seed=record.seed,
        precision="bfloat16" if record.precision == "bfloat16" else "float32",
        device=means.device,
    )
    asked = plan.make(request, dataset)
    for failure in asked.failures:
        raise failure.error
    return asked.plans[0]


def _split(record: Record, means: Means, split: str) -> Dataset:
    own, name = record.dataset.name, means.dataset or record.dataset.name
    return registry.dataset(name, split, means.data_dir, own if name != own else None)


def _run(
    record: Record, planned: Plan, root: Path, split: Callable[[str], Dataset], screen: Screen
) -> tuple[Record, Tables]:
    """The record of the planned conditions, and their per-image tables at its number of draws."""
    images = ImageCache(planned.dataset, planned.n, planned.device)
    if images.fingerprint != record.dataset.fingerprint:
        raise UserError(
            f"these are other images than the record's: {images.fingerprint}, and not {record.dataset.fingerprint}; "
            "give the record's with --data-dir"
        )

    def stored(spec: str, seed: int, build: Callable[[], nn.Module]) -> Path:
        canonical = registry.resolve(spec).canonical
        path = weights.stored(planned.dataset.name, canonical, seed)
        if path.exists():
            return path
        listed = pretrained.beside(planned.dataset.name, canonical, seed, root)
        if listed is None:
            raise UserError(f"{models.named(spec, seed)} has no weights here: give the record's with --weights")
        return listed

    ready = models.ready(planned.model, planned.dataset, planned.weights, stored, training(record) or 0, split)
    if ready.entry.distribution != record.model.distribution:
        raise UserError(f"{ready.entry} is not the record's, which is of {record.model.distribution}: install that")
    if ready.checksum != record.model.weights_checksum:
        raise UserError(
            f"these are other weights than the record's: {ready.checksum}, and not {record.model.weights_checksum}; "
            "give the record's with --weights"
        )
    with tempfile.TemporaryDirectory() as folder:
        run = Run(identify(planned, ready, {None: images}), {None: images}, Path(folder))
        again = alone(run, screen)
        tables, _ = run.store.whole([(row.condition, row.n) for row in again.conditions])
        return again, tables[again.draws]


def enough(total: int) -> int:
    """How many of `total` conditions to replay, so that 95 of 100 replays have one of the made-up ones among them.

    Made up are taken to be 8 of 75, rounded up; the conditions are drawn without replacement.

    >>> enough(75), enough(12)
    (23, 9)
    """
    made_up = math.ceil(total * _MADE_UP)
    missed = (math.comb(total - made_up, count) / math.comb(total, count) for count in range(1, total + 1))
    return next((count for count, chance in enumerate(missed, 1) if chance <= _MISSED), total)
