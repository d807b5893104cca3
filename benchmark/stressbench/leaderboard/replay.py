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
from statistics import fmean

from torch import nn

from stressbench import __version__, registry, weights
from stressbench import record as records
from stressbench._util.terminal import Screen
from stressbench.contracts import Dataset, Metric
from stressbench.datasets.cache import ImageCache
from stressbench.errors import UserError
from stressbench.execution import models, plan, pretrained
from stressbench.execution.executors import alone
from stressbench.execution.identity import identify
from stressbench.execution.plan import Plan
from stressbench.execution.request import RunRequest
from stressbench.execution.runner import Run
from stressbench.leaderboard import check, facts, notes
from stressbench.leaderboard.notes import Note
from stressbench.leaderboard.paths import RECORDS, result, training
from stressbench.leaderboard.records import readable, require_faultless
from stressbench.record import Precision, Record
from stressbench.results.conditions import describe

# How far a number may be from the record's, between devices, libraries and batch sizes. Rounding moves a network's
# outputs by some 1e-5 of their size in float32, and by some 1e-2 in bfloat16, whose numbers have eight bits; an attack
# that climbs along them ends a little further away. A fraction counts images, and one at the edge between two classes,
# or two calibration bins, may fall to the other side.
_SMOOTH: dict[Precision, float] = {"float32": 1e-3, "bfloat16": 2e-2}  # of the value, or of 1 if that is more
_FRACTION: dict[Precision, float] = {"float32": 5e-3, "bfloat16": 2e-2}  # or `_AT_THE_EDGE` images, if that is more
_AT_THE_EDGE = 2
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
    """The result: a line for each condition, how many of them differ, and the note if one was written."""

    lines: list[str]
    differing: int
    biased: list[str]
    """A line for each metric that is off by less than its tolerance, and in the same direction everywhere."""
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
    again = _run(record, planned, root, partial(_split, record, means), screen)
    lines, differing, biased, differences = _compare(planned, record, again)
    whole = path.resolve()
    if differing or biased or not whole.is_relative_to(root.resolve() / RECORDS):
        return Outcome(lines, differing, biased, None)
    note = Note(
        record=notes.digest(path),
        replayed=datetime.now(UTC).replace(microsecond=0),
        stressbench=__version__,
        device=again.environment.device,
        seed=seed,
        conditions=[dict(condition) for condition in planned.conditions],
        differences=differences,
    )
    return Outcome(lines, 0, [], notes.write(root, whole.relative_to(root.resolve()), note))


def allowed(metric: Metric, value: float, n: int, precision: Precision) -> float:
    """The tolerance between a replayed metric of n images and the record's value, in the metric's unit."""
    if metric.unit == "fraction":
        return max(_FRACTION[precision], _AT_THE_EDGE / n)
    return _SMOOTH[precision] * max(1.0, abs(value))


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


def _run(record: Record, planned: Plan, root: Path, split: Callable[[str], Dataset], screen: Screen) -> Record:
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
        return alone(Run(identify(planned, ready, {None: images}), {None: images}, Path(folder)), screen)


def enough(total: int) -> int:
    """How many of `total` conditions to replay, so that 95 of 100 replays have one of the made-up ones among them.

    Made up are taken to be 8 of 75, rounded up; the conditions are drawn without replacement.

    >>> enough(75), enough(12)
    (23, 9)
    """
    made_up = math.ceil(total * _MADE_UP)
    missed = (math.comb(total - made_up, count) / math.comb(total, count) for count in range(1, total + 1))
    return next((count for count, chance in enumerate(missed, 1) if chance <= _MISSED), total)


def _compare(planned: Plan, record: Record, again: Record) -> tuple[list[str], int, list[str], dict[str, float]]:
    """A line for each condition, how many differ, a line for each mean that does, and the largest differences."""
    lines: list[str] = []
    differing = 0
    metrics = planned.suite.row_metrics
    apart: dict[str, list[float]] = {metric.name: [] for metric in metrics}
    most: dict[str, float] = {metric.name: 0.0 for metric in metrics}
    recorded = {frozenset(row.condition.items()): row.metrics for row in record.conditions}
    for condition, row in zip(planned.conditions, again.conditions, strict=True):
        faults = []
        theirs = recorded[frozenset(condition.items())]
        for metric in metrics:
            was, now = theirs[metric.name], row.metrics[metric.name]
            if was is not None and now is not None:
                tolerance = allowed(metric, was, row.n, planned.precision)
                apart[metric.name].append(now - was)
                most[metric.name] = max(most[metric.name], tolerance)
                if abs(now - was) > tolerance:
                    faults.append(
                        f"{metric.name} is {was:.6g} in the record and {now:.6g} here, over {tolerance:.2g} apart"
                    )
            elif was != now:
                faults.append(f"{metric.name} is {was} in the record and {now} here")
        differing += bool(faults)
        lines.append(f"{describe(condition)}: {'; '.join(faults) or 'agrees'}")
    biased = []
    for name, values in apart.items():
        if values and abs(mean := fmean(values)) > (limit := most[name] * systematic(len(values))):
            side = "lower" if mean > 0 else "higher"
            biased.append(f"{name}: {abs(mean):.2g} {side} in the record on average, over {limit:.2g}")
    return lines, differing, biased, {name: max(map(abs, values), default=0.0) for name, values in apart.items()}


def systematic(count: int) -> float:
    """How far the mean of signed differences over `count` conditions may be from 0, in tolerances of one.

    Rounding errors have either sign, so their mean shrinks with the root of the count, but the same images are at an
    edge in several conditions: never below a third.

    >>> systematic(1), systematic(4), systematic(100)
    (1.0, 0.5, 0.3333333333333333)
    """
    return max(1 / 3, 1 / math.sqrt(count))
