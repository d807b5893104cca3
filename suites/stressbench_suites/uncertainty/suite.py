"""The uncertainty suite: does a model know when it is wrong, on clean images and on a fixed set of corruptions?

The correlation of uncertainty with the loss is that of Mi et al. (2019, "Training-Free Uncertainty Estimation"), whose
tolerability is here too: how far a wrapper that disturbs a network moves its accuracy and its NLL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from stressbench import metrics, randomness
from stressbench.contracts import Batch, Condition, Metric, Metrics, Stressed, Suite, Wrapper
from stressbench.predict import sample
from stressbench.record import Baseline
from stressbench_suites.corruption.engine import ENGINE_VERSION
from stressbench_suites.corruption.suite import CorruptionSuite

if TYPE_CHECKING:
    import pandas as pd

# One of each kind: noise, blur, weather, digital.
CORRUPTIONS = ("gaussian_noise", "defocus_blur", "fog", "jpeg_compression")
SEVERITIES = (1, 3, 5)

_ROW_METRICS = (
    Metric("aurc", "fraction", "lower"),
    Metric("auroc_error", "fraction", "higher"),
    Metric("corr_entropy_loss", "number", "higher", bounds=(-1, 1)),
    Metric("corr_variance_loss", "number", "higher", bounds=(-1, 1)),
    Metric("corr_mutual_information_loss", "number", "higher", bounds=(-1, 1)),
    Metric("corr_one_minus_confidence_loss", "number", "higher", bounds=(-1, 1)),
    Metric("accuracy_moved", "fraction", "higher", bounds=(-1, 1)),
    Metric("nll_moved", "nats", "lower", bounds=(-inf, inf)),
)


class UncertaintySuite(Suite):
    """Clean images and four corruptions at three severities, or the ones that are named."""

    name = "uncertainty"
    version = f"1.{ENGINE_VERSION}"
    benchmark = "cifar100"
    archive = "corruption"
    free_options = frozenset({"corruptions", "severities"})
    metrics = tuple(replace(m, name=f"{where}_{m.name}") for where in ("mean", "clean") for m in _ROW_METRICS)
    row_metrics = (Metric("accuracy", "fraction", "higher"), Metric("nll", "nats", "lower"), *_ROW_METRICS)

    def __init__(self, corruptions: tuple[str, ...] = CORRUPTIONS, severities: tuple[int, ...] = SEVERITIES) -> None:
        """Raises `UserError` for unknown corruptions or severities."""
        self._corruption = CorruptionSuite(corruptions, severities)

    def conditions(self) -> list[Condition]:
        return self._corruption.conditions()

    def present(self, condition: Condition, batch: Batch, model: nn.Module) -> Stressed:
        return self._corruption.present(condition, batch, model)

    def examine(self, condition: Condition, batch: Batch, stressed: Tensor, model: nn.Module) -> dict[str, Tensor]:
        if not isinstance(model, Wrapper):
            return {}
        log_p = _predict(model.unwrapped, stressed, batch.keys)
        return {
            "unwrapped_correct": log_p.argmax(dim=-1) == batch.labels,
            "unwrapped_nll": metrics.negative_log_likelihood(log_p, batch.labels),
        }

    def observe(self, condition: Condition, batch: Batch, log_probs: Tensor) -> dict[str, Tensor]:
        return {
            **self._corruption.observe(condition, batch, log_probs),
            "variance": metrics.predictive_variance(log_probs),
            "mutual_information": metrics.mutual_information(log_probs),
        }

    def score(self, conditions: Sequence[Condition], tables: Sequence[pd.DataFrame]) -> list[Metrics]:
        return [_row(table) for table in tables]

    def aggregate(self, conditions: Sequence[Condition], rows: Sequence[Metrics], baseline: Baseline | None) -> Metrics:
        """Plain means over the twelve stressed conditions, and the clean one; null where a condition has no number."""
        cells = {(c["corruption"], c["severity"]): row for c, row in zip(conditions, rows, strict=True)}
        result: Metrics = {}
        for name in (metric.name for metric in _ROW_METRICS):
            values = [cells.get((c, s), {}).get(name) for c in CORRUPTIONS for s in SEVERITIES]
            known = [value for value in values if value is not None]
            result[f"mean_{name}"] = fmean(known) if len(known) == len(values) else None
            result[f"clean_{name}"] = cells.get(("none", 0), {}).get(name)
        return {metric.name: result[metric.name] for metric in self.metrics}


def _predict(module: nn.Module, images: Tensor, keys: Tensor) -> Tensor:
    """Log p̄ (N, C) of a model's default number of draws, independent of those that the runner makes with `keys`."""
    stochastic = bool(getattr(module, "stochastic", False))
    draws = int(getattr(module, "default_draws", 1)) if stochastic else 1
    devices = [images.device] if images.device.type == "cuda" else []
    own = randomness.split(keys, 1)[:, 0]
    with torch.inference_mode(), torch.random.fork_rng(devices), randomness.draw(own, 0):
        logits = torch.stack(sample(module, images, draws))
    return metrics.log_mean_probability(logits.float().log_softmax(dim=-1))


def _row(table: pd.DataFrame) -> Metrics:
    column = {name: torch.tensor(table[name].to_numpy(dtype=np.float64)) for name in table.columns}
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
