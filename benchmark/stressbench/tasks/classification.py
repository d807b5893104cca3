"""Classification: one of C classes for an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stressbench import metrics
from stressbench.errors import UserError
from stressbench.tasks.base import Columns, Metric, Metrics, checked

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Classification:
    """A model returns logits (N, C); targets are int64 (N,), 0 … C − 1."""

    classes: int
    name: ClassVar[str] = "classification"
    row_metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("error", "fraction", "lower", share_of="n", about="share of images whose most probable class is wrong"),
        Metric(
            "nll",
            "nats",
            "lower",
            about="negative log-likelihood: the mean over images of −log of the true class's probability",
        ),
        Metric(
            "ece",
            "fraction",
            "lower",
            about="how far accuracy and confidence are apart in ten bins of confidence, weighted by images",
        ),
        Metric(
            "signed_ece",
            "fraction",
            None,
            bounds=(-1, 1),
            about="mean confidence less accuracy: positive is overconfident",
        ),
        Metric(
            "brier",
            "number",
            "lower",
            bounds=(0, 2),
            about="mean squared distance of the probabilities from the true class's, over classes",
        ),
    )

    outputs: ClassVar[Literal["logits", "values"]] = "logits"

    @property
    def summary(self) -> str:
        return f"{self.classes} classes"

    def shape(self, n: int, size: tuple[int, int]) -> tuple[int, ...]:
        return n, self.classes

    def unusable(self, raw: Tensor) -> Tensor:
        return unusable(raw)

    def require_targets(self, targets: Tensor, n: int, size: tuple[int, int]) -> None:
        if targets.dtype != torch.int64 or targets.shape != (n,):
            raise UserError(
                f"has labels {tuple(targets.shape)} of {targets.dtype} for {n} images; they must be one int64 an image"
            )
        if n and not 0 <= int(targets.min()) <= int(targets.max()) < self.classes:
            raise UserError(
                f"has labels from {targets.min()} to {targets.max()}; of {self.classes} classes they must be "
                f"0 … {self.classes - 1}"
            )

    def predictions(self, raw: object, images: Tensor) -> Tensor:
        return checked(self, raw, images).float().log_softmax(dim=-1)

    def loss(self, raw: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(raw, targets, reduction="none")

    def observe(self, predictions: Tensor, targets: Tensor) -> Columns:
        log_p = metrics.log_mean_probability(predictions)
        prediction = log_p.argmax(dim=-1)
        return {
            "prediction": prediction,
            "correct": prediction == targets,
            "confidence": log_p.amax(dim=-1).exp(),
            "nll": metrics.negative_log_likelihood(log_p, targets),
            "brier": metrics.brier_score(log_p, targets),
            "entropy": metrics.entropy(log_p),
        }

    @classmethod
    def score(cls, table: pd.DataFrame) -> Metrics:
        names = ("correct", "confidence", "nll", "brier")
        column = {name: torch.from_numpy(table[name].to_numpy(dtype=np.float64)) for name in names}
        ece, signed_ece = metrics.calibration_errors(column["confidence"], column["correct"])
        return {
            "error": float((1 - column["correct"]).mean()),
            "nll": float(column["nll"].mean()),
            "ece": ece,
            "signed_ece": signed_ece,
            "brier": float(column["brier"].mean()),
        }


def unusable(logits: Tensor, dim: int = -1) -> Tensor:
    """Where logits with their classes along `dim` give no probabilities: the other dimensions, bool.

    There is a NaN or +∞, or −∞ for every class. A class with −∞ has probability 0, which is how a model rules out the
    classes that a dataset lacks.
    """
    return logits.isnan().any(dim) | logits.isposinf().any(dim) | logits.isneginf().all(dim)
