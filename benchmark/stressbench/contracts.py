"""Model, Suite, Dataset: the whole surface that a third party extends, on one screen.

Each is reached by one entry point a name, in the groups `stressbench.models`, `stressbench.suites` and
`stressbench.datasets`. The callable's own signature types its options; what follows a colon in a model's name is its
`argument`, which a wrapper annotates as `registry.ModelName`.

    model      def mynet(dataset: Dataset, **options) -> torch.nn.Module      (or a `registry.Finder` of such callables)
    suite      def mysuite(**options) -> Suite
    dataset    def mydata(split: str, data_dir: Path | None, name: str | None) -> Dataset
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

    from stressbench.record import Baseline, DatasetInfo, Finding

# What was done to the images: flat and JSON-able, for example {"corruption": "fog", "severity": 3}.
Condition = Mapping[str, str | int | float]
# One condition's metrics, or a record's: numbers in the units of the suite's `metrics`, None for unknown.
Metrics = dict[str, float | None]


# --- models ---------------------------------------------------------------------------------------------------


@runtime_checkable
class Model(Protocol):
    """What a module may say of itself. A plain `torch.nn.Module` that says nothing is a ready, deterministic model.

    The module takes images (N, 3, H, W), float in [0, 1], normalises them itself, and returns logits (N, C).
    The harness calls `.eval()` on it once, before anything else.
    """

    stochastic: bool  # two passes differ; random numbers come from `stressbench.randomness`, or from torch's generator
    default_draws: int  # how many passes make one prediction unless `--draws` says otherwise
    untrained: bool  # the weights that it was built with are an initialisation: the harness must load or train some


@runtime_checkable
class Published(Protocol):
    """A module whose numbers something else decides, beside its plugin and its weights."""

    origin: str  # a library's version, a repository's commit


@dataclass(frozen=True)
class Part:
    """A model inside a model: an ensemble's member, or what a wrapper wraps. It may have parts of its own."""

    spec: str  # what names it by itself, so that its weights are found, or trained, under that name
    seed: int  # which of its trainings; an inner part's seed counts from its whole's
    module: nn.Module


@runtime_checkable
class Composite(Protocol):
    """A module made of models. Its parts get the weights, in this order, and it has no others."""

    def parts(self) -> Sequence[Part]: ...


@runtime_checkable
class Sampler(Protocol):
    """A module that can do better than n passes for n draws offers this too."""

    def draws(self, images: Tensor, n: int) -> Tensor:
        """Logits (n, N, C) of n draws for images (N, 3, H, W).

        Draw s is what a pass inside `randomness.redraw(s)` gives, so that n draws begin with the first of fewer.
        """
        ...


@runtime_checkable
class Finite(Protocol):
    """A stochastic module of which more than so many draws would repeat the first ones, as an ensemble's members do."""

    most_draws: int | None  # None: there is no end to them


@runtime_checkable
class Wrapper(Protocol):
    """A module that disturbs another, which predicts without it: what the disturbance costs can be told."""

    @property
    def unwrapped(self) -> nn.Module: ...


# --- datasets -------------------------------------------------------------------------------------------------


class Images(Protocol):
    """The pixels of one split, read by position, so that a set larger than memory can stream."""

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int) -> Tensor:
        """Images start … stop−1: (stop − start, 3, H, W), uint8, on the CPU."""
        ...


class Archive(Protocol):
    """Published files that hold a suite's stressed images, row for row beside one dataset split."""

    def open(self, conditions: Sequence[Condition], labels: Tensor) -> None:
        """Check that all files these conditions need are whole and go with these labels (of the full split).

        Raises `UserError` that names the file.
        """
        ...

    @property
    def verified(self) -> bool | None:
        """Whether the opened files' checksums are the published ones; None where none are published."""
        ...

    def __contains__(self, condition: object) -> bool:
        """Whether it holds this condition's images (the clean ones it does not)."""
        ...

    def read(self, condition: Condition, start: int, stop: int) -> Tensor:
        """The stressed images start … stop−1 under a condition: (stop − start, [T,] 3, H, W), uint8, on the CPU."""
        ...


@dataclass(frozen=True)
class Dataset:
    """One split of labelled images, all of one size."""

    name: str  # what the record and the leaderboard call it
    split: str
    images: Images
    labels: Tensor  # (N,), int64, 0 … classes − 1
    classes: int
    image_size: tuple[int, int]  # height, width
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)  # a model that normalises its input may use these, in [0, 1]
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)
    embedded: bool = False  # ships with the harness: missing weights are trained on the spot
    altered: bool = False  # carries a published set's name, but not its pixels (re-encoded, say)
    archives: Mapping[str, Archive] = field(default_factory=dict)  # by the suite's `archive`; only those that are there


# --- suites ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """Consecutive clean images of a dataset, on the run's device."""

    images: Tensor  # (N, 3, H, W), float32 in [0, 1]
    labels: Tensor  # (N,), int64
    indices: Tensor  # (N,), int64: their positions in the split
    keys: Tensor  # (N,), int64: one for each image under this condition and seed, for `stressbench.randomness`


@dataclass(frozen=True)
class Stressed:
    """What a model is shown in place of a batch."""

    images: Tensor  # (N, 3, H, W) or (N, T, 3, H, W), float in [0, 1], on the batch's device
    columns: Mapping[str, Tensor] = field(default_factory=dict)  # what was seen on the way, (N,) each: for the table


@dataclass(frozen=True)
class Metric:
    """How to read one number of a record. A record's first metric that is not null ranks the leaderboard."""

    name: str
    unit: Literal["fraction", "nats", "number"]  # fractions are shown to people as percent
    better: Literal["lower", "higher"] | None  # None: it describes, and does not rank
    bounds: tuple[float, float] | None = None  # what it can be, where that is not what its unit says

    @property
    def range(self) -> tuple[float, float]:
        """What it can be: [0, 1] for fractions, [0, ∞) for nats and any number else, unless it has `bounds`."""
        by_unit = {"fraction": (0.0, 1.0), "nats": (0.0, math.inf), "number": (-math.inf, math.inf)}
        return self.bounds or by_unit[self.unit]


class Suite(ABC):
    """A set of stress conditions and the metrics that sum them up."""

    name: ClassVar[str]
    version: ClassVar[str]  # changes whenever the same model on the same data could get another number
    metrics: ClassVar[tuple[Metric, ...]]  # of the record, the ones that rank first
    row_metrics: ClassVar[tuple[Metric, ...]]  # of each condition
    benchmark: ClassVar[str]  # the dataset that this suite's published numbers are on
    archive: ClassVar[str | None] = None  # the kind of published files that hold its stress, if there are any
    # Options that leave each condition's table as it is: they choose conditions, or change what is made of the tables.
    free_options: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def conditions(self) -> list[Condition]:
        """What to try."""

    @abstractmethod
    def present(self, condition: Condition, batch: Batch, model: nn.Module) -> Stressed:
        """The stressed images. `model` is there to be differentiated through; what judges them is the runner's."""

    def examine(self, condition: Condition, batch: Batch, stressed: Tensor, model: nn.Module) -> dict[str, Tensor]:
        """More columns for the table, (N,) each, of what becomes of the stressed images, official ones too."""
        return {}

    @abstractmethod
    def observe(self, condition: Condition, batch: Batch, log_probs: Tensor) -> dict[str, Tensor]:
        """Named columns of per-image numbers, (N,) each, from log-probabilities (S, N[, T], C).

        A curve over ensemble sizes is this on the first 1, 2, 5, … of the same S draws.
        """

    @abstractmethod
    def score(self, conditions: Sequence[Condition], tables: Sequence[pd.DataFrame]) -> list[Metrics]:
        """Each condition's metrics, from the tables of all: of every image, or of the same ones in each condition.

        Intervals are made from scores of a part of the images, and `bench compare` takes some of them several times.
        """

    def baseline(self, data: DatasetInfo) -> Baseline | None:
        """The model whose numbers on the same data normalise the record's; None where there is none.

        Raises `UserError` for one that was asked for and is of other data.
        """
        return None

    @abstractmethod
    def aggregate(self, conditions: Sequence[Condition], rows: Sequence[Metrics], baseline: Baseline | None) -> Metrics:
        """The record's metrics, from the conditions' metrics alone, so that a leaderboard can recompute them."""

    def findings(self, conditions: Sequence[Condition], rows: Sequence[Metrics]) -> list[Finding]:
        """What makes the record's numbers doubtful, from the conditions' metrics alone."""
        return []

    def unsupported(self, dataset: Dataset) -> str | None:
        """Why this suite's numbers would mean nothing on a dataset; None where they mean something."""
        return None
