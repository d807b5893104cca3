"""The conformal suite: sets of classes that hold the right one as often as promised, until images are corrupted.

Thresholds come from clean test images that are kept from the score. On other clean images coverage is then what was
promised; under corruption the promise does not hold, and the suite measures by how much.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, get_args

import torch
from torch import Tensor

from stressbench import metrics, randomness
from stressbench.contracts import (
    Archive,
    Batch,
    Columns,
    Condition,
    Dataset,
    Metric,
    Metrics,
    Predictor,
    Stressed,
    StressSuite,
)
from stressbench.record import DatasetInfo
from stressbench_suites.conformal.sets import Method, scores, threshold
from stressbench_suites.corruption.engine import ENGINE_VERSION
from stressbench_suites.corruption.suite import CorruptionSuite
from stressbench_suites.uncertainty.suite import CORRUPTIONS, SEVERITIES

if TYPE_CHECKING:
    import pandas as pd

METHODS: tuple[Method, ...] = get_args(Method)
LEVELS = (90, 95)  # percent of images whose set is to hold their class

_STREAM = 1  # of random numbers, apart from those of the corruptions

_CASES = [(method, level) for method in METHODS for level in LEVELS]
_ROW_METRICS = (
    *(Metric(f"coverage_{m}_{level}", "fraction", None, interval="proportion") for m, level in _CASES),
    *(Metric(f"size_{m}_{level}", "number", "lower", bounds=(0, float("inf"))) for m, level in _CASES),
)


class ConformalSuite(StressSuite):
    """Clean images and four corruptions at three severities, or the ones that are named."""

    name = "conformal"
    version = f"1.{ENGINE_VERSION}"
    fitted_on = "threshold"
    scoring_options = frozenset({"corruptions", "severities"})
    row_metrics = (Metric("accuracy", "fraction", "higher", interval="proportion", share_of="n"), *_ROW_METRICS)
    metrics = (
        *(Metric(f"worst_gap_{m}_{level}", "fraction", "lower", bounds=(-1, 1)) for m, level in _CASES),
        *(replace(m, name=f"{where}_{m.name}") for where in ("mean", "clean") for m in _ROW_METRICS),
    )

    def __init__(self, corruptions: tuple[str, ...] = CORRUPTIONS, severities: tuple[int, ...] = SEVERITIES) -> None:
        """Raises `UserError` for unknown corruptions or severities."""
        self._corruption = CorruptionSuite(corruptions, severities)
        self._thresholds: dict[int, dict[tuple[Method, int], float]] = {}

    def published(self, dataset: Dataset) -> Archive | None:
        return self._corruption.published(dataset)

    def protocol(self, data: DatasetInfo) -> str | None:
        return self._corruption.protocol(data)

    def conditions(self) -> list[Condition]:
        return self._corruption.conditions()

    def stress(self, condition: Condition, batch: Batch, model: Predictor) -> Stressed:
        return self._corruption.stress(condition, batch, model)

    def fit(self, batches: Iterator[Batch], model: Predictor) -> None:
        found: dict[int, dict[Method, list[Tensor]]] = {size: {m: [] for m in METHODS} for size in model.sizes}
        for batch in batches:
            predictions = model.predict(batch.images, batch.keys)
            for size in model.sizes:
                for method, of_classes in _scores(batch, predictions[:size]).items():
                    found[size][method].append(of_classes.gather(1, batch.targets[:, None])[:, 0])
        self._thresholds = {
            size: {(m, level): threshold(torch.cat(own[m]), level / 100) for m, level in _CASES}
            for size, own in found.items()
        }

    def observe(self, condition: Condition, batch: Batch, predictions: Tensor) -> Columns:
        limits = self._thresholds[len(predictions)]
        of_methods = _scores(batch, predictions)
        columns: dict[str, Tensor] = {
            "correct": metrics.log_mean_probability(predictions).argmax(dim=-1) == batch.targets
        }
        for method, level in _CASES:
            inside = of_methods[method] <= limits[method, level]
            columns[f"coverage_{method}_{level}"] = inside.gather(1, batch.targets[:, None])[:, 0].double()
            columns[f"size_{method}_{level}"] = inside.sum(dim=1).double()
        return columns

    def score(self, conditions: Sequence[Condition], tables: Sequence[pd.DataFrame]) -> list[Metrics]:
        means = super().score(conditions, tables)
        return [row | {"accuracy": float(table["correct"].mean())} for row, table in zip(means, tables, strict=True)]

    def aggregate(self, conditions: Sequence[Condition], rows: Sequence[Metrics]) -> Metrics:
        """Means over the twelve stressed conditions; the clean values; by how much coverage falls short at worst.

        Null where one of the conditions was left out.
        """
        cells = {(c["corruption"], c["severity"]): row for c, row in zip(conditions, rows, strict=True)}
        stressed = [cells.get((c, s)) for c in CORRUPTIONS for s in SEVERITIES]
        whole = [row for row in stressed if row is not None]
        result: Metrics = {}
        for metric in _ROW_METRICS:
            known = [value for row in whole if (value := row[metric.name]) is not None]
            result[f"mean_{metric.name}"] = fmean(known) if len(known) == len(stressed) else None
            result[f"clean_{metric.name}"] = cells.get(("none", 0), {}).get(metric.name)
            kind, _, case = metric.name.partition("_")
            if kind == "coverage":
                promised = int(case.rpartition("_")[2]) / 100
                result[f"worst_gap_{case}"] = promised - min(known) if len(known) == len(stressed) else None
        return {metric.name: result[metric.name] for metric in self.metrics}


def _scores(batch: Batch, predictions: Tensor) -> dict[Method, Tensor]:
    """The score of each class, (N, C), by each method: with one random number an image, the same for all of them."""
    p = metrics.log_mean_probability(predictions).exp()
    uniform = randomness.uniform(batch.keys, (1,), _STREAM)[:, 0]
    return {method: scores(p, uniform, method) for method in METHODS}
