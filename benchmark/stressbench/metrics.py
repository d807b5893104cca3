"""Pure functions from tensors to the numbers that a record holds.

Notation: S draws, N images, C classes. Log-probabilities are natural logarithms; probabilities, errors and
calibration errors are fractions, NLL and entropy are in nats. The first group gives one number an image, the second
sums images up; nothing here averages over batches.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def log_mean_probability(log_probs: Tensor) -> Tensor:
    """The prediction of S draws, log p̄ = log((1/S) Σ_s exp ℓ_s): (S, N, …, C) to (N, …, C), at most 0.

    Computed in log space, so that a confident wrong answer has a large finite NLL and not an infinite one.
    """
    # Rounding may leave the sum of equal terms a little above 1.
    return (log_probs.logsumexp(dim=0) - math.log(len(log_probs))).clamp_(max=0)


def negative_log_likelihood(log_p: Tensor, labels: Tensor) -> Tensor:
    """−log p̄(y | x) in nats, ≥ 0: (N, C) and (N,) to (N,)."""
    return F.nll_loss(log_p, labels, reduction="none")


def brier_score(log_p: Tensor, labels: Tensor) -> Tensor:
    """Σ_c (p̄_c − 1[c = y])² in [0, 2] (Brier, 1950, its multi-class form): (N, C) and (N,) to (N,)."""
    return (log_p.exp() - F.one_hot(labels, log_p.shape[-1])).square().sum(dim=-1)


def entropy(log_p: Tensor) -> Tensor:
    """−Σ_c p̄_c log p̄_c in nats, in [0, log C]: (N, C) to (N,)."""
    p = log_p.exp()
    return -torch.where(p > 0, p * log_p, 0).sum(dim=-1)


def calibration_bins(confidence: Tensor, correct: Tensor, bins: int = 10) -> tuple[Tensor, Tensor, Tensor]:
    """Share of the images, mean confidence and accuracy in each of equal-width bins (a, b]; each (bins,), float64.

    `confidence` (N,) is max_c p̄ in (0, 1], `correct` (N,) is 0 or 1. A bin without images has zero in all three, and
    confidence 1.0 belongs to the last bin.
    """
    confidence = confidence.to(torch.float64)
    edges = torch.arange(1, bins, dtype=torch.float64, device=confidence.device) / bins
    index = torch.bucketize(confidence, edges)
    count = torch.bincount(index, minlength=bins).to(torch.float64)
    per_bin = count.clamp(min=1)
    mean_confidence = torch.bincount(index, weights=confidence, minlength=bins) / per_bin
    accuracy = torch.bincount(index, weights=correct.to(torch.float64), minlength=bins) / per_bin
    return count / count.sum(), mean_confidence, accuracy


def expected_calibration_error(confidence: Tensor, correct: Tensor, bins: int = 10) -> float:
    """Σ_b (n_b/n)·|acc_b − conf_b|, in [0, 1] (Guo et al., 2017); NaN without images. Inputs as `calibration_bins`."""
    share, mean_confidence, accuracy = calibration_bins(confidence, correct, bins)
    return float((share * (accuracy - mean_confidence).abs()).sum())


def signed_calibration_error(confidence: Tensor, correct: Tensor, bins: int = 10) -> float:
    """Σ_b (n_b/n)·(conf_b − acc_b), in [−1, 1]: positive is overconfident. Inputs as `calibration_bins`."""
    share, mean_confidence, accuracy = calibration_bins(confidence, correct, bins)
    return float((share * (mean_confidence - accuracy)).sum())
