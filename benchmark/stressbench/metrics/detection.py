"""How well a score tells images that a model should refuse from those that it is for.

Positive are the images to be found: those that are out of distribution, or wrong answers. A larger score means more
likely positive. Conventions are OpenOOD 1.5's: every distinct score is a threshold, and images with one score are found
together.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Detection:
    """Four areas and rates of one score, all in [0, 1]."""

    auroc: float
    """The probability that a positive has a larger score than a negative, ties counting half."""
    fpr95: float
    """The share of negatives found at the first threshold, from the largest, at which 95 % of positives are."""
    aupr_out: float
    """The area under precision over recall, by the trapezoid rule from (recall 0, precision 1) on."""
    aupr_in: float
    """The same with negatives to be found and the score's sign changed."""


def detection(score: Tensor, positive: Tensor) -> Detection | None:
    """All four of scores (N,) and of which images are positive (N,).

    None without positives or negatives, and where a score is NaN.

    >>> found = detection(
    ...     torch.tensor([0.1, 0.2, 0.3, 0.6, 0.4, 0.5, 0.7, 0.8]), torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    ... )
    >>> found.auroc, found.fpr95, round(found.aupr_out, 4)
    (0.875, 0.25, 0.8708)
    """
    positive = positive.bool()
    total, others = int(positive.sum()), int((~positive).sum())
    if not total or not others or bool(score.isnan().any()):
        return None
    values, group = torch.unique(score, return_inverse=True)
    of_positives = torch.bincount(group[positive], minlength=len(values)).double()
    of_negatives = torch.bincount(group[~positive], minlength=len(values)).double()
    # From the largest score down: the shares that are found at each threshold.
    recall, false_alarms = of_positives.flip(0).cumsum(0) / total, of_negatives.flip(0).cumsum(0) / others
    first = int((recall >= 0.95).nonzero()[0])
    return Detection(
        auroc=_trapezoid(false_alarms, recall, 0.0),
        fpr95=float(false_alarms[first]),
        aupr_out=_precision_recall(of_positives.flip(0), of_negatives.flip(0)),
        aupr_in=_precision_recall(of_negatives, of_positives),
    )


def _precision_recall(hits: Tensor, alarms: Tensor) -> float:
    """The area of what is found and what is found wrongly at each threshold, the strictest first."""
    hits, alarms = hits.cumsum(0), alarms.cumsum(0)
    return _trapezoid(hits / hits[-1], hits / (hits + alarms), 1.0)


def _trapezoid(x: Tensor, y: Tensor, at_zero: float) -> float:
    """The area under y over x, (K,) each and x ascending, from the point (0, at_zero) on."""
    x, y = torch.cat([x.new_zeros(1), x]), torch.cat([y.new_tensor([at_zero]), y])
    return float(torch.trapezoid(y, x).clamp(0, 1))
