"""Images that the corruptions are tried on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from stressbench.randomness import image_keys


def scenes(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 (count, height, width, 3): soft shapes with hard edges and grain; the first few are the extremes."""
    rng = np.random.default_rng(seed)
    soft = gaussian_filter(rng.normal(size=(count, height, width, 3)), (0, 2, 2, 0))
    soft = soft / soft.std() * 50 + 120 + rng.normal(size=soft.shape) * 5
    soft[:, height // 4 : height // 2, width // 3 :] += 60
    images = np.clip(soft, 0, 255).astype(np.uint8)
    images[0] = 0
    images[1] = 255
    images[2] = (200, 30, 90)
    images[3] = rng.integers(0, 2, images[3].shape) * 255
    return images


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The images are few: on a busy machine two threads would mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=[(32, 32), (24, 40)], ids=["32x32", "24x40"])
def pictures(request: pytest.FixtureRequest) -> np.ndarray:
    return scenes(10, *request.param)


@pytest.fixture
def square_pictures() -> np.ndarray:
    return scenes(10, 32, 32)


@pytest.fixture
def keys() -> torch.Tensor:
    return image_keys(3, torch.arange(10))
