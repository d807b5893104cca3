"""How networks for segmentation are trained: Adam on cross-entropy in which rare classes may count more."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stressbench import passes
from stressbench.contracts import Dataset, Segmentation
from stressbench.errors import UserError
from stressbench.recipe import Recipe

# What the spatial smoothing paper (Park and Kim, 2022, appendix A.2) trains CamVid with. How far its crops move is not
# told; this is an eighth of a small image's side.
PAPER = Recipe(
    epochs=130,
    batch_size=3,
    learning_rate=1e-3,
    schedule="steps",
    optimiser="adam",
    milestones=(100,),
    factor=0.1,
    weight_decay=0,
    warmup=0,
    padding=12,
)
SHORT = replace(PAPER, epochs=30, batch_size=8, learning_rate=3e-3, schedule="one-cycle", milestones=(), warmup=3.0)
# What a training on an embedded set may cost, in floating-point operations of all its forward passes: minutes on two
# CPU cores.
EMBEDDED_WORK = 1.2e13
MOST_EPOCHS = 30
_BLOCK = 64  # masks that are read at a time


@dataclass(frozen=True)
class WeightedCrossEntropy:
    """The mean over all pixels that are not void of weight[y] · −log p(y)."""

    weights: tuple[float, ...]
    ignore: int

    def __call__(self, module: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        weights = torch.tensor(self.weights, device=targets.device)
        raw = module(images).float()
        each = F.cross_entropy(raw, targets, weights, ignore_index=self.ignore, reduction="none")
        return each.sum() / (targets != self.ignore).sum().clamp(min=1)


def segmentation(dataset: Dataset, module: nn.Module, weights: Literal["median", "none"] = "median") -> Recipe:
    """The spatial smoothing paper's for CamVid: 130 epochs of Adam in batches of 3.

    `weights`: `median` weighs each class by the median over classes of their frequency, over its own, as
    `median_frequency` says; `none` weighs all alike.
    """
    task = dataset.task
    if not isinstance(task, Segmentation):
        raise UserError(f"the recipe segmentation is for segmentation, and {dataset.name} is for {task.name}")
    if weights == "none":
        return PAPER
    loss = WeightedCrossEntropy(median_frequency(dataset, task), task.ignore)
    return replace(PAPER, loss=loss)


def short_segmentation(dataset: Dataset, module: nn.Module) -> Recipe:
    """One cycle in 30 epochs without weights; on an embedded dataset as many as `EMBEDDED_WORK` allows, at most 30."""
    if not dataset.embedded:
        return SHORT
    work = 2 * passes.multiply_adds(module, dataset.image_size) * len(dataset.images) + 1
    return SHORT.with_epochs(min(max(round(EMBEDDED_WORK / work), 1), MOST_EPOCHS))


def median_frequency(dataset: Dataset, task: Segmentation) -> tuple[float, ...]:
    """The weight of each class, median(f) / f: f is its share of the pixels of all images that have it.

    To five digits, so that the recipe's text is one and the same. 0 for a class that no image has. Source: Eigen and
    Fergus (2015).
    """
    pixels = torch.zeros(task.classes, dtype=torch.float64)
    area = torch.zeros(task.classes, dtype=torch.float64)
    for start in range(0, len(dataset.targets), _BLOCK):
        masks = dataset.targets.read(start, min(start + _BLOCK, len(dataset.targets))).flatten(1)
        for number in range(task.classes):
            counts = (masks == number).sum(dim=1)
            pixels[number] += counts.sum()
            area[number] += (masks != task.ignore).sum(dim=1)[counts > 0].sum()
    share = pixels[area > 0] / area[area > 0]
    weights = torch.zeros(task.classes, dtype=torch.float64)
    weights[area > 0] = share.quantile(0.5) / share
    return tuple(round(weight, 5) for weight in weights.tolist())
