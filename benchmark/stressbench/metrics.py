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


def predictive_variance(log_probs: Tensor) -> Tensor:
    """The variance of p_s(c | x) over draws, mean over classes, in [0, 1/4]: (S, N, C) to (N,), float64.

    Divided by S, as the variance of the S draws themselves. NaN for a single draw, which has no variance to speak of.
    """
    p = log_probs.double().exp()
    if len(p) == 1:
        return torch.full_like(p[0, :, 0], math.nan)
    return p.var(dim=0, correction=0).mean(dim=-1)


def mutual_information(log_probs: Tensor) -> Tensor:
    """H[p̄] − (1/S) Σ_s H[p_s] in nats, in [0, log min(S, C)]: (S, N, C) to (N,), float64.

    What a draw tells of the class beyond the mean of all (Houlsby et al., 2011, "BALD"). It is computed as the mean
    Kullback–Leibler divergence (1/S) Σ_s Σ_c p_s log(p_s / p̄), the same number without a small difference of large
    ones. NaN for a single draw.
    """
    log_probs = log_probs.double()
    if len(log_probs) == 1:
        return torch.full_like(log_probs[0, :, 0], math.nan)
    # From the largest draw of a class on, so that equal draws have exactly 0.
    below = log_probs - log_probs.amax(dim=0)
    log_ratio = below - below.exp().mean(dim=0).log()
    divergence = torch.where(log_probs.exp() > 0, log_probs.exp() * log_ratio, 0).sum(dim=-1)
    return divergence.mean(dim=0).clamp_(min=0)


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


def calibration_errors(confidence: Tensor, correct: Tensor, bins: int = 10) -> tuple[float, float]:
    """The expected and the signed calibration error, from one look at the images. Inputs as `calibration_bins`."""
    share, mean_confidence, accuracy = calibration_bins(confidence, correct, bins)
    expected = float((share * (accuracy - mean_confidence).abs()).sum())
    return expected, float((share * (mean_confidence - accuracy)).sum())


def expected_calibration_error(confidence: Tensor, correct: Tensor, bins: int = 10) -> float:
    """Σ_b (n_b/n)·|acc_b − conf_b|, in [0, 1] (Guo et al., 2017); NaN without images. Inputs as `calibration_bins`."""
    return calibration_errors(confidence, correct, bins)[0]


def signed_calibration_error(confidence: Tensor, correct: Tensor, bins: int = 10) -> float:
    """Σ_b (n_b/n)·(conf_b − acc_b), in [−1, 1]: positive is overconfident. Inputs as `calibration_bins`."""
    return calibration_errors(confidence, correct, bins)[1]


def pearson(a: Tensor, b: Tensor) -> float | None:
    """Pearson's correlation of (N,) and (N,), in [−1, 1]; None where either is constant or has a NaN."""
    scaled = []
    for values in (a.double(), b.double()):
        if len(values) == 0 or not bool(values.min() < values.max()):
            return None
        deviation = values - values.mean()
        # Squares of very small deviations would be 0, and of very large ones infinite.
        deviation = deviation / deviation.abs().max()
        scaled.append(deviation / deviation.norm())
    return float((scaled[0] * scaled[1]).sum().clamp(-1, 1))


def auroc(score: Tensor, positive: Tensor) -> float | None:
    """The chance that a positive has a higher score than a negative, a tie counting half, in [0, 1].

    That is Mann and Whitney's U over its largest value (Hanley and McNeil, 1982). `score` (N,) is any number,
    `positive` (N,) is 0 or 1. None without positives or without negatives.
    """
    positive = positive.bool()
    count = int(positive.sum())
    others = len(positive) - count
    if not count or not others:
        return None
    _, group, sizes = torch.unique(score, return_inverse=True, return_counts=True)
    rank = sizes.cumsum(0).double() - (sizes - 1) / 2  # a tie shares the mean of its ranks
    return float((rank[group][positive].sum() - count * (count + 1) / 2) / (count * others))


def aurc(confidence: Tensor, correct: Tensor) -> float:
    """The area under the risk–coverage curve, in [0, 1] (Geifman et al., 2019); NaN without images.

    The mean over k = 1 … N of the error among the k most confident images. `confidence` (N,) is any number that ranks
    them, `correct` (N,) is 0 or 1. Where images tie, it is the expectation over all orders of them: each counts with
    the mean error of its tie.
    """
    _, group, sizes = torch.unique(-confidence, return_inverse=True, return_counts=True)
    errors = torch.zeros(len(sizes), dtype=torch.float64, device=group.device)
    errors.scatter_add_(0, group, 1 - correct.double())
    risk = (errors / sizes).repeat_interleave(sizes).cumsum(0) / torch.arange(1, len(group) + 1, device=group.device)
    return float(risk.mean())
