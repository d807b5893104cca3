"""Replays a record: runs a few of its conditions again and compares the results."""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch
from torch import nn

from stressbench import __version__, registry, weights
from stressbench import record as records
from stressbench._util.terminal import Screen
from stressbench.contracts import Dataset
from stressbench.datasets.cache import ImageCache
from stressbench.errors import UserError
from stressbench.execution import models, plan, pretrained
from stressbench.execution.executors import alone
from stressbench.execution.identity import Inputs
from stressbench.execution.models import Provide
from stressbench.execution.prepare import Job, Prepared
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


def replay(
    path: Path, root: Path, count: int | None, seed: int, means: Means, screen: Screen, by: str | None = None
) -> Outcome:
    """Run a record's first condition and `count` others again, by default `enough`; leave a note if all agree.

    The first condition is always included, since a suite may measure others relative to it. Only records in the
    leaderboard get a note. `by` is who does it, where the record is somebody else's.

    Raises `UserError` for an invalid record, and if images or weights are not those of the record.
    """
    record = records.load(path)
    others = [other for other in readable(root).values() if result(other) != result(record)]
    require_faultless(path, check.faults(record, others, facts.known(root)))
    request = _request(record, path, means)
    dataset = plan.read(request, "test")
    asked = plan.make(request, dataset)
    for failure in asked.failures:
        raise failure.error
    (planned,) = asked.plans
    first, *rest = planned.conditions
    chosen = random.Random(seed).sample(rest, min(count or enough(len(rest)), len(rest)))
    planned = replace(planned, conditions=[first, *(condition for condition in rest if condition in chosen)])
    prepared = Prepared(Job(request, partial(_provider, root)), dataset, [planned], screen)
    again, tables = _run(record, *prepared.inputs(0, training(record) or 0), screen)
    found = compare(planned.suite.row_metrics, record, again, tables, planned.precision)
    whole = path.resolve()
    if found.differing or found.biased or not whole.is_relative_to(root.resolve() / RECORDS):
        return Outcome(found, None)
    note = Note(
        record=notes.digest(path),
        replayed=datetime.now(UTC).replace(microsecond=0),
        by=by,
        stressbench=__version__,
        device=again.environment.device,
        seed=seed,
        conditions=[dict(condition) for condition in planned.conditions],
        differences=found.differences,
        rows=found.rows,
    )
    return Outcome(found, notes.write(root, whole.relative_to(root.resolve()), note))


def _request(record: Record, path: Path, means: Means) -> RunRequest:
    """The run of a record, without the suite's scoring options; a file's model is of the source beside the record."""
    data, source = record.dataset, path.with_suffix("")
    spec = record.model.spec
    name = means.dataset or data.name
    return RunRequest(
        suites=(f"{record.suite.distribution}/{record.suite.name}",),
        models=(spec.replace("file:", f"file:{source}/") if source.is_dir() else spec,),
        dataset=name,
        data_dir=means.data_dir,
        dataset_name=data.name if name != data.name else None,
        suite_options=check.decisive(record, check.standard(record)),
        stress=data.stress,
        weights=means.weights,
        draws=record.draws if record.model.stochastic else None,
        # The largest of its sets tells the limit, unless all are whole; a suite is fitted to all images of a split.
        limit=max([data.n, *(source.n for source in record.sources if source.name != data.name)]),
        batch_size=means.batch_size,
        seed=record.seed,
        precision="bfloat16" if record.precision == "bfloat16" else "float32",
        device=means.device,
    )


def _provider(root: Path, _request: RunRequest, dataset: Dataset, _device: torch.device, _screen: Screen) -> Provide:
    """Weights of the store or beside the leaderboard; none are trained."""

    def stored(spec: str, seed: int, build: Callable[[], nn.Module]) -> Path:
        canonical = registry.resolve(spec).canonical
        path = weights.stored(dataset.name, canonical, seed)
        if path.exists():
            return path
        listed = pretrained.beside(dataset.name, canonical, seed, root)
        if listed is None:
            raise UserError(f"{models.named(spec, seed)} has no weights here: give the record's with --weights")
        return listed

    return stored


def _run(
    record: Record, inputs: Inputs, images: Mapping[str | None, ImageCache], screen: Screen
) -> tuple[Record, Tables]:
    """The record of the planned conditions, and their per-image tables at its number of draws."""
    pairs = zip([record.dataset, *record.sources], [inputs.data, *inputs.sources], strict=False)
    for theirs, ours in pairs:
        if ours.fingerprint != theirs.fingerprint:
            raise UserError(
                f"these are other images of {theirs.name} than the record's: {ours.fingerprint}, and not "
                f"{theirs.fingerprint}; give the record's with --data-dir"
            )
    ready = inputs.ready
    if ready.entry.distribution != record.model.distribution:
        raise UserError(f"{ready.entry} is not the record's, which is of {record.model.distribution}: install that")
    if ready.checksum != record.model.weights_checksum:
        raise UserError(
            f"these are other weights than the record's: {ready.checksum}, and not {record.model.weights_checksum}; "
            "give the record's with --weights"
        )
    with tempfile.TemporaryDirectory() as folder:
        run = Run(inputs, images, Path(folder))
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
