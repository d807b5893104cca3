"""Grey levels, borders and neighbourhoods: what several corruptions share.

Images are (N, C, H, W) float32 in [0, 1]; a grey level is 1/255.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

# nearest: aaa|abcd|ddd · symmetric (scipy's "reflect"): cba|abcd|dcb · mirror (OpenCV's reflect-101): dcb|abcd|cba
Border = Literal["nearest", "symmetric", "mirror"]

LEVELS = 255
# float32 arithmetic puts a value that is exactly k grey levels a little under k as often as over it. A four-thousandth
# of a level, well above that noise, keeps truncation from taking a whole level off it, where float64 would not have.
_SLACK = 2.0**-12


def truncate(images: Tensor) -> Tensor:
    """Clip to [0, 1] and truncate to whole grey levels, as the published code's cast to uint8 does."""
    return images.mul(LEVELS).add_(_SLACK).clamp_(0, LEVELS).floor_().div_(LEVELS)


def to_levels(images: Tensor) -> Tensor:
    """The nearest integer grey levels 0 … 255, still float32."""
    return images.mul(LEVELS).round_().clamp_(0, LEVELS)


def mirrored(index: Tensor, size: int, border: Border) -> Tensor:
    """Positions inside 0 … size − 1 that stand for any integer positions under a border rule."""
    if border == "nearest" or size == 1:
        return index.clamp(0, size - 1)
    period, shift = (2 * size, 1) if border == "symmetric" else (2 * size - 2, 0)
    index = index.remainder(period)
    return torch.where(index < size, index, period - shift - index)


def pad(images: Tensor, reach: int, border: Border) -> Tensor:
    """`reach` more pixels on each side of the last two axes; unlike `F.pad`, however small the image is."""
    for axis in (-2, -1):
        size = images.shape[axis]
        around = torch.arange(-reach, size + reach, device=images.device)
        images = images.index_select(axis, mirrored(around, size, border))
    return images


def windows(padded: Tensor, height: int, width: int) -> Tensor:
    """All windows of one size, by the position of their corner: a view (N, C, rows, columns, height, width)."""
    return padded.unfold(2, height, 1).unfold(3, width, 1)
