"""Embedded images that belong to no class: what out-of-distribution detection is tried on where nothing is downloaded.

Each has 500 test images of 32×32, all labelled 0, and nothing to train on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stressbench import randomness
from stressbench.contracts import Classification, Dataset, InMemory
from stressbench.errors import UserError

COUNT = 500
SIZE = 32


def noise(split: str, data_dir: Path | None = None, name: str | None = None) -> Dataset:
    """Every value of every pixel uniform on 0 … 255."""
    return _embedded("noise", split, data_dir, name, lambda: _uniform("noise").mul(256).to(torch.uint8))


def blobs(split: str, data_dir: Path | None = None, name: str | None = None) -> Dataset:
    """Shapes with soft insides and hard edges, after Hendrycks et al. (2019, "Deep anomaly detection with outlier
    exposure").

    Each value is 1 with probability 0.7, else 0; the image and its channels are blurred (Gaussian, σ = 1.5), and what
    is below 0.75 then becomes 0.
    """
    return _embedded("blobs", split, data_dir, name, _blobs)


def photo_patches(split: str, data_dir: Path | None = None, name: str | None = None) -> Dataset:
    """Squares of the two photographs of scikit-learn, a temple and a flower, that do not overlap."""
    return _embedded("photo-patches", split, data_dir, name, _patches)


def _embedded(own: str, split: str, data_dir: Path | None, name: str | None, pixels: Callable[[], Tensor]) -> Dataset:
    if data_dir is not None or name is not None:
        raise UserError(f"'{own}' is embedded and keeps its name: leave out --data-dir and --dataset-name")
    if split != "test":
        raise UserError(f"'{own}' has no {split} split: its images belong to no class (use it with --suite ood)")
    return Dataset(
        name=own,
        split=split,
        task=Classification(1),
        images=InMemory(pixels()),
        targets=InMemory(torch.zeros(COUNT, dtype=torch.int64)),
        image_size=(SIZE, SIZE),
        embedded=True,
    )


def _uniform(of: str) -> Tensor:
    keys = randomness.image_keys(randomness.derive(of), torch.arange(COUNT))
    return randomness.uniform(keys, (3, SIZE, SIZE))


def _blobs() -> Tensor:
    from scipy.ndimage import gaussian_filter

    on = (_uniform("blobs") < 0.7).numpy().astype(np.float64)
    soft = np.stack([gaussian_filter(one, sigma=1.5) for one in on])
    return torch.from_numpy(np.where(soft < 0.75, 0, 255 * soft).round().astype(np.uint8))


def _patches() -> Tensor:
    from sklearn.datasets import load_sample_images

    squares = []
    for photo in load_sample_images().images:
        rows, columns = photo.shape[0] // SIZE, photo.shape[1] // SIZE
        grid = photo[: rows * SIZE, : columns * SIZE].reshape(rows, SIZE, columns, SIZE, 3)
        squares.append(grid.transpose(0, 2, 4, 1, 3).reshape(-1, 3, SIZE, SIZE))
    # Both photographs have the same number, so half of each.
    return torch.from_numpy(np.concatenate([part[: COUNT // 2] for part in squares]))
