"""How a model is trained, as numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from stressbench.contracts import Dataset
from stressbench.errors import UserError, did_you_mean
from stressbench.passes import multiply_adds


@dataclass(frozen=True)
class Recipe:
    """SGD on cross-entropy, with a learning rate for each step and random crops and flips."""

    name: str
    epochs: int
    batch_size: int
    learning_rate: float  # the highest
    schedule: Literal["steps", "one-cycle"]
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    warmup: float = 1.0  # epochs, at the start of the `epochs`, in which the learning rate rises linearly
    milestones: tuple[int, ...] = ()  # "steps": the epochs after which it is multiplied by `factor`
    factor: float = 1.0
    padding: int = 4  # random crops are taken from the image with this many black pixels around it
    flip: bool = True  # half of the images are mirrored, left to right
    clip: float = math.inf  # a longer gradient is scaled down to this norm
    draws: int = 1  # of a stochastic network in each step, whose mean prediction is what the loss is of
    # Of convolutions and the like, under autocast; weights, loss and measuring are float32 throughout. "auto" is
    # bfloat16 on CUDA and float32 on the CPU, many of which are slower in bfloat16.
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    def arithmetic(self, device: torch.device) -> Literal["float32", "bfloat16"]:
        """The precision that it comes to on a device."""
        if self.precision == "auto":
            return "bfloat16" if device.type == "cuda" else "float32"
        return self.precision

    def with_epochs(self, epochs: int) -> Recipe:
        """The same recipe in fewer or more epochs, its milestones moved in proportion."""
        if epochs < 1:
            raise UserError(f"{epochs} epochs train nothing: give 1 or more")
        milestones = tuple(round(m * epochs / self.epochs) for m in self.milestones)
        return replace(self, epochs=epochs, milestones=milestones, warmup=min(self.warmup, epochs / 4))

    def rate(self, epoch: float) -> float:
        """The learning rate at a moment in [0, epochs), in epochs.

        It rises linearly from 0 over `warmup` epochs; then it is `learning_rate` times `factor` for each milestone
        behind ("steps"), or falls linearly to 0 at the end ("one-cycle"; Smith and Topin, 2018).
        """
        if epoch < self.warmup:
            return self.learning_rate * epoch / self.warmup
        if self.schedule == "one-cycle":
            return self.learning_rate * (self.epochs - epoch) / (self.epochs - self.warmup)
        return self.learning_rate * self.factor ** sum(epoch >= m for m in self.milestones)


# What the spatial smoothing paper trains CIFAR with. Its text and its code differ in the second milestone.
PAPER = Recipe(
    "paper",
    epochs=200,
    batch_size=128,
    learning_rate=0.1,
    schedule="steps",
    milestones=(60, 120, 160),
    factor=0.2,
)
PAPER_TEXT_MILESTONES = (60, 130, 160)
# And ImageNet; crops from a border of an eighth of the side, as on CIFAR, stand for its random resized ones, since the
# images of a `Dataset` have been brought to one size already.
PAPER_LARGE = replace(
    PAPER, epochs=90, batch_size=256, weight_decay=1e-4, milestones=(30, 60, 80), factor=0.1, padding=224 // 8
)
# A tenth of the epochs, for a first look. Networks without batch normalisation need their gradients clipped here.
FAST = Recipe(
    "fast",
    epochs=20,
    batch_size=128,
    learning_rate=0.1,
    schedule="one-cycle",
    nesterov=True,
    warmup=5.0,
    clip=5.0,
)
# For a small embedded set, whose epochs `recipe_for` adapts to the network: small batches, so that there are enough
# steps. Embedded images are not mirrored, since mirrored digits are other signs.
EMBEDDED = Recipe(
    "fast",
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

NAMES = ("paper", "fast")


@dataclass(frozen=True)
class Options:
    """What a person asks of a training; None where the recipe decides."""

    recipe: str = "fast"  # one of `NAMES`
    milestones: Literal["code", "text"] = "code"  # which of the paper's two lists
    epochs: int | None = None
    learning_rate: float | None = None
    flip: bool | None = None
    train_draws: int = 1
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    def applied(self, module: nn.Module, dataset: Dataset) -> Recipe:
        """The recipe as it was asked for, for a network, on the CPU, and a dataset.

        Raises `UserError` for an unknown recipe, for milestones that it has no choice of, and for several draws of a
        network whose draws are all the same.
        """
        recipe = recipe_for(module, dataset, self.recipe)
        if self.milestones == "text":
            if recipe.milestones != PAPER.milestones:
                raise UserError(
                    "the paper's text and its code have different milestones in recipe paper for CIFAR alone: leave "
                    "--milestones out"
                )
            recipe = replace(recipe, milestones=PAPER_TEXT_MILESTONES)
        if self.train_draws > 1 and not getattr(module, "stochastic", False):
            raise UserError(
                f"--train-draws {self.train_draws} is for stochastic models, MC dropout say, and this one makes the "
                "same prediction each time: leave it out, or name another model"
            )
        recipe = replace(recipe, draws=self.train_draws, precision=self.precision)
        if self.epochs is not None:
            recipe = recipe.with_epochs(self.epochs)
        if self.learning_rate is not None:
            recipe = replace(recipe, learning_rate=self.learning_rate)
        return recipe if self.flip is None else replace(recipe, flip=self.flip)


def recipe_for(module: nn.Module, dataset: Dataset, name: str = "fast") -> Recipe:
    """The recipe of a name, one of `NAMES`, as it is for a network, on the CPU, and a dataset.

    Raises `UserError` for an unknown name.
    """
    if name not in NAMES:
        raise UserError(f"there is no recipe '{name}': {did_you_mean(name, NAMES)}choose one of {', '.join(NAMES)}")
    if name == "fast" and dataset.embedded:
        epochs = round(EMBEDDED_WORK / (2 * multiply_adds(module, dataset.image_size) * len(dataset.images) + 1))
        return EMBEDDED.with_epochs(min(max(epochs, 1), EMBEDDED_MOST_EPOCHS))
    if name == "fast":
        return FAST
    side = min(dataset.image_size)
    recipe = replace(PAPER_LARGE, padding=side // 8) if side > 64 else PAPER
    return replace(recipe, flip=EMBEDDED.flip) if dataset.embedded else recipe
