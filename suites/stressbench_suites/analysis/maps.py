"""What is measured of feature maps (N, C, H, W), a number or a few for each image."""

from __future__ import annotations

import torch
from torch import Tensor

OFFSETS = 8
_FLOOR = 1e-6  # against the logarithm of 0


def channels_first(maps: Tensor) -> Tensor:
    """Maps (N, H, W, C), which some transformers have, as (N, C, H, W); others as they are.

    Which they are shows where maps are square: of (N, 7, 7, 96) the last dimension is the channels.
    """
    _, first, second, third = maps.shape
    return maps.movedim(-1, 1) if first == second != third else maps


def variance_over_space(maps: Tensor) -> Tensor:
    """The unbiased variance over the H·W points of each channel, then the mean over channels: (N, C, H, W) to (N,).

    >>> variance_over_space(torch.tensor([[[[0.0, 2.0], [0.0, 2.0]], [[1.0, 1.0], [1.0, 1.0]]]]))
    tensor([0.6667])
    """
    return maps.flatten(2).var(dim=2).mean(dim=1)


def half_diagonal(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Rows and columns of `torch.fft.rfft2`'s coefficients from frequency 0 to the corner, π in both directions.

    There are min(H, W) // 2 + 1 of them, at equal steps; where a side is odd the corner is the nearest below π.
    """
    count = min(height, width) // 2 + 1
    steps = torch.linspace(0, 1, count) if count > 1 else torch.zeros(1)
    return (steps * (height // 2)).round().long(), (steps * (width // 2)).round().long()


def relative_log_amplitude(maps: Tensor) -> Tensor:
    """log(|FFT₂| + 10⁻⁶) along the half diagonal, less its value at frequency 0: (N, C, H, W) to (N, K).

    The mean over channels (Park and Kim, 2022, figure 6). K is min(H, W) // 2 + 1, and the first entry is 0.

    >>> even = torch.ones(1, 1, 4, 4)
    >>> relative_log_amplitude(even + 0.5 * torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(2, 2)).round(decimals=2)
    tensor([[  0.0000, -16.5900,  -0.6900]])
    """
    rows, columns = half_diagonal(*maps.shape[-2:])
    spectrum = torch.fft.rfft2(maps)[..., rows.to(maps.device), columns.to(maps.device)]
    amplitude: Tensor = (spectrum.abs() + _FLOOR).log().mean(dim=1)
    return amplitude - amplitude[:, :1]


def covariance(maps: Tensor) -> Tensor:
    """The covariance of points 0, 1, …, 7 pixels apart, in a row or in a column: (N, C, H, W) to (N, 8).

    Of each channel its mean over space is taken off; products are averaged over all such pairs of points, over the two
    directions and over channels (Park and Kim, 2022, appendix D.1). NaN for distances that the map does not have.
    """
    centred = maps - maps.mean(dim=(2, 3), keepdim=True)
    height, width = maps.shape[-2:]
    found = maps.new_full((len(maps), OFFSETS), torch.nan)
    for offset in range(min(OFFSETS, height, width)):
        across = (centred[..., : width - offset] * centred[..., offset:]).mean(dim=(1, 2, 3))
        down = (centred[..., : height - offset, :] * centred[..., offset:, :]).mean(dim=(1, 2, 3))
        found[:, offset] = (across + down) / 2
    return found
