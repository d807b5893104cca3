"""Losses of dense regression, as recipes want them: a network, a step's images and targets → a number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from stressbench import passes, randomness
from stressbench.locations import locate
from stressbench_plugins.training_free import TRANSFORMS

# A network in training mode, a step's images, its outputs for them, and their targets → the loss.
PixelLoss = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]

_BERHU_SHARE = 0.2
_LEAK = 0.2
_SEED = 0

Disturbance = Literal["dropout", "noise", "flip", "rotate", "dihedral"]


def squared(module: nn.Module, images: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean squared error over all values that have a target."""
    return _mean(_error(outputs, targets).square(), targets)


def berhu(module: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """The reversed Huber loss (Laina et al., 2016), a mean over all values that have a target.

    |e| up to c, (e² + c²) / 2c beyond it; c is a fifth of the largest error in the step.
    """
    error = _error(module(images).float(), targets).abs()
    c = (_BERHU_SHARE * error.max()).detach().clamp(min=1e-6)
    return _mean(torch.where(error <= c, error, (error.square() + c.square()) / (2 * c)), targets)


@dataclass(frozen=True)
class Pixelwise:
    """A loss of a network's outputs, value by value."""

    loss: PixelLoss

    def __call__(self, module: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return self.loss(module, images, module(images).float(), targets)


@dataclass(frozen=True)
class VarianceWeighted:
    """The mean squared error, each pixel's times its variance under a disturbance (Mi et al., 2019, section 5).

    The variance is that of the network as it stands, in eval mode, over so many disturbed passes, or over all
    transforms; it is divided by its mean over the step, so that the loss keeps its size.
    """

    disturbance: Disturbance
    location: str
    rate: float
    samples: int

    def __call__(self, module: nn.Module, images: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
        weights = self.variance(module, images)
        weights = weights / weights.mean().clamp(min=1e-20)
        return _mean(weights * _error(outputs, targets).square(), targets)

    @torch.no_grad()
    def variance(self, module: nn.Module, images: Tensor) -> Tensor:
        """Of each output value; the network is left in training mode."""
        module.eval()
        try:
            draws = self._draws(module, images)
        finally:
            module.train()
        return draws.var(dim=0, correction=0)

    def _draws(self, module: nn.Module, images: Tensor) -> Tensor:
        if self.disturbance in TRANSFORMS:
            return torch.stack([turn.undone(module(turn(images))) for turn in TRANSFORMS[self.disturbance]])
        height, width = images.shape[-2:]

        def change(x: Tensor) -> Tensor:
            if self.disturbance == "dropout":
                return randomness.dropout(x, self.rate)
            return x + self.rate * randomness.normal_like(x)

        return passes.changed(module, images, locate(module, (height, width), self.location), change, self.samples)


class Adversarial(nn.Module):
    """SRGAN's: 100 times the squared error, and what it takes for a discriminator to call the outputs real.

    The discriminator is trained beside the network, by the same optimiser: its own loss is added, and neither's
    gradient reaches the other. It is thrown away after the training. Its initial weights are always the same.
    """

    def __init__(self, channels: int, width: int = 64, pixel: PixelLoss = squared, weight: float = 100.0) -> None:
        super().__init__()
        self.channels, self.width, self.pixel, self.weight = channels, width, pixel, weight
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_SEED)
            self.discriminator = _discriminator(channels, width)

    def forward(self, module: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        outputs = module(images).float()
        # [0, 1] stretched to [−1, 1], in which the errors that the weight is for are four times as large.
        pixel = 4 * self.weight * self.pixel(module, images, outputs, targets)
        fixed = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        fooled = functional_call(self.discriminator, fixed, (2 * outputs - 1,))
        real, made = self.discriminator(2 * targets - 1), self.discriminator(2 * outputs.detach() - 1)
        return pixel + _called(fooled, 1) + _called(real, 1) + _called(made, 0)

    def __repr__(self) -> str:
        pixel = getattr(self.pixel, "__qualname__", self.pixel)  # a function's own text has its address in memory
        return f"Adversarial(channels={self.channels}, width={self.width}, pixel={pixel}, weight={self.weight})"


def _discriminator(channels: int, width: int) -> nn.Module:
    """Convolutions with stride 1 and 2 in turn, as wide as SRGAN's for a width of 64; a logit for each image."""
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.LeakyReLU(_LEAK)]
    before = width
    for number in range(1, 8):
        after, stride = width * 2 ** (number // 2), 1 + number % 2
        layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.GroupNorm(1, after), nn.LeakyReLU(_LEAK)]
        before = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 1))


def _called(logits: Tensor, real: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, real))


def _error(outputs: Tensor, targets: Tensor) -> Tensor:
    """0 where there is no target, so that no gradient is NaN there."""
    known = targets.isfinite()
    return torch.where(known, outputs - torch.where(known, targets, 0), 0)


def _mean(losses: Tensor, targets: Tensor) -> Tensor:
    """The mean over values that have a target, of losses that are 0 elsewhere."""
    return losses.sum() / targets.isfinite().sum().clamp(min=1)
