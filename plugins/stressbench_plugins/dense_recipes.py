"""Recipes of dense regression: super-resolution, with and without an adversarial loss, and depth."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import torch
from torch import Tensor, nn

from stressbench import passes, randomness, registry
from stressbench.contracts import Dataset, Depth, Regression, SuperResolution
from stressbench.errors import UserError
from stressbench.recipe import Recipe
from stressbench_plugins.losses import Adversarial, Disturbance, Pixelwise, VarianceWeighted, berhu
from stressbench_plugins.super_resolution import SRGAN

# As the training-free paper's networks were trained (Mi et al., 2019, and the code that it takes). Nothing is mirrored
# or turned, since a network that has seen both gives nearly the same output for an image and its mirror image.
PAPER = Recipe(
    epochs=100,
    batch_size=16,
    learning_rate=1e-4,
    schedule="steps",
    optimiser="adam",
    weight_decay=0.0,
    warmup=0.0,
    padding=0,
    flip=False,
)
# Laina et al. (2016): SGD, the rate halved every six to eight epochs.
PAPER_DEPTH = replace(
    PAPER, epochs=20, learning_rate=1e-2, optimiser="sgd", milestones=(7, 14), factor=0.5, weight_decay=5e-4, loss=berhu
)
EMBEDDED = replace(PAPER, batch_size=8, learning_rate=2e-3, schedule="one-cycle", warmup=4.0, clip=1.0)
# What a training on an embedded set may cost: floating-point operations of all its forward passes, a few minutes on two
# CPU cores.
EMBEDDED_WORK = 1.2e13
EMBEDDED_MOST_EPOCHS = 80


def super_resolution(dataset: Dataset, module: nn.Module) -> Recipe:
    """The mean squared error, by Adam at 1e-4 in batches of 16, for 100 epochs."""
    _require_regression("super-resolution", dataset)
    return PAPER


def adversarial(dataset: Dataset, module: nn.Module, width: int = 64) -> Recipe:
    """SRGAN's: 100 times the squared error beside an adversarial loss; the discriminator's first layer has `width`."""
    task = _require_regression("adversarial", dataset)
    return replace(PAPER, loss=Adversarial(task.channels, width))


def depth(dataset: Dataset, module: nn.Module) -> Recipe:
    """FCRN's: the reversed Huber loss, by SGD in batches of 16, for 20 epochs."""
    _require_regression("depth", dataset)
    return PAPER_DEPTH


def variance_weighted(
    dataset: Dataset,
    module: nn.Module,
    argument: str,
    disturbance: Disturbance = "dropout",
    location: str = "2",
    rate: float = 0.1,
    samples: int = 8,
) -> Recipe:
    """Another recipe, named after the colon, whose squared error counts each pixel by its variance.

    The variance is that of draws disturbed by `dropout` or `noise` of a `rate` at a `location`, or by the transforms of
    `flip`, `rotate` or `dihedral`. An adversarial loss stays as it is. It is meant for trained networks (`--start`).

    Raises `UserError` for a recipe with another loss.
    """
    base = registry.recipe(argument, dataset, module)
    weighted = VarianceWeighted(disturbance, location, rate, samples)
    if base.loss is None:
        return replace(base, loss=Pixelwise(weighted))
    if isinstance(base.loss, Adversarial):
        return replace(base, loss=Adversarial(base.loss.channels, base.loss.width, weighted, base.loss.weight))
    raise UserError(f"variance-weighted:{argument} does not fit: {argument} has no squared error to weight")


def embedded(dataset: Dataset, module: nn.Module) -> Recipe:
    """For an embedded set: as many epochs as a few minutes allow, and the loss that task and network are for."""
    work = 2 * passes.multiply_adds(module, dataset.image_size) * len(dataset.images) + 1
    recipe = EMBEDDED.with_epochs(min(max(round(EMBEDDED_WORK / work), 1), EMBEDDED_MOST_EPOCHS))
    if isinstance(dataset.task, SuperResolution):
        recipe = replace(recipe, augment=recoloured)
    if isinstance(module, SRGAN):
        # As wide as the network's own maps, so that the discriminator costs no more than it does.
        return replace(recipe, loss=Adversarial(module.head.out_channels, min(module.head.in_channels, 16)))
    return replace(recipe, loss=berhu) if isinstance(dataset.task, Depth) else recipe


def recoloured(images: Tensor, targets: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Images and targets (N, 3, H, W) with their channels in one of six orders, and half of them as negatives.

    One photograph has few colours, and a network that has seen no others makes nothing of another photograph's.
    """
    order, negative = randomness.uniform(keys, (2,)).unbind(dim=1)
    which = torch.tensor(list(permutations(range(3))), device=images.device)[(6 * order).long()]
    signs = torch.where(negative < 0.5, -1.0, 1.0).view(-1, 1, 1, 1)
    rows = torch.arange(len(images), device=images.device)[:, None]

    def changed(maps: Tensor) -> Tensor:
        return (maps[rows, which] - 0.5) * signs + 0.5

    return changed(images), changed(targets)


def _require_regression(name: str, dataset: Dataset) -> Regression:
    if not isinstance(dataset.task, Regression):
        raise UserError(f"recipe {name} is for regression, and {dataset.name} is for {dataset.task.name}")
    return dataset.task
