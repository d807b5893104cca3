"""Dense regression: K values for each pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from stressbench.errors import UserError
from stressbench.tasks.base import Columns, Metric, Metrics, checked

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Regression:
    """A model returns values (N, K, H, W) in a unit; targets are float32 (N, K, H, W), NaN where there is none.

    H and W are the target's: of super-resolution they are larger than the image's, by a factor `scale`. A prediction of
    several draws is their mean. Metrics are over all values that have a target.
    """

    channels: int
    unit: str
    scale: int = 1
    name: ClassVar[str] = "regression"
    row_metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("rmse", "number", "lower", bounds=(0, math.inf)),
        Metric("mae", "number", "lower", bounds=(0, math.inf)),
    )

    outputs: ClassVar[Literal["logits", "values"]] = "values"

    @property
    def summary(self) -> str:
        return f"{self.channels} values a pixel"

    def shape(self, n: int, size: tuple[int, int]) -> tuple[int, ...]:
        return n, self.channels, self.scale * size[0], self.scale * size[1]

    def unusable(self, raw: Tensor) -> Tensor:
        return ~raw.isfinite().flatten(1).all(dim=1)

    def require_targets(self, targets: Tensor, n: int, size: tuple[int, int]) -> None:
        wanted = self.shape(n, size)
        if targets.dtype != torch.float32 or targets.shape != wanted:
            raise UserError(
                f"has targets {tuple(targets.shape)} of {targets.dtype} for {n} images of {size[0]}×{size[1]} pixels; "
                f"they must be float32 {wanted}"
            )

    def predictions(self, raw: object, images: Tensor) -> Tensor:
        return checked(self, raw, images).float().movedim(1, -1)

    def loss(self, raw: Tensor, targets: Tensor) -> Tensor:
        """The mean squared error over each image's values that have a target; 0 where there are none."""
        known = targets.isfinite()
        squares = torch.where(known, raw - torch.where(known, targets, 0), 0).square()
        return squares.flatten(1).sum(dim=1) / known.flatten(1).sum(dim=1).clamp(min=1)

    def observe(self, predictions: Tensor, targets: Tensor) -> Columns:
        known = targets.isfinite()
        mean = predictions.double().mean(dim=0).movedim(-1, 1)
        error = torch.where(known, mean - torch.where(known, targets, 0).double(), 0).flatten(1)
        return {
            "values": known.flatten(1).sum(dim=1),
            "absolute": error.abs().sum(dim=1),
            "squared": error.square().sum(dim=1),
        }

    @classmethod
    def score(cls, table: pd.DataFrame) -> Metrics:
        count = float(table["values"].sum())
        if not count:
            return {metric.name: None for metric in cls.row_metrics}
        return {
            "rmse": math.sqrt(float(table["squared"].sum()) / count),
            "mae": float(table["absolute"].sum()) / count,
        }
