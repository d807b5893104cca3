"""Datasets and models of dense tasks, as a plugin has them: random images, and networks of one convolution."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from stressbench import randomness
from stressbench.contracts import Dataset, InMemory, Regression, Segmentation

N, SIZE, CLASSES, VOID = 6, (12, 20), 4, 255


def images(seed: int = 0) -> Tensor:
    return torch.randint(256, (N, 3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def masks(split: str, data_dir: Path | None, name: str | None) -> Dataset:
    """Class 3 is nowhere, a tenth of the pixels is void, and so is the whole of the last image."""
    generator = torch.Generator().manual_seed(1)
    target = torch.randint(CLASSES - 1, (N, *SIZE), generator=generator)
    target[torch.rand(target.shape, generator=generator) < 0.1] = VOID
    target[-1] = VOID
    return Dataset("masks", split, Segmentation(CLASSES), InMemory(images()), InMemory(target), SIZE)


def clips(split: str, data_dir: Path | None, name: str | None) -> Dataset:
    """The same as a video of two recordings, of four frames and of two."""
    return replace(masks(split, data_dir, name), name="clips", recordings=torch.tensor([0, 0, 0, 0, 1, 1]))


def depths(split: str, data_dir: Path | None, name: str | None) -> Dataset:
    """Two values a pixel; some are unknown."""
    generator = torch.Generator().manual_seed(2)
    target = torch.rand((N, 2, *SIZE), generator=generator)
    target[torch.rand(target.shape, generator=generator) < 0.1] = torch.nan
    return Dataset("depths", split, Regression(2, "m"), InMemory(images()), InMemory(target), SIZE)


class Pixelwise(nn.Module):
    """A convolution of each pixel by itself, with fixed weights; dropped tells apart its draws."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, outputs, 1)
        generator = torch.Generator().manual_seed(3)
        self.layer.weight.data = 3 * torch.randn(self.layer.weight.shape, generator=generator)
        self.layer.bias.data = torch.randn(outputs, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images)


class Dropping(Pixelwise):
    stochastic = True
    default_draws = 3

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(randomness.dropout(images, 0.2))


def outputs(dataset: Dataset) -> int:
    task = dataset.task
    return task.channels if isinstance(task, Regression) else dataset.classes


def pixelwise(dataset: Dataset) -> nn.Module:
    return Pixelwise(outputs(dataset))


def dropping(dataset: Dataset) -> nn.Module:
    return Dropping(outputs(dataset))
