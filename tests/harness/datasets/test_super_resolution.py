"""The embedded photographs, and MATLAB's bicubic interpolation against Pillow and a loop over pixels."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from stressbench import registry
from stressbench.contracts import SuperResolution
from stressbench.datasets.bicubic import shrink
from stressbench.errors import UserError


def pixels(height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (1, 3, height, width), dtype=torch.uint8, generator=generator)


def line(values: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    """MATLAB's resizing of one line of pixels, written as its documentation describes it."""

    def kernel(x: float) -> float:
        x = abs(x)
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0

    border = 2 * factor + 2
    wide = np.pad(values, border, mode="symmetric")
    found = []
    for i in range(len(values) // factor):
        centre = i * factor + (factor - 1) / 2
        near = range(math.floor(centre) - border, math.floor(centre) + border + 1)
        weights = np.array([kernel((j - centre) / factor) for j in near])
        taken = np.array([wide[j + border] for j in near if 0 <= j + border < len(wide)])
        kept = np.array([w for j, w in zip(near, weights, strict=True) if 0 <= j + border < len(wide)])
        found.append((taken * kept).sum() / kept.sum())
    return np.clip(np.floor(np.array(found) + 0.5), 0, 255)


@pytest.mark.parametrize("factor", [2, 4])
def test_bicubic_is_matlabs_at_the_borders_too(factor: int) -> None:
    given = pixels(16, 24)
    columns = np.apply_along_axis(line, 0, given[0, 0].double().numpy(), factor)
    wanted = np.apply_along_axis(line, 1, columns, factor)
    assert np.array_equal(shrink(given, factor)[0, 0].numpy(), wanted)


def test_bicubic_is_pillows_away_from_the_borders() -> None:
    given = pixels(64, 80)
    small = Image.fromarray(given[0, 1].numpy()).resize((20, 16), Image.Resampling.BICUBIC)
    apart = np.asarray(small).astype(int) - shrink(given, 4)[0, 1].numpy()
    assert np.abs(apart[2:-2, 2:-2]).max() <= 1  # Pillow does the columns first, and rounds in between, too
    assert np.abs(apart).max() > 1


def test_what_is_the_same_everywhere_stays_so() -> None:
    assert bool((shrink(torch.full((1, 3, 16, 16), 200, dtype=torch.uint8), 4) == 200).all())
    with pytest.raises(ValueError, match="4 times smaller"):
        shrink(pixels(10, 16), 4)


def test_photos_are_patches_of_two_photographs_and_their_quarters() -> None:
    for split, n in (("train", 110), ("pool", 66), ("test", 24)):
        data = registry.dataset("photos", split)
        assert data.embedded
        assert data.task == SuperResolution(scale=4)
        assert (len(data.images), data.image_size) == (n, (24, 24))
        target = data.targets.read(0, n)
        data.task.require_targets(target, n, (24, 24))
        bytes_ = (target * 255).round().to(torch.uint8)
        assert torch.equal(data.images.read(0, n), shrink(bytes_, 4))
        # Patches that are next to each other continue each other, or overlap.
        if split != "test":
            assert torch.equal(bytes_[0, :, :, 32:], bytes_[1, :, :, :-32])
    from sklearn.datasets import load_sample_image

    temple = torch.from_numpy(load_sample_image("china.jpg").copy())
    train, pool = ((registry.dataset("photos", split).targets.read(0, 10) * 255).round() for split in ("train", "pool"))
    assert torch.equal(train[9].permute(1, 2, 0), temple[:96, 288:384].float())
    assert torch.equal(pool[0].permute(1, 2, 0), temple[:96, 384:480].float())
    flower = torch.from_numpy(load_sample_image("flower.jpg").copy())
    assert torch.equal(bytes_[7].permute(1, 2, 0), flower[96:192, 96:192])


def test_photos_have_their_own_name_and_place(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="takes no --data-dir"):
        registry.dataset("photos", "test", tmp_path)
    with pytest.raises(UserError, match="keeps its own name"):
        registry.dataset("photos", "test", None, "mine")
