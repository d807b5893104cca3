"""Between the engine's tensors and the plain arrays that the references compute with."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_tensor(pictures: np.ndarray) -> Tensor:
    """uint8 (N, H, W, C) → float32 (N, C, H, W) in [0, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous().float() / 255


def to_array(images: Tensor) -> np.ndarray:
    """float32 (N, C, H, W) on the grid of grey levels → int (N, H, W, C)."""
    scaled = images.double() * 255
    assert (scaled - scaled.round()).abs().max() < 1e-4
    return scaled.round().permute(0, 2, 3, 1).numpy().astype(int)


def truncated(values: np.ndarray) -> np.ndarray:
    """Grey levels as the published files have them, but that float64's own rounding never takes a level off."""
    return (np.clip(values, 0, 1) * 255 + 1e-9).astype(np.uint8).astype(int)


def assert_same(images: Tensor, reference: list[np.ndarray], *, levels: int = 1, share: float = 1.0) -> None:
    """Within some grey levels everywhere, and equal but for a share of the values."""
    difference = np.abs(to_array(images) - np.stack(reference))
    assert difference.max() <= levels
    assert (difference > 0).mean() <= share
