"""Recipes that change each image by chance: RandAugment and AugMix, with torchvision's operations.

Each builds on another: `short+augmix`. Their random numbers are torch's, which a training seeds and keeps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from stressbench import registry
from stressbench.contracts import Dataset
from stressbench.recipe import Loss, Recipe
from stressbench_plugins.base_loss import loss_of
from stressbench_plugins.mixing_recipes import augmented

JSD_WEIGHT = 12.0  # the paper's, of the consistency term


@dataclass(frozen=True)
class RandAugment:
    """`count` operations of strength `magnitude` (0 … 30), in a row, on each image."""

    count: int
    magnitude: int

    def __call__(self, images: Tensor, targets: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        return _each(images, v2.RandAugment(self.count, self.magnitude)), targets


@dataclass(frozen=True)
class AugMix:
    """A mixture of three chains of one to three operations of strength `severity` (1 … 10), and of the image."""

    severity: int

    def __call__(self, images: Tensor, targets: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        return self.view(images), targets

    def view(self, images: Tensor) -> Tensor:
        return _each(images, v2.AugMix(self.severity))


@dataclass(frozen=True)
class Consistent:
    """The loss of the images, and 12 times the divergence of the predictions for them and for two AugMix views.

    Jensen–Shannon: the mean Kullback–Leibler divergence of the three from their mean.
    """

    loss: Loss
    augmix: AugMix

    def __call__(self, module: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        with torch.no_grad():
            views = [self.augmix.view(images) for _ in range(2)]
        outputs: list[Tensor] = []

        def joint(clean: Tensor) -> Tensor:
            """One pass of all three, so that batch normalisation sees them together."""
            outputs.extend(module(torch.cat([clean, *views])).float().chunk(3))
            return outputs[0]

        value = self.loss(_Called(joint), images, targets)
        return value + JSD_WEIGHT * divergence(torch.stack(outputs).log_softmax(dim=-1))


class _Called(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._function = function

    def forward(self, images: Tensor) -> Tensor:
        return self._function(images)


def divergence(log_p: Tensor) -> Tensor:
    """The mean over images of the Jensen–Shannon divergence of K predictions (K, N, C), in nats.

    >>> float(divergence(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]).clamp(1e-9).log()))  # log 2
    0.6931471824645996
    """
    p = log_p.exp()
    mean = p.mean(dim=0).clamp(min=1e-7).log()
    return (p * (log_p - mean)).sum(dim=-1).mean()


def randaugment(dataset: Dataset, module: nn.Module, argument: str, count: int = 2, magnitude: int = 9) -> Recipe:
    """Another recipe with RandAugment (Cubuk et al., 2020) on each image."""
    return augmented(dataset, module, argument, RandAugment(count, magnitude))


def augmix(dataset: Dataset, module: nn.Module, argument: str, severity: int = 3, jsd: bool = True) -> Recipe:
    """Another recipe with AugMix (Hendrycks et al., 2020); `jsd=false` leaves the consistency of predictions out."""
    if not jsd:
        return augmented(dataset, module, argument, AugMix(severity))
    base = registry.recipe(argument, dataset, module)
    return replace(base, loss=Consistent(loss_of(base, dataset), AugMix(severity)))


def _each(images: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Each image (N, 3, H, W) through a transform of pixels, whose random choices are an image's own."""
    pixels = (255 * images).round().to(torch.uint8)
    return torch.stack([change(one) for one in pixels]).to(images.dtype) / 255
