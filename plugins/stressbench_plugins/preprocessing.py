"""What a published network wants done to its images first, as a part of the network.

A forward hook does it, so that the names of the weights stay those of the network itself, and any file of that
network's weights fits. All of it is torch's arithmetic on batches, and gradients reach the images through it.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import functional

from stressbench.contracts import Dataset
from stressbench.errors import UserError


class Preprocessing:
    """Steps, one after the other, on images (N, 3, H, W) in [0, 1], before a module's own forward pass.

    The first one is a resizing, and is done as Pillow does it, by which the published weights were trained and
    measured: first along the rows, then along the columns, and what bicubic interpolation overshoots at edges is
    clipped after each. Torch, left alone, clips nothing.
    """

    def __init__(self, steps: Sequence[Any]) -> None:
        self.resize, *self.steps = steps

    def __call__(self, module: nn.Module, args: tuple[Tensor]) -> Tensor:
        (images,) = args
        height, width = self.resize(torch.empty(images.shape, device="meta")).shape[-2:]
        for size in ([images.shape[-2], width], [height, width]):
            images = functional.resize(images, size, self.resize.interpolation, antialias=True).clamp(0, 1)
        for step in self.steps:
            images = step(images)
        return images


def prepared(module: nn.Module, steps: Sequence[Any], source: str, untrained: bool) -> nn.Module:
    """The module, which now takes images in [0, 1] of any size, with what the harness wants to know of it."""
    module.register_forward_pre_hook(Preprocessing(steps))
    module.source = source  # type: ignore[assignment]
    module.untrained = untrained  # type: ignore[assignment]
    return module


def optional(module: str, model: str, extra: str) -> Any:
    """A module that an extra installs; raises `UserError` with the command to run where it is missing."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise UserError(f"{model} needs {module}: pip install 'stressbench[{extra}]'") from error


def check_size(size: int | None) -> None:
    """Raises `UserError` for an input size that is none."""
    if size is not None and size < 1:
        raise UserError(f"invalid size={size}: expected 1 or more pixels")


def check_classes(model: str, classes: int, dataset: Dataset, instead: str) -> None:
    """Raises `UserError` where published weights are for another number of classes than the dataset's."""
    if classes != dataset.classes:
        raise UserError(
            f"{model} has weights for {classes or 'no'} classes and {dataset.name} has {dataset.classes}: {instead}"
        )


def untrained_instead(spec: str) -> str:
    """What to write for a network of this architecture with weights of one's own."""
    return f"write {spec} and give its weights with --weights FILE, or train it with bench train"
