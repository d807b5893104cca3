"""The recipes that come with stressbench: SGD with momentum, random crops and mirroring."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from torch import nn

from stressbench import passes
from stressbench.contracts import Dataset, Regression
from stressbench.errors import UserError
from stressbench.recipe import Recipe
from stressbench_plugins import dense_recipes
from stressbench_plugins.segmentation_recipes import segmentation, short_segmentation

# What the spatial smoothing paper (Park and Kim, 2022) trains CIFAR with. Its text and its code differ in the second
# milestone.
PAPER = Recipe(epochs=200, batch_size=128, learning_rate=0.1, schedule="steps", milestones=(60, 120, 160), factor=0.2)
TEXT_MILESTONES = (60, 130, 160)
# And ImageNet; crops from a border of an eighth of the side, as on CIFAR, stand for its random resized ones, since the
# images of a `Dataset` have been brought to one size already.
PAPER_LARGE = replace(
    PAPER, epochs=90, batch_size=256, weight_decay=1e-4, milestones=(30, 60, 80), factor=0.1, padding=224 // 8
)
LARGE = 64  # pixels: images with a longer shorter side are trained as ImageNet's
# A tenth of the epochs, for a first look. Networks without batch normalisation need their gradients clipped here.
FAST = Recipe(epochs=20, batch_size=128, learning_rate=0.1, schedule="one-cycle", nesterov=True, warmup=5.0, clip=5.0)
# For small networks on a CPU, whose whole training is to end in an hour or two.
SHORT = replace(FAST, epochs=16, warmup=4.0, decay_norm_and_bias=False)
# For a small embedded set, whose epochs `fast` adapts to the network: small batches, so that there are enough steps.
EMBEDDED = Recipe(
    epochs=2,
    batch_size=16,
    learning_rate=0.02,
    schedule="one-cycle",
    nesterov=True,
    warmup=0.5,
    padding=2,
    flip=False,
    clip=10.0,
)
# What a training on the embedded set may cost: floating-point operations of all its forward passes, about a minute
# (with the backward ones) on two CPU cores. A limit in seconds would make the weights depend on the machine.
EMBEDDED_WORK = 4.2e12
EMBEDDED_MOST_EPOCHS = 10


def paper(dataset: Dataset, module: nn.Module, milestones: Literal["code", "text"] = "code") -> Recipe:
    """The spatial smoothing paper's, 200 epochs; for images of more than 64 pixels the paper's for ImageNet, 90 epochs.
    For segmentation the paper's for CamVid, 130 epochs: the recipe `segmentation`.

    `milestones`: on CIFAR, epochs 60, 120, 160 as in the paper's code, or 60, 130, 160 as in its text.
    """
    if dataset.task.name == "segmentation":
        return segmentation(dataset, module)
    side = min(dataset.image_size)
    if side > LARGE and milestones == "text":
        raise UserError(f"milestones=text is for images of up to {LARGE} pixels: on larger ones text and code agree")
    if side > LARGE:
        return _mirrored(dataset, replace(PAPER_LARGE, padding=side // 8))
    return _mirrored(dataset, replace(PAPER, milestones=TEXT_MILESTONES) if milestones == "text" else PAPER)


def fast(dataset: Dataset, module: nn.Module) -> Recipe:
    """One cycle in 20 epochs; on an embedded dataset, about a minute of small batches on two CPU cores.

    Segmentation: one cycle of Adam, on an embedded dataset for some minutes.
    """
    if dataset.task.name == "segmentation":
        return short_segmentation(dataset, module)
    if not dataset.embedded:
        return FAST
    if isinstance(dataset.task, Regression):
        return dense_recipes.embedded(dataset, module)
    epochs = round(EMBEDDED_WORK / (2 * passes.multiply_adds(module, dataset.image_size) * len(dataset.images) + 1))
    return EMBEDDED.with_epochs(min(max(epochs, 1), EMBEDDED_MOST_EPOCHS))


def short(dataset: Dataset, module: nn.Module) -> Recipe:
    """One cycle in 16 epochs, for small networks, without weight decay of normalisation and biases."""
    return _mirrored(dataset, SHORT)


def _mirrored(dataset: Dataset, recipe: Recipe) -> Recipe:
    """Embedded images are not mirrored, since mirrored digits are other signs."""
    return replace(recipe, flip=False) if dataset.embedded else recipe
