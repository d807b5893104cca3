"""How far confidences are from accuracies, beyond `basic.expected_calibration_error`.

`confidence` (N,) is max_c p̄ in [0, 1] and `correct` (N,) is 0 or 1 unless a function says otherwise. All sums are in
float64, and all results NaN without images and where a confidence is NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stressbench.metrics.basic import calibration_bins, expected_calibration_error

_CELLS = 4096  # of the smooth calibration error's grid


def maximum_calibration_error(confidence: Tensor, correct: Tensor, bins: int = 10) -> float:
    """MCE, max_b |acc_b − conf_b| over the bins of `calibration_bins` that have images, in [0, 1].

    >>> round(maximum_calibration_error(torch.tensor([0.95, 0.85, 0.65, 0.65]), torch.tensor([1, 0, 1, 1])), 3)
    0.85
    """
    if not len(confidence):
        return math.nan
    share, mean_confidence, accuracy = calibration_bins(confidence, correct, bins)
    return float((accuracy - mean_confidence).abs()[share > 0].max())


def adaptive_calibration_error(confidence: Tensor, correct: Tensor, bins: int = 10) -> float:
    """Σ_b (n_b/n)·|acc_b − conf_b| over bins of equally many images by rank of confidence, in [0, 1].

    The first n mod M of M bins, from the least confident, have one image more than the others; with fewer images than
    bins each has a bin. Images of equal confidence count with their mean correctness, so that their order does not
    matter (Nguyen and O'Connor, 2015; called aECE by torch-uncertainty, which takes them in the order of the images).

    >>> found = adaptive_calibration_error(torch.tensor([0.9, 0.8, 0.6, 0.5]), torch.tensor([1, 0, 1, 1]), bins=2)
    >>> round(found, 3)  # (|1 − 0.55| + |0.5 − 0.85|) / 2
    0.4
    """
    if not len(confidence):
        return math.nan
    values, tie = torch.unique(confidence.double(), return_inverse=True)
    mean_correct = torch.bincount(tie, weights=correct.double()) / torch.bincount(tie)
    order = tie.sort().values
    gaps = (mean_correct - values)[order].tensor_split(min(bins, len(order)))
    return sum(abs(float(gap.sum())) for gap in gaps) / len(order)


def classwise_calibration_error(probabilities: Tensor, labels: Tensor, bins: int = 10) -> float:
    """The mean over classes of the ECE of p_c against [y = c], over all images, in [0, 1] (Kull et al., 2019).

    `probabilities` is (N, C). Bins are those of `calibration_bins`. It falls as 1/C, since most p_c are near 0.

    >>> p = torch.tensor([[0.8, 0.2], [0.6, 0.4]])
    >>> round(classwise_calibration_error(p, torch.tensor([0, 1]), bins=2), 3)  # each class: |0.5 − 0.7|
    0.2
    """
    by_class = probabilities.T.contiguous()
    return float(np.mean([expected_calibration_error(p, labels == c, bins) for c, p in enumerate(by_class)]))


def smooth_calibration_error(confidence: Tensor, correct: Tensor) -> float:
    """smECE of Błasiok and Nakkiran (2024), in [0, 1], which has no bins.

    r(t) = (1/n) Σ_i K_σ(t, f_i)·(f_i − correct_i) with a Gaussian kernel of width σ that is reflected at 0 and 1, and
    smECE_σ = ∫ |r(t)| dt. Its width is the one with smECE_σ = σ, found by ten bisections of [0, 1].

    >>> f, right = torch.full((5,), 0.8), torch.tensor([1, 1, 1, 0, 0])
    >>> round(smooth_calibration_error(f, right), 3)  # all alike: the mean residual, whatever the width
    0.2
    """
    if not len(confidence) or bool(confidence.isnan().any()):
        return math.nan
    from scipy.fft import dct

    f = confidence.double().cpu().numpy()
    residual = (f - correct.double().cpu().numpy()) / len(f)
    # Each residual is shared between the two nearest of the cells' centres. In cosines, smoothing with reflection is
    # a product.
    place = np.clip(f * _CELLS - 0.5, 0, _CELLS - 1)
    low = np.minimum(place.astype(np.int64), _CELLS - 2)
    cells = np.bincount(low, residual * (1 - (place - low)), _CELLS) + np.bincount(
        low + 1, residual * (place - low), _CELLS
    )
    waves = dct(cells)
    width = _crossing(waves)
    return _smoothed(waves, width)


def _smoothed(waves: NDArray[np.float64], width: float) -> float:
    from scipy.fft import idct

    damping = np.exp(-0.5 * (np.pi * np.arange(len(waves)) * width) ** 2)
    return float(np.abs(idct(waves * damping)).sum())


def _crossing(waves: NDArray[np.float64]) -> float:
    """The width at which the error is the width: the upper end of what ten bisections leave."""
    low, high = 0.0, 1.0
    for _ in range(10):
        middle = (low + high) / 2
        if _smoothed(waves, middle) < middle:
            high = middle
        else:
            low = middle
    return high


@dataclass(frozen=True)
class BrierDecomposition:
    """Brier score of (confidence, correct) = miscalibration − discrimination + uncertainty, each in [0, 1]."""

    miscalibration: float
    """By how much recalibration would better the score."""
    discrimination: float
    """By how much recalibrated confidences are better than the accuracy as everybody's confidence."""
    uncertainty: float
    """accuracy · (1 − accuracy)."""


def brier_decomposition(confidence: Tensor, correct: Tensor) -> BrierDecomposition:
    """The CORP decomposition of the mean of (f − correct)² (Dimitriadis, Gneiting and Jordan, 2021).

    Recalibrated confidences are the isotonic regression of correctness on confidence, so there are no bins, the three
    terms sum up exactly, and none is negative. It is of the binary score of the predicted class.

    >>> parts = brier_decomposition(torch.tensor([0.9, 0.9, 0.6, 0.6]), torch.tensor([1, 1, 1, 0]))
    >>> [round(value, 4) for value in (parts.miscalibration, parts.discrimination, parts.uncertainty)]
    [0.01, 0.0625, 0.1875]
    """
    from sklearn.isotonic import IsotonicRegression

    f, right = confidence.double().cpu().numpy(), correct.double().cpu().numpy()
    if not len(f) or np.isnan(f).any():
        return BrierDecomposition(math.nan, math.nan, math.nan)
    recalibrated = IsotonicRegression(y_min=0, y_max=1).fit_transform(f, right)
    uncertainty = float(right.mean() * (1 - right.mean()))
    best = float(np.square(recalibrated - right).mean())
    return BrierDecomposition(
        max(0.0, float(np.square(f - right).mean()) - best), max(0.0, uncertainty - best), uncertainty
    )
