"""Blurs: of lenses, of frosted glass, of movement.

Each corruption takes images (N, 3, H, W) in [0, 1] and keys (N,), and returns values that the engine clips and
truncates to grey levels.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from stressbench.randomness import bits, uniform
from stressbench_suites.corruption import linear
from stressbench_suites.corruption.constants import Constants, small
from stressbench_suites.corruption.pixels import pad, truncate, windows

_GAUSSIAN = Constants((0.4, 0.6, 0.7, 0.8, 1.0), (1.0, 2.0, 3.0, 4.0, 6.0))  # sigma
# Radius of the disk, sigma that smooths it.
_DEFOCUS = Constants(
    ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)),
    ((3.0, 0.1), (4.0, 0.5), (6.0, 0.5), (8.0, 0.5), (10.0, 0.5)),
)
# Sigma, reach of a copy, rounds of copying.
_GLASS = Constants(
    ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
)
# Radius, sigma.
_MOTION = Constants(
    ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5)),
    ((10, 3.0), (15, 5.0), (15, 8.0), (15, 12.0), (20, 15.0)),
)
# Where the factors, which start at 1, stop, and their step.
_ZOOM = Constants(
    ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
    ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
)
_ZOOM_VALUES = 2**21  # intermediate results at a time: all zooms of a whole block would not stay in a CPU's caches


def gaussian_blur(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    return linear.gaussian(images, _GAUSSIAN.at(images, severity))


def defocus_blur(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    height, width = images.shape[2:]
    kernel = _disk(*_DEFOCUS.at(images, severity))
    shifted = windows(pad(images, len(kernel) // 2, "mirror"), height, width)
    blurred = torch.zeros_like(images)
    for (row, column), weight in np.ndenumerate(kernel):
        if weight:
            blurred.add_(shifted[:, :, row, column], alpha=float(weight))
    return blurred


@lru_cache
def _disk(radius: float, sigma: float) -> np.ndarray:
    """A disk's pixels, all alike, of sum 1, then smoothed by a Gaussian: (2k + 1, 2k + 1), float64.

    The published code draws on 17×17 pixels and smooths over 3×3; above radius 8, on the disk's own square over 5×5.
    A disk that reaches the border of that grid is mirrored there, which changes its sum.
    """
    grid, half = (8, 1) if radius <= 8 else (math.floor(radius), 2)
    reach = min(math.floor(radius) + 1, grid)
    offset = np.arange(-reach, reach + 1)
    disk = (offset[:, None] ** 2 + offset**2 <= radius**2).astype(float)
    disk /= disk.sum()
    smooth = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma) ** 2)
    smooth /= smooth.sum()
    disk = np.pad(disk, half, "reflect" if reach == grid else "constant")
    for axis in (0, 1):
        disk = np.apply_along_axis(np.convolve, axis, disk, smooth, "valid")
    disk[disk < 1e-9 * disk.max()] = 0  # a weight that no grey level can feel costs as much as any other
    return disk


def glass_blur(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    sigma, reach, rounds = _GLASS.at(images, severity)
    count, _, height, width = images.shape
    blurred = truncate(linear.gaussian(images, sigma))
    if not small((height, width)):
        for turn in range(rounds):
            numbers = uniform(keys, (2, height - 2 * reach, width - 2 * reach), stream=turn)
            moves = numbers.mul_(2 * reach).long().sub_(reach)
            blurred = copy_around(blurred, moves, reach)
        return linear.gaussian(blurred, sigma)
    inner = (count, 1, max(height - 2, 0), max(width - 2, 0))
    words = bits(keys, inner[2] * inner[3]).view(inner)
    for turn in range(rounds):
        blurred = copy_neighbours(blurred, (words >> 2 * turn & 1).bool(), (words >> 2 * turn + 1 & 1).bool())
    return linear.gaussian(blurred, sigma)


def copy_neighbours(images: Tensor, up: Tensor, left: Tensor) -> Tensor:
    """One round of glass blur: pixel (h, w), h, w ≥ 2, takes the value at (h − up, w − left).

    `up` and `left` are (N, 1, H − 2, W − 2), bool. The published loop runs from the last pixel to the first and copies
    only from above and from the left, so it never reads a pixel that it has written: all copies are of old values.
    """
    result = images.clone()
    above = torch.where(left, images[..., 1:-1, 1:-1], images[..., 1:-1, 2:])
    level = torch.where(left, images[..., 2:, 1:-1], images[..., 2:, 2:])
    result[..., 2:, 2:] = torch.where(up, above, level)
    return result


def copy_around(images: Tensor, moves: Tensor, reach: int) -> Tensor:
    """One round of glass blur with a longer reach d: pixel (h, w) takes the value at (h + dy, w + dx).

    `moves` (N, 2, H − 2d, W − 2d) are dy and dx in −d … d − 1, for h and w from d + 1 on. The published loop runs from
    the last pixel to the first, so that a value from below, or from the right, has itself been copied before: it is
    followed to the pixel that it came from, twice as far in each turn.
    """
    count, channels, height, width = images.shape
    place = torch.arange(height * width, device=images.device)
    written = torch.zeros(height, width, dtype=torch.bool, device=images.device)
    written[reach + 1 : height - reach + 1, reach + 1 : width - reach + 1] = True
    source = place.repeat(count, 1)
    source[:, written.flatten()] += (moves[:, 0] * width + moves[:, 1]).flatten(1)
    follows = written.flatten()[source] & (source > place)
    while bool(follows.any()):
        follows, source = (
            follows & follows.gather(1, source),
            torch.where(follows, source.gather(1, source), source),
        )
    return images.flatten(2).gather(2, source[:, None].expand(-1, channels, -1)).view_as(images)


def motion_blur(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    radius, sigma = _MOTION.at(images, severity)
    degrees = uniform(keys, ()).mul(90).sub(45)
    return move(images, degrees, radius, sigma)


def move(planes: Tensor, degrees: Tensor, radius: int, sigma: float) -> Tensor:
    """ImageMagick's motion blur of planes (N, C, H, W) along directions (N,) in degrees.

    Tap i of 2·radius + 1 lies i pixels along the direction, moved to the nearest pixel (halves down), the image's edge
    repeated outside. The weights are one half of a Gaussian, scaled to sum to 1. ImageMagick 6.9, measured through Wand
    as the published code calls it, then truncates to grey levels; that is left to the caller.
    """
    height, width = planes.shape[2:]
    weights = _half_gaussian(2 * radius + 1, sigma)
    reach = len(weights) - 1
    tap = torch.arange(len(weights), dtype=torch.float64, device=planes.device)
    angle = torch.deg2rad(degrees.double())[:, None]
    row = torch.ceil(tap * angle.sin() - 0.5).long() + reach
    column = torch.ceil(tap * angle.cos() - 0.5).long() + reach
    shifted = windows(pad(planes, reach, "nearest"), height, width)
    image = torch.arange(len(planes), device=planes.device)
    blurred = torch.zeros_like(planes)
    for i, weight in enumerate(weights):
        blurred.add_(shifted[image, :, row[:, i], column[:, i]], alpha=weight)
    return blurred


def _half_gaussian(width: int, sigma: float) -> list[float]:
    """The weights of `move`, without a tail too light to be felt (a ten-thousandth of a grey level)."""
    weights = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(width)]
    total = sum(weights)
    return [weight / total for weight in weights if weight / total > 4e-7]


def zoom_blur(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    """The mean of the image and of its centre's zooms, the image itself among them (factor 1)."""
    height, width = images.shape[2:]
    rows, columns = (_zooms(size, *_ZOOM.at(images, severity), images.device) for size in (height, width))
    factors = len(rows)
    # All zooms at once: the columns' matrices side by side, then the sum over factors as part of the rows' product.
    wide = columns.view(factors * width, width).t()
    tall = rows.permute(1, 2, 0).reshape(height, height * factors)
    planes = images.view(-1, height, width)
    mixed = torch.empty_like(planes)
    step = max(1, _ZOOM_VALUES // (factors * height * width))
    for start in range(0, len(planes), step):
        some = planes[start : start + step]
        zoomed = torch.bmm(some, wide.expand(len(some), -1, -1)).view(len(some), height * factors, width)
        torch.bmm(tall.expand(len(some), -1, -1), zoomed, out=mixed[start : start + step])
    return mixed.view_as(images).add_(images).div_(factors + 1)


@lru_cache(maxsize=32)
def _zooms(size: int, stop: float, step: float, device: torch.device) -> Tensor:
    """The matrices of all zooms, (factors, size, size). `arange` decides, by its rounding, whether `stop` is one."""
    return torch.stack([linear.zoom_matrix(size, float(factor), device) for factor in np.arange(1, stop, step)])
