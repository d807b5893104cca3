"""Runs read from their folders, for comparison and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from stressbench import record as records
from stressbench import registry
from stressbench.contracts import Condition, Suite
from stressbench.errors import UserError
from stressbench.record import Record, Row
from stressbench.results import tables
from stressbench.results.conditions import describe
from stressbench.results.resampling import leave_out

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Run:
    """A record with its suite, and the tables beside it."""

    path: Path  # as it was given: a run folder or a record file
    record: Record
    suite: Suite
    own_suite: bool = False
    """Whether `suite` is the very one that made the tables, and not one of its name without its options."""

    @property
    def conditions(self) -> list[Condition]:
        return [row.condition for row in self.record.conditions]

    @property
    def label(self) -> str:
        """What its author calls the model; else its spec, with the number of draws if it is stochastic."""
        model, draws = self.record.model, self.record.draws
        if model.name is not None:
            return model.name
        return f"{model.spec}, {draws} draw{'s' * (draws > 1)}" if model.stochastic else model.spec

    @property
    def has_tables(self) -> bool:
        return (self.path / "run.json").is_file()

    @cached_property
    def tables(self) -> list[pd.DataFrame]:
        """Each condition's table at the record's number of draws.

        Raises `UserError` for a record file without tables, and for a missing or damaged table.
        """
        if not self.path.is_dir():
            raise UserError(f"{self.path} is a record without its tables: give the folder of the run")
        there = tables.finished(self.path)
        again = "run the same `bench run` again to make it"
        found = []
        for row in self.record.conditions:
            try:
                read = there.read(row.condition, row.n)
            except tables.Damaged as damage:
                raise UserError(f"{damage.what}: {again}") from damage
            if read is None:
                raise UserError(f"{there.path(row.condition)} is missing: {again}")
            found.append(read[0][max(read[0])])
        return found

    @cached_property
    def left_out(self) -> list[list[Row]]:
        """The conditions' rows without each group of images in turn, for intervals; none of a record without tables."""
        if not self.has_tables:
            return []
        suite, rows = self.configured_suite, self.record.conditions
        return [
            [
                row.model_copy(update={"metrics": dict(scores), "n": len(table)})
                for row, scores, table in zip(rows, suite.score(self.conditions, part), part, strict=True)
            ]
            for part in leave_out(self.tables)
        ]

    @property
    def configured_suite(self) -> Suite:
        """The suite with the options that the tables depend on.

        Raises `UserError` where another version of it is installed.
        """
        if self.own_suite:
            return self.suite
        info = self.record.suite
        if info.version != self.suite.version:
            raise UserError(
                f"{self.path} is of version {info.version} of the {info.name} suite and version {self.suite.version} "
                "is installed: run it again"
            )
        return registry.suite(
            info.offer,
            {k: v for k, v in info.options.items() if k not in self.suite.scoring_options},
            self.record.dataset.task,
        )


def load(path: Path) -> Run:
    """A run folder or a record file; raises `UserError` for anything else and for a suite that is not installed."""
    return of_record(path, records.load(path))


def of_record(path: Path, record: Record) -> Run:
    """The same for a record that was read; raises `UserError` for a suite that is not installed."""
    return Run(path, record, registry.suite(record.suite.offer, task=record.dataset.task))


def load_all(paths: Sequence[Path], labels: Sequence[str] = ()) -> list[Run]:
    """Runs, with `labels` in place of their models' display names; raises `UserError` unless there is one for each."""
    if labels and len(labels) != len(paths):
        raise UserError(f"--label is given {len(labels)} times for {len(paths)} runs: give one for each, in order")
    found = [(path, records.load(path)) for path in paths]
    return [
        of_record(path, record.named(label) if label else record)
        for (path, record), label in zip(found, labels or [""] * len(paths), strict=True)
    ]


def load_alike(paths: Sequence[Path], labels: Sequence[str] = ()) -> list[Run]:
    """Runs that differ in the model alone, as of `load_all`.

    Raises `UserError` that names the first thing in which another run differs from the first one.
    """
    found = load_all(paths, labels)
    for other in found[1:]:
        require_alike(found[0], other)
    return found


def require_alike(first: Run, other: Run) -> None:
    """Raise `UserError` that names the first thing in which two runs differ beside the model."""
    facts, theirs = _facts(first), _facts(other)
    for name, fact in facts.items():
        if theirs[name] != fact:
            raise UserError(
                f"{other.path} does not compare with {first.path}: its {name} is {theirs[name]} and the other's is "
                f"{fact}; run both models through the same suite on the same images with the same seed"
            )
    for one, two in ((first, other), (other, first)):
        for condition in one.conditions:
            if condition not in two.conditions:
                raise UserError(
                    f"{other.path} does not compare with {first.path}: {describe(condition)} is in {one.path} alone; "
                    "run both models through the same conditions"
                )
    if first.record.suite.baseline != other.record.suite.baseline:
        raise UserError(
            f"{other.path} does not compare with {first.path}: they are normalised by different baselines; "
            "run both with the same one (it takes no new computing)"
        )


def _facts(run: Run) -> Mapping[str, object]:
    """The settings that determine the stressed images and the metrics, by name."""
    record, data = run.record, run.record.dataset
    kept = {k: v for k, v in sorted(record.suite.options.items()) if k not in run.suite.scoring_options}
    return {
        "suite": record.suite.name,
        "suite's version": record.suite.version,
        "dataset": data.name,
        "split": data.split,
        "number of images": data.n,
        "dataset's fingerprint": data.fingerprint,
        "list of sources": ", ".join(f"{source.name} {source.fingerprint}" for source in record.sources) or "empty",
        "stress": data.stress,
        "seed": record.seed,
        "list of suite options": ", ".join(f"{k}={v}" for k, v in kept.items()) or "empty",
    }
