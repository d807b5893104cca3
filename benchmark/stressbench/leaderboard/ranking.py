"""Groups of comparable results and their order: the tables of both pages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pandas as pd

from stressbench.contracts import Metric, Suite
from stressbench.leaderboard import check, notes
from stressbench.leaderboard.notes import Note
from stressbench.leaderboard.records import load_all
from stressbench.record import Record, dataset_label
from stressbench.spec import parse

_OURS = "stressbench"
_TIE = 12  # decimal places to which two numbers that are one differ by the order of a sum


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
        return "self-reported" if self.replay is None else "replayed"

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
    """An entry of a table; `rank` is None if the ranking metric is unknown, and shared in a tie."""

    rank: int | None
    entry: Entry


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
        same = {e.record.model.distribution for e in self.entries if e.record.model.spec == model.spec}
        return model.spec if len(same) == 1 else f"{model.spec} ({model.distribution})"

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

    def ranked(self, draws: int | None = None) -> list[Ranked]:
        """The entries, best first; at a number of draws, only those whose ranking metric is known there.

        Without a ranking metric, all entries in the order of their paths, without ranks.
        """
        by = self.by
        entries = [e for e in self.entries if draws is None or by is None or e.value(by, draws) is not None]
        sign = 1 if by is not None and by.better == "lower" else -1
        values = [None if by is None else e.value(by, draws) for e in entries]
        scores = pd.Series(values, dtype="float64").round(_TIE) * sign
        ranks = scores.rank(method="min", na_option="keep")
        order = sorted(range(len(entries)), key=lambda i: (pd.isna(ranks[i]), ranks[i], str(entries[i].path)))
        return [Ranked(None if pd.isna(ranks[i]) else int(ranks[i]), entries[i]) for i in order]

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


def _comparable(entry: Entry) -> tuple[str, str, int, str, str]:
    """The key of a group: results with other stress, conditions or baseline are ranked separately."""
    suite, data = entry.record.suite, entry.record.dataset
    shared = {
        "fingerprint": data.fingerprint,
        "verified": data.stress_verified,
        "options": check.decisive(entry.record, check.standard(entry.record)),
        "conditions": sorted(json.dumps(row.condition, sort_keys=True) for row in entry.record.conditions),
        "baseline": None if suite.baseline is None else suite.baseline.model_dump(mode="json"),
    }
    digest = hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()
    return suite.offer, dataset_label(entry.record), -data.n, data.stress, digest
