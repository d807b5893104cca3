"""What tasks share: how one number of a record is read, and what a task has to offer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from torch import Tensor

from stressbench.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

# One condition's metrics, or a record's: numbers in the units of the suite's `metrics`, None for unknown.
Metrics = dict[str, float | None]
# Columns of a table, by name: a number, or a list of K numbers, for each of N images, (N,) or (N, K).
Columns = Mapping[str, Tensor]


@dataclass(frozen=True)
class Metric:
    """How to read one number of a record; the first that has a direction and is not null ranks the leaderboard."""

    name: str
    unit: Literal["fraction", "nats", "number"]
    """Fractions are shown to people as percent."""
    better: Literal["lower", "higher"] | None
    """None: descriptive; it never ranks and no value of it is the better one."""
    bounds: tuple[float, float] | None = None
    """What it can be, where that is not what its unit says."""
    interval: Literal["jackknife", "proportion"] | None = "jackknife"
    """How its 95 % interval is made.

    `"proportion"` is for a mean over all images of values in [0, 1], such as an error: where it is exactly 0 or 1, and
    no group of images makes a difference, it has the interval of a share of the images (Wilson, 1927). None is for a
    number whose spread cannot be had by leaving images out, such as the place of a maximum: it has no interval and no
    test.
    """
    share_of: str | None = None
    """What it counts a share of, for a condition's metric: `"n"`, the images of the row, or another metric of the row.

    A leaderboard then refuses a value that no whole number of images gives.
    """
    about: str = field(default="", compare=False)
    """Its definition in a sentence, without a full stop, for whoever reads a table."""

    @property
    def range(self) -> tuple[float, float]:
        """What it can be: [0, 1] for fractions, [0, ∞) for nats and any number else, unless it has `bounds`."""
        by_unit = {"fraction": (0.0, 1.0), "nats": (0.0, math.inf), "number": (-math.inf, math.inf)}
        return self.bounds or by_unit[self.unit]


class Task(Protocol):
    """What a model predicts for an image, how that is checked, and what any suite can measure of it."""

    name: ClassVar[str]
    row_metrics: ClassVar[tuple[Metric, ...]]
    """The metrics that `score` gives."""
    outputs: ClassVar[Literal["logits", "values"]]
    """What a model returns."""

    @property
    def summary(self) -> str:
        """What is predicted for an image, in a few words, such as "10 classes"."""
        ...

    def shape(self, n: int, size: tuple[int, int]) -> tuple[int, ...]:
        """The shape of a model's output for n images of H×W pixels."""
        ...

    def unusable(self, raw: Tensor) -> Tensor:
        """Which images' outputs give no prediction, because they are NaN or infinite: (N,), bool."""
        ...

    def require_targets(self, targets: Tensor, n: int, size: tuple[int, int]) -> None:
        """Raises `UserError` that says what is wrong with the targets of n images of H×W pixels, if anything is."""
        ...

    def predictions(self, raw: object, images: Tensor) -> Tensor:
        """A model's output for images (N, 3, H, W), checked, as predictions with classes or channels last.

        Log-probabilities (N, C) or (N, H, W, C), or values (N, H, W, K); float32. Raises `UserError` that says what is
        wrong with the output; its caller names the model.
        """
        ...

    def loss(self, raw: Tensor, targets: Tensor) -> Tensor:
        """The loss of each image, (N,), of a model's output: for training, and for attacks that take gradients."""
        ...

    def observe(self, predictions: Tensor, targets: Tensor) -> Columns:
        """What `score` needs of each image, from predictions (S, N, …) of S draws."""
        ...

    @classmethod
    def score(cls, table: pd.DataFrame) -> Metrics:
        """The `row_metrics` of a table whose columns are those of `observe`."""
        ...


def mean_of(table: pd.DataFrame, column: str) -> float | None:
    """The mean of a table's column; None if it is missing or holds a NaN."""
    mean = float(table[column].to_numpy(dtype="float64").mean()) if column in table else math.nan
    return None if math.isnan(mean) else mean


def checked(task: Task, raw: object, images: Tensor) -> Tensor:
    """A model's output for images (N, 3, H, W), as it is.

    Raises `UserError` for another type or shape and for NaN or infinite numbers, unless `postponed` keeps those for
    later; its caller names the model.
    """
    n, *_, height, width = images.shape
    expected = task.shape(n, (height, width))
    if not isinstance(raw, Tensor):
        raise UserError(f"returned a {type(raw).__name__}; it must return {task.outputs} {expected}")
    if tuple(raw.shape) != expected:
        raise UserError(
            f"returned shape {tuple(raw.shape)} for {n} images of {task.summary}; it must return "
            f"{task.outputs} {expected}"
        )
    found = Unusable(task.unusable(raw).sum(), n, task.outputs)
    if (later := _LATER.get()) is None:
        require_usable([found])
    else:
        later.append(found)
    return raw


@dataclass(frozen=True)
class Unusable:
    """For how many images a model returned NaN or infinite numbers in one pass."""

    count: Tensor
    """On the device, (), int64."""
    images: int
    outputs: str


_LATER: ContextVar[list[Unusable] | None] = ContextVar("unusable outputs", default=None)


@contextmanager
def postponed(found: list[Unusable]) -> Iterator[None]:
    """Inside, numbers that are not finite raise nothing, so that none waits for a GPU: `require_usable` asks later."""
    before = _LATER.set(found)
    try:
        yield
    finally:
        _LATER.reset(before)


def require_usable(found: Sequence[Unusable]) -> None:
    """Raises `UserError` for the first pass with NaN or infinite numbers; its caller names the model."""
    for one in found:
        if wrong := int(one.count):
            raise UserError(
                f"returned NaN or infinite {one.outputs} for {wrong} of {one.images} images; check its weights and its "
                "normalisation"
            )
