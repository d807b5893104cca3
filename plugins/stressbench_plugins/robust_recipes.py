"""Recipes that train against the worst nearby: of images (PGD), or of weights (SAM).

Each builds on another: `short+pgd`, `paper+sam`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from stressbench import registry
from stressbench.contracts import Dataset
from stressbench.errors import UserError
from stressbench.recipe import Loss, Recipe
from stressbench_plugins.base_loss import loss_of


@dataclass(frozen=True)
class Adversarial:
    """The loss of images that were moved within ε of each pixel value to increase it.

    From a uniform start, `steps` times a step of `step_size` in the direction of the gradient's sign, cut off at ε and
    at 0 and 1; the network stays in training mode.
    """

    loss: Loss
    eps: float
    steps: int
    step_size: float

    def __call__(self, module: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        low, high = (images - self.eps).clamp(min=0), (images + self.eps).clamp(max=1)
        moved = low + (high - low) * torch.rand_like(images)
        for _ in range(self.steps):
            moved = moved.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.loss(module, moved, targets), moved)
            moved = torch.minimum(torch.maximum(moved.detach() + self.step_size * gradient.sign(), low), high)
        return self.loss(module, moved.detach(), targets)


@dataclass(frozen=True)
class SharpnessAware:
    """The loss, with the gradient that it has at w + ρ·g/‖g‖ in place of the one at w, g being the gradient at w."""

    loss: Loss
    rho: float

    def __call__(self, module: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        value = self.loss(module, images, targets)
        gradients = torch.autograd.grad(value, parameters)
        scale = self.rho / (torch.stack([gradient.norm() for gradient in gradients]).norm() + 1e-12)
        kept = [parameter.detach().clone() for parameter in parameters]
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.add_(scale * gradient)
        above = torch.autograd.grad(self.loss(module, images, targets), parameters)
        with torch.no_grad():
            for parameter, before in zip(parameters, kept, strict=True):
                parameter.copy_(before)
        # A number with the first loss as its value and the second gradient.
        slope = torch.stack([(p * gradient).sum() for p, gradient in zip(parameters, above, strict=True)]).sum()
        return slope - slope.detach() + value.detach()


def pgd(
    dataset: Dataset,
    module: nn.Module,
    argument: str,
    eps: float = 8 / 255,
    steps: int = 7,
    step_size: float = 2 / 255,
) -> Recipe:
    """Another recipe on images that PGD made within ε, L∞ (Madry et al., 2018): adversarial training."""
    if not 0 <= eps <= 1 or not 0 <= step_size <= 1 or steps < 1:
        raise UserError(
            f"invalid eps={eps}, step_size={step_size}, steps={steps}: expected sizes from 0 to 1, in units of a "
            "pixel's range, for example 8/255, and one step or more"
        )
    base = registry.recipe(argument, dataset, module)
    return replace(base, loss=Adversarial(loss_of(base, dataset), eps, steps, step_size))


def sam(dataset: Dataset, module: nn.Module, argument: str, rho: float = 0.05) -> Recipe:
    """Another recipe with sharpness-aware minimisation (Foret et al., 2021), two gradients a step."""
    if not 0 < rho < math.inf:
        raise UserError(f"invalid rho={rho}: expected a positive number, for example 0.05")
    base = registry.recipe(argument, dataset, module)
    return replace(base, loss=SharpnessAware(loss_of(base, dataset), rho))
