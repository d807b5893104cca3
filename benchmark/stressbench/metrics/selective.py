"""What is gained by leaving out the images that a model is least confident of.

`confidence` (N,) is any real number that ranks the images, `correct` (N,) is 0 or 1. Images of equal confidence enter
together where a threshold is chosen, and with the expectation over their orders where a mean over all ranks is taken.
Without images and where a confidence is NaN, nothing is known: NaN, or None where a function may return it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stressbench.metrics.basic import aurc
from stressbench.metrics.detection import detection


def excess_aurc(confidence: Tensor, correct: Tensor) -> float:
    """E-AURC: the AURC less that of the best ranking, which has all errors last, in [0, 1]; NaN without images.

    Both are means over ranks, as in `aurc` (Geifman et al., 2019, approximate the second by an integral).

    >>> round(excess_aurc(torch.tensor([0.9, 0.8, 0.7]), torch.tensor([1, 0, 1])), 4)  # (1/2 + 1/3)/3 − (1/3)/3
    0.1667
    """
    best = correct.double().sort(descending=True).values
    # Rounding may leave the best ranking's slightly below 0. A NaN stays one.
    return max(aurc(confidence, correct) - aurc(-torch.arange(len(best)).double(), best), 0.0)


def augrc(confidence: Tensor, correct: Tensor) -> float:
    """AUGRC, the mean rate of undetected failures, in [0, 1/2] (Traub et al., 2024); NaN without images.

    The area under errors among the accepted images, as a share of all images, over coverage: by the trapezoid rule
    from (0, 0) on, with a point for each distinct confidence.

    >>> augrc(torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([1, 0, 1, 1]))  # (¼·0.125 + ¼·0.25 + ¼·0.25)
    0.15625
    """
    if not _known(confidence):
        return math.nan
    coverage, errors = _accepted(confidence, correct)
    zero = coverage.new_zeros(1)
    return float(torch.trapezoid(torch.cat([zero, errors]), torch.cat([zero, coverage]))) / len(correct) ** 2


def risk_at_coverage(confidence: Tensor, correct: Tensor, coverage: float = 0.8) -> float:
    """The error rate among the ⌈coverage · N⌉ most confident images, one or more, in [0, 1]; NaN without images.

    Of images with equal confidence some may be left out: they count with their mean error.

    >>> risk_at_coverage(torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([1, 0, 1, 1]), 0.5)
    0.5
    """
    if not _known(confidence):
        return math.nan
    # Not above it for a rounding error of the product.
    k = max(1, math.ceil(coverage * len(correct) - 1e-9))
    counts, errors = (torch.cat([values.new_zeros(1), values]) for values in _accepted(confidence, correct))
    after = int(torch.searchsorted(counts, k))
    part = (k - counts[after - 1]) / (counts[after] - counts[after - 1])
    return float(errors[after - 1] + part * (errors[after] - errors[after - 1])) / k


def coverage_at_risk(confidence: Tensor, correct: Tensor, risk: float = 0.05) -> float | None:
    """The largest share of the images above a threshold whose error rate is at most `risk`, in (0, 1].

    None where there is no such threshold.

    >>> coverage_at_risk(torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([1, 0, 1, 1]), 0.25)
    1.0
    """
    if not _known(confidence):
        return None
    counts, errors = _accepted(confidence, correct)
    within = (errors / counts <= risk).nonzero()
    return float(counts[within[-1]] / counts[-1]) if len(within) else None


def error_fpr95(confidence: Tensor, correct: Tensor) -> float | None:
    """FPR at 95 % TPR of failure detection: errors that are accepted where 95 % of the right answers are, in [0, 1].

    The share of the errors above the highest threshold that accepts at least 95 % of the right answers. None where all
    are right or all wrong.

    >>> error_fpr95(torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([1, 0, 1, 0]))
    0.5
    """
    found = detection(confidence, correct)
    return None if found is None else found.fpr95


@dataclass(frozen=True)
class CertainImages:
    """What holds of the images whose confidence is above a cut-off; None where it would divide by zero."""

    accuracy: float | None
    """Right ones among the certain ones (Acc-90)."""
    uncertain_errors: float | None
    """Uncertain ones among the wrong ones (Unc-90)."""
    frequency: float | None
    """Certain ones among all (Freq-90)."""


def certain_images(confidence: Tensor, correct: Tensor, cutoff: float = 0.9) -> CertainImages:
    """Acc-90, Unc-90 and Freq-90 of Park and Kim (2022), each in [0, 1]; certain is strictly above the cut-off.

    >>> certain_images(torch.tensor([0.95, 0.9, 0.8]), torch.tensor([1, 0, 1]))
    CertainImages(accuracy=1.0, uncertain_errors=1.0, frequency=0.3333333333333333)
    """
    if not _known(confidence):
        return CertainImages(None, None, None)
    certain, right = confidence.double() > cutoff, correct.bool()

    def share(which: Tensor, among: Tensor) -> float | None:
        total = int(among.sum())
        return int((which & among).sum()) / total if total else None

    return CertainImages(
        accuracy=share(right, certain),
        uncertain_errors=share(~certain, ~right),
        frequency=share(certain, torch.ones_like(certain)),
    )


def _known(confidence: Tensor) -> bool:
    return len(confidence) > 0 and not bool(confidence.isnan().any())


def _accepted(confidence: Tensor, correct: Tensor) -> tuple[Tensor, Tensor]:
    """The images and the errors at or above each distinct confidence, the highest first; float64."""
    _, tie, sizes = torch.unique(-confidence.double(), return_inverse=True, return_counts=True)
    errors = torch.zeros(len(sizes), dtype=torch.float64, device=tie.device)
    errors.scatter_add_(0, tie, 1 - correct.double())
    return sizes.double().cumsum(0), errors.cumsum(0)
