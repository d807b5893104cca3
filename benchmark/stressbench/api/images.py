"""Stressed images without a model: the stress of a suite for any array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import nn

from stressbench import randomness, registry
from stressbench.contracts import Batch, Condition, StressSuite
from stressbench.datasets.pixels import channels_first
from stressbench.errors import UserError
from stressbench.results.conditions import describe
from stressbench.sampling import Unjudged

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    Pixels = TypeVar("Pixels", Tensor, NDArray[np.generic])


def corrupt(
    images: Pixels,
    corruption: str,
    severity: int = 3,
    seed: int = 0,
    *,
    positions: Sequence[int] | None = None,
    suite: str = "corruption",
) -> Pixels:
    """Images under a corruption of CIFAR-C or ImageNet-C at a severity from 1 to 5.

    `images` is a NumPy array or a torch tensor of uint8, or of floats in [0, 1]: (N, H, W, 3) or (N, 3, H, W), or one
    image without the N. The result has the same kind, shape, dtype and device; `images` stay as they are.

    Image n is what a run with this `seed` makes of image n of its dataset: the random numbers depend on the
    corruption, the severity, the seed and the image's position alone. `positions` (N,) are the positions where they
    are not 0 … N − 1. `suite` names the suite that offers the corruptions.

    Raises `UserError` for an unknown corruption or severity, and for images of another shape, dtype or range.

    >>> import numpy as np, stressbench
    >>> stressbench.corrupt(np.full((32, 32, 3), 51, dtype=np.uint8), "contrast", severity=3).mean()
    np.float64(51.0)
    """
    single = getattr(images, "ndim", None) == 3
    pixels, restore = channels_first(images, 3 if single else 4)
    pixels = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
    indices = torch.arange(len(pixels)) if positions is None else torch.as_tensor(positions, dtype=torch.int64)
    if indices.shape != (len(pixels),):
        raise UserError(f"positions has shape {tuple(indices.shape)} for {len(pixels)} images: pass one for each")
    chosen = registry.suite(suite, {"corruptions": corruption, "severities": str(severity)})
    if not isinstance(chosen, StressSuite):
        raise UserError(f"the {suite} suite does not make images: name one that does")
    condition: Condition = {"corruption": corruption, "severity": severity}
    if condition not in chosen.conditions():
        raise UserError(f"the {suite} suite has no condition {describe(condition)}: name one corruption")
    indices = indices.to(pixels.device)
    batch = Batch(
        images=pixels,
        targets=torch.zeros_like(indices),
        indices=indices,
        keys=randomness.image_keys(randomness.derive(seed, condition), indices),
    )
    stressed = chosen.stress(condition, batch, Unjudged(nn.Identity())).images
    return restore(stressed)  # type: ignore[no-any-return]
