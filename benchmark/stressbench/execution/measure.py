"""Cells → tables: a suite measures a model, batch by batch, on a range of images under one condition."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stressbench import randomness
from stressbench._util.terminal import ProgressCallback
from stressbench.contracts import Batch, Columns, Condition, Dataset, Regression, Segmentation, Suite, traits
from stressbench.datasets.ahead import ReadAhead
from stressbench.datasets.cache import ImageCache, to_float
from stressbench.errors import UserError, plugin_errors
from stressbench.execution.plan import FITTED, Plan
from stressbench.execution.predict import Predictor
from stressbench.results.conditions import describe
from stressbench.results.tables import RESERVED
from stressbench.tasks.base import Unusable, postponed, require_usable

MEMORY = 1 << 27
"""Bytes of all draws' predictions for a batch of images; suites and models take several times as much."""

SECONDS = 60.0
"""After so many seconds a measurement ends with the batch that it is at, so that what it has can be kept.

The ranges of a condition join to the numbers of a condition that was not split: batches stay as they are.
"""


class Measurement:
    """One plan's suite with its model and its images."""

    def __init__(
        self,
        plan: Plan,
        predictor: Predictor,
        images: Mapping[str | None, ImageCache],
        after_batch: Callable[[], None] | None = None,
    ) -> None:
        """`images` are the run's own, by None, and those of the sources that conditions name, by name.

        `after_batch` is called whenever a batch was measured; it may raise `UserError` to stop the measurement."""
        self._plan, self._predictor, self._images = plan, predictor, images
        self._after_batch = after_batch
        self._fitted = plan.fitted is None
        self._published: tuple[Condition, ReadAhead] | None = None
        self._unusable: list[Unusable] = []

    def __call__(
        self, condition: Condition, start: int, stop: int, advance: ProgressCallback
    ) -> tuple[int, dict[int, dict[str, NDArray[np.generic]]]]:
        """The tables of images start … stop − 1 under a condition, by number of draws; `advance` counts the images.

        What took `SECONDS` ends before `stop`; the first number returned is where.

        Raises `UserError` that names the condition where the model or the suite fails.
        """
        if not self._fitted:
            self._fit(advance)
        parts: dict[int, list[dict[str, Tensor]]] = {size: [] for size in self._predictor.sizes}
        self._unusable.clear()
        started = time.monotonic()
        with self._deployed(condition) as predictor:
            size = step(self._plan, condition, self._predictor.sizes[-1])
            for low in range(start, stop, size):
                high = min(low + size, stop)
                for draws, columns in self._measured(condition, self._batch(condition, low, high), predictor).items():
                    parts[draws].append(columns)
                advance(high - low, describe(condition))
                if time.monotonic() - started >= SECONDS:
                    break
        try:
            require_usable(self._unusable)
        except UserError as error:
            raise UserError(f"under {describe(condition)}, {predictor.name} {error}") from error
        tables = {size: _joined(of_size) for size, of_size in parts.items()}
        self._require_finite(condition, tables)
        return high, tables

    def _fit(self, advance: ProgressCallback) -> None:
        """Let the suite learn from the split that it is fitted on; raises `UserError` where the suite fails."""
        plan, images = self._plan, self._images[FITTED]
        root = randomness.derive(plan.seed, {"split": plan.fitted.split}) if plan.fitted else 0

        def batches() -> Iterator[Batch]:
            for start in range(0, len(images), plan.batch_size):
                stop = min(start + plan.batch_size, len(images))
                indices = torch.arange(start, stop, device=plan.device)
                keys = randomness.image_keys(root, indices)
                yield Batch(*images.batch(start, stop), indices, keys, plan.dataset.task)
                advance(0, f"the {plan.suite.fitted_on} split, image {stop:,}")

        with suite_errors(plan, self._predictor.name):
            plan.suite.fit(batches(), self._predictor)
        self._fitted = True

    @contextmanager
    def _deployed(self, condition: Condition) -> Iterator[Predictor]:
        """The predictor of the module as the suite deploys it; the module's own weights are put back afterwards."""
        suite, module = self._plan.suite, self._predictor.module
        if type(suite).deploy is Suite.deploy:
            yield self._predictor
            return
        kept = {name: value.clone() for name, value in module.state_dict().items()}
        try:
            with suite_errors(self._plan, self._predictor.name), suite.deploy(condition, module) as deployed:
                yield self._predictor if deployed is module else self._predictor.of(deployed)
        except UserError as error:
            raise (
                error if str(error).startswith("under ") else UserError(f"under {describe(condition)}, {error}")
            ) from error
        finally:
            with torch.no_grad():
                for name, value in module.state_dict().items():
                    value.copy_(kept[name])

    def _measured(self, condition: Condition, batch: Batch, predictor: Predictor) -> dict[int, dict[str, Tensor]]:
        """A batch's part of the tables; raises `UserError` that names the condition."""
        try:
            checks = postponed(self._unusable) if _waits(self._plan.device) else nullcontext()
            with suite_errors(self._plan, predictor.name), checks:
                measured = self._plan.suite.measure(condition, batch, predictor)
            self._require_columns(measured, batch)
            if self._after_batch:
                self._after_batch()
        except UserError as error:
            raise UserError(f"under {describe(condition)}, {error}") from error
        if self._plan.suite.rows != "image":
            index = {"index": batch.indices[:1] // self._plan.step(condition)}
        else:
            index = {"index": batch.indices, **({"label": batch.targets} if batch.targets.ndim == 1 else {})}
        return {size: {**index, **columns} for size, columns in measured.items()}

    def _batch(self, condition: Condition, start: int, stop: int, with_earlier: bool = True) -> Batch:
        plan = self._plan
        source = plan.suite.source(condition)
        dataset = plan.dataset if source is None else plan.sources[source]
        images, targets = self._images[source].batch(start, stop)
        indices = torch.arange(start, stop, device=plan.device)
        seed = randomness.derive(plan.seed, condition)
        batch = Batch(images, targets, indices, randomness.image_keys(seed, indices), dataset.task)
        if plan.archive is not None and condition in plan.archive:
            batch = replace(batch, official=to_float(self._official(condition)(start, stop), plan.device))
        if dataset.recordings is None:
            return batch
        recordings = dataset.recordings[start:stop].to(plan.device)
        batch = replace(batch, recordings=recordings, recording_keys=randomness.image_keys(seed, recordings))
        if plan.suite.history is None or not with_earlier:
            return batch
        reach = plan.suite.history + len(traits(self._predictor.module).frame_weights) - 1
        first = start - _run_length(dataset.recordings[max(0, start - reach) : start + 1])
        return replace(batch, earlier=self._batch(condition, first, start, False)) if first < start else batch

    def _official(self, condition: Condition) -> ReadAhead:
        """Reads the published images of a condition, the next ones while these are worked on."""
        plan = self._plan
        assert plan.archive is not None, "asked for"
        if self._published is None or self._published[0] != condition:
            if self._published is not None:
                self._published[1].close()
            self._published = condition, ReadAhead(partial(plan.archive.read, condition), plan.n)
        return self._published[1]

    def _require_columns(self, measured: Mapping[int, Columns], batch: Batch) -> None:
        """Raise `UserError` unless there is a number, or a list of numbers, for each image at each number of draws."""
        suite = self._plan.suite_entry
        n = len(batch.indices) if self._plan.suite.rows == "image" else 1
        if sorted(measured) != sorted(self._predictor.sizes):
            wanted = list(self._predictor.sizes)
            raise UserError(f"{suite} measured {sorted(measured)} draws; it was asked for {wanted}")
        for name, values in (item for columns in measured.values() for item in columns.items()):
            if name in RESERVED:
                raise UserError(f"{suite} has a column '{name}', which the harness fills itself: rename it")
            if not isinstance(values, Tensor) or values.ndim not in (1, 2) or len(values) != n:
                shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
                raise UserError(f"{suite} has a column '{name}' of {shape} for {n} images: it must be (N,) or (N, K)")

    def _require_finite(self, condition: Condition, tables: Mapping[int, Mapping[str, NDArray[np.generic]]]) -> None:
        """Raises `UserError` for infinite numbers, once for all batches: each time would wait for a GPU."""
        for name, values in (item for columns in tables.values() for item in columns.items()):
            if values.dtype.kind == "f" and (wrong := int(np.isinf(values).reshape(len(values), -1).any(axis=1).sum())):
                raise UserError(
                    f"under {describe(condition)}, {self._predictor.name} returned a logit of −∞ for the label of "
                    f"{wrong} of {len(values)} images, whose '{name}' is then infinite; rule out only classes that the "
                    "dataset does not have"
                )


def step(plan: Plan, condition: Condition, draws: int) -> int:
    """How many images are measured at once; where rows are images, as many as `MEMORY` has predictions for."""
    size = plan.step(condition)
    return min(size, max(1, MEMORY // (4 * draws * _values(plan.dataset)))) if plan.suite.rows == "image" else size


def _waits(device: torch.device) -> bool:
    """Whether to look at a number waits for what the device is at."""
    return device.type == "cuda"


def _values(dataset: Dataset) -> int:
    """The numbers in one image's prediction."""
    task, (height, width) = dataset.task, dataset.image_size
    if isinstance(task, Regression):
        return task.channels * task.scale**2 * height * width
    return dataset.classes * (height * width if isinstance(task, Segmentation) else 1)


def _run_length(recordings: Tensor) -> int:
    """How many values directly before the last one equal it."""
    others = (recordings != recordings[-1]).nonzero()
    return len(recordings) - 1 - (int(others[-1]) + 1 if len(others) else 0)


@contextmanager
def suite_errors(plan: Plan, model: str | None) -> Iterator[None]:
    """Re-raises anything that a suite raises as `UserError`, naming its plugin and the model's."""
    try:
        with plugin_errors(f"{plan.suite_entry} failed with {model}", passing=(torch.OutOfMemoryError,)):
            yield
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"out of memory: the device cannot run the {plan.suite.name} suite with {plan.batch_size} images at a "
            "time: pass a smaller --batch-size"
        ) from error


def _joined(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, NDArray[np.generic]]:
    return {name: torch.cat([part[name] for part in parts]).cpu().numpy() for name in parts[0]}
