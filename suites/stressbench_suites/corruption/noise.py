"""Noise in every value of the image, independent of its neighbours.

Each function takes images (N, 3, H, W) in [0, 1] and keys (N,), and returns values that the engine clips and
truncates to grey levels.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from stressbench.randomness import bits, normal
from stressbench_suites.corruption.constants import Constants
from stressbench_suites.corruption.pixels import LEVELS, to_levels

_GAUSSIAN = Constants((0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38))  # standard deviation
_SHOT = Constants((500, 250, 100, 75, 50), (60, 25, 12, 5, 3))  # photons in a white pixel
_IMPULSE = Constants((0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27))  # fraction of values hit
# Standard deviation, as a fraction of the value.
_SPECKLE = Constants((0.06, 0.10, 0.12, 0.16, 0.20), (0.15, 0.20, 0.35, 0.45, 0.60))


def gaussian_noise(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    return normal(keys, tuple(images.shape[1:])).mul_(_GAUSSIAN.at(images, severity)).add_(images)


def speckle_noise(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    return normal(keys, tuple(images.shape[1:])).mul_(_SPECKLE.at(images, severity)).add_(1).mul_(images)


def impulse_noise(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    """Values, not pixels, go to black or white, with equal odds."""
    words = bits(keys, images[0].numel()).view_as(images)
    hit = round(_IMPULSE.at(images, severity) * 2**31)  # half of the fraction, of 2³² words
    return images.masked_fill(words < hit - 2**31, 0).masked_fill_(words >= 2**31 - hit, 1)


def shot_noise(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    return count_photons(images, keys, _SHOT.at(images, severity))


def count_photons(images: Tensor, keys: Tensor, photons: int) -> Tensor:
    """Poisson(x·photons)/photons, for images on the grid of grey levels.

    There are only 256 means, and only 256 grey levels that a draw can end at, so one look into an alias table (Walker,
    1977) gives an exact draw, to 2⁻³² in probability, where inverting the distribution would take a search.
    """
    table = _poisson_aliases(photons, images.device)
    words = bits(keys, images[0].numel()).view_as(images)
    column = words & 0xFF
    entry = table[to_levels(images).int().mul_(256).add_(column)]
    # Of an entry, the upper 24 bits are the odds of staying in the column and the lower 8 the level to leave it for.
    stays = ((words >> 8) & 0xFFFFFF) < ((entry >> 8) & 0xFFFFFF)
    return torch.where(stays, column, entry & 0xFF).float().div_(LEVELS)


def poisson_levels(photons: int) -> Tensor:
    """The distribution of Poisson(x·photons)/photons as grey levels: (256, 256) float64, P[level of x, level drawn]."""
    mean = torch.arange(256, dtype=torch.float64)[:, None] / LEVELS * photons
    count = torch.arange(2 * photons + 200, dtype=torch.float64)  # beyond, the tails are below 1e-30
    log_probability = torch.special.xlogy(count, mean) - mean - torch.lgamma(count + 1)
    drawn = (count / photons).clamp_(max=1).mul_(LEVELS).long()
    levels = torch.zeros(256, 256, dtype=torch.float64)
    levels.index_add_(1, drawn, log_probability.exp())
    return levels / levels.sum(1, keepdim=True)


@lru_cache(maxsize=16)
def _poisson_aliases(photons: int, device: torch.device) -> Tensor:
    """Alias tables of the 256 distributions of `poisson_levels`, (65536,) int32, packed as `count_photons` reads them.

    Each step closes one column of every table: the one that lacks most is filled up by the one that has most to spare.
    """
    open_mass = poisson_levels(photons).numpy() * 256  # of closed columns: infinite
    spare_mass = open_mass.copy()  # of closed columns: minus infinite
    entries = 0xFFFFFF00 | np.arange(256, dtype=np.uint32).repeat(256).reshape(256, 256).T  # each keeps to itself
    table = np.arange(256)
    for _ in range(255):
        poorest, richest = open_mass.argmin(1), spare_mass.argmax(1)
        odds = open_mass[table, poorest].clip(0, 1)
        stays = (odds * 2**24).round().clip(max=2**24 - 1).astype(np.uint32)
        entries[table, poorest] = stays << 8 | richest.astype(np.uint32)
        open_mass[table, richest] -= 1 - odds
        spare_mass[table, richest] = open_mass[table, richest]
        open_mass[table, poorest], spare_mass[table, poorest] = np.inf, -np.inf
    return torch.from_numpy(entries.view(np.int32).flatten()).to(device)
