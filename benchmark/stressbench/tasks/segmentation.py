"""Segmentation: one of C classes for each pixel, or none that counts."""

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
from stressbench.tasks.classification import unusable

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Segmentation:
    """A model returns logits (N, C, H, W); targets are int64 (N, H, W), 0 … C − 1, or `ignore` for a void pixel.

    Metrics are over all pixels that are not void: tables hold sums for each image, so that every image counts by its
    pixels. An image without any such pixel counts nothing.
    """

    classes: int
    ignore: int = 255
    name: ClassVar[str] = "segmentation"
    row_metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("error", "fraction", "lower", about="share of pixels whose most probable class is wrong"),
        Metric(
            "nll",
            "nats",
            "lower",
            about="negative log-likelihood: the mean over pixels of −log of the true class's probability",
        ),
        Metric(
            "ece",
            "fraction",
            "lower",
            about="how far accuracy and confidence are apart in ten bins of confidence, weighted by pixels",
        ),
        Metric(
            "miou",
            "fraction",
            "higher",
            about="mean over classes of the intersection over union of predicted and true pixels",
        ),
    )

    outputs: ClassVar[Literal["logits", "values"]] = "logits"

    @property
    def summary(self) -> str:
        return f"{self.classes} classes a pixel"

    def shape(self, n: int, size: tuple[int, int]) -> tuple[int, ...]:
        return n, self.classes, *size

    def unusable(self, raw: Tensor) -> Tensor:
        return unusable(raw, dim=1).flatten(1).any(dim=1)

    def require_targets(self, targets: Tensor, n: int, size: tuple[int, int]) -> None:
        if targets.dtype != torch.int64 or targets.shape != (n, *size):
            raise UserError(
                f"has masks {tuple(targets.shape)} of {targets.dtype} for {n} images of {size[0]}×{size[1]} pixels; "
                f"they must be int64 {(n, *size)}"
            )
        wrong = (targets != self.ignore) & ((targets < 0) | (targets >= self.classes))
        if bool(wrong.any()):
            raise UserError(
                f"has a mask with class {int(targets[wrong][0])}; of {self.classes} classes they must be "
                f"0 … {self.classes - 1}, or {self.ignore} for void"
            )

    def predictions(self, raw: object, images: Tensor) -> Tensor:
        return checked(self, raw, images).float().log_softmax(dim=1).movedim(1, -1)

    def loss(self, raw: Tensor, targets: Tensor) -> Tensor:
        """The mean over each image's pixels that are not void; 0 where there are none."""
        each = F.cross_entropy(raw, targets, reduction="none", ignore_index=self.ignore).flatten(1)
        return each.sum(dim=1) / (targets != self.ignore).flatten(1).sum(dim=1).clamp(min=1)

    def observe(self, predictions: Tensor, targets: Tensor) -> Columns:
        log_p = metrics.log_mean_probability(predictions).flatten(1, -2)  # (N, P, C)
        targets = targets.flatten(1)
        valid = targets != self.ignore
        target = torch.where(valid, targets, 0)
        confidence, prediction = log_p.max(dim=-1)
        correct = (prediction == target) & valid
        nll = -log_p.gather(-1, target[..., None])[..., 0].double()
        return {
            "pixels": valid.sum(dim=1),
            "wrong": (valid & ~correct).sum(dim=1),
            "nll": torch.where(valid, nll, 0).sum(dim=1),
            "calibration": metrics.calibration_sums(confidence.exp(), correct, valid),
            "overlap": metrics.overlaps(prediction, target, valid, log_p.shape[-1]),
        }

    @classmethod
    def score(cls, table: pd.DataFrame) -> Metrics:
        pixels = float(table["pixels"].sum())
        if not pixels:
            return {metric.name: None for metric in cls.row_metrics}
        share, confidence, correct = np.stack(table["calibration"].to_list()).sum(axis=0).reshape(3, -1)
        intersection, union = np.stack(table["overlap"].to_list()).sum(axis=0).reshape(2, -1)
        there = union > 0  # a class that is neither in a target nor predicted has no overlap
        return {
            "error": float(table["wrong"].sum() / pixels),
            "nll": float(table["nll"].sum() / pixels),
            "ece": float(np.abs(confidence - correct).sum() / share.sum()),
            "miou": float((intersection[there] / union[there]).mean()),
        }
