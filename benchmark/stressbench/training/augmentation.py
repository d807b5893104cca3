"""Random crops and mirroring of a step's images, and of their targets where these are maps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from stressbench.contracts import Task
from stressbench.recipe import Recipe


@dataclass(frozen=True)
class Placement:
    """Where each of N images is cropped, from its border's corner on, and whether it is mirrored."""

    padding: int
    top: Tensor
    """(N,), int64, 0 … 2·padding."""
    left: Tensor
    mirrored: Tensor
    """(N,), bool."""

    def crop(self, maps: Tensor, scale: int = 1, fill: float = 0) -> Tensor:
        """Each map (N, C, H, W) cropped to its own size from a border of `fill` at its place, and perhaps mirrored.

        `scale` is how many of the map's pixels are as wide as one of the image's.
        """
        height, width = maps.shape[-2:]
        padded = F.pad(maps, [self.padding * scale] * 4, value=fill)
        rows = scale * self.top.view(-1, 1, 1) + torch.arange(height, device=maps.device).view(1, -1, 1)
        columns = torch.arange(width, device=maps.device).view(1, 1, -1)
        columns = torch.where(self.mirrored.view(-1, 1, 1), width - 1 - columns, columns)
        # Indexing puts the channels last, and so in the memory format that convolutions are fastest in.
        numbers = torch.arange(len(maps), device=maps.device).view(-1, 1, 1)
        return padded[numbers, :, rows, scale * self.left.view(-1, 1, 1) + columns].permute(0, 3, 1, 2)


def placed(n: int, recipe: Recipe, generator: torch.Generator, device: torch.device) -> Placement:
    """Random places for n images, drawn on the CPU, and so the same on every device."""
    places = 2 * recipe.padding + 1
    top = torch.randint(places, (n,), generator=generator)
    left = torch.randint(places, (n,), generator=generator)
    mirrored = torch.randint(2, (n,), generator=generator) == 1 if recipe.flip else torch.zeros(n, dtype=torch.bool)
    return Placement(recipe.padding, top.to(device), left.to(device), mirrored.to(device))


def cropped(
    images: Tensor, targets: Tensor, task: Task, recipe: Recipe, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Images (N, 3, H, W), uint8, from a black border, and their targets, which are unknown outside of the image."""
    place = placed(len(images), recipe, generator, images.device)
    if targets.ndim < 3:
        return place.crop(images), targets
    fill = math.nan if targets.is_floating_point() else float(getattr(task, "ignore", 0))
    maps = targets if targets.ndim == 4 else targets[:, None]
    moved = place.crop(maps, targets.shape[-1] // images.shape[-1], fill)
    return place.crop(images), moved.reshape(targets.shape)
