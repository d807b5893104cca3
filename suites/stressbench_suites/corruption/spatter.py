"""Splashes of water (severities 1 to 3) or mud (4 and 5) on the lens.

Water is lit by the distance from the splashes' edges. The published code finds it with OpenCV's image operators
on uint8 layers, and the functions below follow their definitions (release 4) to rounding.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stressbench.randomness import normal
from stressbench_suites.corruption import linear
from stressbench_suites.corruption.constants import Constants
from stressbench_suites.corruption.pixels import LEVELS, Border, pad, to_levels, truncate, windows

# mean and standard deviation of the liquid, sigma that smooths it, threshold, strength of water or sigma of mud
_SPATTER = Constants(
    (
        (0.62, 0.1, 0.7, 0.7, 0.5),
        (0.65, 0.1, 0.8, 0.7, 0.5),
        (0.65, 0.3, 1.0, 0.69, 0.5),
        (0.65, 0.1, 0.7, 0.69, 0.6),
        (0.65, 0.1, 0.5, 0.68, 0.6),
    ),
    (
        (0.65, 0.3, 4.0, 0.69, 0.6),
        (0.65, 0.3, 3.0, 0.68, 0.6),
        (0.65, 0.3, 2.0, 0.68, 0.5),
        (0.65, 0.3, 1.0, 0.65, 1.5),
        (0.67, 0.4, 1.0, 0.65, 1.5),
    ),
)
_WATER = (175, 238, 238)  # grey levels of red, green, blue
_MUD = (63, 42, 20)
_LOW, _HIGH = 50, 150  # Canny's thresholds
_FAR = 20  # pixels from an edge, where the light stops to change
_LIGHT = ((-2, -1, 0), (-1, 1, 1), (0, 1, 2))  # from the upper left


def spatter(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    mean, deviation, sigma, threshold, strength = _SPATTER.at(images, severity)
    liquid = normal(keys, (1, *images.shape[2:])).mul_(deviation).add_(mean)
    liquid = linear.gaussian(liquid, sigma)
    if severity <= 3:
        layer = to_levels(truncate(liquid.masked_fill_(liquid < threshold, 0)))
        return splash(images, layer, strength)
    mud = linear.gaussian((liquid > threshold).float(), strength)
    mud.masked_fill_(mud < 0.8, 0)
    return torch.lerp(images, _colour(_MUD, images), mud)


def splash(images: Tensor, layer: Tensor, strength: float) -> Tensor:
    """Images with water of this strength on the lens, from its uint8 levels of liquid (N, 1, H, W)."""
    return images + water(layer).mul_(strength) * _colour(_WATER, images)


def _colour(levels: tuple[int, int, int], images: Tensor) -> Tensor:
    return torch.tensor(levels, dtype=images.dtype, device=images.device).div_(LEVELS).view(1, 3, 1, 1)


def water(layer: Tensor) -> Tensor:
    """How bright the water is, (N, 1, H, W), its maximum 1 in each image with any, from uint8 levels of liquid."""
    distance = edge_distance(canny(layer)).clamp_(max=_FAR)
    levels = truncate(_correlate(distance, [[1 / 9] * 3] * 3).div_(LEVELS))
    levels = equalize(to_levels(levels))
    levels = _correlate(levels, _LIGHT).clamp_(0, LEVELS)
    lit = layer * _correlate(levels, [[1 / 9] * 3] * 3).round_()
    return lit / lit.amax((2, 3), keepdim=True).clamp_(min=1)


def _correlate(
    planes: Tensor, kernel: list[list[float]] | tuple[tuple[int, ...], ...], border: Border = "mirror"
) -> Tensor:
    shifted = windows(pad(planes, 1, border), *planes.shape[2:])
    result = torch.zeros_like(planes)
    for i, weights in enumerate(kernel):
        for j, weight in enumerate(weights):
            result.add_(shifted[:, :, i, j], alpha=weight)
    return result


def canny(layer: Tensor) -> Tensor:
    """Canny's edges, bool, of integer grey levels (N, 1, H, W): 3×3 Sobel, |dx| + |dy|, eight-connected hysteresis."""
    dx = _correlate(layer, ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)), "nearest")
    dy = _correlate(layer, ((-1, -2, -1), (0, 0, 0), (1, 2, 1)), "nearest")
    strength = dx.abs() + dy.abs()
    around = torch.nn.functional.pad(strength, (1, 1, 1, 1))
    near = windows(around, *layer.shape[2:])

    def is_ridge(row: int, column: int, *, strictly: bool = False) -> Tensor:
        """Stronger than the neighbours on both sides; OpenCV keeps a tie with the later one but on diagonals."""
        before, after = near[:, :, 1 - row, 1 - column], near[:, :, 1 + row, 1 + column]
        return (strength > before) & ((strength > after) if strictly else (strength >= after))

    steepness = math.tan(math.pi / 8)
    horizontal = dy.abs() < steepness * dx.abs()
    vertical = dy.abs() > (steepness + 2) * dx.abs()
    falling = is_ridge(1, 1, strictly=True)
    rising = is_ridge(1, -1, strictly=True)
    diagonal = torch.where((dx < 0) ^ (dy < 0), rising, falling)
    ridge = torch.where(horizontal, is_ridge(0, 1), torch.where(vertical, is_ridge(1, 0), diagonal))
    weak = ridge & (strength > _LOW)
    edges = weak & (strength > _HIGH)
    while True:
        grown = weak & (torch.nn.functional.max_pool2d(edges.float(), 3, stride=1, padding=1) > 0)
        if torch.equal(grown, edges):
            return edges
        edges = grown


def edge_distance(edges: Tensor) -> Tensor:
    """Distance in pixels to the nearest edge (N, 1, H, W), true up to `_FAR`: the chamfer of OpenCV's 5×5 L2 mask."""
    moves = {(0, 1): 1.0, (1, 1): 1.4, (1, 2): 2.1969}
    costs = [
        (i, j, moves[low, high])
        for i in range(-2, 3)
        for j in range(-2, 3)
        if (low := min(abs(i), abs(j)), high := max(abs(i), abs(j))) in moves
    ]
    distance = torch.where(edges, 0.0, 2.0 * _FAR)
    while True:
        near = windows(torch.nn.functional.pad(distance, (2, 2, 2, 2), value=2.0 * _FAR), *edges.shape[2:])
        shorter = distance
        for i, j, cost in costs:
            shorter = torch.minimum(shorter, near[:, :, 2 + i, 2 + j] + cost)
        if torch.equal(shorter, distance):
            return distance
        distance = shorter


def equalize(levels: Tensor) -> Tensor:
    """Histogram equalisation of integer grey levels (N, 1, H, W), image by image, the lowest level there going to 0."""
    count = len(levels)
    flat = levels.reshape(count, -1).long()
    histogram = torch.zeros(count, 256, dtype=torch.int64, device=levels.device)
    histogram.scatter_add_(1, flat, torch.ones_like(flat))
    lowest = flat.amin(1, keepdim=True)
    total = flat.shape[1]
    rest = total - histogram.gather(1, lowest)
    # An image of one level stays as it is.
    table = (histogram.cumsum(1) - (total - rest)).double() * LEVELS / rest.clamp(min=1)
    equalized = torch.where(rest > 0, table.round().gather(1, flat), flat.double())
    return equalized.view_as(levels).to(levels.dtype)
