"""Separable linear resampling: one matrix for the rows, one for the columns, computed once and kept.

Every matrix is (size out, size in), float32, its rows summing to 1. Images are (N, C, H, W).
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from stressbench_suites.corruption.pixels import Border, mirrored


def separable(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """rows · image · columnsᵀ for every plane."""
    return along_rows(along_columns(images, columns), rows)


def along_rows(images: Tensor, matrix: Tensor) -> Tensor:
    """matrix · image for every plane.

    A batched product of small matrices, here and below, because the one big product that it is equal to may round an
    image differently in a batch of another size.
    """
    planes = images.reshape(-1, *images.shape[2:])
    planes = torch.bmm(matrix.expand(len(planes), -1, -1), planes)
    return planes.view(*images.shape[:2], *planes.shape[1:])


def along_columns(images: Tensor, matrix: Tensor) -> Tensor:
    """image · matrixᵀ for every plane."""
    planes = images.reshape(-1, *images.shape[2:])
    planes = torch.bmm(planes, matrix.t().expand(len(planes), -1, -1))
    return planes.view(*images.shape[:2], *planes.shape[1:])


def gaussian(images: Tensor, sigma: float, border: Border = "nearest", truncate: float = 4) -> Tensor:
    """Gaussian blur with the kernel of `scipy.ndimage.gaussian_filter`."""
    height, width = images.shape[2:]
    rows = _gaussian_matrix(height, sigma, border, truncate, images.device)
    columns = _gaussian_matrix(width, sigma, border, truncate, images.device)
    return separable(images, rows, columns)


@lru_cache(maxsize=128)
def _gaussian_matrix(size: int, sigma: float, border: Border, truncate: float, device: torch.device) -> Tensor:
    radius = int(truncate * sigma + 0.5)
    offset = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-0.5 * (offset.double() / sigma) ** 2)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    index = torch.arange(size)[:, None]
    matrix.index_put_(
        (index.expand(-1, len(offset)), mirrored(index + offset, size, border)),
        (kernel / kernel.sum()).expand(size, -1),
        accumulate=True,
    )
    return matrix.to(device, torch.float32)


@lru_cache(maxsize=512)
def zoom_matrix(size: int, factor: float, device: torch.device) -> Tensor:
    """Crop the central ceil(size / factor), zoom it by `factor` as `scipy.ndimage.zoom(order=1)` does, trim to `size`.

    scipy's grid puts the first and last samples of input and output on each other. At a few sizes (36 by 1.2, none of
    32) its rounding puts the last one outside the image, where it is black; here it is the edge.
    """
    crop = math.ceil(size / factor)
    start = (size - crop) // 2
    zoomed = round(crop * factor)
    trim = (zoomed - size) // 2
    position = torch.arange(trim, trim + size, dtype=torch.float64) * ((crop - 1) / max(zoomed - 1, 1))
    left = position.long().clamp(0, max(crop - 2, 0))
    fraction = position - left
    matrix = torch.zeros(size, size, dtype=torch.float64)
    index = torch.arange(size)
    matrix[index, start + left] = 1 - fraction
    matrix[index, start + (left + 1).clamp(max=crop - 1)] += fraction
    return matrix.to(device, torch.float32)


@lru_cache(maxsize=128)
def box_matrix(size_in: int, size_out: int, device: torch.device) -> Tensor:
    """Pillow's BOX resize: the mean of the input pixels whose middles lie in the output pixel, or else the nearest."""
    scale = size_in / size_out
    reach = max(scale, 1) / 2
    middle = (torch.arange(size_out, dtype=torch.float64) + 0.5)[:, None] * scale
    distance = torch.arange(size_in, dtype=torch.float64) + 0.5 - middle
    matrix = ((distance > -reach) & (distance <= reach)).double()
    return (matrix / matrix.sum(1, keepdim=True)).to(device, torch.float32)
