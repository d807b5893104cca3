"""Sweeps: models × trainings × suites from one file, and their tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import pandas as pd
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, create_model

from stressbench._util import files, toml
from stressbench._util.tabular import escape, markdown
from stressbench.contracts import Metric
from stressbench.errors import UserError, did_you_mean
from stressbench.execution.request import RunRequest
from stressbench.execution.session import Finished
from stressbench.recipe import Options
from stressbench.record import Record, dataset_label, display_name
from stressbench.results.show import ARROW, number
from stressbench.spec import Spec, slug

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


def _a_name_each(names: list[str], info: ValidationInfo) -> list[str]:
    models = info.data.get("models", names)
    if names and len(names) != len(models):
        raise ValueError(f"it has {len(names)} for {len(models)} models: give one for each, in order, or none")
    return names


_Names = Annotated[list[str], Field(min_length=1), AfterValidator(_no_twins)]
_Count = Annotated[int, Field(ge=1)]
_Seed = Annotated[int, Field(ge=0, lt=2**31)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


# How models are trained that lack weights: the keys of [train] are the options of `bench train`.
_KEYS: dict[str, Any] = get_type_hints(Options, include_extras=True)
if TYPE_CHECKING:
    _Train = _Part
else:
    _Train = create_model(
        "Train", __base__=_Part, **{key: (hint, getattr(Options, key)) for key, hint in _KEYS.items()}
    )


class Sweep(_Part):
    """The content of the file; options of `bench run` have the same names here."""

    models: _Names
    names: Annotated[
        list[Annotated[str, AfterValidator(display_name)]], AfterValidator(_no_twins), AfterValidator(_a_name_each)
    ] = []
    """What records and tables call each model, in order."""
    suites: _Names
    seeds: Annotated[list[_Seed], Field(min_length=1), AfterValidator(_no_twins)] = [0]  # trainings of each model
    dataset: str
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
    train: _Train = _Train()

    @property
    def request(self) -> RunRequest:
        """The same as for `bench run`."""
        fields = self.model_dump(exclude={"seeds", "train", "data_dir"})
        return RunRequest(
            **fields, data_dir=None if self.data_dir is None else Path(self.data_dir), trainings=self.seeds
        )

    @property
    def options(self) -> Options:
        return Options(**self.train.model_dump())


class _Parts(_Part):
    parts: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]


def read(path: Path, dataset: str) -> dict[str, Sweep]:
    """Read a file's sweeps, by the name of their tables: one, named as the file is, or one for each of its [parts].

    A part has the keys of the file's top and [train], but for those that it sets itself. A relative `data_dir` counts
    from the working directory, as on the command line. `dataset` is that of sweeps that name none.

    Raises `UserError` for a missing file, invalid TOML, and unknown keys or values.
    """
    common = {"dataset": dataset, **toml.load(path)}
    if "parts" not in common:
        return {path.stem: toml.checked(common, str(path), Sweep, _first)}
    parts = toml.checked({"parts": common.pop("parts")}, str(path), _Parts, _first).parts
    sweeps = {}
    for name, own in parts.items():
        merged = {**common, **own}
        if isinstance(common.get("train"), dict) and isinstance(own.get("train"), dict):
            merged["train"] = common["train"] | own["train"]
        sweeps[f"{path.stem}-{name}"] = toml.checked(merged, f"{path}, [parts.{name}]", Sweep, _first)
    if len({part.dataset for part in sweeps.values()}) > 1:
        raise UserError(f"{path}: its parts are of different datasets; write a file for each")
    return sweeps


def _first(error: ValidationError) -> str:
    """The first error, in one line."""
    # A key that is not known explains one that is missing.
    fault = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    *above, key = map(str, fault["loc"])
    if fault["type"] != "extra_forbidden":
        return f"{'.'.join([*above, key])}: {fault['msg']}"
    known = list(_KEYS) if above else list(Sweep.model_fields)
    where = f"[{'.'.join(above)}]" if above else "a sweep's file"
    # All that follows a table's header belongs to that table, which is easily forgotten.
    hint = f"'{key}' goes above [{above[0]}]; " if above and key in Sweep.model_fields else did_you_mean(key, known)
    return f"there is no key '{key}' in {where}: {hint}known are {', '.join(known)}"


@dataclass(frozen=True)
class _Row:
    """A model's trainings in one suite: a value of each metric for each training, None if unknown."""

    suite: str
    model: str
    name: str | None
    draws: int
    metric: Metric
    values: tuple[float | None, ...]

    @property
    def mean(self) -> float | None:
        """None if one of the values is unknown: never a mean over a part."""
        known = [value for value in self.values if value is not None]
        return fmean(known) if len(known) == len(self.values) else None

    @property
    def spread(self) -> float | None:
        """The sample standard deviation over trainings, of two or more."""
        known = [value for value in self.values if value is not None]
        return stdev(known) if len(known) == len(self.values) > 1 else None


def write(out: Path, name: str, finished: Sequence[Finished]) -> tuple[Path, Path]:
    """Write a sweep's tables, `<name>.md` and, with every number, `<name>.csv`; returns their paths.

    Raises `UserError` if they cannot be written.
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
    with files.writing(out):
        out.mkdir(parents=True, exist_ok=True)
        files.replace(page, ("\n\n".join(parts) + "\n").encode())
        files.replace(table, _csv(rows).encode())
    return page, table


def _rows(finished: Sequence[Finished]) -> list[_Row]:
    """All numbers of all records; those of one model and suite side by side."""
    values: dict[tuple[str, str, str | None, int, Metric], list[float | None]] = {}
    for one in finished:
        record, suite = one.record, _suite(one.record)
        model = record.model.spec, record.model.name
        for metric in one.plan.suite.metrics:
            curve = {int(size): value for size, value in record.curves.get(metric.name, {}).items()}
            for draws, value in {**curve, record.draws: record.metrics.get(metric.name)}.items():
                values.setdefault((suite, *model, draws, metric), []).append(value)
    return [_Row(*key, tuple(several)) for key, several in values.items()]


def _suite(record: Record) -> str:
    return str(Spec(record.suite.name, None, record.suite.options))


def _images(record: Record) -> str:
    """The images of all records of a sweep."""
    data = record.dataset
    return f"{escape(dataset_label(record))}, {data.split} split, {data.n:,} images, {data.fingerprint[:15]}…"


def _audits(finished: Sequence[Finished], suite: str) -> dict[str, str]:
    """Findings by model; empty if there are none."""
    found: dict[str, dict[str, None]] = {}
    for record in (one.record for one in finished if _suite(one.record) == suite):
        for finding in record.findings:
            found.setdefault(record.model.spec, {})[finding.check] = None
    return {model: escape(", ".join(checks)) for model, checks in found.items()}


def _clean(tables: Iterable[Sequence[_Row]]) -> list[str]:
    """The paper's table E.1, from the first suite with metrics on clean images; empty without one."""
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
    """A line for each model; metrics that no model has are left out."""
    known = {row.metric for row in rows if any(value is not None for value in row.values)}
    lines: dict[str, dict[str, str]] = {}
    for row in rows:
        line = lines.setdefault(row.model, {"model": escape(row.name or row.model), "draws": str(row.draws)})
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
            "name": row.name,
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
