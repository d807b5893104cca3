"""Images as people have them, NumPy or torch, uint8 or float, channels first or last, and the harness's own form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stressbench.errors import UserError

CHANNELS = 3


def channels_first(images: Any, ndim: int) -> tuple[Tensor, Callable[[Tensor], Any]]:
    """Images (N, 3, H, W), uint8 or float32 in [0, 1], on their own device, and what brings such a tensor back.

    `images` is a NumPy array or a torch tensor with `ndim` dimensions: 4, or 3 for one image, which comes back as one.
    Its last three are (H, W, 3) or (3, H, W). What comes back has the kind, layout and dtype of `images`.

    Raises `UserError` for another kind, shape or dtype, and for values outside [0, 1].
    """
    if not isinstance(images, np.ndarray | Tensor):
        raise UserError(f"images are a {type(images).__name__}: pass a NumPy array or a torch tensor")
    tensor = images if isinstance(images, Tensor) else torch.from_numpy(np.ascontiguousarray(images))
    if tensor.ndim != ndim:
        expected = "(N, H, W, 3) or (N, 3, H, W)" if ndim == 4 else "(H, W, 3) or (3, H, W)"
        raise UserError(f"images have shape {tuple(tensor.shape)}: expected {expected}")
    first, last = tensor.shape[-3] == CHANNELS, tensor.shape[-1] == CHANNELS
    if first and last:
        raise UserError(f"images of shape {tuple(tensor.shape)} are ambiguous: both ends could be the three channels")
    if not first and not last:
        cure = "repeat a single grey channel three times" if 1 in (tensor.shape[-3], tensor.shape[-1]) else "check it"
        raise UserError(f"images have shape {tuple(tensor.shape)}, with no axis of 3 channels first or last: {cure}")
    if 0 in tensor.shape:
        raise UserError(f"images have shape {tuple(tensor.shape)}, which holds no pixels: pass at least one image")
    _require_range(tensor)
    dtype = tensor.dtype

    def restore(result: Tensor) -> Any:
        if dtype == torch.uint8:
            result = result.mul(255).round() if result.is_floating_point() else result
        result = (result if first else result.movedim(-3, -1).contiguous()).to(dtype)
        result = result if ndim == 4 else result[0]
        return result if isinstance(images, Tensor) else result.numpy()

    batch = tensor.detach() if ndim == 4 else tensor.detach().unsqueeze(0)
    batch = batch if first else batch.movedim(-1, -3)
    return (batch if dtype == torch.uint8 else batch.to(torch.float32)).contiguous(), restore


def _require_range(images: Tensor) -> None:
    """Raise `UserError` unless pixels are uint8, or floats in [0, 1]."""
    if images.dtype == torch.uint8:
        return
    if not images.is_floating_point():
        raise UserError(f"images are {images.dtype}: expected uint8, or floats in [0, 1]")
    if not bool(torch.isfinite(images).all()):
        raise UserError("images hold NaN or infinite values: expected floats in [0, 1]")
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > 1:
        cure = (
            "undo the normalisation, which is the model's own task"
            if low < 0
            else "divide them by 255, or pass them as uint8"
        )
        raise UserError(f"float images range from {low:.4g} to {high:.4g}: expected [0, 1]; {cure}")


def to_bytes(images: Tensor) -> Tensor:
    """uint8 or float images as uint8: a float is rounded to the nearest of the 256 levels."""
    return images if images.dtype == torch.uint8 else images.mul(255).round().to(torch.uint8)
