"""Pure functions from tensors to the numbers in a record.

Notation: S draws, N images, C classes. Log-probabilities are natural logarithms; probabilities, errors and
calibration errors are fractions, NLL and entropy are in nats. The functions of the first group return one number per
image, those of the second summarise a set of images; none of them averages over batches.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def log_mean_probability(log_probs: Tensor) -> Tensor:
    """Log of the mean probability over draws, log p̄ = log((1/S) Σ_s exp ℓ_s): (S, N, …, C) to (N, …, C), at most 0.

    Computed in log space, so that a confident wrong prediction has a large finite NLL instead of an infinite one.

    >>> draws = torch.tensor([[[0.9, 0.1]], [[0.5, 0.5]]]).log()  # two draws, one image, two classes
    >>> log_mean_probability(draws).exp()
    tensor([[0.7000, 0.3000]])
    """
    # Rounding may leave the mean of probabilities of 1 slightly above 1.
    return (log_probs.logsumexp(dim=0) - math.log(len(log_probs))).clamp_(max=0)


def negative_log_likelihood(log_p: Tensor, labels: Tensor) -> Tensor:
    """−log p̄(y | x) in nats, ≥ 0: (N, C) and (N,) to (N,).

    >>> negative_log_likelihood(torch.tensor([[0.7, 0.3], [0.5, 0.5]]).log(), torch.tensor([0, 1]))
    tensor([0.3567, 0.6931])
    """
    return F.nll_loss(log_p, labels, reduction="none")


def brier_score(log_p: Tensor, labels: Tensor) -> Tensor:
    """Σ_c (p̄_c − 1[c = y])² in [0, 2], the multi-class form of Brier (1950): (N, C) and (N,) to (N,).

    >>> brier_score(torch.tensor([[0.7, 0.3], [0.5, 0.5]]).log(), torch.tensor([0, 1]))
    tensor([0.1800, 0.5000])
    """
    return (log_p.exp() - F.one_hot(labels, log_p.shape[-1])).square().sum(dim=-1)


def entropy(log_p: Tensor) -> Tensor:
    """−Σ_c p̄_c log p̄_c in nats, in [0, log C]: (N, C) to (N,).

    >>> entropy(torch.tensor([[0.5, 0.5], [0.9, 0.1]]).log())
    tensor([0.6931, 0.3251])
    """
    p = log_p.exp()
    return -torch.where(p == 0, 0, p * log_p).sum(dim=-1)


def predictive_variance(log_probs: Tensor) -> Tensor:
    """Variance of p_s(c | x) over draws, averaged over classes, in [0, 1/4]: (S, N, C) to (N,), float64.

    The sum of squares is divided by S (population variance). NaN for a single draw.

    >>> predictive_variance(torch.tensor([[[0.9, 0.1]], [[0.5, 0.5]]], dtype=torch.float64).log())
    tensor([0.0400], dtype=torch.float64)
    """
    p = log_probs.double().exp()
    if len(p) == 1:
        return torch.full_like(p[0, :, 0], math.nan)
    return p.var(dim=0, correction=0).mean(dim=-1)


def mutual_information(log_probs: Tensor) -> Tensor:
    """H[p̄] − (1/S) Σ_s H[p_s] in nats, in [0, log min(S, C)]: (S, N, C) to (N,), float64.

    The information that the choice of the draw carries about the class (Houlsby et al., 2011, "BALD"). Computed as the
    mean Kullback–Leibler divergence (1/S) Σ_s Σ_c p_s log(p_s / p̄), which is the same number without the cancellation
    of two large terms. NaN for a single draw.

    >>> mutual_information(torch.tensor([[[0.9, 0.1]], [[0.5, 0.5]]], dtype=torch.float64).log())
    tensor([0.1017], dtype=torch.float64)
    """
    log_probs = log_probs.double()
    if len(log_probs) == 1:
        return torch.full_like(log_probs[0, :, 0], math.nan)
    # Relative to the largest draw of each class, so that equal draws give exactly 0.
    below = log_probs - log_probs.amax(dim=0)
    log_ratio = below - below.exp().mean(dim=0).log()
    p = log_probs.exp()
    divergence = torch.where(p == 0, 0, p * log_ratio).sum(dim=-1)
    return divergence.mean(dim=0).clamp_(min=0)


def calibration_bins(confidence: Tensor, correct: Tensor, bins: int = 10) -> tuple[Tensor, Tensor, Tensor]:
    """Share of the images, mean confidence and accuracy in each equal-width bin (a, b]; each (bins,), float64.

    `confidence` (N,) is max_c p̄ in (0, 1], `correct` (N,) is 0 or 1. All three are zero for an empty bin, and
    confidence 1.0 belongs to the last bin.

    >>> share, mean_confidence, accuracy = calibration_bins(
    ...     torch.tensor([0.2, 0.4, 0.9, 0.7]), torch.tensor([0, 1, 1, 1]), bins=2
    ... )
    >>> share.tolist(), accuracy.tolist()
    ([0.5, 0.5], [0.5, 1.0])
    >>> mean_confidence
    tensor([0.3000, 0.8000], dtype=torch.float64)
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
    """The expected and the signed calibration error, from one pass over the images. Inputs as for `calibration_bins`.

    >>> expected, signed = calibration_errors(torch.tensor([0.9, 0.8, 0.6, 0.6]), torch.tensor([1, 0, 1, 1]))
    >>> round(expected, 3), round(signed, 3)
    (0.375, -0.025)
    """
    share, mean_confidence, accuracy = calibration_bins(confidence, correct, bins)
    expected = float((share * (accuracy - mean_confidence).abs()).sum())
    return expected, float((share * (mean_confidence - accuracy)).sum())


def expected_calibration_error(confidence: Tensor, correct: Tensor, bins: int = 10) -> float:
    """ECE, Σ_b (n_b/n)·|acc_b − conf_b|, in [0, 1] (Guo et al., 2017). Inputs as for `calibration_bins`.

    NaN without images.

    >>> round(expected_calibration_error(torch.tensor([0.9, 0.8, 0.6, 0.6]), torch.tensor([1, 0, 1, 1])), 3)
    0.375
    """
    return calibration_errors(confidence, correct, bins)[0]


def signed_calibration_error(confidence: Tensor, correct: Tensor, bins: int = 10) -> float:
    """Σ_b (n_b/n)·(conf_b − acc_b), in [−1, 1]; positive is overconfident. Inputs as for `calibration_bins`.

    NaN without images.

    >>> round(signed_calibration_error(torch.tensor([0.9, 0.8, 0.6, 0.6]), torch.tensor([1, 0, 1, 1])), 3)
    -0.025
    """
    return calibration_errors(confidence, correct, bins)[1]


def calibration_sums(confidence: Tensor, correct: Tensor, valid: Tensor, bins: int = 10) -> Tensor:
    """Counts, sums of confidence and of correctness in each bin of `calibration_bins`, image by image.

    `confidence`, `correct` and `valid` are (N, P) of P pixels; only valid ones count. Returns (N, 3·bins), float64: of
    sums over images, Σ_b |confidence_b − correct_b| / Σ_b count_b is the expected calibration error over all pixels.

    >>> calibration_sums(torch.tensor([[0.95, 0.55]]), torch.tensor([[1, 0]]), torch.tensor([[1, 1]]), bins=2)
    tensor([[0.0000, 2.0000, 0.0000, 1.5000, 0.0000, 1.0000]], dtype=torch.float64)
    """
    edges = torch.arange(1, bins, dtype=torch.float64, device=confidence.device) / bins
    index = torch.bucketize(confidence.double(), edges)
    weights = torch.stack([valid.double(), confidence.double() * valid, correct.double() * valid], dim=1)
    sums = weights.new_zeros(len(confidence), 3, bins)
    return sums.scatter_add_(2, index[:, None].expand(-1, 3, -1), weights).flatten(1)


def overlaps(prediction: Tensor, target: Tensor, valid: Tensor, classes: int) -> Tensor:
    """Intersection and union of predicted and true pixels by class, image by image: (N, 2·classes), int64.

    `prediction`, `target` and `valid` are (N, P); only valid pixels count. Of sums over images, the mean of their
    ratio over the classes that are there is the mean IoU (Everingham et al., 2010).

    >>> overlaps(torch.tensor([[0, 1, 1]]), torch.tensor([[0, 0, 1]]), torch.tensor([[True, True, True]]), 2)
    tensor([[1, 1, 2, 2]])
    """

    def counts(which: Tensor, where: Tensor) -> Tensor:
        found = torch.zeros(len(which), classes, dtype=torch.int64, device=which.device)
        return found.scatter_add_(1, which, where.long())

    both = counts(target, valid & (prediction == target))
    return torch.cat([both, counts(prediction, valid) + counts(target, valid) - both], dim=1)


def pearson(a: Tensor, b: Tensor) -> float | None:
    """Pearson correlation of (N,) and (N,), in [−1, 1]; None if either is empty, constant or not finite.

    >>> round(pearson(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 3.0, 2.0])), 3)
    0.5
    >>> pearson(torch.tensor([1.0, 1.0]), torch.tensor([0.0, 2.0])) is None
    True
    """
    scaled = []
    for values in (a.double(), b.double()):
        if len(values) == 0 or not bool(values.isfinite().all() and values.min() < values.max()):
            return None
        deviation = values - values.mean()
        # Without this, squares of very small deviations underflow to 0 and of very large ones overflow.
        deviation = deviation / deviation.abs().max()
        scaled.append(deviation / deviation.norm())
    return float((scaled[0] * scaled[1]).sum().clamp(-1, 1))


def auroc(score: Tensor, positive: Tensor) -> float | None:
    """Probability that a positive has a higher score than a negative, with ties counted as one half, in [0, 1].

    This is the Mann–Whitney U statistic divided by its maximum (Hanley and McNeil, 1982). `score` (N,) is any real
    number, `positive` (N,) is 0 or 1. None without positives or negatives, and where a score is NaN.

    >>> auroc(torch.tensor([0.1, 0.4, 0.4, 0.8]), torch.tensor([0, 0, 1, 1]))
    0.875
    """
    positive = positive.bool()
    count = int(positive.sum())
    others = len(positive) - count
    if not count or not others or bool(score.isnan().any()):
        return None
    _, group, sizes = torch.unique(score, return_inverse=True, return_counts=True)
    rank = sizes.cumsum(0).double() - (sizes - 1) / 2  # tied scores share their mean rank
    return float((rank[group][positive].sum() - count * (count + 1) / 2) / (count * others))


def risk_coverage(confidence: Tensor, correct: Tensor) -> Tensor:
    """The risk–coverage curve (N,): the error rate among the k most confident images, k = 1 … N (Geifman et al., 2019).

    `confidence` (N,) is any real number that ranks them, `correct` (N,) is 0 or 1. Ties contribute the expectation over
    all their orders: each image counts with the mean error of its tie. Float64; all NaN where a confidence is NaN.

    >>> risk_coverage(torch.tensor([0.9, 0.7, 0.7, 0.6]), torch.tensor([1, 0, 1, 1]))
    tensor([0.0000, 0.2500, 0.3333, 0.2500], dtype=torch.float64)
    """
    if bool(confidence.isnan().any()):
        return torch.full(confidence.shape, math.nan, dtype=torch.float64)
    _, group, sizes = torch.unique(-confidence.double(), return_inverse=True, return_counts=True)
    errors = torch.zeros(len(sizes), dtype=torch.float64, device=group.device)
    errors.scatter_add_(0, group, 1 - correct.double())
    found = torch.arange(1, len(group) + 1, device=group.device)
    risk: Tensor = (errors / sizes).repeat_interleave(sizes).cumsum(0) / found
    return risk


def aurc(confidence: Tensor, correct: Tensor) -> float:
    """Area under the curve of `risk_coverage`, its mean, in [0, 1]; NaN without images or with a NaN.

    >>> round(aurc(torch.tensor([0.9, 0.8, 0.7]), torch.tensor([1, 0, 1])), 4)  # (0/1 + 1/2 + 1/3) / 3
    0.2778
    """
    return float(risk_coverage(confidence, correct).mean())
