"""The record: everything that is needed to verify a result or to repeat it.

It is one JSON file. Metrics are in the units that the suite states, unknown values are null, dates are UTC in ISO 8601.
Files of older schema versions are upgraded when they are read; files of newer ones are refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
)

from stressbench import record_file
from stressbench.errors import UserError
from stressbench.record_values import date, not_a_truth_value, number

if TYPE_CHECKING:
    import pandas as pd


Number = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(number)]
Integer = Annotated[int, BeforeValidator(number)]
Count = Annotated[Integer, Field(ge=0, le=10**14)]
Images = Annotated[Integer, Field(ge=1, le=10**9)]
Draws = Annotated[Integer, Field(ge=1, le=10**6)]
Pixels = Annotated[Integer, Field(ge=1, le=10**5)]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Text = Annotated[str, Field(min_length=1, max_length=300)]
Precision = Literal["float32", "bfloat16"]
_NUMBER = r"-?\d{1,9}(?:\.\d{1,9})?(?:e[+-]\d{2,3})?"
Sketch = Annotated[str, Field(pattern=rf"^{_NUMBER}(?: {_NUMBER}){{7}}$")]  # see `results.sketches`

LONGEST_NAME = 80


def display_name(text: str) -> str:
    """A name that a person gives a model, for legends; raises `ValueError` unless it is one short printable line."""
    if not 0 < len(text) <= LONGEST_NAME or not text.isprintable() or text != text.strip():
        raise ValueError(f"expected 1 to {LONGEST_NAME} printable characters, no blank first or last")
    return text


# Of a field that older records do not have: not written where it is empty, so that they come back as they were.
_NEWER = Field(exclude_if=lambda value: not value)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


Size = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,6}$")]  # a number of draws, in digits
# Metrics over ensemble sizes: metric → size → value.
_Sizes = Field(max_length=64)
Curves = dict[str, Annotated[dict[Size, Number | None], _Sizes]]
# The same for 95 % intervals, and for the metric without each group of images, from which they are computed.
Intervals = dict[str, Annotated[dict[Size, tuple[Number, Number] | None], _Sizes]]
Jackknife = dict[str, Annotated[dict[Size, list[Number] | None], _Sizes]]


class Row(_Part):
    condition: dict[str, Annotated[str | int | float, BeforeValidator(not_a_truth_value)]]
    n: Images
    metrics: dict[str, Number | None]
    curves: Curves = {}
    jackknife: dict[str, list[Number] | None] = {}
    """The metrics in `Suite.baseline_metrics` without each group of images, at the record's number of draws."""

    def without(self, group: int) -> Row:
        """The row computed without one group of images, for the metrics with a jackknife."""
        left = {name: values[group] for name, values in self.jackknife.items() if values}
        return self.model_copy(update={"metrics": {**self.metrics, **left}})


class Baseline(_Part):
    """The model by whose numbers another one is normalised, with these numbers, so that they can be checked."""

    model: Text
    source: Text
    """The published table or the record that the numbers are from."""
    conditions: list[Row]

    def without(self, group: int) -> Baseline:
        """The baseline computed without one group of images, to pair it with a model on the same images.

        Published numbers and records of earlier versions have no jackknife and stay the same.
        """
        return self.model_copy(update={"conditions": [row.without(group) for row in self.conditions]})


class SuiteInfo(_Part):
    name: Text
    version: Text
    distribution: Text
    distribution_version: Text
    options: Annotated[dict[str, Annotated[str, Field(max_length=300)]], Field(max_length=50)]
    baseline: Baseline | None
    protocol: Text | None = None
    """How the images are stressed if that depends on the dataset, for example constants for this image size."""

    @property
    def offer(self) -> str:
        """The unique name, which includes the distribution."""
        return f"{self.distribution}/{self.name}"


class DatasetInfo(_Part):
    name: Text
    split: Text
    n: Images
    fingerprint: Digest
    """Of the clean images and targets that were used."""
    altered: bool
    """Whether it has the name of a published set but other pixels."""
    stress: Literal["official", "generated"]
    stress_verified: bool | None
    """For official files: whether their checksums are the published ones; null if none are published."""
    published: Text | None = None
    """The published test set with the same content. Published results are comparable only on it."""
    classes: Annotated[Integer, Field(ge=1, le=10**6)] | None = None
    """Number of classes; null in older records."""
    image_size: tuple[Pixels, Pixels] | None = None
    """Height and width of the clean images, in pixels; null in older records."""
    task: Text = "classification"
    """The task of the dataset."""

    @property
    def content(self) -> dict[str, Any]:
        """The fields that must agree for two records on the same images, without those that older records lack."""
        return self.model_dump(mode="json", exclude={"published", "classes", "image_size", "task"})


class PluginInfo(_Part):
    name: Text
    distribution: Text
    version: Text


class TrainingInfo(_Part):
    """How the weights of a model, or of one of its parts, were trained, as their file says."""

    spec: Text
    """What was trained: the model, or the part of it."""
    seed: Count
    dataset: Text
    split: Text
    fingerprint: Digest
    """Of the images and targets that it was trained on."""
    validation: Count
    """Number of images that were held out of the split, to measure on in place of the test split."""
    recipe: Text
    """The recipe's name, with its options."""
    epochs: Annotated[Integer, Field(ge=1, le=10**6)]
    settings: Annotated[dict[str, Annotated[str, Field(max_length=1000)]], Field(max_length=100)]
    """The recipe's other fields, and the training's other options."""
    precision: Precision
    """Of the arithmetic that the recipe came to on the device."""
    measured_on: Text
    """The split of `metrics`."""
    metrics: Annotated[dict[str, Number], Field(max_length=50)]
    """After the last epoch, from one pass, by name: fractions and nats. `train_loss` is the mean over that epoch."""
    seconds: Number
    device: Text
    device_name: Text
    versions: Annotated[dict[str, Text], Field(max_length=20)]
    """Of stressbench and torch."""


class ModelInfo(_Part):
    spec: Text
    """Its name with options."""
    name: Annotated[Annotated[str, AfterValidator(display_name)] | None, _NEWER] = None
    """What its author calls it in legends and tables, which decides nothing; not written where there is none."""
    distribution: Text
    """The distribution of the outermost plugin."""
    version: Text
    plugins: Annotated[list[PluginInfo], Field(min_length=1, max_length=50)]
    """All plugins that the spec names, the outermost first."""
    parameters: Count
    stochastic: bool
    weights_checksum: Digest
    weights_source: Text
    training: Annotated[list[TrainingInfo], Field(max_length=1000)] = []
    """One for each part, in order, whose weights `bench train` made; empty in records made before this was kept."""

    @property
    def label(self) -> str:
        """Its author's name for it, else its spec."""
        return self.name or self.spec


class Environment(_Part):
    stressbench: Text
    commit: Text | None
    python: Text
    packages: Annotated[dict[str, Text], Field(max_length=200)]
    platform: Text
    device: Text
    """The device's model name; the record's `device` is torch's name."""
    executor: Text = "this process"
    """Who computed the cells; of a resumed run, the last ones."""
    compiled: Annotated[bool, _NEWER] = False
    """Whether `torch.compile` made the passes of whole batches."""


class Finding(_Part):
    """A reason to doubt a record's numbers."""

    check: Text
    """A short stable name."""
    message: Text
    source: Literal["suite", "run"] = "suite"
    """A suite's findings follow from the conditions' metrics and can be recomputed; the run's cannot."""


class Timing(_Part):
    seconds: Number
    """Time for stress, prediction and evaluation of all conditions, over all sessions of the run."""
    images_per_second: Number
    """Clean and stressed images, each counted once, whatever the number of draws."""


class Record(_Part):
    """One model through one suite."""

    schema_version: Literal[3]
    created: Annotated[datetime, BeforeValidator(date)]
    suite: SuiteInfo
    dataset: DatasetInfo
    sources: list[DatasetInfo] = []
    """Other datasets that conditions were measured on."""
    model: ModelInfo
    draws: Draws
    seed: Integer
    precision: Text
    batch_size: Images
    device: Text
    environment: Environment
    timing: Timing
    metrics: dict[str, Number | None]
    curves: Curves
    """Metrics by number of draws; empty unless `--sizes` was given."""
    intervals: Intervals
    """95 % intervals of the metrics, by number of draws; empty in upgraded records."""
    jackknife: Jackknife
    findings: Annotated[list[Finding], Field(max_length=100)]
    conditions: Annotated[list[Row], Field(min_length=1)]
    sketches: Annotated[list[Annotated[dict[str, Sketch], Field(max_length=64)]], _NEWER] = []
    """Of each condition, in order, a digest of every column of its per-image table at the record's number of draws, by
    which a replay compares row by row; empty, and not written, where rows are not images and in older records."""

    _folder: Path | None = PrivateAttr(None)
    _suite: Any = PrivateAttr(None)

    def __repr_args__(self) -> Iterator[tuple[str, object]]:
        """What a prompt or a notebook shows of a record; `to_json` has all of it."""
        yield "model", self.model.spec
        yield "suite", self.suite.name
        yield "dataset", dataset_label(self)
        yield "n", self.dataset.n
        yield "draws", self.draws
        yield (
            "metrics",
            {name: value if value is None else float(f"{value:.4g}") for name, value in self.metrics.items()},
        )

    @property
    def folder(self) -> Path | None:
        """The run folder with the tables that the record was made from, where it is known."""
        return self._folder

    def named(self, name: str | None) -> Record:
        """The same with another display name of its model."""
        return self.model_copy(update={"model": self.model.model_copy(update={"name": name})})

    def to_frame(self) -> pd.DataFrame:
        """A row for each condition, in order: its keys, the number of images `n`, and its metrics, NaN for unknown.

        Metrics are in the units of the suite: fractions, not percent.
        """
        import pandas as pd

        rows = [{**row.condition, "n": row.n, **row.metrics} for row in self.conditions]
        frame = pd.DataFrame(rows)
        names = list(self.conditions[0].metrics)
        return frame.astype(dict.fromkeys(names, "float64"))

    def save(self, path: str | Path) -> None:
        """Write the record to a JSON file, which `stressbench.load` reads; raises `UserError` where that fails."""
        try:
            Path(path).write_text(self.to_json(), encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror or error}") from error

    @property
    def rows(self) -> int:
        """How many images, or batches, its intervals are of: as many as each condition has at least."""
        return min(row.n for row in self.conditions)

    def to_json(self) -> str:
        """Indented JSON with a final newline."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def dataset_label(record: Record) -> str:
    """The dataset's name, marked if the pixels are not the published ones."""
    return f"{record.dataset.name}-altered" if record.dataset.altered else record.dataset.name


def load(path: Path) -> Record:
    """Read a record file, or the record in a run folder.

    Raises `UserError`, which names the file and the first invalid field, for a file that is missing, too large, not
    JSON, of a newer schema, or not a record.
    """
    path = path / "record.json" if path.is_dir() else path
    try:
        return Record.model_validate(record_file.read(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{path} is not a record: {where}: {first['msg']}") from error
