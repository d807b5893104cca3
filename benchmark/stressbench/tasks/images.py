"""Dense regression that is known by a name of its own: super-resolution and depth, with the metrics of their fields."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from stressbench import dense_metrics
from stressbench.errors import UserError
from stressbench.tasks.base import Columns, Metric, Metrics
from stressbench.tasks.regression import Regression

if TYPE_CHECKING:
    import pandas as pd

# δ < 1.25, 1.25², 1.25³
_RATIOS = (1.25, 1.25**2, 1.25**3)


@dataclass(frozen=True)
class SuperResolution(Regression):
    """RGB images in [0, 1], `scale` times as high and wide as what a model is shown.

    PSNR and SSIM are of predictions cut to [0, 1], over all three channels, and averaged over images.
    """

    channels: int = 3
    unit: str = "1"
    scale: int = 4
    name: ClassVar[str] = "super-resolution"
    row_metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("psnr", "number", "higher", bounds=(0, 100)),
        Metric("ssim", "number", "higher", bounds=(-1, 1)),
        *Regression.row_metrics,
    )

    def observe(self, predictions: Tensor, targets: Tensor) -> Columns:
        shown = predictions.double().mean(dim=0).movedim(-1, 1).clamp(0, 1)
        return {
            **super().observe(predictions, targets),
            "psnr": dense_metrics.peak_signal_to_noise_ratio(shown, targets),
            "ssim": dense_metrics.structural_similarity(shown, targets),
        }

    @classmethod
    def score(cls, table: pd.DataFrame) -> Metrics:
        return {"psnr": float(table["psnr"].mean()), "ssim": float(table["ssim"].mean()), **super().score(table)}


@dataclass(frozen=True)
class Depth(Regression):
    """The distance of what a pixel shows, in metres and above 0; NaN where it is not known.

    AbsRel is the mean of |d − d*| / d*, and `delta1` to `delta3` are the shares of pixels with
    max(d/d*, d*/d) < 1.25, 1.25² and 1.25³ (Eigen et al., 2014), over all known pixels of all images.
    """

    channels: int = 1
    unit: str = "m"
    name: ClassVar[str] = "depth"
    row_metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("abs_rel", "number", "lower", bounds=(0, math.inf)),
        *Regression.row_metrics,
        *(Metric(f"delta{k}", "fraction", "higher") for k in range(1, 1 + len(_RATIOS))),
    )

    def require_targets(self, targets: Tensor, n: int, size: tuple[int, int]) -> None:
        super().require_targets(targets, n, size)
        if bool((targets <= 0).any()):
            raise UserError("has depths of 0 m or less; they must be above 0, and NaN where they are not known")

    def observe(self, predictions: Tensor, targets: Tensor) -> Columns:
        known = targets.isfinite()
        true = torch.where(known, targets, 1).double()
        depth = torch.where(known, predictions.double().mean(dim=0).movedim(-1, 1), true)
        ratio = torch.where(depth > 0, torch.maximum(depth / true, true / depth), math.inf)
        below = [(known & (ratio < most)).flatten(1).sum(dim=1) for most in _RATIOS]
        return {
            **super().observe(predictions, targets),
            "relative": ((depth - true).abs() / true).flatten(1).sum(dim=1),
            "below": torch.stack(below, dim=1),
        }

    @classmethod
    def score(cls, table: pd.DataFrame) -> Metrics:
        count = float(table["values"].sum())
        if not count:
            return {metric.name: None for metric in cls.row_metrics}
        below = sum(table["below"].to_list()) / count
        return {
            "abs_rel": float(table["relative"].sum()) / count,
            **super().score(table),
            **{f"delta{k}": float(share) for k, share in enumerate(below, 1)},
        }
