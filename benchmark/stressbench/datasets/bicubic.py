"""Images made smaller as MATLAB's `imresize` does it, which the literature of super-resolution is measured with.

Other libraries' bicubic differs: most do not widen the kernel where they shrink an image, and Pillow, which does, cuts
it off at the border, where MATLAB mirrors the image.
"""

from __future__ import annotations

import torch
from torch import Tensor

_A = -0.5  # of Keys' kernel (1981), as in MATLAB; OpenCV and torch have −0.75


def shrink(pixels: Tensor, factor: int) -> Tensor:
    """Images (N, 3, H, W), uint8, `factor` times smaller in height and width, as `imresize(pixels, 1/factor)`.

    Each axis in turn, the rows first, is a weighted mean with a cubic kernel (a = −0.5) that is `factor` times as wide,
    of the image mirrored at its border (the edge pixel twice); the result is rounded to uint8 after each axis, half up,
    as MATLAB rounds images of that type. H and W must be multiples of the factor.
    """
    height, width = pixels.shape[-2:]
    if height % factor or width % factor:
        raise ValueError(f"images of {height}×{width} pixels cannot be made {factor} times smaller")
    rows = _rounded(torch.einsum("oh,nchw->ncow", _weights(height, factor), pixels.double()))
    return _rounded(torch.einsum("ow,nchw->ncho", _weights(width, factor), rows)).to(torch.uint8)


def _rounded(values: Tensor) -> Tensor:
    return (values + 0.5).floor().clamp(0, 255)


def _weights(size: int, factor: int) -> Tensor:
    """How much each pixel of a line counts for each pixel of the smaller one: (size / factor, size)."""
    centres = (torch.arange(size // factor, dtype=torch.float64) + 0.5) * factor - 0.5
    taps = torch.arange(4 * factor + 2, dtype=torch.float64) - 2 * factor
    positions = centres.floor()[:, None] + taps
    weights = _cubic((centres[:, None] - positions) / factor)
    weights = weights / weights.sum(dim=1, keepdim=True)
    mirrored = positions.long() % (2 * size)
    mirrored = torch.where(mirrored < size, mirrored, 2 * size - 1 - mirrored)
    return torch.zeros(size // factor, size, dtype=torch.float64).scatter_add_(1, mirrored, weights)


def _cubic(x: Tensor) -> Tensor:
    x = x.abs()
    near = (_A + 2) * x**3 - (_A + 3) * x**2 + 1
    far = _A * x**3 - 5 * _A * x**2 + 8 * _A * x - 4 * _A
    return torch.where(x <= 1, near, torch.where(x < 2, far, 0))
