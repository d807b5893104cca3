"""A sweep: models × trainings × suites from one file, and the tables that come of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from stressbench import store, toml
from stressbench.contracts import Metric
from stressbench.errors import did_you_mean
from stressbench.leaderboard.places import dataset_label
from stressbench.plan import Words
from stressbench.record import Record
from stressbench.session import Finished
from stressbench.show import ARROW, number
from stressbench.spec import Spec, slug
from stressbench.tabular import escape, markdown
from stressbench.training import Options

# The columns of the spatial smoothing paper's table E.1, by the metrics of records that they are made from.
_CLEAN = {
    "clean_nll": Metric("NLL", "nats", "lower"),
    "clean_error": Metric("accuracy", "fraction", "higher"),
    "clean_ece": Metric("ECE", "fraction", "lower"),
}


def _no_twins(values: list[Any]) -> list[Any]:
    if len(set(values)) < len(values):
        raise ValueError("it has an entry twice")
    return values


_Names = Annotated[list[str], Field(min_length=1), AfterValidator(_no_twins)]
_Count = Annotated[int, Field(ge=1)]
_Seed = Annotated[int, Field(ge=0, lt=2**31)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Train(_Part):
    """How models are trained that lack weights: the options of `bench train`."""

    recipe: Literal["paper", "fast"] = "fast"
    milestones: Literal["code", "text"] = "code"
    epochs: _Count | None = None
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    flip: bool | None = None
    train_draws: _Count = 1
    precision: Literal["auto", "float32", "bfloat16"] = "auto"


class Sweep(_Part):
    """What is in the file; what `bench run` has too has its names."""

    models: _Names
    suites: _Names
    seeds: Annotated[list[_Seed], Field(min_length=1), AfterValidator(_no_twins)] = [0]  # trainings of each model
    dataset: str = "digits"
    data_dir: str | None = None
    dataset_name: str | None = None
    stress: Literal["official", "generated"] | None = None
    draws: _Count | None = None
    sizes: list[_Count] = []
    limit: _Count | None = None
    batch_size: _Count | None = None
    seed: _Seed = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    device: str | None = None
    train: Train = Train()

    @property
    def words(self) -> Words:
        """The same as for `bench run`."""
        fields = self.model_dump(exclude={"seeds", "train", "data_dir"})
        return Words(**fields, data_dir=None if self.data_dir is None else Path(self.data_dir), trainings=self.seeds)

    @property
    def options(self) -> Options:
        return Options(**self.train.model_dump())


def read(path: Path) -> Sweep:
    """Read a sweep's file; a relative `data_dir` counts from the working directory, as on the command line.

    Raises `UserError` for a file that is not there, is not TOML, or has a key or a value that does not belong.
    """
    return toml.read(path, Sweep, _first)


def _first(error: ValidationError) -> str:
    """The first thing that is wrong, in a line."""
    # A key that is not known explains one that is missing.
    fault = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    *above, key = map(str, fault["loc"])
    if fault["type"] != "extra_forbidden":
        return f"{'.'.join([*above, key])}: {fault['msg']}"
    known = list((Train if above else Sweep).model_fields)
    where = f"[{'.'.join(above)}]" if above else "a sweep's file"
    # All that follows a table's header belongs to that table, which is easily forgotten.
    hint = f"'{key}' goes above [{above[0]}]; " if above and key in Sweep.model_fields else did_you_mean(key, known)
    return f"there is no key '{key}' in {where}: {hint}known are {', '.join(known)}"


@dataclass(frozen=True)
class _Row:
    """A model's trainings through one suite: a metric's values, one a training, null where one is unknown."""

    suite: str
    model: str
    draws: int
    metric: Metric
    values: tuple[float | None, ...]

    @property
    def mean(self) -> float | None:
        """None where one of the values is unknown: never a mean over a part."""
        known = [value for value in self.values if value is not None]
        return fmean(known) if len(known) == len(self.values) else None

    @property
    def spread(self) -> float | None:
        """The sample standard deviation over trainings, of two or more."""
        known = [value for value in self.values if value is not None]
        return stdev(known) if len(known) == len(self.values) > 1 else None


def write(out: Path, name: str, finished: Sequence[Finished]) -> tuple[Path, Path]:
    """Write a sweep's tables, `<name>.md` for people and `<name>.csv` with every number; returns their paths.

    Raises `UserError` where they cannot be written.
    """
    rows = _rows(finished)
    # A model's line is of its most draws; the others are in the CSV.
    most = {(row.suite, row.model): row.draws for row in sorted(rows, key=lambda row: row.draws)}
    tables: dict[str, list[_Row]] = {}
    for row in rows:
        if row.draws == most[row.suite, row.model]:
            tables.setdefault(row.suite, []).append(row)
    parts = [f"# {escape(name)}", _images(finished[0].record), *_clean(tables.values())]
    for suite, members in tables.items():
        parts += [f"## {escape(suite)}", _markdown(members, _audits(finished, suite))]
    page, table = (out / f"{slug(name)}{ending}" for ending in (".md", ".csv"))
    with store.writing(out):
        out.mkdir(parents=True, exist_ok=True)
        store.replace(page, ("\n\n".join(parts) + "\n").encode())
        store.replace(table, _csv(rows).encode())
    return page, table


def _rows(finished: Sequence[Finished]) -> list[_Row]:
    """All numbers of all records; those of one model and suite side by side."""
    values: dict[tuple[str, str, int, Metric], list[float | None]] = {}
    for one in finished:
        record, suite = one.record, _suite(one.record)
        for metric in one.plan.suite.metrics:
            curve = {int(size): value for size, value in record.curves.get(metric.name, {}).items()}
            for draws, value in {**curve, record.draws: record.metrics.get(metric.name)}.items():
                values.setdefault((suite, record.model.spec, draws, metric), []).append(value)
    return [_Row(*key, tuple(several)) for key, several in values.items()]


def _suite(record: Record) -> str:
    return str(Spec(record.suite.name, None, record.suite.options))


def _images(record: Record) -> str:
    """What all of a sweep's records are of."""
    data = record.dataset
    return f"{escape(dataset_label(record))}, {data.split} split, {data.n:,} images, {data.fingerprint[:15]}…"


def _audits(finished: Sequence[Finished], suite: str) -> dict[str, str]:
    """What makes models' numbers doubtful, by model; empty where there is nothing."""
    found: dict[str, dict[str, None]] = {}
    for record in (one.record for one in finished if _suite(one.record) == suite):
        for finding in record.findings:
            found.setdefault(record.model.spec, {})[finding.check] = None
    return {model: escape(", ".join(checks)) for model, checks in found.items()}


def _clean(tables: Iterable[Sequence[_Row]]) -> list[str]:
    """The paper's table E.1, from the first suite that says how models do on clean images; nothing without one."""
    order = list(_CLEAN)
    for members in tables:
        rows = [row for row in members if row.metric.name in order]
        if {row.metric.name for row in rows} == _CLEAN.keys():
            rows.sort(key=lambda row: order.index(row.metric.name))
            return ["## clean images", _markdown([_as_clean(row) for row in rows], {})]
    return []


def _as_clean(row: _Row) -> _Row:
    column = _CLEAN[row.metric.name]
    values = row.values
    if column.name == "accuracy":
        values = tuple(None if error is None else 1 - error for error in values)
    return replace(row, metric=column, values=values)


def _markdown(rows: Sequence[_Row], audits: Mapping[str, str]) -> str:
    """A line a model; a metric that none has would be a column of dashes, and is left out."""
    known = {row.metric for row in rows if any(value is not None for value in row.values)}
    lines: dict[str, dict[str, str]] = {}
    for row in rows:
        line = lines.setdefault(row.model, {"model": escape(row.model), "draws": str(row.draws)})
        line["trainings"] = str(len(row.values))
        if row.metric in known:
            line[f"{row.metric.name} {ARROW[row.metric.better]}"] = number(row.mean, row.metric, row.spread)
    for model, line in lines.items() if audits else ():
        line["audit"] = audits.get(model, "no findings")
    return markdown(list(lines.values()), ("model", "audit"))


def _csv(rows: Sequence[_Row]) -> str:
    table = [
        {
            "suite": row.suite,
            "model": row.model,
            "draws": row.draws,
            "metric": row.metric.name,
            "unit": row.metric.unit,
            "better": row.metric.better,
            "trainings": len(row.values),
            "mean": row.mean,
            "standard_deviation": row.spread,
        }
        for row in rows
    ]
    return pd.DataFrame(table).to_csv(index=False, lineterminator="\n")
