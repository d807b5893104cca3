"""Batches of random images, as the runner gives them to a suite."""

from __future__ import annotations

import torch

from stressbench import randomness
from stressbench.contracts import Batch


def batch(n: int = 6, classes: int = 10, size: tuple[int, int] = (32, 32), seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        images=torch.rand(n, 3, *size, generator=generator),
        targets=torch.randint(classes, (n,), generator=generator),
        indices=torch.arange(n),
        keys=randomness.image_keys(randomness.derive(seed), torch.arange(n)),
    )
