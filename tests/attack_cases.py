"""What the adversarial tests share: small batches, models with known gradients, and a suite run without the runner."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from stressbench import randomness
from stressbench.contracts import Batch, Condition, Metrics
from stressbench.sampling import Unjudged, sample
from stressbench_suites.adversarial.suite import AdversarialSuite

SIDE = 6  # pixels


class Linear(nn.Module):
    """Logits W·x + b of the pixels, with small weights from a fixed seed, or with the given ones."""

    def __init__(self, classes: int = 2, scale: float = 1.0, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.layer = nn.Linear(3 * SIDE * SIDE, classes)
        self.layer.weight.data = scale * torch.randn(self.layer.weight.shape, generator=generator)
        # Grey is on the fence between all classes, so that images on both sides of it are near.
        self.layer.bias.data = -self.layer.weight.data.sum(dim=1) / 2

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.flatten(1))


class Rerouted(torch.autograd.Function):
    """The identity, with another gradient."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return images.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient * ctx.saved_tensors[0], None


def batch(n: int, model: nn.Module, seed: int = 0, wrong: int = 0) -> Batch:
    """Random images with the model's own predictions as their labels, except for the first `wrong` ones."""
    images = torch.rand(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    logits = model(images)
    labels = logits.argmax(dim=1)
    labels[:wrong] = (labels[:wrong] + 1) % logits.shape[1]
    indices = torch.arange(n)
    return Batch(images, labels, indices, randomness.image_keys(randomness.derive(seed), indices))


def keyed(b: Batch, condition: Condition) -> Batch:
    """The batch with the keys that the runner gives it under a condition."""
    return Batch(b.images, b.targets, b.indices, randomness.image_keys(randomness.derive(0, condition), b.indices))


def run(
    suite: AdversarialSuite, model: nn.Module, b: Batch, draws: int = 1
) -> tuple[list[Condition], list[pd.DataFrame], list[Metrics]]:
    """The suite's conditions, tables and rows for one batch."""
    conditions, tables = suite.conditions(), []
    for condition in conditions:
        own = keyed(b, condition)
        stressed = suite.stress(condition, own, Unjudged(model))
        with torch.no_grad(), randomness.draw(own.keys, 0):
            log_probs = torch.stack(sample(model, stressed.images, draws)).float().log_softmax(dim=-1)
        columns = {"index": b.indices, **stressed.columns, **suite.observe(condition, own, log_probs)}
        tables.append(pd.DataFrame({name: column.numpy() for name, column in columns.items()}))
    return conditions, tables, suite.score(conditions, tables)
