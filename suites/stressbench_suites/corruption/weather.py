"""Snow, frost and fog.

Each corruption takes images (N, 3, H, W) in [0, 1] and keys (N,), and returns values that the engine clips and
truncates to grey levels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stressbench.randomness import normal, uniform
from stressbench_suites.corruption.blur import move
from stressbench_suites.corruption.constants import Constants, small
from stressbench_suites.corruption.frost import close_textures, textures
from stressbench_suites.corruption.linear import separable, zoom_matrix
from stressbench_suites.corruption.pixels import truncate, windows

# mean and standard deviation of the flakes, zoom, threshold, radius and sigma of their fall, weight of the image
_SNOW = Constants(
    (
        (0.1, 0.2, 1.0, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1.0, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    (
        (0.1, 0.3, 3.0, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2.0, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4.0, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
)
# Weights of the image and of the frost.
_FROST = Constants(
    ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    ((1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
)
# Density, decay of the detail.
_FOG = Constants(
    ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75)),
    ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4)),
)


def snow(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    mean, deviation, zoom, threshold, radius, sigma, weight = _SNOW.at(images, severity)
    height, width = images.shape[2:]
    flakes = normal(keys, (1, height, width)).mul_(deviation).add_(mean)
    if zoom != 1:
        rows, columns = (zoom_matrix(size, zoom, images.device) for size in (height, width))
        flakes = separable(flakes, rows, columns)
    flakes = truncate(flakes.masked_fill_(flakes < threshold, 0))
    degrees = uniform(keys, (), stream=1).mul(90).sub(135)
    return snowed(images, truncate(move(flakes, degrees, radius, sigma)), weight)


def snowed(images: Tensor, layer: Tensor, weight: float) -> Tensor:
    """Images whitened, but for `weight` of them, under a layer of snow (N, 1, H, W) and the same layer turned round."""
    red, green, blue = images[:, 0:1], images[:, 1:2], images[:, 2:3]
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    whitened = torch.maximum(images, grey.mul_(1.5).add_(0.5))
    return torch.lerp(whitened, images, weight).add_(layer + layer.flip(2, 3))


def frost(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    image_weight, frost_weight = _FROST.at(images, severity)
    height, width = images.shape[2:]
    draw = textures if small((height, width)) else close_textures
    crops = windows(draw(max(height, width), images.device), height, width)
    choice = uniform(keys, (3,))
    # The last corner is left out, as it is in the published code.
    kind, top, left = (
        choice[:, i].mul(count).long() for i, count in enumerate((len(crops), crops.shape[2] - 1, crops.shape[3] - 1))
    )
    return images.mul(image_weight).add_(crops[kind, :, top, left], alpha=frost_weight)


def fog(images: Tensor, keys: Tensor, severity: int) -> Tensor:
    density, decay = _FOG.at(images, severity)
    height, width = images.shape[2:]
    side = 1 << (max(height, width, 2) - 1).bit_length()
    noise = uniform(keys, (side, side)).mul_(2).sub_(1)
    return fogged(images, plasma(noise, decay)[:, None, :height, :width], density)


def fogged(images: Tensor, layer: Tensor, density: float) -> Tensor:
    """Images under a layer of fog (N, 1, H, W), dimmed so that their brightest value keeps its place."""
    brightest = images.amax((1, 2, 3), keepdim=True)
    return (images + density * layer).mul_(brightest / (brightest + density))


def plasma(noise: Tensor, decay: float) -> Tensor:
    """Diamond-square fractals in [0, 1], (N, side, side), from noise of that shape in (−1, 1); side is a power of two.

    Each point is the mean of four around it, wrapping at the edges, plus its noise times a range that starts at 100²
    and is divided by decay² whenever the step is halved. (The published code multiplies two factors of the range, one
    of them in the noise.)
    """
    heights = torch.zeros_like(noise)
    spread = 100.0**2
    step = noise.shape[-1]
    while step >= 2:
        half = step // 2
        corners = heights[:, ::step, ::step]
        pairs = corners + corners.roll(-1, 1)
        middles = pairs + pairs.roll(-1, 2)
        middles = torch.add(middles / 4, noise[:, half::step, half::step], alpha=spread)
        heights[:, half::step, half::step] = middles
        for axis, rows, columns in ((1, 0, half), (2, half, 0)):
            # Above and below these points (axis 1), or left and right of them (axis 2), are middles; across, corners.
            around = middles + middles.roll(1, axis) + corners + corners.roll(-1, 3 - axis)
            edges = torch.add(around / 4, noise[:, rows::step, columns::step], alpha=spread)
            heights[:, rows::step, columns::step] = edges
        step = half
        spread /= decay**2
    low, high = heights.amin((1, 2), keepdim=True), heights.amax((1, 2), keepdim=True)
    return (heights - low) / (high - low)
