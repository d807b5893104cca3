"""Changes of colour, of geometry and of coding.

Each corruption takes images (N, 3, H, W) in [0, 1] and keys (N,), and returns values that the engine clips and
truncates to grey levels.
"""

from __future__ import annotations

import io

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from stressbench.randomness import uniform
from stressbench_suites.corruption import linear
from stressbench_suites.corruption.constants import Constants, small
from stressbench_suites.corruption.jpeg import through_jpeg
from stressbench_suites.corruption.pixels import LEVELS, to_levels

# Added to the value of HSV.
_BRIGHTNESS = Constants((0.05, 0.10, 0.15, 0.20, 0.30), (0.1, 0.2, 0.3, 0.4, 0.5))
# Factor and addend of HSV's saturation.
_SATURATE = Constants(
    ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2)),
    ((0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (20.0, 0.2)),
)
# Factor of the distance from the mean.
_CONTRAST = Constants((0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05))
# Displacement, its sigma, and the move of the affine points, as fractions of the image's side. The published ImageNet
# files have fractions of 244 pixels, a slip for 224.
_SLIP = 244 / 224
_ELASTIC = Constants(
    ((0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.10, 0.04, 0.05), (0.10, 0.03, 0.03)),
    (
        (2 * _SLIP, 0.7 * _SLIP, 0.1 * _SLIP),
        (2 * _SLIP, 0.08 * _SLIP, 0.2 * _SLIP),
        (0.05 * _SLIP, 0.01 * _SLIP, 0.02 * _SLIP),
        (0.07 * _SLIP, 0.01 * _SLIP, 0.02 * _SLIP),
        (0.12 * _SLIP, 0.01 * _SLIP, 0.02 * _SLIP),
    ),
)
_PIXELATE = Constants((0.95, 0.90, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25))  # factor of the resolution
_JPEG = Constants((80, 65, 58, 50, 40), (25, 18, 15, 10, 7))  # quality


def brightness(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    return brighten(images, _BRIGHTNESS.at(images, severity))


def brighten(images: Tensor, addend: float) -> Tensor:
    """HSV's value plus `addend`, which may be negative, clipped to [0, 1].

    Hue and saturation stay if all three channels are scaled alike, so HSV need not be computed.
    """
    value = images.amax(1, keepdim=True)
    brighter = value.add(addend).clamp_(0, 1)
    return torch.where(value > 0, images * (brighter / value), brighter)


def saturate(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    """A channel is value · (1 − saturation · depth), its depth 0 at the largest channel and 1 at the smallest."""
    factor, addend = _SATURATE.at(images, severity)
    value, least = images.amax(1, keepdim=True), images.amin(1, keepdim=True)
    spread = value - least
    # HSV gives a pixel without a hue that of red, and a black one no saturation: it stays black either way.
    red = torch.tensor((0.0, 1.0, 1.0), device=images.device).view(1, 3, 1, 1)
    depth = torch.where(spread > 0, (value - images) / spread, red)
    saturation = torch.where(value > 0, spread / value, 0)
    return value * (1 - saturation.mul(factor).add_(addend).clamp_(max=1) * depth)


def contrast(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    # Sums of grey levels are exact in float64, whatever order they are added in.
    mean = images.mean((2, 3), keepdim=True, dtype=torch.float64).float()
    return torch.lerp(mean, images, _CONTRAST.at(images, severity))


def elastic_transform(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    """An affine warp, then one by smoothed noise, each with order-1 interpolation."""
    scale, sigma, jitter = (fraction * min(images.shape[2:]) for fraction in _ELASTIC.at(images, severity))
    images = affine(images, uniform(keys, (3, 2)).mul_(2).sub_(1).mul_(jitter))
    if scale == 0:
        return images
    noise = uniform(keys, (2, *images.shape[2:]), stream=1).mul_(2).sub_(1)
    return displaced(images, linear.gaussian(noise, sigma, "symmetric", truncate=3).mul_(scale))


def affine(images: Tensor, moves: Tensor) -> Tensor:
    """Warp images by the affine maps that move three points of each (x, y) by `moves` (N, 3, 2), in pixels.

    The points are corners of a square about the centre, and the border is mirrored (reflect-101). This is OpenCV's
    warpAffine with exact coordinates: its releases before 5 round them to 1/32 of a pixel.
    """
    height, width = images.shape[2:]
    half = min(height, width) // 3
    centre = torch.tensor((width // 2, height // 2), dtype=torch.float64, device=images.device)
    corners = torch.tensor(((1, 1), (1, -1), (-1, -1)), dtype=torch.float64, device=images.device)
    points = centre + half * corners
    moved = points + moves.double()
    # The map back, from moved points to points: what it does to two edges gives its linear part.
    edges_in = (moved[:, ::2] - moved[:, 1:2]).mT
    edges_out = (points[::2] - points[1:2]).mT
    (a, b), (c, d) = (row.unbind(1) for row in edges_in.unbind(1))
    inverse = torch.stack([d, -b, -c, a], 1).view(-1, 2, 2) / (a * d - b * c)[:, None, None]
    back = edges_out @ inverse
    row, column = _grid(images)
    x, y = column - moved[:, 1, 0, None, None], row - moved[:, 1, 1, None, None]
    source = [back[:, i, 0, None, None] * x + back[:, i, 1, None, None] * y + points[1, i] for i in (0, 1)]
    x, y = (2 * place / max(size - 1, 1) - 1 for place, size in zip(source, (width, height), strict=True))
    grid = torch.stack([x, y], dim=-1).float()
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=True)


def displaced(images: Tensor, moves: Tensor) -> Tensor:
    """Pixel (h, w) read at (h + dy, w + dx), where `moves` (N, 2, H, W) are dx and dy; the border is symmetric."""
    height, width = images.shape[2:]
    row, column = _grid(images)
    x = (column + moves[:, 0]).mul_(2).add_(1).div_(width).sub_(1)
    y = (row + moves[:, 1]).mul_(2).add_(1).div_(height).sub_(1)
    return F.grid_sample(images, torch.stack([x, y], dim=-1), padding_mode="reflection", align_corners=False)


def _grid(images: Tensor) -> tuple[Tensor, Tensor]:
    """Row numbers (H, 1) and column numbers (1, W)."""
    height, width = images.shape[2:]
    row = torch.arange(height, dtype=images.dtype, device=images.device)
    column = torch.arange(width, dtype=images.dtype, device=images.device)
    return row[:, None], column[None, :]


def pixelate(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    """Pillow's BOX resize to a smaller size and back, rounding to levels after the columns and after the rows."""
    factor = _PIXELATE.at(images, severity)
    height, width = images.shape[2:]
    low, narrow = (max(int(size * factor), 1) for size in (height, width))
    device = images.device
    rows, columns = linear.box_matrix(height, low, device), linear.box_matrix(width, narrow, device)
    reduced = linear.along_columns(to_levels(images), columns).add_(0.5).floor_()
    reduced = linear.along_rows(reduced, rows).add_(0.5).floor_()
    rows, columns = linear.box_matrix(low, height, device), linear.box_matrix(narrow, width, device)
    return linear.separable(reduced, rows, columns).div_(LEVELS)


def jpeg_compression(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    """What Pillow's encoder makes of the images: computed for all at once, or by itself where that is faster."""
    quality, levels = _JPEG.at(images, severity), to_levels(images)
    if images.device.type == "cpu" and not small(images.shape[2:]):
        levels = _through_pillow(levels, quality)
    else:
        levels = through_jpeg(levels, quality)
    return levels.div_(LEVELS)


def _through_pillow(levels: Tensor, quality: int) -> Tensor:
    decoded = []
    for planes in levels.to(torch.uint8).numpy():
        file = io.BytesIO()
        # Planes are merged and split by Pillow, which is faster than to move the channels' axis.
        Image.merge("RGB", [Image.fromarray(plane) for plane in planes]).save(file, "JPEG", quality=quality)
        decoded.append(np.stack([np.asarray(plane) for plane in Image.open(file, formats=["JPEG"]).split()]))
    return torch.from_numpy(np.stack(decoded)).float()
