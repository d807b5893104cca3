"""Groups of comparable results and their order: the tables of both pages."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

from stressbench.contracts import Metric, Suite
from stressbench.leaderboard import check, notes
from stressbench.leaderboard.notes import Note
from stressbench.leaderboard.paths import training
from stressbench.leaderboard.records import load_all
from stressbench.leaderboard.ties import Standing, standings
from stressbench.record import Record, dataset_label
from stressbench.spec import parse

_OURS = "stressbench"
_FEW = 100  # images, below which a table decides little


@dataclass(frozen=True)
class Entry:
    """One result."""

    path: Path  # from the leaderboard's folder
    record: Record
    replay: Note | None  # None: its numbers are what its author says

    @property
    def kind(self) -> str:
        """The kind of the model: the name of its wrapper, or stochastic or deterministic."""
        spec = parse(self.record.model.spec)
        if spec.argument is not None:
            return spec.name
        return "stochastic" if self.record.model.stochastic else "deterministic"

    @property
    def evidence(self) -> str:
        """Whether its conditions were run again, how many of them, and whether by somebody else."""
        if self.replay is None:
            return "self-reported"
        by = "replayed by another" if self.replay.by else "replayed"
        return f"{by}, {len(self.replay.conditions)} of {len(self.record.conditions)}"

    def value(self, metric: Metric, draws: int | None = None) -> float | None:
        """A metric of the record, or its value at a number of draws; None if unknown.

        A deterministic model has the same value at any number of draws.
        """
        if draws is None or draws == self.record.draws or not self.record.model.stochastic:
            return self.record.metrics[metric.name]
        return self.record.curves.get(metric.name, {}).get(str(draws))

    def interval(self, metric: Metric, draws: int | None = None) -> tuple[float, float] | None:
        """The 95 % interval of `value`; None if the record has none."""
        return self.record.intervals.get(metric.name, {}).get(self._size(draws))

    def without(self, metric: Metric, draws: int | None = None) -> list[float] | None:
        """The metric without each group of images, for intervals; the groups are the same in a `Group`."""
        return self.record.jackknife.get(metric.name, {}).get(self._size(draws))

    def _size(self, draws: int | None) -> str:
        return str(self.record.draws if draws is None or not self.record.model.stochastic else draws)


@dataclass(frozen=True)
class Ranked:
    """An entry of a table, with its place by each metric that has a direction."""

    entry: Entry
    standings: Mapping[str, Standing | None]
    """By metric; None where the entry does not know it."""
    standing: Standing | None
    """Its place by the ranking metric."""

    @property
    def rank(self) -> int | None:
        """By the ranking metric, shared by results that are not told apart; None if it is unknown."""
        return self.standing and self.standing.rank


@dataclass(frozen=True)
class Group:
    """Comparable results: one suite and its options on the same clean and stressed images."""

    suite: Suite
    dataset: str
    entries: Sequence[Entry]

    @property
    def record(self) -> Record:
        """One of the records, for the fields that all of them share."""
        return self.entries[0].record

    @property
    def title(self) -> str:
        """The suite's name, with its distribution if that is not ours."""
        suite = self.record.suite
        return suite.name if suite.distribution == _OURS else suite.offer

    def name(self, entry: Entry) -> str:
        """A model's name, with its distribution if the table has another model of the same name."""
        model = entry.record.model
        return f"{model.spec} ({model.distribution})" if model.spec in self._shared else model.spec

    @cached_property
    def _shared(self) -> set[str]:
        """The names that models of several distributions have."""
        models = {(one.record.model.spec, one.record.model.distribution) for one in self.entries}
        return {spec for spec, count in Counter(spec for spec, _ in models).items() if count > 1}

    @cached_property
    def _results(self) -> Counter[str]:
        return Counter(self.name(one) for one in self.entries)

    def which(self, entry: Entry) -> str:
        """What tells a result from others of the same model: its training, or its weights; empty if it is the one."""
        if self._results[self.name(entry)] == 1:
            return ""
        number = training(entry.record)
        return f"weights {entry.record.model.weights_checksum[7:15]}" if number is None else f"training {number}"

    def label(self, entry: Entry) -> str:
        """A name that a reader can tell from the others of the table."""
        called, which = entry.record.model.name, self.which(entry)
        name = self.name(entry) if called is None else f"{called}: {self.name(entry)}"
        return f"{name}, {which}" if which else name

    @property
    def metrics(self) -> list[Metric]:
        """The suite's metrics that at least one record has."""
        known = [m for m in self.suite.metrics if any(e.value(m) is not None for e in self.entries)]
        return known or list(self.suite.metrics[:1])

    @property
    def by(self) -> Metric | None:
        """The ranking metric: the first one with a direction, if there is one."""
        return next((metric for metric in self.metrics if metric.better is not None), None)

    @property
    def draws(self) -> list[int]:
        """The numbers of draws at which stochastic results are compared at equal cost: 1, 2, 5, 10, … and their own."""
        stochastic = [e.record for e in self.entries if e.record.model.stochastic]
        curves = {int(size) for record in stochastic for curve in record.curves.values() for size in curve}
        return sorted({n for n in curves if str(n).rstrip("0") in ("1", "2", "5")} | {r.draws for r in stochastic})

    @property
    def key(self) -> str:
        """Eight digits of a digest of what its results share, which no other group has."""
        return hashlib.sha256(json.dumps(_shared(self.record, self.suite), sort_keys=True).encode()).hexdigest()[:8]

    @property
    def undecided(self) -> bool:
        """Whether it ranks nothing at the results' own numbers of draws."""
        return self.undecided_at(None)

    def undecided_at(self, draws: int | None) -> bool:
        """Whether it ranks nothing: it has fewer than 100 images, or no two of its results are told apart."""
        ranked = self.own if draws is None else self.ranked(draws)
        return self.record.dataset.n < _FEW or {one.rank for one in ranked} <= {None, 1}

    @cached_property
    def own(self) -> list[Ranked]:
        """All entries, best first, each with its own number of draws."""
        return self.ranked()

    def ranked(self, draws: int | None = None) -> list[Ranked]:
        """The entries, best first; at a number of draws, only those whose ranking metric is known there.

        Without a ranking metric, all entries in the order of their paths, without ranks.
        """
        by = self.by
        entries = sorted(self.entries, key=lambda entry: str(entry.path))
        entries = [entry for entry in entries if draws is None or by is None or entry.value(by, draws) is not None]
        places = {metric.name: _places(metric, entries, draws) for metric in self.metrics if metric.better is not None}
        ranked = []
        for i, entry in enumerate(entries):
            standings = {name: found[i] for name, found in places.items()}
            ranked.append(Ranked(entry, standings, standings[by.name] if by else None))
        return sorted(ranked, key=lambda one: len(entries) if one.standing is None else one.standing.order)

    def about(self) -> str:
        """What distinguishes the group from others of its suite and dataset."""
        data, suite = self.record.dataset, self.record.suite
        parts = [f"{data.n:,} images", f"{len(self.record.conditions)} conditions", f"{data.stress} stress"]
        if data.stress_verified is False:
            parts.append("of files that are not the published ones")
        parts += [f"{key}={value}" for key, value in sorted(check.decisive(self.record, self.suite).items())]
        if suite.baseline is not None:
            parts.append(f"normalised by {suite.baseline.model} ({suite.baseline.source})")
        precisions = sorted({entry.record.precision for entry in self.entries})
        if precisions != ["float32"]:
            parts.append(f"in {' and '.join(precisions)}")
        return ", ".join([*parts, f"content {data.fingerprint.removeprefix('sha256:')[:8]}"])


def groups(root: Path) -> Iterator[Group]:
    """All results of a leaderboard in groups that compare; within a suite and dataset, those with most images first.

    Raises `UserError` for an invalid record.
    """
    entries = [Entry(path, record, notes.read(root, path)) for path, record in load_all(root).items()]
    for key, members in groupby(sorted(entries, key=_comparable), key=_comparable):
        listed = list(members)
        yield Group(check.standard(listed[0].record), key[1], listed)


def _places(metric: Metric, entries: Sequence[Entry], draws: int | None) -> list[Standing | None]:
    assert metric.better is not None
    values = [entry.value(metric, draws) for entry in entries]
    return standings(values, [entry.without(metric, draws) for entry in entries], metric.better)


def _comparable(entry: Entry) -> tuple[str, str, int, str, str]:
    """The key of a group: results with other stress, conditions or baseline are ranked separately."""
    suite, data = entry.record.suite, entry.record.dataset
    shared = json.dumps(_shared(entry.record, check.standard(entry.record)), sort_keys=True)
    return suite.offer, dataset_label(entry.record), -data.n, data.stress, shared


def _shared(record: Record, suite: Suite) -> dict[str, Any]:
    """What the results of a group have in common."""
    baseline = record.suite.baseline
    return {
        "suite": record.suite.offer,
        "dataset": [dataset_label(record), record.dataset.n],
        "fingerprint": record.dataset.fingerprint,
        "stress": record.dataset.stress,
        "verified": record.dataset.stress_verified,
        "options": check.decisive(record, suite),
        "conditions": sorted(json.dumps(row.condition, sort_keys=True) for row in record.conditions),
        "baseline": None if baseline is None else baseline.model_dump(mode="json"),
    }
