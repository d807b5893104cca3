"""Recipes that train on something between images, or between classes: mixup, cutmix, label smoothing.

Each builds on another: `short+mixup+label-smoothing`. Targets become distributions over classes, (N, C), which the
cross-entropy takes as it takes labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stressbench import randomness, registry
from stressbench.contracts import Classification, Dataset
from stressbench.errors import UserError
from stressbench.recipe import Augment, Recipe

_RATIO, _CENTRE, _ORDER = 1, 2, 3  # streams of random numbers


@dataclass(frozen=True)
class Then:
    """One augmentation after another."""

    first: Augment
    second: Augment

    def __call__(self, images: Tensor, targets: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        return self.second(*self.first(images, targets, keys), keys)


@dataclass(frozen=True)
class Mixup:
    """x ← λx + (1 − λ)x', y ← λy + (1 − λ)y', with one λ ~ Beta(α, α) a batch and x' another of its images."""

    classes: int
    alpha: float

    def __call__(self, images: Tensor, targets: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        share, order = _beta(keys, self.alpha), _order(keys)
        soft = distributions(targets, self.classes)
        return share * images + (1 - share) * images[order], share * soft + (1 - share) * soft[order]


@dataclass(frozen=True)
class Cutmix:
    """A box of another image of the batch in each image; targets in proportion to the areas.

    The box has √(1 − λ) of each side, λ ~ Beta(α, α), around a uniform point, and is cut off at the image's edge.
    """

    classes: int
    alpha: float

    def __call__(self, images: Tensor, targets: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        side, order = math.sqrt(1 - _beta(keys, self.alpha)), _order(keys)
        centre = randomness.uniform(keys[:1], (2,), _CENTRE)[0].tolist()
        (top, bottom), (left, right) = (
            (max(0, round((at - side / 2) * n)), min(n, round((at + side / 2) * n)))
            for at, n in zip(centre, images.shape[-2:], strict=True)
        )
        mixed = images.clone()
        mixed[..., top:bottom, left:right] = images[order][..., top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / (images.shape[-2] * images.shape[-1])
        soft = distributions(targets, self.classes)
        return mixed, share * soft + (1 - share) * soft[order]


@dataclass(frozen=True)
class Smoothed:
    """y ← (1 − ε)y + ε/C."""

    classes: int
    smoothing: float

    def __call__(self, images: Tensor, targets: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        return images, (1 - self.smoothing) * distributions(targets, self.classes) + self.smoothing / self.classes


def mixup(dataset: Dataset, module: nn.Module, argument: str, alpha: float = 1.0) -> Recipe:
    """Another recipe on weighted means of two images and of their labels (Zhang et al., 2018)."""
    return augmented(dataset, module, argument, Mixup(_classes(dataset), _positive("alpha", alpha)))


def cutmix(dataset: Dataset, module: nn.Module, argument: str, alpha: float = 1.0) -> Recipe:
    """Another recipe on images with a box of another one, and labels in proportion (Yun et al., 2019)."""
    return augmented(dataset, module, argument, Cutmix(_classes(dataset), _positive("alpha", alpha)))


def label_smoothing(dataset: Dataset, module: nn.Module, argument: str, smoothing: float = 0.1) -> Recipe:
    """Another recipe with a share of each label spread over all classes (Szegedy et al., 2016)."""
    if not 0 <= smoothing <= 1:
        raise UserError(f"invalid smoothing={smoothing}: expected a number from 0 to 1, for example 0.1")
    return augmented(dataset, module, argument, Smoothed(_classes(dataset), smoothing))


def augmented(dataset: Dataset, module: nn.Module, argument: str, augment: Augment) -> Recipe:
    """The recipe of this name with one more augmentation after its own."""
    base = registry.recipe(argument, dataset, module)
    return replace(base, augment=augment if base.augment is None else Then(base.augment, augment))


def distributions(targets: Tensor, classes: int) -> Tensor:
    """Labels (N,) as distributions over classes, (N, C), float32; distributions as they are."""
    return F.one_hot(targets, classes).float() if targets.ndim == 1 else targets


def _classes(dataset: Dataset) -> int:
    if not isinstance(dataset.task, Classification):
        raise UserError(f"this recipe is for classification, and {dataset.name} is for {dataset.task.name}")
    return dataset.task.classes


def _positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise UserError(f"invalid {name}={value}: expected a positive number, for example 1")
    return value


def _beta(keys: Tensor, alpha: float) -> float:
    from scipy.stats import beta

    return cast("float", beta.ppf(float(randomness.uniform(keys[:1], (1,), _RATIO)), alpha, alpha).item())


def _order(keys: Tensor) -> Tensor:
    """A permutation of the batch."""
    return torch.argsort(randomness.uniform(keys, (1,), _ORDER)[:, 0])
