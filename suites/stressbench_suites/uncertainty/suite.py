"""The uncertainty suite: does a model know when it is wrong, on clean images and on a fixed set of corruptions?

The correlation of uncertainty with the loss is that of Mi et al. (2019, "Training-Free Uncertainty Estimation"), whose
tolerability is here too: how far a wrapper that disturbs a network moves its accuracy and its NLL.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
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
from stressbench_suites.all_metrics import CALIBRATION, SELECTIVE, Which, calibration, selective
from stressbench_suites.corruption.engine import ENGINE_VERSION
from stressbench_suites.corruption.suite import CorruptionSuite, summed

if TYPE_CHECKING:
    import pandas as pd

# One of each kind: noise, blur, weather, digital.
CORRUPTIONS = ("gaussian_noise", "defocus_blur", "fog", "jpeg_compression")
SEVERITIES = (1, 3, 5)

_ROW_METRICS: tuple[Metric, ...] = (
    Metric(
        "aurc",
        "fraction",
        "lower",
        about="area under the risk–coverage curve: the error among the k most confident images, mean over k",
    ),
    Metric("auroc_error", "fraction", "higher", about="chance that a wrong answer is less confident than a right one"),
    Metric(
        "corr_entropy_loss",
        "number",
        "higher",
        bounds=(-1, 1),
        about="correlation over images of the entropy of the prediction with the loss",
    ),
    Metric(
        "corr_variance_loss",
        "number",
        "higher",
        bounds=(-1, 1),
        about="correlation over images of the variance of the draws' probabilities with the loss",
    ),
    Metric(
        "corr_mutual_information_loss",
        "number",
        "higher",
        bounds=(-1, 1),
        about="correlation over images of the mutual information, what draws disagree about, with the loss",
    ),
    Metric(
        "corr_one_minus_confidence_loss",
        "number",
        "higher",
        bounds=(-1, 1),
        about="correlation over images of 1 − confidence with the loss",
    ),
    Metric(
        "accuracy_moved",
        "fraction",
        "higher",
        bounds=(-1, 1),
        about="a wrapper's accuracy less that of the model that it wraps",
    ),
    Metric(
        "nll_moved",
        "nats",
        "lower",
        bounds=(-inf, inf),
        about="a wrapper's negative log-likelihood less that of the model that it wraps",
    ),
)


class UncertaintySuite(StressSuite):
    """Clean images and four corruptions at three severities, or the ones that are named."""

    name = "uncertainty"
    version = f"1.{ENGINE_VERSION}"
    benchmark = "cifar100"
    axes = CorruptionSuite.axes
    scoring_options = frozenset({"corruptions", "severities"})
    metrics: tuple[Metric, ...] = summed(_ROW_METRICS)
    row_metrics: tuple[Metric, ...] = (
        Metric("accuracy", "fraction", "higher", share_of="n"),
        Metric("nll", "nats", "lower"),
        *_ROW_METRICS,
    )

    def __init__(
        self,
        corruptions: tuple[str, ...] = CORRUPTIONS,
        severities: tuple[int, ...] = SEVERITIES,
        metrics: Which = "standard",
    ) -> None:
        """`metrics=all` adds those of `all_metrics`. Raises `UserError` for unknown corruptions or severities."""
        self._corruption = CorruptionSuite(corruptions, severities, metrics=metrics)
        self._summed = _ROW_METRICS
        if metrics == "all":
            self._summed = (*_ROW_METRICS, *SELECTIVE, *CALIBRATION)
            self.row_metrics = (*self.row_metrics, *SELECTIVE, *CALIBRATION)
            self.metrics = summed(self._summed)

    def published(self, dataset: Dataset) -> Archive | None:
        return self._corruption.published(dataset)

    def protocol(self, data: DatasetInfo) -> str | None:
        return self._corruption.protocol(data)

    def conditions(self) -> list[Condition]:
        return self._corruption.conditions()

    def stress(self, condition: Condition, batch: Batch, model: Predictor) -> Stressed:
        return self._corruption.stress(condition, batch, model)

    def examine(self, condition: Condition, batch: Batch, stressed: Tensor, model: Predictor) -> Columns:
        if model.unwrapped is None:
            return {}
        # Keys of its own: a stochastic model's draws are independent of those that the wrapper makes of it.
        keys = randomness.split(batch.keys, 1)[:, 0]
        log_p = metrics.log_mean_probability(model.unwrapped.predict(stressed, keys))
        return {
            "unwrapped_correct": log_p.argmax(dim=-1) == batch.targets,
            "unwrapped_nll": metrics.negative_log_likelihood(log_p, batch.targets),
        }

    def observe(self, condition: Condition, batch: Batch, predictions: Tensor) -> Columns:
        return {
            **self._corruption.observe(condition, batch, predictions),
            "variance": metrics.predictive_variance(predictions),
            "mutual_information": metrics.mutual_information(predictions),
        }

    def score(self, conditions: Sequence[Condition], tables: Sequence[pd.DataFrame]) -> list[Metrics]:
        rows = [_row(table) for table in tables]
        if self._summed is _ROW_METRICS:
            return rows
        return [row | selective(table) | calibration(table) for row, table in zip(rows, tables, strict=True)]

    def aggregate(self, conditions: Sequence[Condition], rows: Sequence[Metrics]) -> Metrics:
        """Plain means over the twelve stressed conditions, and the clean one; null where a condition has no number."""
        cells = {(c["corruption"], c["severity"]): row for c, row in zip(conditions, rows, strict=True)}
        result: Metrics = {}
        for name in (metric.name for metric in self._summed):
            values = [cells.get((c, s), {}).get(name) for c in CORRUPTIONS for s in SEVERITIES]
            known = [value for value in values if value is not None]
            result[f"mean_{name}"] = fmean(known) if len(known) == len(values) else None
            result[f"clean_{name}"] = cells.get(("none", 0), {}).get(name)
        return {metric.name: result[metric.name] for metric in self.metrics}


def _row(table: pd.DataFrame) -> Metrics:
    column = {
        name: torch.tensor(table[name].to_numpy(dtype=np.float64)) for name in table.columns if name != "probabilities"
    }
    correct, loss, doubt = column["correct"], column["nll"], 1 - column["confidence"]
    accuracy, nll = float(correct.mean()), float(loss.mean())
    wrapped = "unwrapped_nll" in column
    return {
        "accuracy": accuracy,
        "nll": nll,
        "aurc": metrics.aurc(column["confidence"], correct),
        "auroc_error": metrics.auroc(doubt, 1 - correct),
        "corr_entropy_loss": metrics.pearson(column["entropy"], loss),
        "corr_variance_loss": metrics.pearson(column["variance"], loss),
        "corr_mutual_information_loss": metrics.pearson(column["mutual_information"], loss),
        "corr_one_minus_confidence_loss": metrics.pearson(doubt, loss),
        "accuracy_moved": accuracy - float(column["unwrapped_correct"].mean()) if wrapped else None,
        "nll_moved": nll - float(column["unwrapped_nll"].mean()) if wrapped else None,
    }
