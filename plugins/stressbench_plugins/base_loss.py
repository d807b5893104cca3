"""Losses that recipes wrap others in, and the one that a recipe has."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from stressbench.contracts import Dataset, Task
from stressbench.recipe import Loss, Recipe


@dataclass(frozen=True)
class MeanLoss:
    """The mean over images of a task's loss."""

    task: Task

    def __call__(self, module: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return self.task.loss(module(images).float(), targets).mean()


def loss_of(recipe: Recipe, dataset: Dataset) -> Loss:
    """The loss that a recipe trains with, of one draw."""
    return MeanLoss(dataset.task) if recipe.loss is None else recipe.loss
