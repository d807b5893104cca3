"""Plain computations, for one picture (H, W, C) in [0, 1], that more than one corruption is checked against."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import zoom


def moved_along(picture: np.ndarray, degrees: float, radius: int, sigma: float) -> np.ndarray:
    """ImageMagick's motion blur by its definition, (H, W, C) in [0, 1]."""
    height, width = picture.shape[:2]
    weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    result = np.zeros(picture.shape)
    for h in range(height):
        for w in range(width):
            for i, weight in enumerate(weights):
                x = w + math.ceil(i * math.cos(math.radians(degrees)) - 0.5)
                y = h + math.ceil(i * math.sin(math.radians(degrees)) - 0.5)
                result[h, w] += weight * picture[min(max(y, 0), height - 1), min(max(x, 0), width - 1)]
    return result


def zoomed(picture: np.ndarray, factor: float) -> np.ndarray:
    """The centre of a picture (H, W, C), enlarged to its size."""
    size = np.array(picture.shape[:2])
    crop = np.ceil(size / factor).astype(int)
    top, left = (size - crop) // 2
    large = zoom(picture[top : top + crop[0], left : left + crop[1]], (factor, factor, 1), order=1)
    top, left = (np.array(large.shape[:2]) - size) // 2
    return large[top : top + size[0], left : left + size[1]]
