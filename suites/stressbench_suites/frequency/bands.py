"""The spectrum of an image, cut into rings.

A coefficient of the discrete Fourier transform has the frequencies ω_y = 2π·k_y/H and ω_x = 2π·k_x/W in radians per
pixel, |k_y| ≤ H/2 and |k_x| ≤ W/2, and lies at the radius |ω| = √(ω_y² + ω_x²). Band b of B is the ring
bπ/B ≤ |ω| < (b + 1)π/B. Along an axis there is nothing above π, but on the diagonals there is, up to √2·π; the last
band has these corners too, so that each coefficient is in exactly one band. Band 0 has the mean, ω = 0.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=8)
def band_of(height: int, width: int, bands: int, device: torch.device) -> Tensor:
    """Which band each coefficient of `torch.fft.rfft2` is in: (H, W // 2 + 1), int64, 0 … bands − 1."""
    row = torch.arange(height, device=device)
    row = torch.minimum(row, height - row)[:, None]
    column = torch.arange(width // 2 + 1, device=device)
    # Radii and edges, both times H·W·B/π and squared, are whole numbers: a coefficient on an edge is on it exactly.
    radius = (2 * bands) ** 2 * ((row * width) ** 2 + (column * height) ** 2)
    edges = (torch.arange(1, bands, device=device) * height * width) ** 2
    return torch.bucketize(radius, edges, right=True)


def masks(height: int, width: int, bands: int) -> Tensor:
    """The rings M_b over the coefficients of `torch.fft.rfft2`: (bands, H, W // 2 + 1), 0 or 1, their sum 1."""
    index = torch.arange(bands)[:, None, None]
    return (band_of(height, width, bands, index.device) == index).float()


def keep(signals: Tensor, band: int, bands: int) -> Tensor:
    """What signals (…, H, W) have in one band, F⁻¹(F(signal) ⊙ M_band), each channel by itself."""
    height, width = signals.shape[-2:]
    inside = band_of(height, width, bands, signals.device) == band
    kept: Tensor = torch.fft.irfft2(torch.fft.rfft2(signals) * inside, s=(height, width))
    return kept


def empty(height: int, width: int, bands: int) -> list[int]:
    """The bands that no coefficient of images of this size is in."""
    found = set(band_of(height, width, bands, torch.device("cpu")).flatten().tolist())
    return [band for band in range(bands) if band not in found]
