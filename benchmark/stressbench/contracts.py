"""Model, Suite, Dataset: everything that a third party extends, in one file.

A plugin registers each by name with an entry point in the group `stressbench.models`, `stressbench.suites` or
`stressbench.datasets`. The callable's signature defines its options and their types. The text after a colon in a
model's name is passed as `argument`; a wrapper annotates it as `registry.ModelName`.

    model      def mynet(dataset: Dataset, **options) -> torch.nn.Module      (or a `registry.Finder` of such callables)
    suite      def mysuite(**options) -> Suite
    dataset    def mydata(split: str, data_dir: Path | None, name: str | None) -> Dataset
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from stressbench.axes import Axis, Distribution, Plane, Profile
from stressbench.errors import UserError
from stressbench.predictor import Predictor
from stressbench.tasks import TASKS, Classification, Depth, Regression, Segmentation, SuperResolution
from stressbench.tasks.base import Columns, Metric, Metrics, Task, mean_of
from stressbench.traits import Composite, Fitted, KeptFit, Part, Sampler, Traits, Wrapper, traits

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from torch import Tensor, nn

    from stressbench.record import Baseline, DatasetInfo, Finding

__all__ = [
    "TASKS", "Archive", "Axis", "Batch", "Classification", "Columns", "Composite", "Condition", "Dataset", "Depth",
    "Distribution", "Fitted", "InMemory", "KeptFit", "Metric", "Metrics", "Part", "Plane", "Predictor", "Profile",
    "Regression", "Sampler", "Segmentation", "Source", "StressSuite", "Stressed", "Suite", "SuperResolution", "Task",
    "Traits", "Wrapper", "traits",
]  # fmt: skip

# One stress, as a flat JSON object, for example {"corruption": "fog", "severity": 3}.
Condition = Mapping[str, str | int | float]


# --- datasets -------------------------------------------------------------------------------------------------
class Source(Protocol):
    """The images or the targets of one split. It is read in ranges, so a set larger than memory can be streamed."""

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int) -> Tensor:
        """Items start … stop − 1, on the CPU.

        Images are (n, 3, H, W), uint8. Targets depend on the task: int64 (n,) or (n, H, W), or float32 (n, K, H, W).
        """
        ...


@dataclass(frozen=True)
class InMemory:
    """A `Source` of one tensor, (N, …)."""

    values: Tensor

    def __len__(self) -> int:
        return len(self.values)

    def read(self, start: int, stop: int) -> Tensor:
        return self.values[start:stop]


class Archive(Protocol):
    """Published files of a suite's stressed images, whose rows correspond to the images of one dataset split."""

    def open(self, conditions: Sequence[Condition], labels: Tensor) -> None:
        """Check that the files of these conditions are complete and match the labels of the full split.

        Raises `UserError` that names the file.
        """

    @property
    def verified(self) -> bool | None:
        """Whether the opened files have the published checksums; None if no checksums are published."""

    @property
    def digests(self) -> Mapping[str, str]:
        """A digest of each opened file, by name. Files with other digests are not the same run."""

    def __contains__(self, condition: object) -> bool:
        """Whether the files hold this condition's images. They do not hold clean ones."""

    def read(self, condition: Condition, start: int, stop: int) -> Tensor:
        """Stressed images start … stop − 1 of a condition: (stop − start, [T,] 3, H, W), uint8, on the CPU."""


@dataclass(frozen=True)
class Dataset:
    """One split of a dataset: images of one size, and their targets."""

    name: str
    """Its name in records and on the leaderboard."""
    split: str
    task: Task
    images: Source
    targets: Source
    image_size: tuple[int, int]
    """Height and width."""
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Mean of each channel, in [0, 1], for models that normalise their input."""
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)
    embedded: bool = False
    """Whether it ships with the harness, which then trains missing weights on the spot."""
    altered: bool = False
    """Whether it has the name of a published set but other pixels, for example re-encoded ones."""
    published: str | None = None
    """The published set with the same content."""
    subset: tuple[int, Sequence[int]] | None = None
    """Where its classes are a part of another set's: how many that has, and which of them these are."""
    archives: Mapping[str, Archive] = field(default_factory=dict)
    """Published stressed images beside the split that the harness can read, by their kind: "corruption", say."""
    recordings: Tensor | None = None
    """For video: the number of the recording that each frame belongs to, (N,), int64."""

    @property
    def classes(self) -> int:
        """The number of classes; raises `UserError` for a task without classes."""
        if isinstance(self.task, Classification | Segmentation):
            return self.task.classes
        raise UserError(f"{self.name} is for {self.task.name}, which has no classes: choose another model or dataset")

    @property
    def labels(self) -> Tensor:
        """All targets of a classification dataset, (N,)."""
        return self.targets.read(0, len(self.targets))

    def require_targets(self, owner: object) -> None:
        """Raises `UserError` that names the `owner` where the targets do not fit the images."""
        images = len(self.images)
        if len(self.targets) != images:
            raise UserError(f"{owner} has {len(self.targets)} targets for {images} images")
        # Those of a classification are small; others are checked as they are read, and here the first of them.
        known = images if self.task.name == "classification" else min(1, images)
        targets = self.targets.read(0, known)
        try:
            self.task.require_targets(targets, known, self.image_size)
        except UserError as error:
            raise UserError(f"{owner} {error}") from error


# --- suites ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """Consecutive clean images of a dataset, on the run's device."""

    images: Tensor
    """(N, 3, H, W), float32 in [0, 1]."""
    targets: Tensor
    """(N,), int64, or as the task defines them."""
    indices: Tensor
    """Positions in the split, (N,), int64."""
    keys: Tensor
    """Random keys for `stressbench.randomness`, one for each image under this condition and seed, (N,), int64."""
    task: Task = field(default_factory=lambda: Classification(0))
    official: Tensor | None = None
    """Published stressed images, (N, [T,] 3, H, W), if the run uses them."""
    recordings: Tensor | None = None
    """For video: the number of the recording that each frame belongs to, (N,), int64."""
    recording_keys: Tensor | None = None
    """For video: random keys, (N,), int64, one for all frames of a recording under this condition and seed."""
    earlier: Batch | None = None
    """For suites with a `history`: the frames of the same recording directly before this batch."""


@dataclass(frozen=True)
class Stressed:
    """The images that the model receives in place of a batch."""

    images: Tensor
    """(N, 3, H, W) or (N, T, 3, H, W), float in [0, 1], on the batch's device."""
    columns: Mapping[str, Tensor] = field(default_factory=dict)
    """Additional columns for the table, (N,) each."""


class Suite(ABC):
    """Stress conditions and the metrics that summarise them. Most suites subclass `StressSuite`."""

    name: ClassVar[str]
    version: ClassVar[str]
    """Increased whenever the same model on the same data could get another number."""
    metrics: tuple[Metric, ...]
    """Metrics of the record; the leaderboard ranks by the first ones."""
    row_metrics: tuple[Metric, ...]
    """Metrics of each condition."""
    rows: ClassVar[Literal["image", "batch", "model"]] = "image"
    """What a row of a condition's table describes: an image, a batch of `batch_size` images, or the model."""
    batch_size: int | None = None
    """Images in a batch if rows are batches; otherwise the run chooses it."""
    split: ClassVar[str] = "test"
    """The split that it measures on: `"test"`, or `"train"` to analyse the training data."""
    history: int | None = None
    """For video: frames before a batch that it needs, in addition to those that the model averages over."""
    draws: int | None = None
    """Draws of a stochastic model unless the run specifies them; None for the model's own default."""
    fitted_on: str | None = None
    """The split that `fit` receives before anything is measured; None if there is nothing to fit."""
    tasks: ClassVar[frozenset[str]] = frozenset({"classification"})
    """The tasks that it supports."""
    benchmark: str | None = None
    """The dataset of this suite's published results, if there is one."""
    scoring_options: ClassVar[frozenset[str]] = frozenset()
    """Options that do not change a condition's table: they select conditions or affect scores only."""
    axes: tuple[Axis, ...] = ()
    """Numbers in the conditions that figures are drawn against."""
    figures: tuple[Plane | Distribution | Profile, ...] = ()
    """Other figures of its conditions and tables."""
    baseline_metrics: tuple[str, ...] = ()
    """Metrics of conditions by which other models are normalised; records keep their jackknife values."""

    def for_task(self, task: str) -> Suite:
        """The suite for a task: itself, unless its metrics depend on the task.

        Raises `UserError` for a task that it does not support.
        """
        if task not in self.tasks:
            raise UserError(f"the {self.name} suite is for {' and '.join(sorted(self.tasks))}, not for {task}")
        return self

    def for_dataset(self, dataset: Dataset) -> Suite:
        """The suite for a dataset, of its own `split`: itself, unless it depends on more than the images."""
        return self

    def take(self, available: int) -> int:
        """The number of images to measure, of so many in the split or within `--limit`: all, by default."""
        return available

    @abstractmethod
    def conditions(self) -> list[Condition]:
        """The conditions to measure: one or more flat mappings, all different."""

    def source(self, condition: Condition) -> str | None:
        """The dataset whose test split replaces the run's images under a condition; None for the run's own images.

        Images of another size are resized to the run's. Records list every dataset that was used.
        """
        return None

    source_dir: Path | None = None
    """A folder with a folder of images, or of Parquet files, for each source that no plugin offers."""

    def published(self, dataset: Dataset) -> Archive | None:
        """The published files with its stressed images of a dataset; None if there are none.

        Those that `bench data pull` fetches are among `dataset.archives`; a suite may read others itself.
        """
        return None

    def deploy(self, condition: Condition, module: nn.Module) -> AbstractContextManager[nn.Module]:
        """The module to measure under a condition, for stress on the weights. By default the module itself.

        It may change the module's weights in place; the run restores them afterwards, also after an error.
        """
        return nullcontext(module)

    def fit(self, batches: Iterator[Batch], model: Predictor) -> None:  # noqa: B027
        """Learn what `measure` needs from the split `fitted_on`, which the record lists."""

    @abstractmethod
    def measure(self, condition: Condition, batch: Batch, model: Predictor) -> dict[int, Columns]:
        """The rows of the condition's table for a batch, by number of draws, for each of `model.sizes`."""

    def score(self, conditions: Sequence[Condition], tables: Sequence[pd.DataFrame]) -> list[Metrics]:
        """The metrics of each condition, from the tables of all conditions.

        Tables hold all images, or the same subset of them in each condition, from which intervals are computed. By
        default a metric is the mean of the column with its name; None if that is missing or holds a NaN.
        """
        return [{metric.name: mean_of(table, metric.name) for metric in self.row_metrics} for table in tables]

    def aggregate(self, conditions: Sequence[Condition], rows: Sequence[Metrics]) -> Metrics:
        """The record's metrics, from the conditions' metrics alone, so that a leaderboard can recompute them.

        By default a metric `mean_x` is the mean of `x` over the conditions; None if one of them is None.
        """
        found: Metrics = {}
        for metric in self.metrics:
            values = [row.get(metric.name.removeprefix("mean_")) for row in rows]
            known = [value for value in values if value is not None]
            found[metric.name] = fmean(known) if known and len(known) == len(values) else None
        return found

    def baseline(self, data: DatasetInfo) -> Baseline | None:
        """The model by whose numbers on the same data the record is normalised; None if there is none.

        Raises `UserError` if the requested one was measured on other data.
        """
        return None

    def normalise(self, conditions: Sequence[Condition], rows: Sequence[Metrics], baseline: Baseline | None) -> Metrics:
        """The record's metrics that are relative to a baseline, beside `aggregate`'s; None without a baseline."""
        return {}

    def protocol(self, data: DatasetInfo) -> str | None:
        """How the images are stressed if that depends on the dataset; kept in the record."""
        return None

    def findings(self, conditions: Sequence[Condition], rows: Sequence[Metrics]) -> list[Finding]:
        """Reasons to doubt the record's numbers, from the conditions' metrics alone."""
        return []

    def unsupported(self, dataset: Dataset) -> str | None:
        """Why this suite does not support a dataset; None if it does."""
        return None

    def unsupported_model(self, module: nn.Module) -> str | None:
        """Why this suite does not support a model, which may have no weights yet; None if it does."""
        return None


class StressSuite(Suite):
    """A suite that stresses images and evaluates the predictions.

    Implement `conditions`, `stress` and `observe`; curves over draws, official files, resuming and intervals follow.
    """

    @abstractmethod
    def stress(self, condition: Condition, batch: Batch, model: Predictor) -> Stressed:
        """The stressed images. Use `model.module` for gradients."""

    def examine(self, condition: Condition, batch: Batch, stressed: Tensor, model: Predictor) -> Columns:
        """More columns for the table, computed from the stressed images, generated or official."""
        return {}

    @abstractmethod
    def observe(self, condition: Condition, batch: Batch, predictions: Tensor) -> Columns:
        """Columns for the table, from the log-probabilities (S, N[, T], C) of S draws.

        For a curve over numbers of draws it is called on the first 1, 2, 5, … of the same draws.
        """

    def measure(self, condition: Condition, batch: Batch, model: Predictor) -> dict[int, Columns]:
        official = batch.official
        stressed = self.stress(condition, batch, model) if official is None else Stressed(official)
        predictions = model.predict(stressed.images, batch.keys)
        shared = {**stressed.columns, **self.examine(condition, batch, stressed.images, model)}
        return {size: {**shared, **self.observe(condition, batch, predictions[:size])} for size in model.sizes}
