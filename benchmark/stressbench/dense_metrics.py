"""Metrics of maps: one number for each image, from values and errors pixel by pixel.

Like `metrics`, every function states its formula, its shapes and its source.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Of 8-bit images a mean squared error below this is less than rounding: 100 dB.
_LEAST_SQUARED_ERROR = 1e-10
_SSIM_WINDOW, _SSIM_SIGMA = 11, 1.5
STEPS = 20
"""Into how many equal parts a sparsification curve divides the pixels."""


def peak_signal_to_noise_ratio(prediction: Tensor, target: Tensor) -> Tensor:
    """PSNR of images (N, C, H, W) in [0, 1], in dB, (N,): −10 · log₁₀ of the mean squared error over all values.

    Equal images have 100 dB, not infinitely many.

    >>> peak_signal_to_noise_ratio(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.1))
    tensor([20.0000], dtype=torch.float64)
    """
    squared = (prediction.double() - target.double()).square().flatten(1).mean(dim=1)
    return -10 * squared.clamp(min=_LEAST_SQUARED_ERROR).log10()


def structural_similarity(prediction: Tensor, target: Tensor) -> Tensor:
    """SSIM of images (N, C, H, W) in [0, 1], (N,), in [−1, 1]: the mean over channels and windows (Wang et al., 2004).

    Windows are Gaussian, 11×11 with σ = 1.5, and lie within the image; C₁ = 0.01², C₂ = 0.03²; variances are those of
    the window (not Bessel-corrected). Raises ValueError for images that are smaller than a window.

    >>> noise = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    >>> structural_similarity(noise, noise)
    tensor([1.], dtype=torch.float64)
    """
    if min(prediction.shape[-2:]) < _SSIM_WINDOW:
        raise ValueError(f"images of {tuple(prediction.shape[-2:])} are smaller than a window of {_SSIM_WINDOW}")
    x, y = prediction.double().flatten(0, 1).unsqueeze(1), target.double().flatten(0, 1).unsqueeze(1)
    offsets = torch.arange(_SSIM_WINDOW, dtype=torch.float64, device=x.device) - _SSIM_WINDOW // 2
    line = (-0.5 * (offsets / _SSIM_SIGMA).square()).exp()
    line = line / line.sum()

    def mean(values: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(values, line.view(1, 1, -1, 1)), line.view(1, 1, 1, -1))

    mean_x, mean_y = mean(x), mean(y)
    variance_x, variance_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    ssim = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    ssim = ssim / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))
    return ssim.flatten(1).mean(dim=1).view(len(prediction), -1).mean(dim=1)


def map_correlation(a: Tensor, b: Tensor, valid: Tensor) -> Tensor:
    """Pearson correlation over the valid pixels of each image, (N,), of maps (N, P) and (N, P), in [−1, 1].

    NaN for an image in which one of the two maps is the same everywhere, since it has no correlation with anything.

    >>> maps = torch.tensor([[1.0, 2.0, 3.0, 9.0], [5.0, 5.0, 5.0, 5.0]])
    >>> valid = torch.tensor([[True, True, True, False], [True, True, True, True]])
    >>> map_correlation(maps, torch.tensor([[1.0, 3.0, 2.0, 0.0], [1.0, 2.0, 3.0, 4.0]]), valid)
    tensor([0.5000,    nan], dtype=torch.float64)
    """
    scaled: list[Tensor] = []
    for values in (a.double(), b.double()):
        highest = values.masked_fill(~valid, -torch.inf).max(dim=1).values
        lowest = values.masked_fill(~valid, torch.inf).min(dim=1).values
        mean = torch.where(valid, values, 0).sum(dim=1) / valid.sum(dim=1)
        deviation = torch.where(valid, values - mean[:, None], 0)
        # Without this, squares of very small variances would underflow to 0.
        deviation = deviation / deviation.abs().max(dim=1, keepdim=True).values
        # Rounding leaves a constant map a deviation from its mean, so that it has to be looked for.
        deviation = torch.where((highest > lowest)[:, None], deviation, torch.nan)
        scaled.append(deviation / deviation.norm(dim=1, keepdim=True))
    correlation: Tensor = (scaled[0] * scaled[1]).sum(dim=1).clamp(-1, 1)
    return correlation


def block_means(values: Tensor, blocks: Tensor) -> Tensor:
    """Maps (N, P) with each pixel's value replaced by the mean over its block, (N, P).

    `blocks` (N, P) numbers each image's blocks; a negative number leaves a pixel out of all, and makes it NaN.

    >>> block_means(torch.tensor([[1.0, 3.0, 5.0]]), torch.tensor([[0, 0, -1]]))
    tensor([[2., 2., nan]], dtype=torch.float64)
    """
    values = values.double()
    inside = blocks >= 0
    numbers = blocks.clamp(min=0)
    count = int(numbers.max()) + 1
    sums = values.new_zeros(len(values), count).scatter_add_(1, numbers, torch.where(inside, values, 0))
    sizes = values.new_zeros(len(values), count).scatter_add_(1, numbers, inside.double())
    return torch.where(inside, (sums / sizes.clamp(min=1)).gather(1, numbers), torch.nan)


def sparsification(uncertainty: Tensor, error: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """AUSE and AURG of each image, (N,) and (N,), of maps (N, P) (Ilg et al., 2018; Poggi et al., 2020).

    The most uncertain pixels are removed first. The curve r(f) is the mean error of those that are left after a part f
    of them, over the mean of all: f = 0, 1/20, …, 19/20, and r(1) = r(19/20), as nothing would be left. AUSE is the
    area between it and the curve of an oracle that removes the largest errors first, 0 at best; AURG is the area
    between 1, which removing at random comes to, and it: positive where uncertainty is of use. Pixels of equal
    uncertainty are removed in any order: each counts with their mean error. NaN for an image that has no error, or no
    valid pixel.

    >>> error = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    >>> ause, aurg = sparsification(error, error, torch.ones(1, 4, dtype=torch.bool))
    >>> float(ause), float(aurg) > 0
    (0.0, True)
    """
    areas = []
    for of_image, wrong, known in zip(uncertainty.double(), error.double(), valid, strict=True):
        errors = wrong[known]
        if len(errors) == 0:
            areas.append(errors.new_full((2,), torch.nan))
            continue
        ours, oracle = _area(of_image[known], errors), _area(errors, errors)
        areas.append(torch.stack([ours - oracle, 1 - ours]))
    ause, aurg = torch.stack(areas).unbind(dim=1)
    return ause, aurg


def _area(uncertainty: Tensor, error: Tensor) -> Tensor:
    """The area under the sparsification curve of one image's pixels (P,), by the trapezoidal rule."""
    levels, which = torch.unique(uncertainty, return_inverse=True)
    sums = error.new_zeros(len(levels)).scatter_add_(0, which, error)
    tied = (sums / which.bincount(minlength=len(levels)))[which]
    kept = tied[which.argsort()].cumsum(0)  # of the k + 1 least uncertain
    removed = torch.arange(STEPS, device=error.device) * len(error) // STEPS
    left = len(error) - removed
    curve = kept[left - 1] / left / error.mean()
    return torch.trapezoid(torch.cat([curve, curve[-1:]]), dx=1 / STEPS)
