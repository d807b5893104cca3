"""The weight-noise suite: how robust is a model to what its deployment does to its weights?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING

from torch import Tensor, nn

from stressbench import randomness
from stressbench.contracts import (
    TASKS,
    Axis,
    Batch,
    Classification,
    Columns,
    Condition,
    Metric,
    Metrics,
    Predictor,
    Stressed,
    StressSuite,
    Suite,
    Task,
)
from stressbench.errors import UserError
from stressbench_suites.analysis.directions import direction, step
from stressbench_suites.analysis.quantisation import int8

if TYPE_CHECKING:
    import pandas as pd

SHARES = (0.02, 0.05, 0.1, 0.2)
REPEATS = 3

_KINDS = {"mean": "gaussian", "clean": "none", "int8": "int8"}


class WeightNoiseSuite(StressSuite):
    """Clean images and weights with Gaussian noise of a share of each filter's norm, or rounded to eight bits.

    Noise of share r adds to each filter w_f a Gaussian vector of the norm r·‖w_f‖. `mean_…` is over all shares and
    repeats of the noise, `clean_…` of the weights as they are, `int8_…` of dynamic quantisation to eight bits.
    """

    name = "weight-noise"
    version = "1"
    row_metrics: tuple[Metric, ...] = Classification.row_metrics
    metrics: tuple[Metric, ...] = tuple(
        replace(metric, name=f"{where}_{metric.name}") for where in _KINDS for metric in Classification.row_metrics
    )
    tasks = frozenset(TASKS)
    axes = (
        Axis(
            "share",
            label="share of each filter's norm",
            over=("repeat",),
            panels=("weights",),
            clean={"weights": "none"},
        ),
    )

    def __init__(self, shares: tuple[float, ...] = SHARES, repeats: int = REPEATS) -> None:
        """`shares` of each filter's norm, and how many times noise of each share is drawn.

        Raises `UserError` for shares that are not positive and finite, and for fewer than one repeat.
        """
        for share in shares:
            if not 0 < share < math.inf:
                raise UserError(f"invalid share {share}: expected a number above 0, such as {SHARES[0]}")
        if not shares or repeats < 1:
            raise UserError(f"invalid shares={shares} with repeats={repeats}: expected at least one of each")
        self._shares, self._repeats = sorted(set(shares)), repeats
        self._task: type[Task] = Classification

    def for_task(self, task: str) -> Suite:
        super().for_task(task)
        adapted = copy(self)
        adapted._task = TASKS[task]
        adapted.row_metrics = adapted._task.row_metrics
        adapted.metrics = tuple(
            replace(metric, name=f"{where}_{metric.name}") for where in _KINDS for metric in adapted.row_metrics
        )
        return adapted

    def conditions(self) -> list[Condition]:
        noise: list[Condition] = [
            {"weights": "gaussian", "share": share, "repeat": repeat}
            for share in self._shares
            for repeat in range(self._repeats)
        ]
        return [{"weights": "none", "share": 0.0, "repeat": 0}, *noise, {"weights": "int8", "share": 0.0, "repeat": 0}]

    @contextmanager
    def deploy(self, condition: Condition, module: nn.Module) -> Iterator[nn.Module]:
        if condition["weights"] == "int8":
            with int8(module) as rounded:
                yield rounded
            return
        if condition["weights"] == "gaussian":
            # Of one repeat the noise of all shares has one direction, so that only its length differs.
            along = direction(module, randomness.derive("weight-noise", int(condition["repeat"])))
            step(module, along, float(condition["share"]))
        yield module

    def stress(self, condition: Condition, batch: Batch, model: Predictor) -> Stressed:
        return Stressed(batch.images)

    def observe(self, condition: Condition, batch: Batch, predictions: Tensor) -> Columns:
        return batch.task.observe(predictions, batch.targets)

    def score(self, conditions: Sequence[Condition], tables: Sequence[pd.DataFrame]) -> list[Metrics]:
        return [self._task.score(table) for table in tables]

    def aggregate(self, conditions: Sequence[Condition], rows: Sequence[Metrics]) -> Metrics:
        """Plain means over the conditions of a kind; None where one of them has no number."""
        result: Metrics = {}
        for where, kind in _KINDS.items():
            ours = [row for condition, row in zip(conditions, rows, strict=True) if condition["weights"] == kind]
            for metric in self.row_metrics:
                values = [row.get(metric.name) for row in ours]
                known = [value for value in values if value is not None]
                result[f"{where}_{metric.name}"] = fmean(known) if known and len(known) == len(values) else None
        return result
