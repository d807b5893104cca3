"""Frames that move the image: shifted, turned, tilted, scaled.

Each function takes images (N, 3, H, W) in [0, 1] and returns frames (N, T, 3, H, W), black where they look outside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from stressbench_suites.corruption.pixels import LEVELS, to_levels, truncate

Matrix = tuple[tuple[float, float], tuple[float, float]]  # rows; it works on (x, y)


def shifted(images: Tensor, shifts: range) -> Tensor:
    """Moved by whole pixels in x, to the right where that is positive."""
    width = images.shape[3]
    right, left = max(shifts), -min(shifts)
    padded = F.pad(images, (right, left))
    return torch.stack([padded[..., right - shift : right - shift + width] for shift in shifts], dim=1)


def turned(images: Tensor, degrees: Sequence[float]) -> Tensor:
    """Turned clockwise about the centre."""
    angles = [math.radians(angle) for angle in degrees]
    turns = [((math.cos(a), math.sin(a)), (-math.sin(a), math.cos(a))) for a in angles]
    return warped(images, tuple(turns))


def scaled(images: Tensor, factors: Sequence[float]) -> Tensor:
    """Scaled about the centre."""
    return warped(images, tuple(((1 / factor, 0.0), (0.0, 1 / factor)) for factor in factors))


def warped(images: Tensor, matrices: tuple[Matrix, ...]) -> Tensor:
    """Frames whose pixel at offset u from the centre is the image at `matrix` · u, in whole grey levels.

    Pillow's bilinear transform, by which the published code does this: what lies between the outermost pixels' centres
    and the edge is the outermost pixel, what lies beyond the edge is black, and levels are truncated.
    """
    grid, inside = _affine_grid(matrices, images.shape[2], images.shape[3], images.device)
    return truncate(_sampled(images, grid, "border", align_corners=False).mul_(inside))


def tilted(images: Tensor, degrees: Sequence[float]) -> Tensor:
    """Seen by a camera while the image is turned by the same angle about both of its axes, in whole grey levels.

    OpenCV's bilinear warpPerspective with exact coordinates (its releases before 5 round them to 1/32 of a pixel): it
    blends the outermost pixels into the black outside, and rounds.
    """
    grid = _perspective_grid(tuple(degrees), images.shape[2], images.shape[3], images.device)
    return to_levels(_sampled(images, grid, "zeros", align_corners=True)).div_(LEVELS)


def _sampled(images: Tensor, grid: Tensor, outside: str, *, align_corners: bool) -> Tensor:
    """The images at the places of a grid (T, H, W, 2) that they share: (N, T, 3, H, W), bilinear."""
    # The frames lie below each other in one tall grid: one call for all of them.
    tall = grid.flatten(0, 1).expand(len(images), -1, -1, -1)
    frames = F.grid_sample(images, tall, padding_mode=outside, align_corners=align_corners)
    return frames.view(*images.shape[:2], *grid.shape[:3]).transpose(1, 2)


@lru_cache(maxsize=16)
def _affine_grid(matrices: tuple[Matrix, ...], height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Where each frame's pixels come from, for `grid_sample` (T, H, W, 2), and whether inside, (T, 1, H, W)."""
    x, y = torch.meshgrid(*(torch.arange(n).double() + 0.5 - n / 2 for n in (width, height)), indexing="xy")
    source = torch.einsum("tij,jhw->thwi", torch.tensor(matrices, dtype=torch.float64), torch.stack([x, y]))
    # −1 and 1 are the image's edges.
    grid = source * 2 / torch.tensor((width, height), dtype=torch.float64)
    inside = ((grid >= -1) & (grid < 1)).all(-1, keepdim=True).movedim(-1, 1)
    return grid.to(device, torch.float32), inside.to(device, torch.float32)


@lru_cache(maxsize=16)
def _perspective_grid(degrees: tuple[float, ...], height: int, width: int, device: torch.device) -> Tensor:
    """Where each tilted frame's pixels come from, for `grid_sample` (T, H, W, 2).

    The camera is √(W² + H²) pixels away, and that is its focal length. The plane that is turned lies one pixel behind
    the axes, as it does in the published code, so that even an image that is not tilted is a little smaller.
    """
    focal = math.hypot(width, height)
    pixel = torch.stack(torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy")).double()
    homogeneous = torch.cat([pixel, torch.ones_like(pixel[:1])])
    # Corners of the image in space: x and y from its middle, z = 1, and 1 for what is added.
    placed = torch.tensor(((1, 0, -width / 2), (0, 1, -height / 2), (0, 0, 1)), dtype=torch.float64)
    seen = torch.tensor(((focal, 0, width / 2), (0, focal, height / 2), (0, 0, 1)), dtype=torch.float64)
    away = torch.tensor(((0, 0, 0), (0, 0, 0), (0, 0, focal)), dtype=torch.float64)
    grids = []
    for angle in map(math.radians, degrees):
        sin, cos = math.sin(angle), math.cos(angle)
        about_x = torch.tensor(((1, 0, 0), (0, cos, -sin), (0, sin, cos)), dtype=torch.float64)
        about_y = torch.tensor(((cos, 0, -sin), (0, 1, 0), (sin, 0, cos)), dtype=torch.float64)
        there = seen @ (about_x @ about_y @ placed + away)
        back = torch.einsum("ij,jhw->ihw", torch.linalg.inv(there), homogeneous)
        grids.append(back[:2] / back[2])
    # −1 and 1 are the outermost pixels' centres.
    grid = torch.stack(grids).movedim(1, -1) * 2 / torch.tensor((width - 1, height - 1), dtype=torch.float64) - 1
    return grid.to(device, torch.float32)
