"""Super-resolution ×4: patches of images, each with itself at a quarter the size by MATLAB's bicubic interpolation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stressbench.contracts import Dataset, InMemory, SuperResolution
from stressbench.datasets.bicubic import shrink
from stressbench.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SCALE = 4
PATCH = 96  # pixels a side, at the high resolution
# The photographs of scikit-learn by what they are for, with their columns and how far the patches are apart.
PHOTOS = {"train": ("china.jpg", slice(0, 384), 32), "pool": ("china.jpg", slice(384, None), 32)}
TEST = ("flower.jpg", slice(None), PATCH)


@dataclass(frozen=True)
class Fractions:
    """A `contracts.Source` of uint8 pixels (N, C, H, W) that is read as float32 in [0, 1]."""

    pixels: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, start: int, stop: int) -> Tensor:
        return self.pixels[start:stop].to(torch.float32) / 255


def photos(split: str, data_dir: Path | None = None, name: str | None = None) -> Dataset:
    """The two photographs (427×640) that scikit-learn ships, in patches of 96×96 pixels, to be made from 24×24.

    Train is the left part of the temple, in 110 patches 32 pixels apart; the split "pool", for `bench acquire`, is its
    right part, in 66; test is the flower, in 24 that do not overlap. No pixel is in two splits. It is a sample to try
    things on: all of a split is of one scene, by one camera.

    Raises `UserError` for a `data_dir` or a `name`: the set is part of an installed package and has its own name.
    """
    if data_dir is not None:
        raise UserError("'photos' is embedded and takes no --data-dir: leave it out, or use --dataset super-resolution")
    if name is not None:
        raise UserError("'photos' keeps its own name: leave --dataset-name out, or use --dataset super-resolution")
    from sklearn.datasets import load_sample_image

    photograph, columns, step = PHOTOS.get(split, TEST)
    return pairs("photos", split, patches(load_sample_image(photograph)[:, columns], step), embedded=True)


def patches(image: NDArray[np.uint8], step: int) -> Tensor:
    """All patches (N, 3, `PATCH`, `PATCH`), uint8, of an image (H, W, 3), `step` pixels apart, row by row."""
    whole = torch.from_numpy(image.copy()).permute(2, 0, 1)
    windows = whole.unfold(1, PATCH, step).unfold(2, PATCH, step)
    return windows.permute(1, 2, 0, 3, 4).flatten(0, 1).contiguous()


def pairs(name: str, split: str, pixels: Tensor, embedded: bool = False) -> Dataset:
    """The dataset of high-resolution patches (N, 3, H, W), uint8, each with itself made `SCALE` times smaller."""
    small = shrink(pixels, SCALE)
    return Dataset(
        name=name,
        split=split,
        task=SuperResolution(scale=SCALE),
        images=InMemory(small),
        targets=Fractions(pixels),
        image_size=(small.shape[-2], small.shape[-1]),
        embedded=embedded,
    )
